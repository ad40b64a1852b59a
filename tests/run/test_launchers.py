"""Sweeps on a cluster: submitit and Ray give the results of the local launcher, and a job that dies fails one cell.

Here is neither Slurm nor a Ray cluster: submitit runs its jobs as processes, and Ray runs on this machine.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from tests.helpers import commands
from tests.helpers.sample_sets import files_of

SWEEP = ("-m", "solver=euler,heun", "steps=2", "num_samples=64", "batch_size=32", "metric=[]", "devices=cpu:1")
SUBMITIT = "hydra/launcher=submitit_local"
RAY = ("hydra/launcher=ray", "hydra.launcher.ray.remote.num_gpus=0")

# Solvers to which accidents happen. The process to kill is the job's, even if it samples in another process.
ACCIDENTS = """
import multiprocessing, os, signal, time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from ditexp.solver.base import OneStep, at

def hit(number):
    parent = multiprocessing.parent_process()
    os.kill(parent.pid if parent else os.getpid(), number)
    signal.pause()

@dataclass(frozen=True)
class Euler(OneStep):
    order: ClassVar[int] = 1

    def step(self, field, x, t0, t1):
        self.accident()
        return x + (t1 - t0) * field(x, at(x, t0))

class Fails(Euler):
    def accident(self):
        raise RuntimeError("on purpose")

class Dies(Euler):
    def accident(self):
        hit(signal.SIGKILL)

class RunsOutOfTime(Euler):
    def accident(self):
        with open("steps", "a") as file:
            file.write(".")
        if Path("steps").stat().st_size == 12:
            while not list(Path("../outputs/samples").rglob("000000.json")):  # another thread writes it
                time.sleep(0.01)
            hit(signal.SIGUSR2)
"""


def needs(name: str):
    extra = {"submitit": "slurm"}.get(name, name)
    return pytest.mark.skipif(
        not importlib.util.find_spec(name), reason=f"{name} is not installed: pip install 'ditexp[{extra}]'"
    )


@pytest.fixture
def accidents(tmp_path) -> Path:
    """A folder to start in with solvers of one's own: fails, dies, runs_out_of_time."""
    folder = tmp_path / "own"
    (folder / "conf" / "solver").mkdir(parents=True)
    (folder / "accidents.py").write_text(ACCIDENTS)
    for name, solver in {"fails": "Fails", "dies": "Dies", "runs_out_of_time": "RunsOutOfTime"}.items():
        (folder / "conf" / "solver" / f"{name}.yaml").write_text(f"_target_: accidents.{solver}")
    return folder


@pytest.fixture
def ray_folder():
    """Where Ray writes; the paths of its sockets must be short. No process of it may be left afterwards."""
    folder = tempfile.mkdtemp(prefix="ray-")
    yield folder
    end = time.monotonic() + 120
    while left := [path for path in Path("/proc").glob("[0-9]*/cmdline") if folder.encode() in content(path)]:
        assert time.monotonic() < end, [content(path) for path in left]
        time.sleep(0.05)
    shutil.rmtree(folder)


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended
        return b""


def results(outputs: Path) -> dict[str, dict]:
    """The results of a sweep, by cell, without what differs between runs: times, memory, provenance, paths."""
    found = {}
    for path in sorted((outputs / "results").glob("*.json")):
        result = json.loads(path.read_text())
        for name in ("provenance", "sweep", "command", "cell_command", "grid", "trajectory_picture"):
            result.pop(name, None)
        for name in ("seconds_per_image", "images_per_second", "preparation_seconds", "peak_memory_mb"):
            del result["cost"][name]
        del result["config"]["outputs"]
        found[path.stem] = result
    return found


def rows(outputs: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((outputs / "runs").glob("*/*/cell.json"))]


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> tuple[dict, dict]:
    """The results and the blocks of the sweep through the local launcher."""
    outputs = tmp_path_factory.mktemp("local")
    arguments = (*SWEEP, "tracker=none", "resamples=0", f"outputs={outputs}")
    command = commands.start(outputs / "log", "ditexp.run", *arguments).wait()
    assert command.code == 0, command.output
    found = results(outputs), files_of(outputs / "samples")
    assert [len(each) for each in found] == [2, 2]
    return found


@pytest.mark.slow
@needs("submitit")
def test_submitit_gives_what_the_local_launcher_gives(ditexp, tmp_path, expected):
    command = ditexp(*SWEEP, SUBMITIT)
    assert command.code == 0, command.output
    outputs = tmp_path / "outputs"
    assert (results(outputs), files_of(outputs / "samples")) == expected
    assert command.output.count("done ") == 2 and "table.md" in command.output
    for result in rows(outputs):
        assert SUBMITIT in result["command"]  # not the line that submitit starts a job with


@pytest.mark.slow
@needs("ray")
def test_ray_gives_it_too_when_some_jobs_die(ditexp, tmp_path, expected, accidents, ray_folder):
    arguments = [argument.replace("euler,heun", "euler,heun,dies") for argument in SWEEP]
    options = {"folder": accidents, "environment": {"RAY_TMPDIR": ray_folder, "HOME": ray_folder}}
    command = ditexp(
        f"--config-dir={accidents / 'conf'}", *arguments, *RAY, "hydra.launcher.ray.remote.max_retries=0", **options
    )
    assert command.code == 1 and command.complaints == ["1 of 3 cells failed; the same command tries it again"], (
        command.output
    )
    outputs = tmp_path / "outputs"
    assert (results(outputs), files_of(outputs / "samples")) == expected
    (failed,) = [result for result in rows(outputs) if result["status"] == "failed"]
    assert "its task left no result: " in failed["error"]
    assert not (Path(ray_folder) / ".ray").exists()  # nothing in the home directory


@pytest.mark.slow
@needs("submitit")
def test_jobs_that_fail_die_or_run_out_of_time(ditexp, tmp_path, accidents):
    """Failed and killed jobs fail their cells; a job whose time is up continues after its last complete block."""
    cells = ("steps=1", "num_samples=512", "batch_size=32", "metric=[]", "devices=cpu:1")
    solvers = "solver=fails,dies,runs_out_of_time"
    command = ditexp(f"--config-dir={accidents / 'conf'}", "-m", solvers, *cells, SUBMITIT, folder=accidents)
    assert command.code == 1 and command.complaints == ["2 of 3 cells failed; the same command tries them again"], (
        command.output
    )
    fails, dies, runs_out_of_time = rows(tmp_path / "outputs")
    assert fails["error"].endswith("on purpose") and "left no result (state " in dies["error"]
    assert runs_out_of_time["status"] == "done"
    # A set is two blocks of eight batches. The first job rehearses one and makes eight, then three in vain; the second
    # rehearses one and makes the other eight. The last one is the picture of some samples on their way.
    assert len((accidents / "steps").read_text()) == (1 + 8 + 3) + (1 + 8) + 1
    (table,) = (tmp_path / "outputs" / "reports").rglob("table.md")
    assert "on purpose" in table.read_text() and "left no result" in table.read_text()


@needs("submitit")
@pytest.mark.slow
def test_what_slurm_is_asked_for(ditexp, tmp_path):
    """There is no Slurm here: a stand-in keeps the script that it is given, and refuses it."""
    (tmp_path / "bin").mkdir()
    for name, line in {
        "srun": "true",
        "sbatch": f"cp $1 {tmp_path / 'script'}; echo no such partition >&2; false",
    }.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    slurm = ("hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra.launcher.array_parallelism=2")
    sweep = [argument.replace("steps=2", "steps=2,4") for argument in SWEEP]
    command = ditexp(*sweep, *slurm, environment=environment)
    assert command.code == 2 and "no such partition" in command.complaints[0], command.output
    script = (tmp_path / "script").read_text()
    for line in ("array=0-3%2", "partition=gpu", "gpus-per-node=1", "cpus-per-task=8", "mem=32GB", "time=240"):
        assert f"#SBATCH --{line}\n" in script
    assert "#SBATCH --signal=USR2@120\n" in script
    assert not (tmp_path / "outputs" / "samples").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "extra"), [("submitit_slurm", "slurm"), ("submitit_local", "slurm"), ("ray", "ray")]
)
def test_an_extra_that_is_not_installed(launcher, extra, ditexp, tmp_path):
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "__main__.py").write_text(
        "import sys; sys.modules |= {'submitit': None, 'ray': None}; from ditexp.run.__main__ import main"
    )
    outputs = f"outputs={tmp_path / 'outputs'}"
    command = ditexp("-m", "steps=2", outputs, f"hydra/launcher={launcher}", module="without", folder=tmp_path)
    assert command.code == 2
    assert command.output == f"ditexp: hydra/launcher={launcher} is an extra: pip install 'ditexp[{extra}]'\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher", [pytest.param("submitit_local", marks=needs("submitit")), pytest.param("ray", marks=needs("ray"))]
)
def test_every_cell_is_checked_before_any_is_submitted(launcher, ditexp, tmp_path):
    command = ditexp("-m", "steps=0,4", f"hydra/launcher={launcher}")
    assert command.code == 2 and command.output.startswith("ditexp: steps=0: "), command.output
    assert not list((tmp_path / "outputs").rglob(".submitit"))
