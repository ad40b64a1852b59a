"""Files that are complete or absent: what a killed process leaves, whose permissions they have, and what is refused."""

from __future__ import annotations

import errno
import os
import stat
import struct
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ditexp.files import atomic as files
from ditexp.files.atomic import atomic, check_writable, remove_abandoned
from ditexp.files.hash_cache import HashCache
from ditexp.files.process import host, start_of
from ditexp.files.tensors import write_tensors
from ditexp.samples.export import to_folder
from tests.helpers.sample_sets import complete_set

DEAD, LIVING, AWAY = f"{host()}~999999~1", f"{host()}~{os.getppid()}~{start_of(os.getppid())}", "elsewhere~1~1~1"


@contextmanager
def umask(mask: int):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(path: Path, text: str = "new") -> None:
    with atomic(path) as temporary:
        temporary.write_text(text)


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_files_have_the_permissions_of_a_plain_open(mask, tmp_path, monkeypatch):
    store = complete_set(tmp_path / "outputs")
    with umask(mask):
        (tmp_path / "plain").touch()
        write(tmp_path / "below" / "text")
        with atomic(tmp_path / "tensors") as temporary:
            write_tensors(temporary, {"x": torch.ones(2)}, {"a": "b"})
        to_folder(store, tmp_path / "pngs", lambda count: None, [])
        monkeypatch.setenv("DITEXP_CACHE", str(tmp_path / "cache"))
        HashCache().remember({b"key": "value"}, on_disk=True)
    expected = mode(tmp_path / "plain")
    assert expected == 0o666 & ~mask
    for name in ("below/text", "tensors", "pngs/000000.png", "pngs/dataset.json", "cache/hashes.sqlite"):
        assert mode(tmp_path / name) == expected, name
    assert mode(tmp_path / "below") == mode(tmp_path / "pngs") == 0o777 & ~mask


@pytest.mark.parametrize("given", [0o600, 0o664, 0o640])
def test_a_file_keeps_its_permissions_when_it_is_replaced(given, tmp_path):
    write(tmp_path / "file")
    (tmp_path / "file").chmod(given)
    write(tmp_path / "file", "newer")
    assert mode(tmp_path / "file") == given and (tmp_path / "file").read_text() == "newer"


def test_the_permissions_of_another_owners_file_are_not_taken_on(tmp_path, monkeypatch):
    """Else a private file, replaced in a shared folder, would be private to whom it doesn't belong."""
    write(tmp_path / "file")
    (tmp_path / "file").chmod(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with umask(0o022):
        write(tmp_path / "file")
    assert mode(tmp_path / "file") == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="takes the right to give a folder to another group")
def test_a_shared_folder_stays_its_groups(tmp_path):
    os.chown(tmp_path, -1, 12345)
    tmp_path.chmod(0o2775)
    with umask(0o002):
        write(tmp_path / "below" / "file")
    assert (tmp_path / "below" / "file").stat().st_gid == 12345 and mode(tmp_path / "below" / "file") == 0o664
    assert mode(tmp_path / "below") == 0o2775


def test_a_folders_default_acl_decides_before_the_umask(tmp_path):
    owner, group, others = 1, 4, 32
    entries = [struct.pack("<HHI", who, may, 2**32 - 1) for who, may in ((owner, 6), (group, 6), (others, 4))]
    try:
        os.setxattr(tmp_path, "system.posix_acl_default", struct.pack("<I", 2) + b"".join(entries))
    except OSError:
        pytest.skip("a file system without ACLs")
    with umask(0o077):
        (tmp_path / "plain").touch()
        write(tmp_path / "file")
    assert mode(tmp_path / "file") == mode(tmp_path / "plain") == 0o664


def test_what_a_dead_process_left_goes_when_a_process_first_writes_there(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_tidied", set())
    left = [tmp_path / f".{name}.{DEAD}.tmp" for name in ("result", "another", "folder")]
    left.append(tmp_path / f".download.{DEAD}.tmp.0123.partial")  # as torch.hub names it
    left[2].mkdir()
    (left[2] / "000000.png").touch()
    others = [tmp_path / f".result.{process}.tmp" for process in (LIVING, AWAY)]
    others += [tmp_path / f".of.{host()}~x~1.tmp", tmp_path / "x.tmp", tmp_path / ".hidden"]
    for path in (left[0], left[1], left[3], *others):
        path.touch()
    write(tmp_path / "result")
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "result"])


def test_a_folder_is_listed_once_however_many_files_are_written(tmp_path, monkeypatch):
    listed = []
    monkeypatch.setattr(files, "remove_abandoned", listed.append)
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "a"):
        for number in range(3):
            write(folder / str(number))
    write(Path("again"))  # the same folder by another name
    assert listed == [tmp_path, tmp_path / "a"]


def test_what_cannot_be_removed_stays(tmp_path, monkeypatch):
    """As in a folder with the sticky bit, where another's file may not be removed."""
    for name in "ab":
        (tmp_path / f".{name}.{DEAD}.tmp").touch()
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith(".a"):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    remove_abandoned(tmp_path)
    assert [path.name[:2] for path in tmp_path.iterdir()] == [".a"]


@pytest.mark.parametrize("where", ["in the body", "as it is renamed"])
def test_an_error_names_the_file_that_was_to_be_written(where, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *map(str, arguments[:1]))

    if where != "in the body":
        monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError) as error, atomic(tmp_path / "file") as temporary:
        temporary.write_text("half")
        if where == "in the body":
            full()
    assert error.value.filename == str(tmp_path / "file") and error.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as error, atomic(tmp_path / "file"):
        (tmp_path / "absent").read_text()
    assert error.value.filename == str(tmp_path / "absent")


def test_neither_a_device_nor_a_folder_is_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        for begin in (write, check_writable):
            with pytest.raises(OSError, match="it is "):
                begin(tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and (tmp_path / "folder").is_dir()


def test_a_place_is_tried_before_work_and_left_as_it_was(tmp_path):
    (tmp_path / "there").write_text("old")
    check_writable(tmp_path / "there")
    check_writable(tmp_path / "new" / "file")
    assert (tmp_path / "there").read_text() == "old" and not list((tmp_path / "new").iterdir())
    with pytest.raises(OSError) as error:
        check_writable(tmp_path / "there" / "file")
    assert error.value.filename == str(tmp_path / "there")


def test_a_folder_that_may_be_written_but_not_read(tmp_path, monkeypatch):
    """It can't be opened to be synced, but the file is there."""
    opening = os.open

    def refuse(path, *arguments, **options):
        if Path(path) == tmp_path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opening(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    write(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "new"


def test_tensors_lie_as_safetensors_lays_them(tmp_path):
    tensors = {"b": torch.arange(5.0), "a": torch.ones(2, 3, dtype=torch.uint8), "c": torch.zeros(0)}
    write_tensors(tmp_path / "ours", tensors, {"only": "one"})
    save_file(tensors, tmp_path / "theirs", {"only": "one"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in load_file(tmp_path / "ours").items())
