"""What a machine lacks is named in one line, with the place and the remedy; finished work is kept."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ditexp.cli.errors import describe, is_wrong_input
from ditexp.cli.shortage import shortage
from ditexp.evaluate import __main__ as evaluate
from ditexp.evaluate import scoring
from ditexp.extraction import extract
from ditexp.feature.digits import DigitsFeature
from ditexp.feature.weights import Weights
from ditexp.files.atomic import atomic
from ditexp.files.image import read_image
from ditexp.files.tensors import save_tensors
from ditexp.images.digits import DigitsImages
from ditexp.metric import exact
from ditexp.metric.exact import Paths, kept
from ditexp.optimize import __main__ as optimize
from ditexp.optimize import finding
from ditexp.reference import __main__ as reference
from ditexp.run import workers as devices
from ditexp.run.worker_process import describe_error, describe_exit
from ditexp.run.workers import Worker
from ditexp.task.direction import Given
from ditexp.train.checkpoint import Checkpoint, read_state
from ditexp.train.loading import plain_errors


def os_error(number: int, *where: str) -> OSError:
    return OSError(number, os.strerror(number), *where)


ASKED = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
)
ON_GPU = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB.\nProcess 1 has"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (os_error(errno.ENOSPC, "a/b"), ["a/b: No space left on device", "ditexp samples gc", "another disk"]),
        (os_error(errno.EDQUOT, "a/b"), ["a/b: Disk quota exceeded", "`quota -s`"]),
        (os_error(errno.EFBIG, "a/b"), ["a/b: File too large", "`ulimit -f unlimited`"]),
        (os_error(errno.EMFILE, "a/b"), ["a/b: Too many open files", "`ulimit -n 4096`"]),
        (os_error(errno.ENOMEM), ["Cannot allocate memory", "smaller batch_size"]),
        (os_error(errno.ENOSPC, "/dev/shm"), ["/dev/shm: No space left", "workers=0", "--shm-size"]),
        (os_error(errno.EAGAIN), ["no further process or thread", "fewer workers"]),
        (RuntimeError("can't start new thread"), ["no further process or thread", "fewer workers"]),
        (RuntimeError(f"{ASKED}4000 bytes. Error code 12"), ["out of memory (4000 bytes more", "smaller batch_size"]),
        (MemoryError("Unable to allocate 7.11 PiB for an array"), ["out of memory (7.11 PiB more", "fewer workers"]),
        (MemoryError(), ["out of memory: use a smaller batch_size"]),
        (torch.OutOfMemoryError(ON_GPU), ["the GPU is out of memory (20.00 GiB more", "smaller batch_size"]),
    ],
)
def test_what_ran_out_is_named_in_one_line(error, words):
    (line,) = describe(error)
    assert all(word in line for word in words) and "\n" not in line and len(line) <= 200, line
    assert describe_error(error) == (line, False) and not is_wrong_input(error)


ON_CPU = {"batch_size": 128, "precision": "fp32", "devices": "auto", "vae.batch_size": None, "compile": True}
LOWEST = {"batch_size": 1, "precision": "fp32", "devices": "cpu:1", "vae.batch_size": 1, "compile": False}


@pytest.mark.parametrize(
    ("error", "settings", "remedy"),
    [
        (MemoryError(), ON_CPU, "try batch_size=64, then devices=cpu:1, then vae.batch_size=1, then compile=false ("),
        (os_error(errno.ENOMEM), {"batch_size": 128}, "try batch_size=64 (docs/troubleshooting.md)"),
        (
            torch.OutOfMemoryError(ON_GPU),
            {"batch_size": 7, "precision": "tf32"},
            "try batch_size=4, then precision=bf16 (",
        ),
        (MemoryError(), LOWEST, "use a smaller batch_size"),
    ],
)
def test_memory_remedies_are_values_that_help(error, settings, remedy):
    line, is_final = describe_error(error, settings)
    assert line.split(": ")[-1].startswith(remedy) and len(line) <= 200 and not is_final, line


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), os_error(errno.EACCES, "a"), os_error(errno.EAGAIN, "a"), RuntimeError("shape mismatch")],
)
def test_other_errors_are_no_shortage(error):
    assert shortage(error) is None


def test_an_error_that_was_raised_from_its_own_cause():
    """As `cli.instantiate` does with what a component raises."""
    cause, wrapped = ValueError("no"), RuntimeError("wrapped")
    wrapped.__cause__, cause.__context__ = cause, wrapped
    assert shortage(cause) is None


@contextmanager
def limit(what: int, amount: int):
    before = resource.getrlimit(what)
    resource.setrlimit(what, (amount, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def test_a_file_that_cannot_be_opened_for_want_of_descriptors_is_not_called_damaged(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    read_image(tmp_path / "a.png", channels=3)
    with pytest.raises((ValueError, OSError)) as error, limit(resource.RLIMIT_NOFILE, 3):
        read_image(tmp_path / "a.png", channels=3)
    (line,) = describe(error.value)
    assert "Too many open files" in line and "`ulimit -n 4096`" in line and "remove" not in line, line


def test_a_file_that_grows_too_large_is_named_and_the_last_one_kept(tmp_path):
    path, network = tmp_path / "checkpoint.pt", nn.Linear(100, 100)
    config = {"clip_gradient": None, "data": {}}
    checkpoint = Checkpoint(path, config, {"identity": {}})
    state = {"network": network, "average": network, "optimizer": nn.Module()}
    checkpoint.save(step=1, loss=1.0, **state)
    for write in (
        lambda: checkpoint.save(step=2, loss=1.0, **state),
        lambda: save_tensors(path, {"x": torch.ones(10_000)}),
    ):
        with pytest.raises(OSError) as error, limit(resource.RLIMIT_FSIZE, 5000):
            write()
        assert describe(error.value)[0].startswith(f"{path}: File too large: "), error.value
    assert torch.load(path)["step"] == 1 and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-signal.SIGKILL, ["was killed by SIGKILL", "out of memory", "devices=cpu:1", "smaller batch_size"]),
        (-signal.SIGXCPU, ["was killed by SIGXCPU", "`ulimit -t`"]),
        (os.EX_OSERR, ["ended with code 71", "`ulimit -u`", "fewer workers"]),
        (3, ["ended with code 3"]),
    ],
)
def test_how_a_worker_ended_and_why(code, words):
    assert all(word in describe_exit(code) for word in words), describe_exit(code)
    with_settings = describe_exit(code, {"batch_size": 128})
    assert ("try batch_size=64 (" in with_settings) is (code == -signal.SIGKILL)


@pytest.mark.parametrize("error", [EOFError(), BrokenPipeError()])
def test_a_worker_that_cannot_be_forked(error, monkeypatch):
    class Process:
        def __init__(self, **_):
            pass

        def start(self):
            raise error

    context = devices.multiprocessing.get_context("forkserver")
    monkeypatch.setattr(context, "Process", Process)
    monkeypatch.setattr(devices.multiprocessing, "get_context", lambda name: context)
    with pytest.raises(RuntimeError, match="no worker can be started on cpu, since"):
        Worker(torch.device("cpu"))


def test_the_end_of_the_fork_server_prints_no_traceback():
    for error, printed in (("BlockingIOError(11, 'no')", 0), ("KeyError('a')", 1)):
        code = f"import sys; sys.path[:0] = ['']; import ditexp.run.fork_server_process; raise {error}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.count("Traceback") == printed, done.stderr


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (RuntimeError("Caught\n  of\nRuntimeError: unable to allocate shared memory(shm) </torch_1>: ..."), "/dev/shm"),
        (os_error(errno.ENOSPC), "/dev/shm: No space left on device"),
        (RuntimeError("DataLoader worker (pid 1) is killed by signal: Bus error. It is possible that"), "/dev/shm"),
        (RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed. "), "out of memory; choose fewer than"),
        (OSError("Caught OSError in DataLoader worker process 0.\n[Errno 24] Too many open files: 'a'"), "`ulimit -n"),
        (RuntimeError("Caught RuntimeError in DataLoader worker process 0.\n  File\nRuntimeError: odd"), "odd"),
    ],
)
def test_what_loading_processes_lack(said, words):
    def batches():
        raise said
        yield

    with pytest.raises((RuntimeError, OSError)) as error:
        list(plain_errors(batches(), workers=2))
    (line,) = describe(error.value)
    assert words in line and "File" not in line, line
    assert "odd" not in line or line == "odd"


def no_room(*_, **__):
    raise os_error(errno.ENOSPC, "where")


def test_features_that_cannot_be_kept_are_used_all_the_same(tmp_path, monkeypatch, caplog):
    expected = extract(DigitsImages(), DigitsFeature(), tmp_path / "roomy").pool
    monkeypatch.setattr("ditexp.files.tensors.write_tensors", no_room)
    found = extract(DigitsImages(), DigitsFeature(), tmp_path / "full").pool
    assert torch.equal(found, expected)
    (notice,) = caplog.messages
    assert f"features cannot be cached in {tmp_path / 'full'}" in notice and "No space left on device" in notice
    assert not [path for path in (tmp_path / "full").rglob("*") if path.is_file()]


def test_exact_paths_that_cannot_be_kept_or_read_are_found_again(tmp_path, monkeypatch, caplog):
    paths = Paths(*(torch.ones(2) for _ in Paths._fields))
    assert kept(tmp_path / "a", lambda: paths) is paths and kept(tmp_path / "a", no_room).half.tolist() == [1, 1]
    (tmp_path / "a").write_bytes(b"damaged")
    assert kept(tmp_path / "a", lambda: paths) is paths and kept(tmp_path / "a", no_room).half.tolist() == [1, 1]
    monkeypatch.setattr(exact, "atomic", no_room)
    assert kept(tmp_path / "b", lambda: paths) is paths and not (tmp_path / "b").exists()
    assert "exact paths are not kept" in caplog.text


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A command in this process, in an empty folder: its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(command, *arguments):
        monkeypatch.setattr(sys, "argv", ["ditexp", "hydra.run.dir=runs", *arguments])
        with pytest.raises(SystemExit) as stop:
            command.main()
        return stop.value.code, *capsys.readouterr()

    return run


def test_a_full_disk_hides_no_number(run, monkeypatch):
    np.savez("images.npz", np.concatenate(list(DigitsImages().blocks()))[:64])
    monkeypatch.setattr(scoring, "atomic", no_room)
    code, out, err = run(
        evaluate, "images=images.npz", "feature=digits", "reference=none", "metric=inception_score", "resamples=0"
    )
    assert code == 1 and "inception_score" in out and "\nditexp: where: No space left on device: " in err, err


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (optimize, ["out=there.safetensors"]),
        (reference, ["out=there.safetensors", "reference=digits", "feature=digits"]),
    ],
)
def test_a_place_where_nothing_can_be_written_is_reported_before_any_work(command, arguments, run, monkeypatch):
    Path("there.safetensors").mkdir()
    monkeypatch.setattr(DigitsFeature, "__call__", no_room)
    monkeypatch.setattr(finding, "Flow", no_room)
    code, out, err = run(command, *arguments)
    assert code == 1 and not out and err.count("\n") == 1 and "there.safetensors: it is a folder" in err, err


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as error, atomic(tmp_path / "file" / "below"):
        pass
    assert describe(error.value)[0].startswith(f"{tmp_path / 'file'}: ")


def test_no_advice_to_run_code_is_repeated(tmp_path):
    torch.save(Path, tmp_path / "code.pt")
    (tmp_path / "damaged.pt").write_bytes(b"no checkpoint")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    for name in ("code.pt", "damaged.pt", "objects.npy"):
        path = tmp_path / name
        readers = [partial(Given, str(path))]
        if path.suffix == ".pt":
            weights = Weights(str(path), url="https://no/weights.pt", published="")
            readers += [partial(read_state, path), partial(weights.load, "FID's Inception", "fc.weight")]
        for read in readers:
            with pytest.raises(
                ValueError, match=r"damaged|format is unknown|never run|no single tensor|holds <|it holds"
            ) as error:
                read()
            assert not any(word in str(error.value) for word in ("weights_only", "allow_pickle", "trust", "\n"))
