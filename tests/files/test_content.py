"""The hashes of files: right whatever happened to a file, and remembered only as long as nothing did."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ditexp.files import content, hash_cache, stamps
from ditexp.files.hash_cache import HashCache
from tests.helpers.paths import ROOT
from tests.helpers.refusals import refused


@pytest.fixture
def read(tmp_path, monkeypatch):
    """The names of the files that are read to be hashed, with a cache of their own; files count as old at once."""
    names, hash_file = [], content._hash

    def spy(path, advance):
        names.append(Path(path).name)
        return hash_file(path, advance)

    monkeypatch.setenv("DITEXP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "_hash", spy)
    monkeypatch.setattr(stamps, "SETTLED", -(10**12))
    new_process(monkeypatch)
    return names


def new_process(monkeypatch) -> None:
    """Only what is on disk is remembered."""
    monkeypatch.setattr(hash_cache, "CACHE", HashCache())


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def true_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("slice_size", [4096, 10])
def test_a_file_is_read_once(tmp_path, read, monkeypatch, slice_size):
    monkeypatch.setattr(content, "SLICE", slice_size)  # which the group of a thread, 12, doesn't divide
    files = [write(tmp_path / f"{i}.bin", bytes([i])) for i in range(100)]
    expected = [true_sha256(file) for file in files]
    assert content.hashes(files) == expected and sorted(read) == sorted(file.name for file in files)
    assert content.hashes(files[::-1]) == expected[::-1] and len(read) == 100
    new_process(monkeypatch)
    assert content.hashes(files) == expected and len(read) == 100
    write(files[7], b"x")
    assert content.sha256(files[7]) == hashlib.sha256(b"x").hexdigest() and read[100:] == ["7.bin"]


def test_same_name_size_and_date_but_other_bytes(tmp_path, read, monkeypatch):
    path = write(tmp_path / "x.bin", b"a")
    os.utime(path, ns=(0, 0))
    before = content.sha256(path)
    write(path, b"b")
    os.utime(path, ns=(0, 0))
    assert content.sha256(path) == true_sha256(path) != before
    new_process(monkeypatch)
    assert content.sha256(path) == true_sha256(path)


def test_a_file_that_has_just_changed_is_hashed_again(tmp_path, read, monkeypatch):
    """Within one tick of a file system's clock, which is as coarse as 2 s, a second change leaves no trace."""
    monkeypatch.setattr(stamps, "SETTLED", 2 * 10**9)
    path = write(tmp_path / "x.bin", b"a")
    mark = stamps.stamp(path)
    monkeypatch.setattr(content, "stamp", lambda *_: mark)  # a clock that stands still
    monkeypatch.setattr(stamps.time, "time_ns", lambda: mark.ctime_ns + 10**9)
    assert content.sha256(path) == hashlib.sha256(b"a").hexdigest()
    path.write_bytes(b"b")
    assert content.sha256(path) == hashlib.sha256(b"b").hexdigest()
    monkeypatch.setattr(stamps.time, "time_ns", lambda: mark.ctime_ns + 3 * 10**9)
    for _ in range(2):
        assert content.sha256(path) == hashlib.sha256(b"b").hexdigest()
    assert len(read) == 3


def test_a_file_system_without_a_time_of_change_is_trusted_for_a_process(tmp_path, read, monkeypatch):
    """Squashfs shows a file's date for its ctime: two images mounted in turn may differ in content alone."""
    path = write(tmp_path / "x.bin", b"a")
    mark = stamps.stamp(path)._replace(mtime_ns=10**18, ctime_ns=10**18)
    monkeypatch.setattr(content, "stamp", lambda *_: mark)
    for _ in range(2):
        content.sha256(path)
    assert len(read) == 1
    new_process(monkeypatch)
    content.sha256(path)
    assert len(read) == 2


def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(tmp_path, read, monkeypatch):
    path = write(tmp_path / "x.bin", b"a")

    class Sha256:
        def update(self, data):
            write(path, b"longer")

        def hexdigest(self):
            return "of something between"

    with monkeypatch.context() as patch:
        true = hashlib.sha256
        patch.setattr(hashlib, "sha256", lambda data=None: Sha256() if data is None else true(data))
        content.sha256(path)
    assert content.sha256(path) == true_sha256(path)


def test_a_date_in_the_future_is_no_reason_to_hash_again(tmp_path, read, monkeypatch):
    monkeypatch.setattr(stamps, "SETTLED", 0)
    path = write(tmp_path / "x.bin", b"a")
    os.utime(path, (2**33, 2**33))
    monkeypatch.setattr(stamps.time, "time_ns", lambda: path.stat().st_ctime_ns + 1)
    for _ in range(2):
        content.sha256(path)
    assert read == ["x.bin"]


def test_unchanged(tmp_path):
    path = write(tmp_path / "x.bin", b"a")
    with content.unchanged(path) as sha256:
        assert sha256 == true_sha256(path)
    with refused(["x.bin was changed while it was in use", "run again"]), content.unchanged(path):
        write(path, b"b")


def damaged(cache: Path) -> None:
    write(cache / "hashes.sqlite", b"no database at all" * 1000)


def truncated(cache: Path) -> None:
    os.truncate(cache / "hashes.sqlite", os.stat(cache / "hashes.sqlite").st_size // 2)


def a_folder(cache: Path) -> None:
    (cache / "hashes.sqlite").unlink()
    (cache / "hashes.sqlite").mkdir()


def a_file_in_place_of_the_folder(cache: Path) -> None:
    (cache / "hashes.sqlite").unlink()
    cache.rmdir()
    cache.write_text("")


def of_another_version(cache: Path) -> None:
    (cache / "hashes.sqlite").unlink()
    with sqlite3.connect(cache / "hashes.sqlite") as database:
        database.execute("CREATE TABLE hashes (path TEXT)")


def with_other_values(cache: Path) -> None:
    """Bits that have changed on the disk, or somebody's hand."""
    with sqlite3.connect(cache / "hashes.sqlite") as database:
        database.execute("UPDATE hashes SET value = 'f00'")


@pytest.mark.parametrize(
    "harm", [damaged, truncated, a_folder, a_file_in_place_of_the_folder, of_another_version, with_other_values]
)
def test_no_harm_to_the_cache_makes_a_wrong_hash(tmp_path, read, monkeypatch, harm):
    files = [write(tmp_path / f"{i}.bin", bytes([i])) for i in range(200)]
    expected = content.hashes(files)
    harm(tmp_path / "cache")
    for _ in range(2):
        new_process(monkeypatch)
        assert content.hashes(files) == expected


def test_a_damaged_cache_is_made_anew(tmp_path, read, monkeypatch):
    path = write(tmp_path / "x.bin", b"a")
    damaged(tmp_path / "cache")
    for _ in range(3):
        new_process(monkeypatch)
        content.sha256(path)
    assert len(read) == 2


def test_a_cache_that_another_process_locks_stops_nobody(tmp_path, read, monkeypatch):
    path = write(tmp_path / "x.bin", b"a")
    content.sha256(path)
    monkeypatch.setattr(hash_cache, "PATIENCE", 0.01)
    new_process(monkeypatch)
    with sqlite3.connect(tmp_path / "cache" / "hashes.sqlite") as other:
        other.execute("BEGIN EXCLUSIVE")
        assert content.sha256(path) == true_sha256(path)
        assert hash_cache.CACHE.is_off  # nor is it waited for a second time
        assert content.sha256(path) == true_sha256(path)


def test_without_a_home(tmp_path, read, monkeypatch):
    monkeypatch.delenv("DITEXP_CACHE")
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, "/proc/nowhere")
    path = write(tmp_path / "x.bin", b"a")
    assert content.sha256(path) == true_sha256(path)


def test_the_cache_is_bounded(tmp_path, read, monkeypatch):
    monkeypatch.setattr(hash_cache, "MAX_ROWS", 50)
    files = [write(tmp_path / f"{i:03d}.bin", bytes([i])) for i in range(80)]
    for start in range(0, 80, 10):
        content.hashes(files[start : start + 10])
    with sqlite3.connect(tmp_path / "cache" / "hashes.sqlite") as database:
        assert database.execute("SELECT count(*) FROM hashes").fetchone() == (50,)
    new_process(monkeypatch)
    content.hashes(files[30:])
    assert len(read) == 80


WORKER = """
import sys
from pathlib import Path
from ditexp.files import content, stamps
stamps.SETTLED = -(10**12)
files = sorted(Path(sys.argv[1]).iterdir())
print(content.hashes(files)[0])
"""


def test_processes_at_once_and_one_that_is_killed(tmp_path, read, monkeypatch):
    files = [write(tmp_path / "files" / f"{i:04d}.bin", bytes([i % 256])) for i in range(500)]
    command = [sys.executable, "-c", WORKER, str(tmp_path / "files")]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    while not (tmp_path / "cache").exists() and processes[0].poll() is None:
        time.sleep(0.001)
    processes[0].kill()
    outputs = [process.communicate()[0] for process in processes]
    assert outputs[1:] == [f"{true_sha256(files[0])}\n"] * 2
    assert content.hashes(files) == [true_sha256(file) for file in files]


def test_threads_at_once(tmp_path, read):
    files = [write(tmp_path / f"{i}.bin", bytes([i])) for i in range(50)]
    found = {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: content.hashes(files)})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [[true_sha256(file) for file in files]] * 4


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with refused(["x.png is no regular file", "remove it"]):
        content.sha256(tmp_path / "x.png")


def test_files_below_a_folder_with_a_circle(tmp_path):
    files = [write(tmp_path / name, b"") for name in ("b/x", "a")]
    (tmp_path / "b" / "circle").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "none")
    (tmp_path / "zzz").symlink_to(tmp_path / "b")
    assert stamps.files_below(tmp_path) == files[::-1]
