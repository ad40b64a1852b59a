import importlib
import json
import math
import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import hydra.utils
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from ditexp.cli.command import register_with_hydra
from ditexp.report.tables.column import Column
from ditexp.report.tables.table import Table
from ditexp.report.writing import write_report
from ditexp.result import Measurement, ReferenceRecord, Result
from ditexp.run.cell import build
from ditexp.run.outcome import failed_result
from ditexp.tracker import service, writer
from ditexp.tracker.destination import Options
from ditexp.tracker.lineage import reference
from ditexp.tracker.null import NullTracker
from ditexp.tracker.runs import WandbRuns
from ditexp.tracker.wandb import WandbTracker
from tests.helpers.offline_wandb import read_runs
from tests.helpers.paths import CONF
from tests.helpers.results import results_of
from tests.helpers.wandb_server import ENTITY

pytestmark = pytest.mark.usefixtures("lonely_wandb")

KEY = "0123456789" * 4
SOLVERS = ("euler", "heun", "heun")


@pytest.fixture
def cells(tmp_path) -> list[Result]:
    cells = []
    for i, (solver, steps) in enumerate(zip(SOLVERS, (20, 10, 20))):
        grid = tmp_path / f"grid{i}.png"
        Image.new("RGB", (40, 20), (i, 2, 3)).save(grid)
        cells.append(
            {
                "id": f"3f2a{i}",
                "status": "done",
                "cached": False,
                "study": "solvers",
                "sample_id": f"9b{i}",
                "num_samples": 500,
                "settings": {
                    "model": "digits",
                    "solver": solver,
                    "schedule": "uniform",
                    "guidance": "none",
                    "weight": 0.0,
                    "steps": steps,
                    "precision": "fp32",
                },
                "cost": {"steps": steps, "nfe": 20.0, "forwards": 20.0 + i, "seconds_per_image": 0.1},
                "metrics": {"fid": 1 / 3 + i, "precision": 0.7},
                "protocol": {
                    "feature": {"name": "digits"},
                    "reference": {"name": "digits", "count": 1797, "fingerprint": "5b8b360f2984"},
                },
                "config": {"solver": {"_target_": f"ditexp.solver.{solver}"}, "seed": 0},
                "command": "ditexp run",
                "provenance": {"commit": "abc"},
                "grid": str(grid),
            }
        )
    kept = ("id", "study", "settings", "config")
    error = "FloatingPointError: not finite at step 3"
    cells.append({name: cells[0][name] for name in kept} | {"id": "bad", "status": "failed", "error": error})
    return results_of(cells)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_every_cell_and_the_report_are_in_the_offline_log(tmp_path, cells, capfd, caplog):
    tracker = WandbRuns(Options(folder=tmp_path / "wandb"))
    for cell in cells:
        tracker.log_cell(cell)
    report = write_report(cells, tmp_path / "report", title="x")
    tracker.log_report("solvers", cells, report.table, report.paths)
    tracker.close()
    out, err = capfd.readouterr()
    assert not warnings(caplog) and out == err == ""

    runs = read_runs(tmp_path / "wandb")
    assert len(runs) == len(cells) + 1
    for cell in cells[:3]:
        logged = runs[cell.id]
        assert (logged.run.run_group, logged.run.job_type, logged.run.project) == (
            "solvers",
            "sample",
            "ditexp",
        )
        assert {f"solver:{cell.settings['solver']}", "model:digits"} <= set(logged.run.tags)
        facts = {"num_samples": 500, "provenance_commit": "abc", "measured_reference_count": 1797, "study": "solvers"}
        expected = cell.settings | facts | {"sample_id": cell.sample_id}
        assert {name: logged.config[name] for name in expected} == expected
        assert not any(
            "." in name or isinstance(value, dict) for name, value in logged.config.items() if name != "_wandb"
        )
        assert logged.summary["digits/fid"] == cell.metrics["fid"]
        assert logged.summary["digits/precision"] == 0.7
        assert logged.summary["forwards"] == cell.cost.forwards
        assert logged.media("samples").read_bytes() == cell.grid.read_bytes()
        assert logged.exit_code == 0
    assert runs["3f2a1"].run.display_name == "heun-10-none"
    assert runs["bad"].summary["error"] == cells[3].error and runs["bad"].exit_code == 1

    (logged,) = [run for run in runs.values() if run.run.job_type == "report"]
    assert logged.run.run_group == "solvers" and logged.config["cells"] == ["3f2a0", "3f2a1", "3f2a2", "bad"]
    table = json.loads(logged.media("table").read_text())
    assert table["columns"] == [*(column.name for column in report.table.columns), "run", "seed", "samples"]
    assert [tuple(row[:-3]) for row in table["data"]] == list(zip(*(c.values for c in report.table.columns)))
    assert [row[-3] for row in table["data"]] == [row.first.id for row in report.table.rows]
    assert [row[-1] is None for row in table["data"]] == [not row.is_done for row in report.table.rows]
    points = json.loads(logged.media("fid_vs_forwards_table").read_text())
    assert points["columns"] == ["forwards", "cells", "fid"]
    lines = [[20.0 + i, f"{solver}, num_samples 500", 1 / 3 + i] for i, solver in enumerate(SOLVERS)]
    assert points["data"] == [[20.0, "Pareto front", 1 / 3], *lines]
    for name, file in {"quality_vs_cost": "quality_vs_cost.png", "side_by_side": "samples.png"}.items():
        assert logged.media(name).read_bytes() == report.paths[file].read_bytes()


def test_a_cell_is_logged_once(tmp_path, cells):
    for _ in range(2):
        tracker = WandbRuns(Options(folder=tmp_path / "wandb"))
        tracker.log_cell(cells[0])
        tracker.log_cell(cells[3])
    assert len(list(tmp_path.rglob("*.wandb"))) == 2
    tracker.log_cell(replace(cells[3], status="done", error=""))  # tried again, with success
    assert len(list(tmp_path.rglob("*.wandb"))) == 3
    WandbRuns(Options(folder=tmp_path / "wandb", project="other")).log_cell(cells[0])
    assert len(list(tmp_path.rglob("*.wandb"))) == 4


def test_odd_results_are_logged_too(tmp_path, cells, caplog):
    cells[0].metrics["fid"] = math.nan
    cells[1] = replace(cells[1], grid=tmp_path / "gone.png")
    cells[2] = replace(cells[2], metrics={}, measurement=None)
    tracker = WandbRuns(Options(folder=tmp_path / "wandb"))
    for cell in cells:
        tracker.log_cell(cell)
    report = write_report(cells, tmp_path / "report", title="x")
    tracker.log_report("solvers", cells, report.table, report.paths)
    runs = read_runs(tmp_path / "wandb")
    assert not warnings(caplog) and len(runs) == 5
    assert runs["3f2a0"].summary["digits/fid"] is None  # W&B knows no NaN in a summary
    assert "samples.path" in runs["3f2a0"].summary and "samples.path" not in runs["3f2a1"].summary


@pytest.mark.slow
def test_unreachable_server_costs_one_warning_and_bounded_time(tmp_path, cells, monkeypatch, caplog, capfd):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(service, "limits", service.Limits(init=2))
    begun = []
    begin = writer.begin
    monkeypatch.setattr(writer, "begin", lambda *given, **run: begun.append(run["mode"]) or begin(*given, **run))
    start = time.monotonic()
    tracker = WandbRuns(Options(folder=tmp_path / "wandb"))
    tracker.begin_cell(cells[0])
    assert len(list((tmp_path / "wandb" / "wandb").glob("offline-run-*-3f2a0"))) == 1  # as it runs, too
    for cell in cells[:2]:
        tracker.log_cell(cell)
    WandbRuns(Options(folder=tmp_path / "wandb")).log_cell(cells[2])  # the next tracker does not wait again
    tracker.close()
    assert begun.count("online") == 1 and time.monotonic() - start < 300  # wandb itself would try for hours
    assert len(warnings(caplog)) == 1 and "offline" in warnings(caplog)[0]
    assert capfd.readouterr() == ("", "")
    logged = {file.stem for file in (tmp_path / "wandb").rglob("offline-run-*/*.wandb")}
    assert logged == {"run-3f2a0", "run-3f2a1", "run-3f2a2"}
    assert not any('"run"' in path.read_text() for path in (tmp_path / "wandb" / "logged").iterdir())


def test_a_cell_that_had_failed_goes_on_in_its_own_run(tmp_path, cells, server, caplog):
    failed = replace(cells[3], id=cells[0].id)
    for result in (failed, cells[0], cells[0]):
        WandbRuns(Options(folder=tmp_path / "wandb")).log_cell(result)
        (run,) = server.runs.values()
        assert run.exit_code == (0 if result.is_done else 1) and run.summary["error"] == result.error
    assert run.summary["status"] == "done" and run.summary["digits/fid"] == cells[0].metrics["fid"]
    assert len(run.history) == 1 and not warnings(caplog)


def test_a_failed_cell_has_the_id_that_it_will_have_when_it_is_done(tmp_path):
    register_with_hydra()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        cfg = compose("config", overrides=["num_samples=32", f"outputs={tmp_path}"])
    settings, error = {"solver": "euler", "steps": 5}, RuntimeError("out of memory")
    assert failed_result(cfg, settings, tmp_path / "sweep" / "0", error, "sweep").id == build(cfg).id
    cfg.num_samples = 0
    assert failed_result(cfg, settings, tmp_path / "sweep" / "0", error, "sweep").id == "failed-sweep-0"


@pytest.mark.slow
def test_what_was_not_uploaded_goes_to_the_same_run_later(tmp_path, cells, server, monkeypatch, caplog):
    monkeypatch.setattr(service, "limits", service.Limits(finish=3, run=200))
    server.fault, server.after = "error", 1  # after the run has begun, before its picture has arrived
    WandbRuns(Options(folder=tmp_path / "wandb")).log_cell(cells[0])
    assert len(warnings(caplog)) == 1 and not [path for path in server.runs["3f2a0"].files if "samples" in path]
    assert list(read_runs(tmp_path / "wandb")) == ["3f2a0"]

    server.fault = None
    monkeypatch.setattr(service, "_attempts", ["online", "offline", "offline"])  # the next command
    for _ in range(2):
        WandbRuns(Options(folder=tmp_path / "wandb")).log_cell(cells[0])
        (run,) = server.runs.values()
        begun = run.begun
    assert run.media("samples") == cells[0].grid.read_bytes() and run.exit_code == 0
    assert run.begun == begun and len(warnings(caplog)) == 1


def test_the_report_shows_deviations_and_its_page_if_it_is_small(tmp_path, cells, monkeypatch, caplog):
    values = (Column("solver", "solver", "setting", ("euler", "heun")), Column("forwards", "forwards", "cost", (9, 19)))
    score = Column("digits/inception_score", "IS", "metric", (8.0, 9.0), max, spread=(0.1, 0.2))
    table, page = Table([], [*values, score], []), tmp_path / "report.html"
    page.write_text("<p>all of it</p>")
    tracker = WandbRuns(Options(folder=tmp_path / "wandb"))
    tracker.log_report("small", cells[:1], table, {"report.html": page})
    monkeypatch.setattr("ditexp.tracker.views.MAX_BYTES", 10)
    tracker.log_report("large", cells[:1], table, {"report.html": page, "samples.png": None})
    runs = {run.run.run_group: run for run in read_runs(tmp_path / "wandb").values()}
    assert runs["small"].media("report").read_text() == page.read_text() and not warnings(caplog)
    assert "report.path" not in runs["large"].summary
    shown = json.loads(runs["small"].media("table").read_text())
    assert shown["columns"] == ["solver", "forwards", "digits/inception_score", "digits/inception_score_sd"]
    assert shown["data"] == [["euler", 9, 8.0, 0.1], ["heun", 19, 9.0, 0.2]]
    chart = json.loads(runs["small"].media("inception_score_vs_forwards_table").read_text())
    front = [[9, "Pareto front", 8.0], [19, "Pareto front", 9.0]]  # higher is better
    assert chart["data"] == [*front, [9, "euler", 8.0], [19, "heun", 9.0]]


@pytest.mark.parametrize("name", ["$a$ [b] 中文 é/../c:d", "x" * 255, "..", ""])
def test_a_reference_of_any_name_is_an_artifact(name):
    found = ReferenceRecord(name=name, fingerprint="f" * 64)
    measurement = Measurement(reference=found, feature={"name": "inception"})
    grid, settings = Path("outputs/results/a.png"), {"solver": "euler", "steps": 5}
    result = Result(id="a", status="done", settings=settings, measurement=measurement, grid=grid)
    artifact = reference(result)  # wandb refuses wrong names
    assert artifact.name.endswith("-inception-ffffffff") and artifact.type == "reference"


def test_a_small_prepared_reference_is_uploaded(tmp_path, cells, server):
    prepared = tmp_path / "cache" / "references" / "digits-digits-5b8b360f.safetensors"
    prepared.parent.mkdir(parents=True)
    prepared.write_bytes(b"mean and covariance")
    results = [replace(cell, grid=tmp_path / "results" / f"{cell.id}.png") for cell in cells[:2]]
    table = Table([], [Column("solver", "solver", "setting", ("euler", "heun"))], [])
    WandbRuns(Options(folder=tmp_path / "wandb")).log_report("solvers", results, table, {})
    (found,) = server.of_type("reference")
    assert found.name == "reference-digits-digits-5b8b360f"
    assert found.files["statistics.safetensors"] == prepared.read_bytes()


@pytest.mark.slow
def test_the_first_report_online_saves_a_workspace(tmp_path, cells, server, capfd, caplog):
    pytest.importorskip("wandb_workspaces", reason="needs ditexp[workspace]")
    report = write_report(cells, tmp_path / "report", title="x")
    tracker = WandbRuns(Options(folder=tmp_path / "wandb"))
    for study in ("first", "second"):
        tracker.log_report(study, cells, report.table, report.paths)
    tracker.close()
    (view,) = server.views.values()
    assert (view["entityName"], view["projectName"]) == (ENTITY, "ditexp")
    sections = json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]
    panels = {section["name"]: section["panels"] for section in sections}
    axes = [(panel["config"].get("xAxis"), panel["config"].get("yAxis")) for panel in panels["Quality against cost"]]
    assert axes[0] == ("summary:forwards", "summary:digits/fid")
    kinds = {name: [panel["viewType"] for panel in found] for name, found in panels.items()}
    assert kinds["Quality against cost"][-1] == "Bar Chart" and kinds["Runs"] == ["Run Comparer"]
    assert kinds["Samples"] == ["Media Browser"] and kinds["Report"] == ["Weave", "Media Browser"]
    assert not warnings(caplog) and capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_workspace_that_cannot_be_saved_costs_one_warning(tmp_path, cells, server, monkeypatch, caplog):
    def refuse(*arguments):
        raise RuntimeError("not allowed")

    monkeypatch.setattr("ditexp.tracker.runs.can_save_workspace", lambda: True)
    monkeypatch.setattr("ditexp.tracker.runs.save_workspace", refuse)
    report = write_report(cells, tmp_path / "report", title="x")
    tracker = WandbRuns(Options(folder=tmp_path / "wandb"))
    tracker.log_report("solvers", cells, report.table, report.paths)
    assert len(warnings(caplog)) == 1 and "not allowed" in warnings(caplog)[0]
    assert service.works() and len(server.runs) == 1


def test_online_without_an_account_warns_and_goes_offline(tmp_path, cells, caplog):
    WandbRuns(Options(folder=tmp_path / "wandb", mode="online")).log_cell(cells[0])
    assert len(warnings(caplog)) == 1 and "wandb login" in warnings(caplog)[0]
    assert list(read_runs(tmp_path / "wandb")) == ["3f2a0"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="finds the service by /proc")
def test_cells_after_the_service_was_killed_are_still_logged(tmp_path, cells, caplog, capfd):
    tracker = WandbRuns(Options(folder=tmp_path / "wandb"))
    tracker.log_cell(cells[0])
    (pid,) = service.service_processes()
    os.kill(pid, signal.SIGKILL)
    for cell in cells[1:]:
        tracker.log_cell(cell)
    for pid in service.service_processes():
        os.kill(pid, signal.SIGKILL)
    tracker.close()
    assert len(warnings(caplog)) == 1 and capfd.readouterr() == ("", "")
    assert set(read_runs(tmp_path / "wandb")) == {"3f2a0", "3f2a1", "3f2a2", "bad"}


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path, cells, caplog):
    (tmp_path / "file").touch()
    tracker = WandbRuns(Options(folder=tmp_path / "file" / "wandb"))
    for cell in cells:
        tracker.log_cell(cell)
    tracker.close()
    assert len(warnings(caplog)) == 1 and not list(tmp_path.rglob("*.wandb"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_costs_one_warning(tmp_path, cells, caplog):
    folder = tmp_path / "wandb"
    folder.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    tracker = WandbRuns(Options(folder=folder))
    for cell in cells:
        tracker.log_cell(cell)
    assert len(warnings(caplog)) == 1 and not list(tmp_path.rglob("*.wandb"))


def test_an_error_half_way_is_not_taken_for_done(tmp_path, cells, monkeypatch, caplog):
    def disk_full(run, result):
        raise OSError("No space left on device")

    monkeypatch.setattr("ditexp.tracker.runs.show_cell", disk_full)
    WandbRuns(Options(folder=tmp_path / "wandb")).log_cell(cells[0])
    assert warnings(caplog) == ["W&B: continuing offline or without it, no result is lost: No space left on device"]
    assert not any(path.read_text() for path in (tmp_path / "wandb" / "logged").iterdir())


def test_without_wandb_installed(tmp_path, cells, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", None)
    tracker = WandbRuns(Options(folder=tmp_path / "wandb"))
    for cell in cells:
        tracker.log_cell(cell)
    tracker.close()
    assert len(warnings(caplog)) == 1


def test_wandb_mode_is_respected(tmp_path, cells, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    WandbRuns(Options(folder=tmp_path / "wandb")).log_cell(cells[0])
    assert not list(tmp_path.rglob("*.wandb"))
    service.stop_service()
    monkeypatch.setenv("WANDB_MODE", "offline")
    WandbRuns(Options(folder=tmp_path / "wandb")).log_cell(cells[0])
    assert len(list(tmp_path.rglob("offline-run-*/*.wandb"))) == 1 and not warnings(caplog)


def test_a_wandb_that_hangs_is_left_alone(tmp_path, cells, monkeypatch, caplog):
    importlib.import_module("wandb")  # which needs longer than the limit
    monkeypatch.setattr(service, "limits", service.Limits(run=1, kill=0.1))
    tries = []

    def hang(*args, **kwargs):
        tries.append(1)
        time.sleep(600)

    monkeypatch.setattr("wandb.init", hang)
    tracker = WandbRuns(Options(folder=tmp_path, mode="offline"))
    begin = time.monotonic()
    for cell in cells:
        tracker.log_cell(cell)
    tracker.close()
    assert len(tries) == 1 and time.monotonic() - begin < 300
    assert len(warnings(caplog)) == 1 and "did not answer" in warnings(caplog)[0]


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match=r"'sometimes'.*auto, online, offline"):
        WandbTracker(mode="sometimes")
    with pytest.raises(ValueError, match=r"tracker.tags=one: give a list"):
        WandbTracker(tags="one")


def test_configs_build_the_trackers(tmp_path):
    root = OmegaConf.create({"outputs": str(tmp_path)})
    root.tracker = OmegaConf.load(CONF / "tracker" / "wandb.yaml")
    tracker = hydra.utils.instantiate(root.tracker)
    assert isinstance(tracker, WandbTracker)
    assert tracker.options == Options(folder=tmp_path / "wandb")  # W&B's own variables have their say
    null = hydra.utils.instantiate(OmegaConf.load(CONF / "tracker" / "none.yaml"))
    assert isinstance(null, NullTracker)


def test_wandb_is_only_imported_when_used(cells):
    code = (
        "import sys, ditexp.report.writing, ditexp.tracker.null as null, ditexp.tracker.wandb as wandb\n"
        "null.NullTracker().log_cell(None); null.NullTracker().close(); wandb.WandbTracker().close()\n"
        "assert 'wandb' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=600).returncode == 0
