"""W&B in whole sweeps: everything arrives, and nothing that happens to W&B harms the sweep."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ditexp.result import SETTING_GROUPS
from ditexp.tracker.service import Limits
from tests.helpers import commands, holds
from tests.helpers.offline_wandb import read_runs
from tests.helpers.paths import ROOT
from tests.helpers.wandb_server import Run, WandbServer

pytestmark = pytest.mark.slow  # whole sweeps, and servers that hang

SWEEP = ("-m", "solver=euler,heun", "num_samples=32", "batch_size=32", "resamples=0", "study=small", "devices=cpu:1")
CELLS = {("euler", 2), ("euler", 4), ("heun", 2), ("heun", 4)}
HALF = {("euler", 2), ("heun", 2)}  # enough where W&B fails
DOCS = ROOT / "docs" / "wandb.md"

# What a cell of the digits model has in its run, whatever its components add as `<group>.<setting>`.
CONFIG = {
    *("model", "vae", "solver", "schedule", "guidance", "cache", "condition", "task", "data"),
    *("feature", "reference", "protocol"),
    *("steps", "num_samples", "batch_size", "seed", "precision", "rounding", "compile"),
    *("study", "sweep", "sample_id", "command", "cell_command"),
}
# How the names begin of components' settings, and of facts that are nested elsewhere.
FLAT = (*(f"{group}_" for group in SETTING_GROUPS), "provenance_", "measured_")
SUMMARY = {
    *("digits/fid", "digits/inception_score", "digits/precision", "digits/recall", "status", "error"),
    *("nfe", "forwards", "seconds_per_image", "images_per_second", "peak_memory_mb"),
    "preparation_seconds",
}
CHARTS = {f"{m}_vs_{c}" for m in ("fid", "inception_score", "precision", "recall") for c in ("forwards", "seconds")}
PICTURES = {"quality_vs_cost", "heat_map", "side_by_side"}

# The server's fault, and in which run it begins; of those that come before, all arrives.
FAULTS = {
    "answers 500": ("error", 0),
    "hangs": ("hang", 0),
    "hangs from midway": ("hang", 2),
    "dies midway": ("die", 2),
}
SOON = Limits(init=8, request=2, finish=6, run=60, total=600)  # where nothing is to arrive
PATIENT = Limits(init=120, finish=15, run=200, total=600)
TO_THE_END = {"ditexp.tracker.wandb.MIN_WAIT": 600, "ditexp.tracker.wandb.MAX_WAIT": 600}  # of the process beside
LIMITS = "ditexp.tracker.service.limits"


@dataclass
class Sweep:
    """A sweep with its outputs, W&B's files among them, below `folder`. cells: CELLS, or HALF of them."""

    folder: Path
    cells: set[tuple[str, int]] = field(default_factory=lambda: CELLS)

    def start(self, *more: str, patches: dict | None = None, **environment: str) -> commands.Command:
        lonely = {"WANDB_CONFIG_DIR": str(self.folder / "config"), "NETRC": str(self.folder / "netrc")}
        steps = f"steps={','.join(str(count) for count in sorted({count for _, count in self.cells}))}"
        arguments = (*SWEEP, steps, f"outputs={self.folder / 'outputs'}", *more)
        log = commands.unused_name(self.folder / "logs")
        patches = TO_THE_END | {LIMITS: PATIENT} | (patches or {})
        return commands.start(log, "ditexp.run", *arguments, environment=lonely | environment, patches=patches)

    @property
    def results(self) -> dict[str, dict]:
        files = (self.folder / "outputs" / "results").glob("*.json")
        return {result["id"]: result for result in (json.loads(file.read_text()) for file in files)}

    @property
    def wandb(self) -> Path:
        return self.folder / "outputs" / "wandb"

    def check_that_it_is_complete(self) -> None:
        (table,) = (self.folder / "outputs" / "reports").rglob("table.csv")
        rows = list(csv.DictReader(table.open()))
        assert {(row["solver"], int(row.get("steps", 2))) for row in rows} == self.cells
        assert len(self.results) == len(self.cells) and all(result["metrics"] for result in self.results.values())


@pytest.fixture(scope="module")
def arrived(tmp_path_factory):
    """A server that works, and a sweep that was logged to it."""
    sweep = Sweep(tmp_path_factory.mktemp("online"))
    with WandbServer() as server:
        command = sweep.start(**server.environment()).wait()
        assert command.code == 0, command.output
        assert f"W&B: {server.url}" in command.output and "offline" not in command.output
        yield server, sweep


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    sweep = Sweep(tmp_path_factory.mktemp("offline"))
    assert sweep.start().wait().code == 0
    return sweep


def the_report(server: WandbServer) -> Run:
    (report,) = (run for run in server.runs.values() if run.facts["jobType"] == "report")
    return report


def check_that_everything_arrived(server: WandbServer, sweep: Sweep) -> None:
    cells = {id: run for id, run in server.runs.items() if run.facts["jobType"] == "sample"}
    assert cells.keys() == sweep.results.keys() and len(cells) == 4
    sets = {artifact.name: artifact for artifact in server.of_type("sample-set")}
    for id, result in sweep.results.items():
        run, settings = cells[id], result["settings"]
        assert run.project == "ditexp" and run.facts["groupName"] == "small" and run.exit_code == 0
        names = ("model", "solver", "schedule", "guidance", "task")
        assert run.facts["tags"] == [f"{name}:{settings[name]}" for name in names]
        assert {name: run.config[name]["value"] for name in ("solver", "steps", "seed")} == {
            name: settings[name] for name in ("solver", "steps", "seed")
        }
        assert run.config["measured_reference_fingerprint"]["value"] == result["protocol"]["reference"]["fingerprint"]
        assert {name: run.summary[f"digits/{name}"] for name in result["metrics"]} == result["metrics"]
        assert all(run.summary[name] == result["cost"][name] for name in ("nfe", "forwards", "seconds_per_image"))
        assert run.media("samples") == Path(result["grid"]).read_bytes()
        folder = sweep.folder / "outputs" / "samples" / result["sample_id"]
        assert {name.partition("-")[0] for name in run.used} == {"checkpoint", "reference"}
        assert sets[f"samples-{result['sample_id']}"].files == {
            "result.json": Path(result["grid"]).with_suffix(".json").read_bytes(),
            "set.json": (folder / "set.json").read_bytes(),
            "README.md": (folder / "README.md").read_bytes(),
        }
    report = the_report(server)
    assert report.facts["groupName"] == "small" and report.exit_code == 0
    table = json.loads(report.media("table"))
    solver, steps = table["columns"].index("solver"), table["columns"].index("steps")
    assert {(row[solver], row[steps]) for row in table["data"]} == CELLS
    folder = next((sweep.folder / "outputs" / "reports").rglob("table.csv")).parent
    assert report.media("quality_vs_cost") == (folder / "quality_vs_cost.png").read_bytes()
    assert {f"samples-{result['sample_id']}" for result in sweep.results.values()} < set(report.used)
    (made,), model, reference = server.of_type("report"), server.of_type("model")[0], server.of_type("reference")[0]
    assert made.files["table.csv"] == (folder / "table.csv").read_bytes()
    assert model.name == f"checkpoint-digits-{model.metadata['identity']['sha256'][:8]}"
    facts = json.loads(reference.files["reference.json"])
    assert facts == {name: result["protocol"][name] for name in ("reference", "feature")}


def test_everything_arrives(arrived):
    check_that_everything_arrived(*arrived)


def test_names_stay_the_same_and_are_documented(arrived):
    server, sweep = arrived
    for run in (server.runs[id] for id in sweep.results):
        own = {name for name in run.config if not name.startswith(FLAT)} - {"_wandb"}
        assert own == CONFIG
        seen = {name for name in run.summary if not name.startswith(("_", "progress/"))} - {"preview"}
        assert seen == SUMMARY | {"samples", "trajectory"}
    report = the_report(server)
    logged = {name for name in report.summary if not name.startswith("_")}
    assert logged >= {"table", "report", *PICTURES, *(f"{name}_table" for name in CHARTS)}
    assert set(report.config["_wandb"]["value"]["visualize"]) == CHARTS
    assert set(report.config) - {"_wandb"} == {"study", "sweep", "cells"}
    documented = DOCS.read_text()
    metrics = {name.replace("digits/", "") for name in SUMMARY}
    for name in (*CONFIG, *metrics, *PICTURES, "samples", "film", "trajectory", "table", "report", "sample-set"):
        assert f"`{name}`" in documented, name


def test_charts_hold_a_line_for_each_solver_and_the_pareto_front(arrived):
    server, sweep = arrived
    chart = json.loads(the_report(server).media("fid_vs_forwards_table"))
    assert chart["columns"] == ["forwards", "cells", "fid"]
    points = [[r["cost"]["forwards"], r["settings"]["solver"], r["metrics"]["fid"]] for r in sweep.results.values()]
    lines = [point for point in chart["data"] if point[1] != "Pareto front"]
    assert sorted(lines) == sorted(points)
    front = [[x, y] for x, line, y in chart["data"] if line == "Pareto front"]
    assert min(y for _, _, y in points) == front[-1][1] and front == sorted(front)


def test_nothing_is_logged_twice(arrived):
    server, sweep = arrived
    begun, requests = {id: run.begun for id, run in server.runs.items()}, server.requests
    command = sweep.start(**server.environment()).wait()
    assert command.output.count("cached") >= 4
    assert {id: run.begun for id, run in server.runs.items()} == begun and server.requests == requests


def test_another_server_gets_the_whole_sweep_even_if_a_run_was_deleted_there(arrived):
    _, sweep = arrived
    deleted, *others = sweep.results
    with WandbServer() as other:
        other.refused = {deleted: 409}
        patches = {LIMITS: Limits(init=20, probe=20)}  # wandb asks for all of that time whether it is still deleted
        for line in ("(sent: 4 cells and the report)", "already on"):
            requests = other.requests
            command = sweep.start(**other.environment(), patches=patches).wait()
            assert command.code == 0 and command.output.count("cached") >= 4, command.output
            assert line in command.output and "offline" not in command.output
            cells = {id for id, run in other.runs.items() if run.facts["jobType"] == "sample"}
            assert cells == {f"{deleted}-2", *others} and the_report(other).exit_code == 0
        assert other.requests == requests


def test_the_offline_files_of_a_sweep_hold_everything(offline):
    runs = read_runs(offline.wandb)
    cells = {id: run for id, run in runs.items() if run.run.job_type == "sample"}
    assert cells.keys() == offline.results.keys() and len(runs) == 5
    for id, result in offline.results.items():
        assert cells[id].exit_code == 0 and cells[id].config["sample_id"] == result["sample_id"]
        assert cells[id].media("samples").read_bytes() == Path(result["grid"]).read_bytes()


def test_what_is_offline_can_be_uploaded_later(offline):
    with WandbServer() as server:
        folders = map(str, offline.wandb.glob("wandb/offline-run-*"))
        account = {**os.environ, "WANDB_CONFIG_DIR": str(offline.folder), "WANDB_ERROR_REPORTING": "false"}
        command = [sys.executable, "-m", "wandb", "sync", *folders]
        account |= server.environment()
        done = subprocess.run(command, env=account, cwd=offline.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        check_that_everything_arrived(server, offline)


@pytest.fixture(scope="module", autouse=True)
def faulty(tmp_path_factory):
    """A sweep for each fault: (server, sweep, command). They wait most of the time, beside the tests before them."""
    sweeps, servers = {}, {}
    try:
        for name, (fault, after) in FAULTS.items():
            server = servers[name] = WandbServer(fault, after=after).__enter__()
            sweep = Sweep(tmp_path_factory.mktemp("faulty"), HALF)
            patches = {LIMITS: PATIENT if after else SOON}
            sweeps[name] = server, sweep, sweep.start("metric=[fid]", patches=patches, **server.environment())
        yield sweeps
    finally:
        for server in servers.values():
            server.close()
        for _, _, command in sweeps.values():
            command.wait()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_fails_costs_one_warning(faulty, fault):
    server, sweep, command = faulty[fault]
    assert command.wait().code == 0, command.output
    sweep.check_that_it_is_complete()
    lines = [line for line in command.output.splitlines() if "W&B" in line or "wandb" in line.replace("wandb sync", "")]
    warning, *sent, where = [line for line in lines if " is live: " not in line]
    assert bool(sent) == ("midway" in fault)
    assert warning.startswith("W&B: continuing offline") and where.startswith("W&B runs are offline"), lines
    assert "Traceback" not in command.output
    online = {id for id, run in server.runs.items() if run.exit_code == 0}
    assert bool(online) == ("midway" in fault)
    runs = read_runs(sweep.wandb)
    assert runs.keys() >= sweep.results.keys() and len(runs) == 3  # what isn't online is on disk, for `wandb sync`
    offline = {folder.name.partition("-")[2].split("-", 2)[2] for folder in sweep.wandb.glob("wandb/offline-run-*")}
    assert offline == runs.keys() - online


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds W&B's service by /proc")
def test_a_service_killed_midway_does_no_harm(tmp_path):
    sweep = Sweep(tmp_path, HALF)
    killed, samples = tmp_path / "killed", tmp_path / "outputs" / "samples"
    patches = {LIMITS: SOON} | holds.with_blocks(samples, 2, until=killed)
    command = sweep.start("metric=[fid]", patches=patches)
    holds.wait_for(lambda: len(list(sweep.wandb.glob("wandb/offline-run-*"))) == 2, command)
    (beside,) = (pid for pid in children(command.process.pid) if children(pid, "wandb-core"))
    for pid in children(beside, "wandb-core"):
        os.kill(pid, signal.SIGKILL)
    killed.touch()
    assert command.wait().code == 0, command.output
    assert command.output.count("done ") == 2
    sweep.check_that_it_is_complete()


def children(parent: int, name: str = "") -> list[int]:
    """Processes that this one started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            start, rest = stat.read_text().rsplit(")", 1)
        except OSError:
            continue
        if int(rest.split()[1]) == parent and f"({name}" in start:
            found.append(int(stat.parent.name))
    return found
