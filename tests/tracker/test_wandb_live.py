"""A cell on W&B while it runs, and the process beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ditexp.progress import Progress
from ditexp.result import Result
from ditexp.tracker import service, wandb
from ditexp.tracker.destination import Options
from ditexp.tracker.runs import KILLED, WandbRuns
from ditexp.tracker.wandb import WandbTracker
from tests.helpers.offline_wandb import read_runs
from tests.helpers.refusals import refused
from tests.helpers.wandb_server import WandbServer

pytestmark = pytest.mark.usefixtures("lonely_wandb")

CELL = Result(
    id="a",
    status="running",
    study="default",
    sweep="2026-01-01_noon",
    settings={"model": "digits", "solver": "heun", "steps": 20, "guidance": "cfg", "guidance.scale": 1.5, "seed": 3},
    cell_command="ditexp run solver=heun guidance=cfg guidance.scale=1.5 num_samples=4 seed=3 outputs=/x",
)
DONE = replace(CELL, status="done", metrics={"fid": 3.0})


def progress(seconds: float, *, images: int = 0) -> Progress:
    return Progress(
        phase="sampling",
        seconds=seconds,
        images=images,
        images_in_progress=2.4,
        total_images=100,
        forwards=8.0 * images,
        images_per_second=None,
        seconds_left=90.0,
        failed_blocks=1,
    )


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_a_cell_is_online_while_it_runs(tmp_path, server, caplog):
    caplog.set_level("INFO", "ditexp")
    Image.new("RGB", (4, 4)).save(tmp_path / "preview.png")
    runs = WandbRuns(Options(folder=tmp_path / "wandb", name="mine", tags=("good",)), watched=os.getpid())
    runs.begin_cell(CELL)
    run = server.runs["a"]
    name = "mine-heun-20-cfg-scale=1.5-seed=3"
    assert (run.facts["displayName"], run.facts["groupName"]) == (name, CELL.sweep)
    assert "good" in run.facts["tags"] and run.config["guidance_scale"]["value"] == 1.5
    assert run.facts["commit"] and run.exit_code is None
    assert caplog.messages[-1] == f"W&B: {name} is live: {server.url}/somebody/ditexp/runs/a"
    runs.log_progress(CELL, progress(0))
    runs.log_progress(CELL, progress(30, images=50))
    runs.log_preview(CELL, tmp_path / "preview.png")
    wait_for(lambda: len(run.history) == 3 and [file for file in run.files if "preview" in file])
    row = {"images": 52, "percent": 50, "forwards": 400, "phase": "sampling", "minutes_left": 1.5, "failed_blocks": 1}
    assert {name: run.history[1][f"progress/{name}"] for name in row} == row
    assert run.history[2]["preview"]["caption"].startswith("heun-20-cfg-scale=1.5-seed=3")
    assert run.media("preview") == (tmp_path / "preview.png").read_bytes()
    assert run.exit_code is None and run.summary["status"] == "running"
    runs.log_cell(DONE)
    assert run.exit_code == 0 and run.summary["status"] == "done" and run.summary["unknown/fid"] == 3.0
    assert len(run.history) == 4 and run.events  # of the machine
    steps = [definition.get("5") for definition in run.config["_wandb"]["value"]["m"]]
    assert 1 in steps  # progress is drawn against the first metric, minutes
    runs.close()


@pytest.mark.slow
def test_what_a_cell_had_sent_is_written_again_if_its_server_fails(tmp_path, server, monkeypatch):
    monkeypatch.setattr(service, "limits", service.Limits(finish=3, run=200))
    runs = WandbRuns(Options(folder=tmp_path / "wandb"))
    runs.begin_cell(CELL)
    for seconds in (0, 30, 60):
        runs.log_progress(CELL, progress(seconds))
    wait_for(lambda: len(server.runs["a"].history) == 3)
    server.fault = "error"
    runs.log_cell(DONE)
    (folder,) = (tmp_path / "wandb" / "wandb").glob("offline-run-*")
    (run,) = read_runs(folder).values()
    assert run.summary["status"] == "done" and run.exit_code == 0
    assert run.summary["progress/minutes"] == 1.0


@pytest.mark.slow
def test_a_cell_that_is_interrupted_is_killed_and_goes_on_in_its_own_run(tmp_path, server):
    for _ in range(2):
        runs = WandbRuns(Options(folder=tmp_path / "wandb"))
        runs.begin_cell(CELL)
        runs.log_progress(CELL, progress(1))
        runs.close()
        run = server.runs["a"]
        assert (run.exit_code, run.summary["status"]) == (KILLED, "interrupted")
    assert len(run.history) == 2
    runs = WandbRuns(Options(folder=tmp_path / "wandb"))
    runs.begin_cell(CELL)
    runs.log_cell(DONE)
    assert (run.exit_code, run.summary["status"]) == (0, "done")


def test_progress_is_thinned_out(tmp_path, monkeypatch):
    sent = []
    tracker = WandbTracker(folder=tmp_path)
    monkeypatch.setattr(tracker, "_send", lambda method, *arguments: sent.append((method, arguments[-1])))
    for second in range(601):
        tracker.log_progress(CELL, progress(second))
    tracker.log_progress(CELL, replace(progress(601), phase="scoring"))
    seconds = [each.seconds for method, each in sent if method == "log_progress"]
    assert seconds[:6] == [0, 10, 20, 30, 40, 50] and seconds[-2:] == [590, 601] and len(seconds) == 25


SCRIPT = """
import os, sys
from dataclasses import replace
from tests.tracker.test_wandb_live import CELL, DONE, progress
from ditexp.tracker import service, wandb
from ditexp.tracker.wandb import WandbTracker
import logging
logging.basicConfig(level=logging.INFO, format="%(message)s")
service.limits = service.Limits(**{limits})
tracker = WandbTracker(folder=sys.argv[1])
tracker.begin_cell(CELL)
for second in range(5):
    tracker.log_progress(CELL, progress(10 * second))
print(tracker._beside._process.pid, flush=True)
sys.stdin.readline()
"""


def begin(
    folder: Path, server: WandbServer, *, rest: str = "", limits: dict | None = None
) -> tuple[subprocess.Popen, int]:
    """A process that shows a cell and does the rest once it gets a line, and the id of the process beside it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.replace("{limits}", repr(limits or {})) + rest, str(folder)],
        env=os.environ | server.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    return process, int(process.stdout.readline())


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes by /proc")
def test_a_killed_process_is_seen_to_crash_and_an_interrupted_one_to_be_killed(tmp_path, server):
    with WandbServer() as other:
        crashed, of_crashed = begin(tmp_path / "crashed", server)
        interrupted, of_interrupted = begin(tmp_path / "interrupted", other)
        for each in (server, other):
            wait_for(lambda: "a" in each.runs and len(each.runs["a"].history) == 5)  # noqa: B023
        beats = [int(path.name) for path in Path("/proc").glob("[0-9]*") if service.is_service_of(path, of_crashed)]
        crashed.send_signal(signal.SIGKILL)
        interrupted.send_signal(signal.SIGINT)
        wait_for(lambda: not is_alive(of_crashed))
        run = server.runs["a"]
        wait_for(lambda: run.summary["status"] == "crashed")
        assert run.exit_code is None and beats
        wait_for(lambda: not any(map(is_alive, beats)))  # no heartbeat any more

        wait_for(lambda: not is_alive(of_interrupted))
        run = other.runs["a"]
        wait_for(lambda: run.exit_code == KILLED)
        assert run.summary["status"] == "interrupted"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes by /proc")
def test_nobody_waits_for_a_server_that_hangs(tmp_path, server):
    server.fault = "hang"
    rest = """
wandb.MIN_WAIT = 0.5
beside = tracker._beside._process.pid
tracker.log_cell(DONE)
tracker.close()
print(os.path.exists(f"/proc/{beside}"))
"""
    process, beside = begin(tmp_path, server, rest=rest, limits={"total": 10})
    out, _ = process.communicate("\n")
    said, still_tries = out.splitlines()
    assert said.startswith(f"W&B: process {beside} goes on uploading") and "wandb sync" in said
    assert still_tries == "True" and process.returncode == 0
    wait_for(lambda: not is_alive(beside))


@pytest.mark.slow
def test_settings_are_checked_by_the_process_beside(tmp_path, monkeypatch):
    monkeypatch.setattr(wandb, "CHECK_SECONDS", 600)
    with refused(["'a/b'", "tracker.project or WANDB_PROJECT"]):
        WandbTracker(folder=tmp_path / "wandb", project="a/b").check()


def test_a_process_beside_that_ends_harms_nobody(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    tracker = WandbTracker(folder=tmp_path / "wandb")
    tracker.check()
    tracker.begin_cell(CELL)
    tracker.log_cell(DONE)
    tracker.close()
    assert caplog.messages == ["W&B: the process beside ended with code 1; the same command sends what is missing"]
