"""What a sweep varied, in words."""

import itertools

import pytest

from ditexp.report.titles import swept, varied
from tests.helpers.results import cell, results_of


def results(*, study="", skip=0, **values):
    """A result for each combination of values; without the last `skip`."""
    found = []
    for choice in itertools.product(*values.values()):
        given = {name.replace("__", "."): value for name, value in zip(values, choice)}
        each = cell(study=study)
        each["settings"] |= given
        found.append(each)
    return results_of(found[: len(found) - skip])


SOLVERS, STEPS, SCALES = ["euler", "heun", "rk4"], [20, 50, 100], [1.0, 1.5, 4.0]


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ([], ""),
        (results(solver=["heun"]), "one cell: heun, 20 steps"),
        (results(solver=["dopri5"], steps=[None]), "one cell: dopri5"),
        (results(solver=["heun"], seed=[0, 1, 2]), "heun, 20 steps, 3 seeds"),
        (results(solver=SOLVERS, steps=STEPS), "solver × steps (3 × 3)"),
        (results(solver=SOLVERS, steps=STEPS, skip=1), "solver × steps, 8 cells"),
        (results(guidance__scale=SCALES, solver=SOLVERS, seed=[0, 1, 2]), "solver × guidance.scale 1 to 4, 3 seeds"),
        (results(steps=STEPS), "steps 20, 50, 100"),
        (results(steps=range(1, 31)), "steps 1 to 30 (30)"),
        (results(solver=SOLVERS, study="mine"), "mine: solver euler, heun, rk4"),
        (results(solver=SOLVERS, study="default"), "solver euler, heun, rk4"),
        (results(solver=["a" * 40, "b" * 40]), "solver (2)"),
        (results(a=[1, 2], b=[1, 2], c=["x", "y"], d=[1, 2], e=[1, 2]), "a 1 to 2 × b 1 to 2 × c × d 1 to 2 and 1 more "
         "setting, 32 cells"),
    ],
)  # fmt: skip
def test_a_title_says_what_varies(found, text):
    assert swept(found) == text


def test_the_seed_comes_last_and_a_component_before_its_values():
    found = results(seed=[0, 1], steps=[10, 20], guidance__scale=[1, 2], solver=["euler", "heun"], num_samples=[8, 9])
    assert varied(found) == ["solver", "guidance.scale", "steps", "num_samples", "seed"]


def test_a_setting_that_only_another_component_has_does_not_vary():
    found = [*results(solver=["heun"], solver__order=[2]), *results(solver=["adams"], solver__order=[3])]
    assert varied(found) == ["solver"] and swept(found) == "solver heun, adams"
