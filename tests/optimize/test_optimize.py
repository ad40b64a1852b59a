"""The search for the best grids of a model, and the schedule that uses them."""

from __future__ import annotations

import json
import math
from itertools import combinations, pairwise

import pytest
import torch

from ditexp.model.analytic import GaussianMixture
from ditexp.optimize.search import Flow, fitted, local_errors, search, shortest_paths
from ditexp.schedule.cosine import Cosine
from ditexp.schedule.uniform import Uniform
from ditexp.solver.adams import AdamsBashforth
from ditexp.solver.dopri5 import Dopri5
from ditexp.solver.euler import Euler
from ditexp.solver.heun import Heun
from tests.helpers.errors import rms
from tests.helpers.samplers import in_float64, sampler_of

QUICK = ("max_steps=3", "candidates=8", "trajectories=4")


def flow(solver, *, candidates: int = 16, first: int = 0) -> Flow:
    model = GaussianMixture(num_classes=3, components=2, shape=(1, 2, 2), std=0.1)
    made = in_float64(sampler_of(model, solver, schedule=Cosine(candidates)))
    return Flow(made, Dopri5(rtol=1e-9, atol=1e-9), first=first, count=16)


def test_shortest_paths_are_the_shortest():
    """Compared with all possible paths."""
    torch.manual_seed(0)
    costs = torch.rand(9, 9, dtype=torch.float64).triu(1)
    costs[costs == 0] = math.inf
    times = [i / 8 for i in range(9)]
    found = list(shortest_paths(times, costs, 8))
    for steps, path in enumerate(found, start=1):
        assert len(path) == steps + 1 and path[0] == 0 and path[-1] == 1
        every = [(0, *inner, 8) for inner in combinations(range(1, 8), steps - 1)]
        cheapest = min(every, key=lambda path: sum(costs[i, j] for i, j in pairwise(path)))
        assert path == [times[i] for i in cheapest]


def test_local_errors_are_those_of_single_steps():
    tried = flow(Heun(), candidates=6)
    errors = local_errors(tried, lambda count: None)
    assert (errors.isinf() == torch.ones(7, 7).tril().bool()).all()
    for i, j in ((0, 1), (2, 5), (0, 6)):
        end = Heun().integrate(tried.field, tried.paths.x[i], [tried.times[i], tried.times[j]]).x
        assert errors[i, j] == pytest.approx(rms(end - tried.paths.x[j]), rel=1e-9)


def test_a_multistep_solver_is_given_a_past():
    """A step of Adams-Bashforth then has order 2, and its local error falls as h^3; without a past it is Euler's."""
    tried, i = flow(AdamsBashforth(2), candidates=64), 32
    wide, narrow = (rms(tried.step(i, tried.times[i] + h) - tried.paths.at(tried.times[i] + h)) for h in (0.04, 0.02))
    assert math.log2(wide / narrow) == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("solver", [Euler(), Heun()])
def test_a_grid_fitted_to_some_samples_is_better_for_others(solver):
    """Better than the uniform grid, and than the grid with the least sum of local errors."""
    seen, unseen = flow(solver), flow(solver, first=1000)
    *_, shortest = shortest_paths(seen.times, local_errors(seen, lambda count: None), 5)
    best = fitted(shortest, seen.residuals)
    assert best == dict(search(seen, 5))[5]
    assert best[0] == 0 and best[-1] == 1 and all(a < b for a, b in pairwise(best)) and len(best) == 6
    assert seen.error(best) <= seen.error(shortest)
    assert unseen.error(best) < unseen.error(shortest) * 1.05
    assert unseen.error(best) < 0.7 * unseen.error(Uniform(5).grid().tolist())


@pytest.mark.slow
def test_found_by_one_command_and_taken_by_the_next(ditexp, tmp_path):
    outputs = tmp_path / "outputs"
    run = ("schedule=optimized", "num_samples=16", "batch_size=16", "metric=[]")
    early = ditexp(*run, "solver=heun", "steps=3")
    assert early.code == 2 and "find them by `ditexp optimize`" in early.output

    found = ditexp("-m", "solver=heun,euler", *QUICK, f"outputs={outputs}", module="ditexp.optimize")
    assert found.code == 0, found.output
    assert "RMSE of x at t = 1" in found.output and "karras" in found.output
    files = sorted((outputs / "schedules").glob("*.json"))
    assert len(files) == 2
    for file in files:
        made = json.loads(file.read_text())
        assert list(made["grids"]) == ["1", "2", "3"] and made["grids"]["1"] == [0, 1]
        errors = made["errors"]
        assert errors["optimized"]["1"] == errors["uniform"]["1"] and errors["optimized"]["3"] < errors["uniform"]["3"]
        assert made["found_for"]["model"]["sha256"] if "sha256" in made["found_for"]["model"] else made["found_for"]
        assert made["provenance"]["torch"] == torch.__version__ and made["config"]["trajectories"] == 4

    plan = ditexp("-m", *run, "solver=heun,euler,dopri5", "forwards=null", "steps=3", "hydra/launcher=plan")
    assert plan.code == 0, plan.output
    command = ditexp("-m", *run, "solver=heun", "forwards=6,20")
    assert command.code == 0, command.output
    results = [json.loads(path.read_text()) for path in (outputs / "results").glob("*.json")]
    assert [result["cost"]["forwards"] for result in results] == [6]  # both: no grid of ten steps is there

    other = ditexp(*run, "solver=rk4", "steps=3")
    assert other.code == 2 and "for this model, solver and guidance" in other.output
    anyway = ditexp(*run, "solver=rk4", "steps=3", f"schedule.found={files[0]}")
    assert anyway.code == 0, anyway.output
    many = ditexp(*run, "solver=heun", "steps=4")
    assert many.code == 2 and "has grids of 1, 2, 3 steps" in many.output


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("solver=dopri5", ("Dopri5 chooses its own steps", "choose a solver")),
        ("solver=euler_maruyama", ("EulerMaruyama adds noise", "choose a solver")),
        ("max_steps=9", ("max_steps=9", "candidates=8")),
        ("trajectories=0", ("trajectories=0", "at least 1")),
    ],
)
def test_what_has_no_best_grid(wrong, words, in_process, tmp_path):
    command = in_process(*QUICK, wrong, f"outputs={tmp_path / 'outputs'}", command="optimize")
    assert command.code == 2
    assert all(word in command.err for word in words), command.err
