"""After any fault, the same command gives the bytes of an undisturbed run and leaves no temporary files.

Every fault is injected into real commands; the table of faults and outcomes is printed at the end of the session.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from pathlib import Path

import pytest

from ditexp.files.process import host
from ditexp.report.picture_files import is_picture
from ditexp.result import read_result
from ditexp.samples import garbage
from ditexp.samples.store import SampleStore
from tests.helpers import commands, holds
from tests.helpers.holds import blocks_in, wait_for
from tests.helpers.paths import ROOT
from tests.helpers.sample_sets import files_of

# Eight blocks of 256.
CELL = ("solver=euler", "steps=3", "num_samples=2048", "batch_size=64", "tracker=none", "metric=[]", "devices=cpu:2")
pytestmark = pytest.mark.slow  # tests/test_damage.py has the quick ones


class Runs:
    """Runs of one cell, each in its own outputs folder, and the files that every run must end with."""

    def __init__(self, folder: Path):
        self.folder, self.logs = folder, folder / "logs"
        self.start("first").wait()  # also waits for the fork server to import torch
        undisturbed = self.start("undisturbed").wait()
        assert undisturbed.code == 0, undisturbed.output
        self.expected = files_of(self.samples("undisturbed"))
        self.names = {path.name for path in self.samples("undisturbed").rglob("*")}
        assert len(self.expected) == 8 and files_of(self.samples("first")) == self.expected

    def start(self, name: str | Path, *arguments: str, **options) -> commands.Command:
        outputs = self.folder / name
        log = commands.unused_name(self.logs)
        return commands.start(log, "ditexp.run", *CELL, f"outputs={outputs}", *arguments, **options)

    def samples(self, name: str | Path) -> Path:
        return self.folder / name / "samples"

    def check(self, name: str | Path, *arguments: str) -> None:
        """Run once more: the set is complete, and no extra file or process is left."""
        last = self.start(name, *arguments).wait()
        assert last.code == 0, last.output
        assert files_of(self.samples(name)) == self.expected
        assert {path.name for path in self.samples(name).rglob("*")} == self.names
        assert not list((self.folder / name / "results").glob(".*"))
        (about,) = self.samples(name).glob("*/set.json")
        assert SampleStore.find(about.parent).num_samples == 2048
        for result in (self.folder / name / "results").glob("*.json"):
            assert read_result(result) and is_picture(result.with_suffix(".png"))
        assert no_processes()


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("faults"))


def children() -> set[int]:
    """The process ids of running commands and workers, which are all forked from the session's fork server."""
    server = forkserver._forkserver._forkserver_pid
    pids = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    return {int(pid) for pid in pids if alive(int(pid))}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def no_processes(found: Callable[[], object] = children) -> bool:
    """Whether all commands and workers end by themselves, within two minutes."""
    until = time.monotonic() + 120
    while found():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_kill_9_of_the_parent(runs, record_property):
    """Before its first block, between others, and as it writes what comes before and after them."""
    samples, results = runs.samples("killed"), runs.folder / "killed" / "results"
    (result,) = (runs.folder / "undisturbed" / "results").glob("*.json")

    def kill(when: Callable[[], object], patches: dict) -> int:
        """How many blocks are there then."""
        command = runs.start("killed", patches=patches)
        wait_for(when, command)
        command.process.kill()
        command.wait()
        assert no_processes()
        return len(blocks_in(samples))

    assert kill(lambda: list(samples.rglob(".set.json.*")), holds.as_it_writes("set.json")) == 0
    assert kill(lambda: list(samples.rglob("0*.claim")), holds.with_blocks(samples, 0)) < 3
    for count in (2, 4):
        assert count <= kill(lambda: len(blocks_in(samples)) >= count, holds.with_blocks(samples, count)) < 8  # noqa: B023
    assert kill(lambda: list(results.glob(f".{result.name}.*")), holds.as_it_writes(result.name)) == 8
    runs.check("killed")
    record_property("fault", ("kill -9 of the parent", 5, "each next run goes on from the blocks that are there"))


@pytest.mark.parametrize(
    ("point", "kills", "code"),
    [
        ("ditexp.run.blocks.BlockMaker.make", 1, 0),
        ("ditexp.samples.store.SampleStore.write", 1, 0),
        ("ditexp.run.blocks.BlockMaker.make", 3, 1),  # with two workers, one of two blocks fails twice
    ],
)
def test_kill_9_of_a_worker(runs, tmp_path, record_property, point, kills, code):
    name = f"{point}-{kills}"
    command = runs.start(name, patches=holds.with_dying_workers(point, kills, tmp_path)).wait()
    assert command.code == code and ("was killed by SIGKILL" in command.output) == bool(code), command.output
    assert 2 <= len(list(tmp_path.iterdir())) <= kills if code else len(list(tmp_path.iterdir())) == kills
    runs.check(name)
    outcome = "exit code 1 after a block failed twice, mended by the next run" if code else "the run ends well"
    record_property("fault", (f"kill -9 of workers in {point.rpartition('.')[2]}()", kills, outcome))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_tidily(runs, record_property, number, code):
    name = number.name
    samples = runs.samples(name)
    command = runs.start(name, patches=holds.with_blocks(samples, 1))
    wait_for(lambda: blocks_in(samples), command)
    # Ctrl-C also reaches the workers; kill and batch systems may signal the parent alone.
    workers = children() - {command.process.pid} if number == signal.SIGINT else set()
    for pid in (*workers, command.process.pid):
        os.kill(pid, number)
    assert command.wait().code == code and "the same command continues from there:" in command.complaints
    assert not list(samples.rglob("*.claim")) and not list(samples.rglob("*.tmp"))
    runs.check(name)
    record_property("fault", (number.name, 1, f"exit code {code}, what is kept is said, nothing left behind"))


@contextmanager
def small_disk(folder: Path, size: str):
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_fills_up(runs, record_property):
    name = "full"
    with small_disk(runs.folder / name, "2m"):
        samples, full = runs.samples(name), runs.folder / "is-full"
        command = runs.start(name, patches=holds.with_blocks(samples, 1, until=full))
        wait_for(lambda: blocks_in(samples), command)
        with open(runs.folder / name / "filler", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                full.touch()
        command.wait()
        assert command.code == 1 and "No space left on device" in command.output, command.output
        before = files_of(runs.samples(name))
        assert before and before.items() < runs.expected.items()
        (runs.folder / name / "filler").unlink()
        runs.check(name)
    record_property("fault", ("disk full midway", 1, f"exit code 1, one line, {len(before)} blocks kept"))


def test_a_disk_that_is_too_small_is_refused_before_work(runs, record_property):
    with small_disk(runs.folder / "small", "100k"):
        command = runs.start("small")
        command.wait()
        assert command.code == 2 and "the samples need up to 198 kB" in command.complaints[0], command.output
        assert not runs.samples("small").exists()
    record_property("fault", ("disk too small from the start", 1, "exit code 2, one line, nothing begun"))


def test_a_folder_that_can_only_be_read(runs, record_property):
    name = "readonly"
    with small_disk(runs.folder / name, "2m"):
        command = runs.start(name, patches=holds.with_blocks(runs.samples(name), 2))
        wait_for(lambda: len(blocks_in(runs.samples(name))) >= 2, command)
        command.process.kill()
        command.wait()
        assert no_processes()
        subprocess.run(["mount", "-o", "remount,ro", runs.folder / name], check=True)
        refused = runs.start(name).wait()
        assert refused.code in (1, 2) and "Read-only file system" in refused.output, refused.output
        subprocess.run(["mount", "-o", "remount,rw", runs.folder / name], check=True)
        runs.check(name)
    record_property("fault", ("folder turned read-only", 1, "one line"))


def copy_of_undisturbed(runs: Runs, name: str) -> Path:
    """The folder of a complete set's files."""
    shutil.copytree(runs.folder / "undisturbed", runs.folder / name)
    (folder,) = runs.samples(name).iterdir()
    return folder


def flip(path: Path, *, keep_time: bool = False) -> None:
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def of_result(damage: Callable[[Path], None], suffix: str = ".json") -> Callable[[Path], None]:
    """The same damage, done to the set's result, or to the file beside it with this suffix."""

    def damage_result(folder: Path) -> None:
        (result,) = folder.parents[1].glob("results/*.json")
        damage(result.with_suffix(suffix))

    return damage_result


def fill_with_nul(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def replace_with_folder(path: Path) -> None:
    path.unlink()
    (path / "within").mkdir(parents=True)


# Each command finds a few of them together; tests/run/test_damage.py has each block's and each file's alone.
FAULTS_AT_REST: dict[str, dict[str, Callable[[Path], None]]] = {
    "blocks": {
        "a flipped bit": lambda folder: flip(folder / "000003.npy.gz"),
        "a truncated block": lambda folder: os.truncate(folder / "000002.npy.gz", 1000),
        "a missing block": lambda folder: (folder / "000005.npy.gz").unlink(),
        "a missing manifest": lambda folder: (folder / "000007.json").unlink(),
        "a damaged manifest": lambda folder: (folder / "000001.json").write_text('{"bytes": 12, "sha'),
        "a half-written temporary file": lambda folder: leave_temporary(folder),
        "a stale claim of a dead process": lambda folder: claim(folder, f"{host()}~999999~1"),
    },
    "manifests and claims": {
        "an empty manifest": lambda folder: (folder / "000001.json").write_text(""),
        "a manifest without its cost": lambda folder: (folder / "000002.json").write_text(
            '{"bytes": 12, "sha256": "a"}'
        ),
        "a claim of NUL bytes": lambda folder: claim(folder, "\0" * 40),
        "a claim of foreign text": lambda folder: claim(folder, "mine!", block=3),
    },
    "set.json damaged": {
        "a damaged set.json": lambda folder: (folder / "set.json").write_text("{"),
        "an empty result": of_result(lambda path: path.write_text("")),
    },
    "set.json truncated": {
        "a truncated set.json": lambda folder: os.truncate(folder / "set.json", 100),
        "a truncated result": of_result(lambda path: os.truncate(path, 500)),
    },
    "set.json NUL": {
        "a set.json of NUL bytes": lambda folder: fill_with_nul(folder / "set.json"),
        "a result of NUL bytes": of_result(fill_with_nul),
    },
    "result without values": {"an empty object for a result": of_result(lambda path: path.write_text("{}"))},
    "result and picture": {
        "a folder in the place of a result": of_result(replace_with_folder),
        "a missing picture": of_result(Path.unlink, ".png"),
    },
    "picture": {"a truncated picture": of_result(lambda path: os.truncate(path, 500), ".png")},
    "in use": {"a process killed while it judged a complete set": lambda folder: leave_in_use(folder)},
    "clock": {"a clock set back by a day": lambda folder: set_clock_back(folder)},
}


def leave_temporary(folder: Path) -> None:
    (folder / "000004.npy.gz").unlink()
    (folder / f".000004.npy.gz.{host()}~999999~1.tmp").write_bytes(b"half")


def claim(folder: Path, owner: str, block: int = 6) -> None:
    (folder / f"{block:06d}.json").unlink()
    (folder / f"{block:06d}.claim").write_text(owner)


def leave_in_use(folder: Path) -> None:
    for result in folder.parents[1].glob("results/*"):
        result.unlink()
    (folder / f"{host()}~999999~1.claim").write_text(f"{host()}~999999~1")


def set_clock_back(folder: Path) -> None:
    """Dates all files, including the claim of a dead process, to tomorrow."""
    claim(folder, f"{host()}~999999~1")
    tomorrow = time.time() + 86400
    for path in folder.iterdir():
        os.utime(path, (tomorrow, tomorrow))


@pytest.mark.parametrize("faults", FAULTS_AT_REST)
def test_a_damaged_set_is_mended_by_the_next_run(runs, record_property, faults):
    name = faults.replace(" ", "-")
    folder = copy_of_undisturbed(runs, name)
    for damage in FAULTS_AT_REST[faults].values():
        damage(folder)
    runs.check(name)
    for fault in FAULTS_AT_REST[faults]:
        record_property("fault", (fault, 1, "mended by the next run"))


def test_a_bit_that_rots_without_a_trace_is_found_by_verify(runs, record_property):
    folder = copy_of_undisturbed(runs, "rot")
    for path in folder.glob("*.json"):  # as if the copy had kept the times
        record = json.loads(path.read_text())
        if "mtime_ns" in record:
            block = path.with_name(path.stem + ".npy.gz")
            os.utime(block, ns=(record["mtime_ns"], record["mtime_ns"]))
    flip(folder / "000003.npy.gz", keep_time=True)

    def verify() -> commands.Command:
        arguments = ("verify", "--outputs", str(runs.folder / "rot"))
        return commands.start(commands.unused_name(runs.logs), "ditexp.samples", *arguments).wait()

    found = verify()
    assert found.code == 1 and "block 3 (000003.npy.gz) is damaged and was dropped" in found.output, found.output
    runs.check("rot")
    assert verify().code == 0
    outcome = "a bit rotten under an unchanged date", 1, "found and named by verify, mended by the next run"
    record_property("fault", outcome)


@contextmanager
def watched(samples: Path):
    """The inodes that each block's file was seen with: more than one if the block was made twice."""
    states: dict[str, set[int]] = {}
    ended = threading.Event()

    def look() -> None:
        for path in samples.rglob("0*.npy.gz"):
            with suppress(FileNotFoundError):
                states.setdefault(path.name, set()).add(path.stat().st_ino)

    def watch() -> None:
        while not ended.wait(0.002):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield states
    finally:
        ended.set()
        thread.join()
        look()


def makers(samples: Path) -> list[str]:
    return [json.loads(path.read_text())["process"] for path in sorted(samples.rglob("0*.json"))]


def test_two_processes_share_a_set(runs, record_property):
    together = holds.until_another_claims(runs.samples("shared"))
    with watched(runs.samples("shared")) as states:
        both = [runs.start("shared", "devices=cpu:1", patches=together) for _ in range(2)]
        for command in both:
            command.wait()
            assert command.code == 0, command.output
    assert len(states) == 8 and all(len(seen) == 1 for seen in states.values()), "a block was made twice"
    shares = [makers(runs.samples("shared")).count(process) for process in set(makers(runs.samples("shared")))]
    assert len(shares) == 2
    runs.check("shared")
    outcome = "two processes on one set", 1, f"both end with all of it, of {shares[0]} and {shares[1]} blocks"
    record_property("fault", outcome)


def test_one_of_two_processes_is_killed(runs, record_property):
    """The other waits for the block that the first had claimed, and makes it then."""
    samples = runs.samples("widowed")
    doomed = runs.start("widowed", "devices=cpu:1", patches=holds.with_idle_workers())
    wait_for(lambda: list(samples.rglob("0*.claim")), doomed)
    other = runs.start("widowed", "devices=cpu:1")
    wait_for(lambda: len(blocks_in(samples)) == 7, other)
    assert [path.stem for path in samples.rglob("0*.claim")] == ["000000"]
    doomed.process.kill()
    doomed.wait()
    other.wait()
    assert other.code == 0, other.output
    assert files_of(runs.samples("widowed")) == runs.expected
    runs.check("widowed")
    record_property("fault", ("kill -9 of one of two processes on one set", 1, "the other makes all of it"))


def test_a_claim_of_a_dead_host_expires(runs, record_property):
    """Nobody can see whether another host is alive, so its claim expires when it is silent: here after 2 s, not 90."""
    claim(copy_of_undisturbed(runs, "dead-host"), "elsewhere~1~1~1")
    began = time.monotonic()
    command = runs.start("dead-host", patches={"ditexp.samples.claims.EXPIRY": 2.0}).wait()
    assert command.code == 0, command.output
    assert time.monotonic() - began > 2
    runs.check("dead-host")
    record_property("fault", ("a stale claim of a dead host", 1, "waited for, then taken over"))


def test_slices_make_a_set_together(runs):
    first = runs.start("slices", "slice=1/2").wait()
    assert first.code == 0 and "slice 1/2: 4 of 8 blocks are there" in first.output, first.output
    assert len(files_of(runs.samples("slices"))) == 4
    second = runs.start("slices", "slice=2/2").wait()
    assert second.code == 0 and "done euler" in second.output, second.output
    runs.check("slices")


def script(patches: str) -> str:
    """What `python -c` runs a command by, with patches."""
    lines = ("from pathlib import Path", "from tests.helpers import holds", f"holds.apply({patches})")
    return "\n".join((*lines, "from ditexp.run.__main__ import main", "main()"))


def test_two_hosts_share_a_set(runs, record_property):
    """Two commands as users start them, each with its own host name and process ids."""
    apart = ["unshare", "--uts", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("no right to make a host of one's own")
    cell = [*CELL, "devices=cpu:1", f"outputs={runs.folder / 'hosts'}"]
    together = script(f"holds.until_another_claims(Path({str(runs.samples('hosts'))!r}))")
    both = []
    for name in ("one", "two"):
        command = [*apart, "sh", "-c", f'hostname {name}; exec "$0" -c "$@"', sys.executable, together, *cell]
        both.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    hosts = {process.partition("~")[0] for process in makers(runs.samples("hosts"))}
    assert hosts == {"one", "two"}
    assert files_of(runs.samples("hosts")) == runs.expected
    assert not [path for path in runs.samples("hosts").rglob("*") if path.suffix in (".claim", ".tmp")]
    record_property("fault", ("two hosts on one set", 1, "both end with all of it, each made a part"))


def test_a_command_of_its_own_leaves_no_process(runs, record_property):
    """With its own fork server: the server and the workers end when the parent is killed."""
    marker = f"DITEXP_TEST={time.monotonic_ns()}"
    environment = {**os.environ, **dict([marker.split("=")])}
    waits = script(f"holds.with_blocks(Path({str(runs.samples('own'))!r}), 1)")
    command = [sys.executable, "-c", waits, *CELL, f"outputs={runs.folder / 'own'}"]

    def ours() -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if marker in path.read_text() and alive(int(path.parent.name)):
                    found.append(int(path.parent.name))
            except (OSError, UnicodeDecodeError):
                pass
        return found

    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not blocks_in(runs.samples("own")):
        assert process.poll() is None
        time.sleep(0.01)
    assert len(ours()) >= 4  # the parent, its fork server, two workers
    process.kill()
    process.wait()
    assert no_processes(ours)
    runs.check("own")
    record_property("fault", ("kill -9 of a command with its own fork server", 1, "server and workers end with it"))


def test_gc_frees_what_no_result_needs_and_nothing_else(runs):
    folder = copy_of_undisturbed(runs, "gc")
    outputs = runs.folder / "gc"
    (outputs / "reports" / f".table.md.{host()}~999999~1.tmp").write_bytes(b"half")
    needless = runs.start("gc", "seed=1", "num_samples=256").wait()
    assert needless.code == 0
    (result,) = set((outputs / "results").glob("*.json")) - {
        outputs / "results" / path.name for path in (runs.folder / "undisturbed" / "results").glob("*.json")
    }
    orphan = outputs / "samples" / json.loads(result.read_text())["sample_id"]
    result.unlink()

    def gc(*arguments: str) -> commands.Command:
        log = commands.unused_name(runs.logs)
        return commands.start(log, "ditexp.samples", "gc", "--outputs", str(outputs), *arguments).wait()

    asked = gc()
    assert asked.code == 0 and "nothing was freed: give --yes" in asked.output and orphan.exists(), asked.output
    assert orphan.name in asked.output and folder.name not in asked.output
    assert gc("--yes").code == 0
    assert not orphan.exists() and not list(outputs.rglob("*.tmp"))
    runs.check("gc")


def gc(runs: Runs, name: str, **options) -> commands.Command:
    arguments = ("gc", "--yes", "--outputs", str(runs.folder / name))
    return commands.start(commands.unused_name(runs.logs), "ditexp.samples", *arguments, **options)


def removal_killed_in(step: int, *arguments) -> str:
    """`garbage.remove`, killed before one of its lines."""
    steps = iter(range(step))
    modules = {"ditexp.samples.garbage", "ditexp.samples.claims", "shutil"}

    def trace(frame, event, _):
        if frame.f_globals["__name__"] not in modules:
            return None
        if event == "line" and next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    try:
        return garbage.remove(*arguments)
    finally:
        sys.settrace(None)


def test_kill_9_of_gc(runs, record_property):
    """At any moment, each set is either intact, or hidden and freed by the next gc."""
    name, kills, hidden, whole = "gc-killed", 0, 0, 0
    while True:
        folder = copy_of_undisturbed(runs, name)
        shutil.rmtree(runs.folder / name / "results")
        removal = functools.partial(removal_killed_in, 60 * kills)
        command = gc(runs, name, patches={"ditexp.samples.commands.remove": removal}).wait()
        if command.code == 0:
            assert not list(runs.samples(name).iterdir())
            break
        assert command.code == -signal.SIGKILL
        kills += 1
        if folder.exists():
            whole += 1
            assert files_of(runs.samples(name)) == runs.expected and SampleStore.find(folder)
        else:
            hidden += len(list(runs.samples(name).iterdir()))
        if kills % 4 == 1:
            runs.start(name).wait()
            assert folder.exists() and gc(runs, name).wait().code == 0
            runs.check(name)
        else:
            assert gc(runs, name).wait().code == 0 and not list(runs.samples(name).iterdir())
        shutil.rmtree(runs.folder / name)
    assert kills > 3 and hidden and whole
    outcome = f"{whole} times the set was whole, {hidden} times hidden, and the next gc freed it"
    record_property("fault", ("kill -9 of gc", kills, outcome))


def test_gc_beside_a_run(runs, record_property):
    """A run completes its set however often gc looks, and gc frees what no process works on."""
    name, freed = "gc-beside", 0
    folder = copy_of_undisturbed(runs, name)
    shutil.rmtree(runs.folder / name / "results")
    (folder / "000001.json").unlink()
    command = runs.start(name)
    while command.process.is_alive():
        freed += "freed" in gc(runs, name).wait().output
        command.process.join(0.2)
    command.wait()
    assert command.code == 0, command.output
    runs.check(name)
    outcome = f"it ended well; {freed} times gc had freed the set before the run claimed it"
    record_property("fault", ("gc beside a run, again and again", 1, outcome))
