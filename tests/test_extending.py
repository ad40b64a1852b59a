"""The tutorial, docs/extending.md: its files work as they stand, from a folder outside the checkout."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

TUTORIAL = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
FILES = dict(re.findall(r"```(?:python|yaml)\n# mine/(\S+)\n(.*?)```", TUTORIAL, re.DOTALL))
OWN = ("solver=ssprk3", "schedule=sigmoid", "guidance=bounded", "guidance.scale=2")
SMALL = ("steps=4", "num_samples=32", "batch_size=16", "metric=[]")


@pytest.fixture
def mine(tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(text)
    return tmp_path / "mine"


def test_each_piece_is_one_file_and_one_yaml():
    assert set(FILES) == {
        *("ssprk3.py", "sigmoid.py", "bounded.py"),
        *("conf/solver/ssprk3.yaml", "conf/schedule/sigmoid.yaml", "conf/guidance/bounded.yaml"),
    }
    assert f"--config-dir mine/conf {' '.join(OWN)}\n" in TUTORIAL


@pytest.mark.slow
def test_the_tutorials_pieces_run_together(ditexp, tmp_path, mine):
    """With their costs counted, their settings in the result, and in each one's mistakes the remedy."""

    def run(*arguments):
        return ditexp(f"--config-dir={mine / 'conf'}", *OWN, *SMALL, *arguments, folder=mine)

    command = run("metric=trajectory", "metric.trajectory.samples=16")
    assert command.code == 0, command.output
    (path,) = (tmp_path / "outputs" / "results").glob("*.json")
    result = json.loads(path.read_text())
    settings, cost = result["settings"], result["cost"]
    assert (settings["solver"], settings["schedule"], settings["guidance"]) == ("ssprk3", "sigmoid", "bounded")
    assert (settings["schedule.slope"], settings["guidance.bound"]) == (4.0, 0.5)
    assert (cost["steps"], cost["nfe"], cost["forwards"]) == (4, 12, 24)
    assert 0 < result["metrics"]["trajectory_rmse"] < 0.2

    wrong = run("schedule.slope=0", "guidance.bound=-1")
    assert wrong.code == 2
    assert "schedule.slope=0: give a number above 0" in wrong.output
    assert "guidance.bound=-1: give a number above 0" in wrong.output


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
