"""Limits of the system and of numbers: what exceeds them is refused, or worked around, before any work."""

from __future__ import annotations

import locale
import multiprocessing.util
import os
import subprocess
import sys
import tempfile
from multiprocessing.connection import Listener
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from ditexp.checks import ConfigError
from ditexp.cli import system
from ditexp.cli.packaged import packaged
from ditexp.metric.inception_score import InceptionScore
from ditexp.metric.kid import KernelDistance
from ditexp.noise import noise
from ditexp.optimize import __main__ as optimize
from ditexp.run.configuration import check_numbers
from ditexp.run.devices import choose_devices
from ditexp.schedule.uniform import Uniform
from ditexp.train.settings import mistakes_in
from tests.helpers.refusals import refused


def defaults(command: str, *changes: str) -> DictConfig:
    return OmegaConf.merge(OmegaConf.load(packaged("conf") / f"{command}.yaml"), OmegaConf.from_dotlist(list(changes)))


@pytest.fixture
def new_process(monkeypatch, tmp_path):
    """As if nothing had asked for a temporary folder yet; tmp_path does."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(multiprocessing.process.current_process(), "_config", {"authkey": b"", "semprefix": "/mp"})
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)
    return monkeypatch


def test_sockets_go_where_their_paths_are_short(new_process, tmp_path):
    long = tmp_path / ("d" * 100)
    long.mkdir()
    new_process.setenv("TMPDIR", str(long))
    system.settle_temporary_folder()
    assert Path(multiprocessing.util.get_temp_dir()).parent == Path(os.environ["RAY_TMPDIR"]) == Path("/tmp")
    Listener(family="AF_UNIX").close()
    assert tempfile.gettempdir() == str(long)  # other files may need the room that is there
    with new_process.context() as patched:
        patched.setattr(system, "SHORT", ["/nowhere"])
        with refused([f"TMPDIR={long} is too long for a socket's path: set it to"]):
            system.settle_temporary_folder()


def test_a_missing_temporary_folder_is_reported(new_process, tmp_path, caplog):
    new_process.setenv("TMPDIR", str(tmp_path / "gone"))
    system.settle_temporary_folder()
    assert f"TMPDIR={tmp_path / 'gone'} is not a folder that can be written: temporary files go to /" in caplog.text
    assert os.environ["TMPDIR"] == tempfile.gettempdir()
    new_process.setattr(tempfile, "tempdir", None)
    new_process.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    with refused(["no folder for temporary files can be written: set TMPDIR=..."]):
        system.settle_temporary_folder()


def test_text_that_is_not_utf_8_is_refused(monkeypatch):
    system.require_utf_8()
    monkeypatch.setattr(locale, "getpreferredencoding", lambda do_setlocale: "ANSI_X3.4-1968")
    with refused(["this locale encodes text as ANSI_X3.4-1968, not UTF-8: set PYTHONUTF8=1 in the shell"]):
        system.require_utf_8()


@pytest.mark.slow
def test_a_run_under_a_long_tmpdir(tmp_path):
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    sizes = ["num_samples=16", "batch_size=16", "steps=2", "metric=[]", "tracker=none", f"outputs={tmp_path / 'out'}"]
    environment = {**os.environ, "TMPDIR": str(folder)}
    subprocess.run([sys.executable, "-O", "-m", "ditexp.run", *sizes], env=environment, check=True)
    assert len(list(tmp_path.rglob("*.npy.gz"))) == 1


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        (
            "seed=9223372036854775808",
            "seed=9223372036854775808: give a whole number of at most 9,223,372,036,854,775,807",
        ),
        ("seed=18446744073709551616", "seed=18446744073709551616: give a whole number of at most 9,223,"),
        ("seed=-1", "seed=-1: give a whole number of at least 0"),
        ("num_samples=9223372036854775808", "give a whole number of at most 100,000,000"),
        ("batch_size=9223372036854775808", "give a whole number of at most 1,048,576"),
        ("resamples=9223372036854775808", "give a whole number of at most 100,000"),
        ("forwards=9223372036854775808", "give a whole number of at most 100,000"),
    ],
)
def test_numbers_beyond_what_a_run_can_hold(setting, complaint):
    (mistake,) = check_numbers(defaults("config", setting))
    assert setting in mistake and complaint in mistake


def test_numbers_beyond_what_other_commands_can_hold():
    names = ["seed", "steps", "batch_size", "save_every", "warmup", "workers"]
    mistakes = mistakes_in(defaults("train", *(f"{name}={2**64}" for name in names)))
    assert [line.partition("=")[0] for line in mistakes] == names
    with pytest.raises(ConfigError) as error:
        optimize.check_settings(defaults("optimize", "seed=18446744073709551616", "candidates=1000000"))
    assert [line.partition(":")[0] for line in str(error.value).splitlines()] == [
        "candidates=1000000",
        "seed=18446744073709551616",
    ]
    with refused(["steps=9223372036854775808: give a whole number of at most 100,000"]):
        Uniform(steps=2**63)
    for devices in ("cpu:100000000000000000000", "cpu:5000"):
        with refused([f"devices={devices}: choose cpu:N with N up to 1,024"]):
            choose_devices(devices)
    with refused(["devices=1000000000000: this machine has"]):
        choose_devices(10**12)
    for make in (lambda: KernelDistance(subsets=1, seed=2**32), lambda: InceptionScore(splits=1, shuffle_seed=2**32)):
        with refused(["seed=4294967296: give a whole number of at most 4,294,967,295"]):
            make()


def test_different_seeds_give_different_noise():
    largest = [noise(2**63 - back, [3], (4,)) for back in (1, 2, 1025)]
    assert len({tuple(x.flatten().tolist()) for x in largest}) == 3
