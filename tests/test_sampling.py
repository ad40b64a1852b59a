"""Solvers, schedules, guidance, conditions and noise on the analytic model, where the truth is known."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from ditexp.cli import instantiate
from ditexp.condition.labels import Balanced, Random
from ditexp.core import Condition
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.none import NoGuidance
from ditexp.model.analytic import GaussianMixture
from ditexp.noise import noise
from ditexp.schedule.cosine import Cosine
from ditexp.schedule.uniform import Uniform
from ditexp.solver.base import FixedStep
from ditexp.solver.heun import Heun
from ditexp.solver.rk4 import RK4

CONF = Path(__file__).parents[1] / "conf"


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def component(group: str, name: str, **values):
    node = OmegaConf.load(CONF / group / f"{name}.yaml")
    return instantiate(OmegaConf.merge({group: node}, {group: values})[group])


SOLVERS = [component("solver", name) for name in options("solver")]
FIXED_STEP = [solver for solver in SOLVERS if isinstance(solver, FixedStep)]


@pytest.fixture(scope="module")
def model() -> GaussianMixture:
    return GaussianMixture(num_classes=3, components=2, shape=(1, 2, 2), std=0.4)


@pytest.fixture(scope="module")
def start() -> tuple[torch.Tensor, Condition]:
    x = noise(0, range(12), (1, 2, 2)).double()
    return x, Condition(torch.arange(12) % 3)


@pytest.fixture(scope="module")
def truth(model, start) -> torch.Tensor:
    """The exact flow to 1e-12: 4,000 RK4 steps, checked against 2,000."""
    x, condition = start
    field = NoGuidance().bind(model, condition)
    fine, finer = (RK4().integrate(field, x, Uniform(steps).grid().tolist()).x for steps in (2000, 4000))
    assert (fine - finer).abs().max() < 1e-11
    return finer


def test_velocity_is_the_conditional_expectation_of_the_path(model):
    """Against a brute-force posterior mean: E[x1 - x0 | x_t = x] over many draws that weigh x by its density."""
    label, t, x = 1, 0.6, torch.full((1, 1, 2, 2), 0.3, dtype=torch.float64)
    draw = torch.Generator().manual_seed(0)
    means = model.means[label][torch.randint(2, (400_000,), generator=draw)]
    data = means + model.std * torch.randn(means.shape, generator=draw, dtype=torch.float64)
    noise_at = (x - t * data) / (1 - t)  # the noise that would have led to x; weighed by its density
    weight = torch.softmax(-noise_at.square().flatten(1).sum(1) / 2, 0).view(-1, 1, 1, 1)
    expected = (weight * (data - noise_at)).sum(0)
    velocity = model(x, torch.tensor([t], dtype=torch.float64), Condition(torch.tensor([label])))[0]
    assert (velocity - expected).abs().max() < 0.02


def test_one_gaussian_has_the_closed_form_flow():
    """For one component x_1 = m + s x_0 exactly."""
    model = GaussianMixture(num_classes=1, components=1, shape=(1, 2, 2), std=0.4)
    x = noise(0, range(5), (1, 2, 2)).double()
    field = NoGuidance().bind(model, Condition(torch.zeros(5, dtype=torch.int64)))
    end = RK4().integrate(field, x, Uniform(200).grid().tolist()).x
    assert (end - (model.means[0, 0] + 0.4 * x)).abs().max() < 1e-8


@pytest.mark.parametrize("schedule", options("schedule"))
@pytest.mark.parametrize("solver", FIXED_STEP, ids=lambda solver: type(solver).__name__)
def test_order(solver, schedule, model, start, truth):
    """The error at t = 1 falls as steps^-order, on every grid."""
    x, condition = start
    field = NoGuidance().bind(model, condition)
    errors = []
    for steps in (64, 128, 256):
        grid = component("schedule", schedule, steps=steps).grid().tolist()
        errors.append((solver.integrate(field, x, grid).x - truth).square().mean().sqrt().item())
    slopes = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    print(f"order {solver.order}: measured {slopes[0]:.3f}, {slopes[1]:.3f}")
    assert slopes[-1] == pytest.approx(solver.order, abs=0.15)


@pytest.mark.parametrize("steps", [1, 2, 7, 50, 1000])
@pytest.mark.parametrize("schedule", options("schedule"))
def test_grids_run_from_exactly_0_to_exactly_1(schedule, steps):
    grid = component("schedule", schedule, steps=steps).grid()
    assert grid.dtype == torch.float64 and len(grid) == steps + 1
    assert grid[0] == 0 and grid[-1] == 1
    assert (grid.diff() > 0).all()


def test_cosine_is_dense_at_both_ends_and_exact_with_an_offset():
    for offset in (0.0, 0.008):
        grid = Cosine(steps=20, offset=offset).grid()
        step = grid.diff()
        assert grid[0] == 0 and grid[-1] == 1 and (step > 0).all()
        assert step[0] < step[10] / 5 and step[-1] < step[10] / 5


@pytest.mark.parametrize("steps", [0, -3, 2.5, "ten", True, None])
@pytest.mark.parametrize("schedule", options("schedule"))
def test_steps_must_be_a_positive_whole_number(schedule, steps):
    with pytest.raises(ValueError, match=f"steps={steps}: give a whole number of at least 1"):
        component("schedule", schedule, steps=steps)


def test_guidance_off_is_the_plain_conditional_bit_for_bit(model, start):
    x, condition = start
    t = torch.full((len(x),), 0.3, dtype=x.dtype)
    plain = NoGuidance().bind(model, condition)(x, t)
    assert torch.equal(ClassifierFree(weight=0).bind(model, condition)(x, t), plain)
    assert torch.equal(ClassifierFree(scale=1).bind(model, condition)(x, t), plain)


@pytest.mark.parametrize("weight", [-0.5, 0.5, 2.0, 7.0])
def test_guidance_is_its_formula(weight, model, start):
    x, condition = start
    t = torch.full((len(x),), 0.3, dtype=x.dtype)
    c, u = model(x, t, condition), model(x, t, model.null(condition))
    expected = (1 + weight) * c - weight * u
    for guidance in (ClassifierFree(weight=weight), ClassifierFree(scale=1 + weight)):
        assert (guidance.bind(model, condition)(x, t) - expected).abs().max() < 1e-6
        assert guidance.scale == 1 + guidance.weight
    assert (c - u).abs().max() > 0.01  # or the formula could not fail


@pytest.mark.parametrize("strength", [{}, {"weight": 2.0, "scale": 3.0}])
def test_guidance_takes_one_spelling(strength):
    with pytest.raises(ValueError, match=r"exactly one of guidance.weight .* and guidance.scale"):
        ClassifierFree(**strength)


class Unconditional:
    num_classes, has_null = 0, False


class WithoutNull:
    num_classes, has_null = 10, False


@pytest.mark.parametrize(("model", "why"), [(Unconditional, "unconditional"), (WithoutNull, "without label dropout")])
def test_guidance_needs_a_null_condition(model, why):
    ClassifierFree(weight=0).check(model)
    with pytest.raises(ValueError, match=f"{why}.*guidance=none"):
        ClassifierFree(weight=2).check(model)


def test_noise_and_labels_belong_to_the_sample(model):
    """They depend on seed and index alone, not on the batch or on what was drawn before."""
    together = noise(3, range(100), (1, 8, 8))
    apart = torch.cat([noise(3, [index], (1, 8, 8)) for index in reversed(range(100))]).flip(0)
    assert torch.equal(together, apart) and together.dtype == torch.float32
    assert not torch.equal(noise(4, range(100), (1, 8, 8)), together)
    assert len(together.flatten().unique()) > 6_000  # samples don't share draws
    for conditioner in (Balanced(), Random()):
        labels = conditioner(model, 3, range(100)).labels
        assert torch.equal(labels, torch.cat([conditioner(model, 3, [i]).labels for i in range(100)]))


def test_noise_is_standard_normal():
    x = noise(0, range(2_000), (1, 8, 8)).double()
    count = x.numel()
    assert abs(x.mean()) < 4 / count**0.5
    assert abs(x.var() - 1) < 4 * (2 / count) ** 0.5
    assert abs((x[:-1] * x[1:]).mean()) < 4 / count**0.5


def test_labels_are_balanced_or_random(model):
    balanced = Balanced()(model, 0, range(3_000)).labels
    assert balanced.bincount().tolist() == [1000, 1000, 1000]
    random = Random()(model, 0, range(3_000)).labels.bincount()
    assert random.tolist() != [1000, 1000, 1000]
    assert ((random - 1000).abs() < 4 * (3000 * 2 / 9) ** 0.5).all()
    assert Balanced(classes=[2])(model, 0, range(4)).labels.tolist() == [2, 2, 2, 2]
    assert Balanced()(Unconditional, 0, range(4)).labels is None


@pytest.mark.parametrize("classes", [[3], [-1], [0, 7], []])
def test_labels_out_of_range(classes, model):
    with pytest.raises(ValueError, match="labels of this model run from 0 to 2"):
        Balanced(classes=classes).check(model)


@pytest.mark.parametrize("solver", FIXED_STEP, ids=lambda solver: type(solver).__name__)
def test_a_state_that_is_not_finite_names_its_step(solver):
    def field(x, t):
        return torch.where(t.view(-1, 1) > 0.65, torch.nan, 0.0) * x

    with pytest.raises(FloatingPointError, match=r"NaN or Inf in step [78] of 10 \(t = 0.[67] to 0.[78]\)"):
        solver.integrate(field, torch.ones(2, 1), Uniform(10).grid().tolist())


def test_projection_is_applied_after_every_step():
    times = []

    def project(x, t):
        times.append(t)
        return torch.zeros_like(x)

    end = Heun().integrate(lambda x, t: x + 1, torch.ones(2, 3), [0.0, 0.25, 1.0], project)
    assert times == [0.25, 1.0] and not end.x.any() and end.accepted == 2
