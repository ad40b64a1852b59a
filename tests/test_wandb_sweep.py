"""W&B in a whole sweep: everything arrives, and nothing that happens to W&B harms the sweep."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests import commands
from tests.offline_wandb import read_runs

SWEEP = ("-m", "solver=euler,heun", "steps=2,4", "num_samples=32", "batch_size=32", "study=small")
CELLS = {("euler", 2), ("euler", 4), ("heun", 2), ("heun", 4)}


@pytest.fixture
def sweep(tmp_path):
    """Begins the sweep with W&B and an account nobody has; `environment` may add one."""

    def start(**environment: str) -> commands.Command:
        lonely = {"WANDB_CONFIG_DIR": str(tmp_path / "config"), "NETRC": str(tmp_path / "netrc")}
        dead = {"WANDB_BASE_URL": "http://127.0.0.1:9"}  # nothing listens there
        log = commands.unused_name(tmp_path / "logs")
        arguments = (*SWEEP, f"outputs={tmp_path / 'outputs'}")
        return commands.start(log, "ditexp.run", *arguments, environment={**lonely, **dead, **environment})

    return start


def rows_of_report(tmp_path: Path) -> set[tuple[str, int]]:
    (table,) = (tmp_path / "outputs" / "reports").rglob("table.csv")
    return {(row["solver"], int(row["steps"])) for row in csv.DictReader(table.open())}


def results(tmp_path: Path) -> dict[str, dict]:
    files = (tmp_path / "outputs" / "results").glob("*.json")
    return {result["id"]: result for result in (json.loads(file.read_text()) for file in files)}


def test_the_offline_files_of_a_sweep_hold_everything(sweep, tmp_path):
    assert sweep().wait().code == 0
    runs = read_runs(tmp_path / "outputs" / "wandb")
    cells = {id: run for id, run in runs.items() if run.run.job_type == "sample"}
    assert cells.keys() == results(tmp_path).keys() and len(cells) == 4
    for id, result in results(tmp_path).items():
        run, cost = cells[id], result["cost"]
        assert run.run.run_group == "small" and run.exit_code == 0
        assert (run.config["solver"], run.config["steps"]) == (
            result["settings"]["solver"],
            result["settings"]["steps"],
        )
        assert run.config["config"] == result["config"]
        for name, value in result["metrics"].items():
            assert run.summary[f"digits/{name}"] == value
        assert all(run.summary[name] == cost[name] for name in ("nfe", "forwards", "seconds_per_image"))
        assert run.media("samples").read_bytes() == Path(result["grid"]).read_bytes()
    (report,) = (run for run in runs.values() if run.run.job_type == "report")
    table = json.loads(report.media("table").read_text())
    solver, steps = table["columns"].index("solver"), table["columns"].index("steps")
    assert {(row[solver], row[steps]) for row in table["data"]} == CELLS
    assert report.media("quality_vs_cost").stat().st_size > 10_000

    before = sorted((tmp_path / "outputs" / "wandb").rglob("*.wandb"))
    assert sweep().wait().output.count("cached") >= 4
    assert sorted((tmp_path / "outputs" / "wandb").rglob("*.wandb")) == before  # nothing is logged twice


def test_an_unreachable_server_costs_one_warning(sweep, tmp_path):
    command = sweep(WANDB_API_KEY="0123456789" * 4).wait()
    assert command.code == 0, command.output
    assert rows_of_report(tmp_path) == CELLS and len(results(tmp_path)) == 4
    assert len([line for line in command.output.splitlines() if "W&B" in line and "offline" in line]) <= 2
    assert {run.run.run_id for run in read_runs(tmp_path / "outputs" / "wandb").values()} >= results(tmp_path).keys()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds W&B's service by /proc")
def test_a_service_killed_midway_does_no_harm(sweep, tmp_path):
    command = sweep()
    while command.process.is_alive() and "done euler 4" not in command.output:
        time.sleep(0.01)
    killed = 0
    while command.process.is_alive() and not killed:
        for pid in services_below(command.process.pid):
            os.kill(pid, signal.SIGKILL)
            killed += 1
        time.sleep(0.01)
    assert command.wait().code == 0, command.output
    assert killed and rows_of_report(tmp_path) == CELLS and len(results(tmp_path)) == 4


def services_below(parent: int) -> list[int]:
    """wandb-core processes that this one started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = stat.read_text().rsplit(")", 1)
        except OSError:
            continue
        if int(rest.split()[1]) == parent and "(wandb-core" in name:
            found.append(int(stat.parent.name))
    return found
