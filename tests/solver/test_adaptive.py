"""Adaptive solvers: as accurate as asked, each sample for itself, never short of t = 1."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial

import pytest
import torch

from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.none import NoGuidance
from ditexp.model.analytic import GaussianMixture
from ditexp.noise import noise
from ditexp.samples.store import SampleStore
from ditexp.solver.adams import AdamsBashforth
from ditexp.solver.adaptive import Adaptive
from ditexp.solver.dopri5 import Dopri5, Dopri5Fixed
from ditexp.solver.embedded import EmbeddedPair
from ditexp.solver.heun import Heun
from ditexp.solver.rk4 import RK4
from ditexp.solver.runge_kutta import RungeKutta
from ditexp.solver.step_doubling import StepDoubling
from ditexp.values import Condition
from tests.helpers.components import SOLVERS
from tests.helpers.errors import RESOLVED, rms
from tests.helpers.fields import Field
from tests.helpers.sample_sets import files_of
from tests.helpers.samplers import sampler_of

ADAPTIVE = [partial(replace, solver) for solver in SOLVERS if isinstance(solver, Adaptive)]
every_pair = pytest.mark.parametrize("pair", ADAPTIVE, ids=lambda pair: type(pair()).__name__)
ENDS = [0.0, 1.0]
sampler = partial(sampler_of, steps=4000)


@pytest.fixture(scope="module")
def model() -> GaussianMixture:
    return GaussianMixture(num_classes=3, components=2, shape=(1, 4, 4), std=0.2)


def start(indices, dtype=torch.float64) -> tuple[torch.Tensor, Condition, Sequence[int]]:
    return noise(0, indices, (1, 4, 4)).to(dtype), Condition(torch.tensor(indices) % 3), indices


@cache
def truth_of(model, indices: range, guidance=NoGuidance()) -> torch.Tensor:  # noqa: B008
    return sampler(model, RK4(), guidance=guidance).integrate(*start(indices))


def error(x: torch.Tensor, truth: torch.Tensor) -> float:
    return (x - truth).abs().max().item()


@pytest.mark.slow
@every_pair
@pytest.mark.parametrize("guidance", [NoGuidance(), ClassifierFree(weight=2)])
def test_the_error_falls_with_the_tolerance(pair, guidance, model):
    """Under guidance too, where each sample's own class pulls it."""
    x, condition, indices = start(range(12))
    truth = truth_of(model, indices, guidance)
    errors, costs = [], []
    for tolerance in (1e-3, 1e-5, 1e-7, 1e-9):
        s = sampler(model, pair(rtol=tolerance, atol=tolerance), guidance=guidance)
        errors.append(error(s.integrate(x, condition, indices), truth))
        costs.append(s.meter.cost.velocity_rows)
        assert s.meter.cost.network_rows == costs[-1] * (1 if guidance == NoGuidance() else 2)
    print(errors, costs)
    assert all(tight < loose / 10 for loose, tight in itertools.pairwise(errors))
    assert costs == sorted(costs)
    assert errors[-1] < 1e-7


SMOOTH = GaussianMixture(num_classes=3, components=2, shape=(1, 2, 2), std=0.8)  # so that high orders show


@cache
def on_the_smooth_one() -> tuple[torch.Tensor, Condition, torch.Tensor]:
    """Noise, conditions, and where the exact flow takes them, to rounding."""
    x, condition = noise(0, range(6), SMOOTH.sample_shape).double(), Condition(torch.arange(6) % 3)
    return x, condition, sampler(SMOOTH, Dopri5Fixed(), steps=1000).integrate(x, condition, range(6))


@every_pair
def test_orders_of_the_pair(pair):
    """With steps of one length the solution is of order p and the estimated error of a step falls as h^p."""
    x0, condition, truth = on_the_smooth_one()

    field = NoGuidance().bind(SMOOTH, condition)
    errors, estimates = [], []
    for steps in (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128):  # each is half of the next but one
        x, k = x0, field(x0, torch.zeros(6))
        h = torch.full((6,), 1 / steps, dtype=torch.float64)
        for i in range(steps):
            x, k, estimate = pair().step(field, x, k, i * h, h)
            if i == steps // 2:
                middle = rms(estimate)
        if rms(x - truth) < RESOLVED:
            break
        errors.append(rms(x - truth))
        estimates.append(middle)
    assert math.log2(errors[-3] / errors[-1]) == pytest.approx(pair().order, abs=0.2)
    assert math.log2(estimates[-3] / estimates[-1]) == pytest.approx(pair().order, abs=0.2)


@pytest.mark.parametrize("pair", [type(pair()) for pair in ADAPTIVE if isinstance(pair(), EmbeddedPair)])
def test_a_tableau_is_consistent(pair):
    assert [sum(row) for row in pair.a] == pytest.approx(pair.c, abs=1e-14)
    assert pair.c[-1] == 1 and sum(pair.e) == pytest.approx(0, abs=1e-14)
    assert len(pair.e) == len(pair.a) + 1


@every_pair
@pytest.mark.parametrize("guidance", [NoGuidance(), ClassifierFree(weight=2)])
def test_a_sample_is_the_same_bit_for_bit_alone_and_among_strangers(pair, guidance, model):
    """With its own condition, whoever has left the batch before; so every sample keeps its own class."""
    indices = [5, 2, 0, 9, *range(100, 120)]
    s = sampler(model, pair(), guidance=guidance)
    together = s.integrate(*start(indices))
    cost = s.take_cost().velocity_rows
    assert torch.equal(together, s.integrate(*start(indices)))
    s.take_cost()
    alone, costs = [], []
    for index in indices:
        alone.append(s.integrate(*start([index])))
        costs.append(s.take_cost().velocity_rows)
    assert torch.equal(together, torch.cat(alone))
    # Those that arrive early are not evaluated any more: a batch costs what its samples cost alone.
    assert len(set(costs)) > 1 and cost == sum(costs) < len(indices) * max(costs)


def evaluations_a_step(pair: Adaptive) -> int:
    return len(pair.a) if isinstance(pair, EmbeddedPair) else 3 * 4 - 1  # step doubling of rk4


@every_pair
def test_bad_steps_are_thrown_away_and_counted(pair):
    """A field that jumps in the middle, where no step is good but a tiny one."""
    seen = []

    def velocity(x, t):
        seen.extend(x.tolist())
        return (1 + 9 * (t > 0.5)).view(-1, 1) + 0 * x

    x0 = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    end = pair(rtol=1e-6, atol=1e-6).integrate(Field(velocity), x0, ENDS)
    assert error(end.x, x0 + 5.5) < 1e-3
    assert sum(end.rejected) > 0 and min(end.accepted) > 0
    assert len(seen) == len(x0) + evaluations_a_step(pair()) * (sum(end.accepted) + sum(end.rejected))


@every_pair
def test_a_clock_starts_and_ends_where_the_grid_does(pair):
    for first, last in ((0.0, 1.0), (0.3, 0.7)):
        times = []

        def velocity(x, t, times=times):
            times.extend(t.tolist())
            return t.view(-1, 1) ** 4 + 0 * x

        end = pair().integrate(Field(velocity), torch.zeros(3, 1, dtype=torch.float64), [first, 0.5, last])
        assert error(end.x, torch.full((3, 1), (last**5 - first**5) / 5)) < 1e-4
        assert min(times) == first and max(times) == last


@every_pair
def test_a_velocity_of_zero_leaves_x_where_it_is(pair):
    x = torch.randn(2, 3)
    end = pair().integrate(Field(lambda x, t: torch.zeros_like(x)), x, ENDS)
    assert torch.equal(end.x, x) and (end.accepted, end.rejected) == ([2, 2], [0, 0])


@every_pair
def test_running_out_of_steps_is_an_error(pair, model):
    with pytest.raises(ArithmeticError, match=r"max_steps=3 ran out for 4 of 4 samples, .* at t = 0\.\d+ with .* more"):
        sampler(model, pair(max_steps=3)).integrate(*start(range(4)))


@every_pair
def test_a_step_size_of_nothing_is_an_error(pair):
    def velocity(x, t):
        return 1e20 * (t > 0.5).view(-1, 1) * torch.ones_like(x)

    with pytest.raises(ArithmeticError, match=r"the step size fell to \S+ at t = 0.5, where .* larger solver.rtol"):
        pair().integrate(Field(velocity), torch.zeros(2, 1, dtype=torch.float64), ENDS)


@every_pair
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("since", [0.0, 0.65])
def test_a_state_that_is_not_finite_is_an_error(pair, bad, since):
    def velocity(x, t):
        return torch.where(t.view(-1, 1) >= since, bad, 1.0) + 0 * x

    with pytest.raises(FloatingPointError, match=r"NaN or Inf at t = 0"):
        pair().integrate(Field(velocity), torch.ones(2, 1), ENDS)


@every_pair
def test_a_projection_is_refused(pair):
    with pytest.raises(ValueError, match="does not support a projection: use a fixed-step one"):
        pair().integrate(Field(lambda x, t: x), torch.ones(2, 1), ENDS, lambda x, t: x)


@pytest.mark.parametrize(
    ("wrong", "least"),
    [
        ({"rtol": -1.0}, "at least 0"),
        ({"rtol": math.nan}, "at least 0"),
        ({"atol": 0.0}, "above 0"),
        ({"atol": math.inf}, "above 0"),
        ({"max_steps": 0}, "at least 1"),
        ({"max_steps": 2.5}, "at least 1"),
    ],
)
def test_settings_that_cannot_be(wrong, least):
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=f"solver.{name}={value}: give a .*number.* {least}"):
        Dopri5(**wrong)


@pytest.mark.parametrize("method", [Dopri5(), AdamsBashforth(), None])
def test_step_doubling_takes_one_step_methods(method):
    name = type(method).__name__
    with pytest.raises(ValueError, match=f"solver.method={name} is not a one-step method .*choose .*solver.method=rk4"):
        StepDoubling(method=method)
    with pytest.raises(ValueError, match=r"solver.method.correct_last=false .* leave it true"):
        StepDoubling(method=Heun(correct_last=False))


DOUBLED = [solver for solver in SOLVERS if isinstance(solver, RungeKutta) and solver.order < 5]


@pytest.mark.parametrize(
    "method", [*DOUBLED[:3], *(pytest.param(method, marks=pytest.mark.slow) for method in DOUBLED[3:])]
)
def test_step_doubling_adds_an_order_to_any_method(method):
    """Its declared order is that of its solution: the error falls as h^(p + 1) over steps of one length.

    Not that of Dormand and Prince's: order 6 shows only below what float64 resolves.
    """
    pair = StepDoubling(method=method)
    test_orders_of_the_pair(lambda: pair)
    assert pair.order == method.order + 1


SMALL = ("solver=dopri5", "num_samples=32", "batch_size=16", "metric=[]")


@pytest.mark.slow
def test_the_command_writes_the_same_bytes_twice(ditexp, tmp_path):
    found = []
    for name in ("one", "two"):
        command = ditexp(*SMALL, f"outputs={tmp_path / name}")
        assert command.code == 0, command.output
        assert command.output.count("Dopri5 chooses its own steps: steps and schedule don't act on it") == 1
        found.append(files_of(tmp_path / name / "samples"))
        (result,) = (tmp_path / name / "results").glob("*.json")
        cost = json.loads(result.read_text())["cost"]
        steps = cost["accepted_steps"], cost["rejected_steps"]
        assert all(sum(of["images"].values()) == 32 for of in steps)
        assert cost["nfe"] == 1 + 6 * sum(of["mean"] for of in steps)
        assert cost["steps"] is None and cost["nfe"] == cost["forwards"] and 30 < cost["nfe"] < 200
    assert len(found[0]) == 1 and found[0] == found[1]


@pytest.mark.slow
def test_steps_and_schedule_make_no_other_set(ditexp, tmp_path):
    """Nor another picture: the second cell is the first one, cached."""
    command = ditexp("-m", *SMALL, "steps=5,9", "schedule=uniform,cosine")
    assert command.code == 0, command.output
    assert command.output.count("cached") == 3 and command.output.count("chooses its own steps") == 1
    (block,) = (tmp_path / "outputs" / "samples").rglob("*.npy.gz")
    assert SampleStore.open(block.parent).read(0)[0].shape == (32, 8, 8, 1)


def test_a_plan_says_that_the_cost_is_not_known(in_process):
    plan = in_process("-m", *SMALL[1:], "solver=dopri5,euler", "steps=5", "hydra/launcher=plan")
    assert plan.code is None, plan.err
    lines = [line.split() for line in plan.out.splitlines() if "solver=" in line]
    cells = {name: values for name, *values in lines}
    assert cells["solver=dopri5"][:5] == ["adaptive", "–", "–", "32", "32"]
    assert cells["solver=euler"][:5] == ["5", "5", "5", "32", "32"]
    assert "2 cells need 160 network evaluations and those of 32 samples with adaptive steps" in plan.out


def test_a_sample_that_does_not_arrive_fails_its_cell_in_one_line(ditexp, tmp_path):
    command = ditexp(*SMALL, "solver.max_steps=3")
    assert command.code == 1
    (line,) = [line for line in command.output.splitlines() if "failed" in line and "max_steps=3 ran out" in line]
    assert "more solver.max_steps" in line
    assert not files_of(tmp_path / "outputs" / "samples")
