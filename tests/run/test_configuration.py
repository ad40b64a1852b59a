"""Settings before anything is built: slices, mistakes, and steps from a budget of evaluations."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from omegaconf import OmegaConf

from ditexp.checks import ConfigError
from ditexp.run.cell import build
from ditexp.run.configuration import Mistakes, Slice, check_numbers, with_steps
from tests.helpers.configurations import composed
from tests.helpers.refusals import refused


def test_slices_cover_each_block_once():
    parts = [Slice.parse(f"{number}/3").of(range(10)) for number in (1, 2, 3)]
    assert parts[1] == [1, 4, 7] and sorted(block for part in parts for block in part) == list(range(10))
    assert Slice.parse(None).of([2, 5]) == [2, 5]
    for wrong in ("0/3", "4/3", "3", "1/0", "a/b", "1/2/3"):
        with refused([f"slice={wrong}: give k/n with 1 <= k <= n"]):
            Slice.parse(wrong)


def test_all_mistakes_are_raised_at_once_each_one_once():
    def fail(text: str) -> None:
        raise ValueError(text)

    with pytest.raises(ConfigError) as error, Mistakes() as mistakes:
        mistakes.add(["a=1: no"])
        assert mistakes.attempt(fail, "b=2: no") is None and mistakes.attempt(len, "abc") == 3
        mistakes.add(["a=1: no"])
        fail("c=3: no")
    assert str(error.value).splitlines() == ["a=1: no", "b=2: no", "c=3: no"]
    with pytest.raises(KeyboardInterrupt), Mistakes() as mistakes:
        mistakes.add(["a=1: no"])
        raise KeyboardInterrupt
    with Mistakes():
        pass


def test_a_wrong_configuration_gives_every_mistake_of_its_stage():
    mistakes = check_numbers(composed("precision=fp33", "seed=-1", "compile=maybe", "slice=9/8"))
    assert [line.partition("=")[0] for line in mistakes] == ["seed", "precision", "compile", "slice"]
    with pytest.raises(ConfigError) as error:
        build(composed("steps=0", "precision=fp33", "devices=gpu", "condition.classes=[12]"))
    assert len(str(error.value).splitlines()) == 4


@dataclass(frozen=True)
class Incomplete:
    """A component of a user's that inherits nothing."""

    def check(self, model: object) -> None: ...


@pytest.mark.parametrize(
    ("group", "members"),
    [
        ("model", "sample_shape, codec"),
        ("solver", "adaptive, stochastic, uses_variance, uses_flow_map, history, integrate"),
        ("schedule", "grid, tuned_to"),
        ("guidance", "start, interval, weak, on, bind"),
        ("cache", "period, work, begin"),
        ("condition", "captions, label_meaning"),
        ("feature", "name, channels"),
    ],
)
def test_a_component_that_lacks_members_is_refused_before_any_work(group, members):
    cfg = composed()
    OmegaConf.set_struct(cfg, False)
    cfg[group] = {"_target_": f"{__name__}.Incomplete"}
    with refused([f"{group}: Incomplete has no {members}", "ditexp"]):
        build(cfg)


def test_steps_from_a_budget_leave_the_configuration_as_it_was(tmp_path):
    cfg = composed("solver=heun", "forwards=9", "steps=50", f"outputs={tmp_path}")
    before = OmegaConf.to_yaml(cfg)
    assert with_steps(cfg).steps == 4 and with_steps(cfg).schedule.steps == 4
    cell = build(cfg)
    assert (cell.steps, cell.config["steps"], cell.config["schedule"]["steps"]) == (4, 4, 4)
    assert OmegaConf.to_yaml(cfg) == before
    assert cell.store.id == build(composed("solver=heun", "steps=4", f"outputs={tmp_path}")).store.id
    assert with_steps(without := composed("steps=7")) is without


def test_a_cache_makes_more_steps_fit_and_another_set(tmp_path):
    """Of 27 steps with interval 3, 9 are full, and the others cost 4 %. A 28th step would be full, and too much."""
    cfg = composed("cache=fora", "forwards=10", f"outputs={tmp_path}")
    cell = build(cfg)
    plan = cell.sampler.evaluations()
    assert plan is not None and cell.steps == plan[0] == 27 and 9 < plan[1] < 10
    sets = [composed(f"cache={cache}", "steps=27", f"outputs={tmp_path}") for cache in ("fora", "delta", "none")]
    ids = [build(each).store.id for each in sets]
    assert ids[0] == cell.store.id and len(set(ids)) == 3
