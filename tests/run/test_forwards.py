"""Equal-cost sweeps: forwards instead of steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SMALL = ("num_samples=16", "batch_size=16", "metric=[]")


def planned(command) -> dict[str, list[str]]:
    assert command.code == 0, command.output
    return {line.split()[0]: line.split()[1:] for line in command.output.splitlines() if "solver=" in line}


@pytest.mark.slow
def test_steps_are_what_the_budget_pays_for(ditexp):
    """Heun has 2 and RK4 4 evaluations per step; guidance doubles them where it is on."""
    plan = ("hydra/launcher=plan", "forwards=40")
    steps = {
        name.removeprefix("solver="): row[0]
        for name, row in planned(ditexp("-m", "solver=euler,ab2,heun,heun3,rk4,dpmpp_2s", *plan)).items()
    }
    # Heun3 has 39 of 40. DPM-Solver++ 2S has one evaluation in its first and last step, two in the others: 21 steps.
    assert steps == {"euler": "40", "ab2": "40", "heun": "20", "heun3": "13", "rk4": "10", "dpmpp_2s": "21"}
    guided = planned(ditexp("-m", "solver=heun,euler", "guidance=cfg", "guidance.scale=2", *plan))
    assert [row[:3] for row in guided.values()] == [["10", "20", "40"], ["20", "20", "40"]]
    halved = planned(
        ditexp("-m", "solver=euler,rk4", "guidance=cfg", "guidance.scale=2", "guidance.interval=[0.5,1]", *plan)
    )
    (euler_steps, _, euler_forwards, *_), (rk4_steps, *_) = halved.values()
    assert 26 <= int(euler_steps) <= 27 and 39 <= int(euler_forwards) <= 40 and int(rk4_steps) == 6


@pytest.mark.slow
def test_what_is_spent_is_what_was_asked_for(ditexp, tmp_path):
    """The result is the same as with this number of steps: asking for it samples nothing."""
    command = ditexp("-m", *SMALL, "solver=heun,heun3", "forwards=8")
    assert command.code == 0, command.output
    costs = {}
    for path in (tmp_path / "outputs" / "results").glob("*.json"):
        result = json.loads(path.read_text())
        costs[result["settings"]["solver"]] = (result["settings"]["steps"], result["cost"]["forwards"])
    assert costs == {"heun": (4, 8), "heun3": (2, 6)}
    assert "Heun3 uses 6 of forwards=8" in command.output
    again = ditexp("-m", *SMALL, "solver=heun", "steps=4")
    assert again.code == 0 and "nothing was sampled" in again.output


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (("solver=dopri5", "forwards=8"), ("forwards=8", "don't act on an adaptive solver")),
        (("schedule=explicit", "schedule.points=[0,1]", "forwards=8"), ("forwards=8", "a schedule without steps")),
        (("solver=rk4", "forwards=3"), ("forwards=3 is not enough for one step, which needs 4",)),
        (("forwards=0",), ("forwards=0", "at least 1")),
        (("forwards=ten",), ("forwards=ten", "whole number")),
    ],
)
def test_where_it_is_impossible_it_is_refused(setting, words, in_process):
    ended = in_process("tracker=none", *SMALL, *setting)
    assert ended.code == 2
    assert all(word in ended.err for word in words), ended.err
    assert not Path("outputs/samples").exists()
