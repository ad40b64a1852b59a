"""The tutorial, docs/extending.md: its files work as they stand, from a folder outside the checkout."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import hydra.utils
import pytest
from omegaconf import OmegaConf

from ditexp.progress import Progress
from ditexp.result import Result
from ditexp.tracker import Tracker
from tests.helpers.paths import ROOT

TUTORIAL = (ROOT / "docs" / "extending.md").read_text()
FILES = dict(re.findall(r"```(?:python|yaml)\n# mine/(\S+)\n(.*?)```", TUTORIAL, re.DOTALL))
COMPONENTS = {
    "solver": "ssprk3",
    "schedule": "sigmoid",
    "guidance": "bounded",
    "metric": "effective_classes",
    "task": "tempered",
    "condition": "long_tail",
}
TRACKER = "status_file"
OWN = (
    "solver=ssprk3",
    "schedule=sigmoid",
    "guidance=bounded",
    "guidance.scale=2",
    "task=tempered",
    "condition=long_tail",
)
SMALL = ("steps=4", "num_samples=32", "batch_size=16", "metric=[]")


@pytest.fixture
def mine(tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(text)
    return tmp_path / "mine"


def test_each_component_is_one_file_and_one_yaml():
    components = {**COMPONENTS, "tracker": TRACKER}
    code = {f"{name}.py" for name in components.values()}
    assert set(FILES) == code | {f"conf/{group}/{name}.yaml" for group, name in components.items()}
    joined = re.sub(r" \\\n +", " ", TUTORIAL)
    assert f"--config-dir mine/conf {' '.join(OWN)} metric=[effective_classes]\n" in joined


@pytest.mark.slow
def test_the_tutorials_components_run_together(ditexp, tmp_path, mine):
    """Their costs are counted, their settings are in the result, and each mistake names the remedy."""

    def run(*arguments):
        return ditexp(f"--config-dir={mine / 'conf'}", *OWN, *SMALL, *arguments, folder=mine)

    command = run("metric=[trajectory,effective_classes]", "metric.trajectory.samples=16")
    assert command.code == 0, command.output
    (path,) = (tmp_path / "outputs" / "results").glob("*.json")
    result = json.loads(path.read_text())
    settings, cost = result["settings"], result["cost"]
    assert {group: settings[group] for group in COMPONENTS if group != "metric"} == {
        group: name for group, name in COMPONENTS.items() if group != "metric"
    }
    assert (settings["schedule.slope"], settings["guidance.bound"]) == (4.0, 0.5)
    assert (settings["task.temperature"], settings["condition.power"]) == (0.9, 1.0)
    assert (cost["steps"], cost["nfe"], cost["forwards"]) == (4, 12, 24)
    assert 0 < result["metrics"]["trajectory_rmse"] < 0.2
    assert 2 < result["metrics"]["effective_classes"] < 9.5  # fewer than the ten that balanced labels give

    wrong = run("schedule.slope=0", "guidance.bound=-1", "task.temperature=0", "condition.power=-1")
    assert wrong.code == 2
    assert "schedule.slope=0: give a number above 0" in wrong.output
    assert "guidance.bound=-1: give a number above 0" in wrong.output
    assert "task.temperature=0: give a number above 0" in wrong.output
    assert "condition.power=-1: give a number of at least 0" in wrong.output


def test_the_tutorials_condition_has_a_long_tail(monkeypatch, mine):
    from ditexp.model.analytic import GaussianMixture

    monkeypatch.syspath_prepend(mine)
    from long_tail import LongTail

    model, conditioner = GaussianMixture(num_classes=4, shape=(1, 2, 2)), LongTail(power=1.0)
    labels = conditioner(model, 0, range(1000)).labels
    counts = Counter(labels.tolist())
    assert [counts[label] / 1000 for label in range(4)] == pytest.approx([0.48, 0.24, 0.16, 0.12], abs=0.05)
    assert conditioner(model, 0, [7, 3]).labels.tolist() == labels[[7, 3]].tolist()
    assert conditioner.label_meaning(model).classes == (0, 1, 2, 3)


def test_the_tutorials_tracker_shows_cells(monkeypatch, mine, tmp_path):
    node = OmegaConf.create(FILES["conf/tracker/status_file.yaml"])
    node.file = str(tmp_path / "status")
    monkeypatch.syspath_prepend(mine)
    tracker: Tracker = hydra.utils.instantiate(node)
    cell = Result(id="a", status="running", settings={"solver": "heun", "steps": 20})
    progress = Progress(
        phase="sampling",
        seconds=5,
        images=256,
        images_in_progress=0,
        total_images=1024,
        forwards=0,
        images_per_second=None,
        seconds_left=None,
        failed_blocks=0,
    )
    tracker.begin_cell(cell)
    tracker.log_progress(cell, progress)
    assert (tmp_path / "status").read_text() == "heun: 256 of 1024\n"
    tracker.log_preview(cell, tmp_path / "preview.png")
    tracker.log_cell(replace(cell, status="failed", error="no memory"))
    assert (tmp_path / "status").read_text() == "heun: failed\n"
    tracker.close()


@pytest.mark.slow
def test_ones_own_code_is_part_of_the_sets_id(ditexp, tmp_path, mine):
    """An edited solver never passes for the old one; comments don't matter."""

    def sets_after(change: str, by: str) -> int:
        code = FILES["ssprk3.py"]
        assert change in code
        (mine / "ssprk3.py").write_text(code.replace(change, by))
        command = ditexp(f"--config-dir={mine / 'conf'}", "solver=ssprk3", *SMALL, folder=mine)
        assert command.code == 0, command.output
        return len(list((tmp_path / "outputs" / "samples").iterdir()))

    assert sets_after("order = 3", "order = 3") == 1
    assert sets_after("order = 3", "order = 3  # the same") == 1
    assert sets_after("(t0 + t1) / 2", "t0 + h / 3") == 2
