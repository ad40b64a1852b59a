from __future__ import annotations

import sys

import hydra.utils
import pytest
from omegaconf import OmegaConf
from PIL import Image

from ditexp.progress import Progress
from ditexp.report.tables.column import Column
from ditexp.report.tables.table import Table
from ditexp.tracker.tensorboard import TensorBoardTracker
from tests.helpers.paths import CONF
from tests.helpers.refusals import refused
from tests.helpers.results import results_of, six_cells


def progress(seconds: float, **more) -> Progress:
    known = {"images": 10, "images_in_progress": 5, "total_images": 100, "forwards": 40.0, "failed_blocks": 0}
    return Progress(
        **{"phase": "sampling", "seconds": seconds, "images_per_second": 3.0, "seconds_left": None, **known, **more}
    )


def test_a_cell_is_there_while_it_runs_and_then_with_its_metrics(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    root = OmegaConf.create({"outputs": str(tmp_path)})
    root.tracker = OmegaConf.load(CONF / "tracker" / "tensorboard.yaml")
    tracker = hydra.utils.instantiate(root.tracker)
    assert isinstance(tracker, TensorBoardTracker)
    (result,) = results_of([next(cell for cell in six_cells() if cell["status"] == "done")])
    Image.new("RGB", (40, 20)).save(tmp_path / "preview.png")
    tracker.begin_cell(result)
    for seconds in (0, 1, 2, 12):  # more often than it is shown
        tracker.log_progress(result, progress(seconds))
    tracker.log_preview(result, tmp_path / "preview.png")
    tracker.log_cell(result)
    table = Table([], [Column("solver", "solver", "setting", ("euler",))], [])
    tracker.log_report("solvers", [result], table, {"preview.png": tmp_path / "preview.png"})
    tracker.close()

    cell, report = sorted((tmp_path / "tensorboard").iterdir(), key=lambda folder: folder.name.startswith("report"))
    events = accumulator.EventAccumulator(str(cell))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("progress/images")] == [(0, 15), (12, 15)]
    for name, value in result.metrics.items():
        assert events.Scalars(f"{result.network}/{name}")[0].value == pytest.approx(value)
    assert "preview" in events.Tags()["images"] and cell.name.endswith(result.id)
    assert result.settings["solver"] in str(events.summary_metadata) or "hparams" in str(
        events.PluginTagToContent("hparams")
    )
    events = accumulator.EventAccumulator(str(report))
    events.Reload()
    assert events.Tags()["images"] == ["preview"] and "solver" in str(events.Tensors("table/text_summary"))


def test_without_the_package_the_remedy_is_named_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with refused(["tensorboard is missing", "pip install 'ditexp[tensorboard]'"]):
        TensorBoardTracker(folder=tmp_path).check()
