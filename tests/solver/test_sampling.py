"""Solvers, schedules, guidance, conditions and noise on the analytic model, where the truth is known."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import betaincinv

from ditexp.condition.labels import Balanced, Random
from ditexp.guidance.none import NoGuidance
from ditexp.model.analytic import GaussianMixture
from ditexp.noise import noise
from ditexp.schedule.cosine import Cosine
from ditexp.schedule.uniform import Uniform
from ditexp.solver.base import FixedStep
from ditexp.solver.dopri5 import Dopri5Fixed
from ditexp.solver.heun import Heun
from ditexp.solver.ipndm import IPNDM
from ditexp.solver.log_snr import LogSNR
from ditexp.solver.rk4 import RK4
from ditexp.values import Condition
from tests.helpers.components import SOLVER_CLASSES, SOLVERS, STEPPED, component
from tests.helpers.errors import RESOLVED, rms

# Not those whose last step never gets shorter, and of rounded indices.
SMOOTH = [name for name in STEPPED if name not in ("compat_sit_sde", "ddpm")]
FIXED_STEP = [solver for solver in SOLVERS if isinstance(solver, FixedStep)]
# Not the others: of SDEs, whose order is a weak one (test_sde); in log-SNR, where it depends on how the grid reaches
# the ends (test_log_snr); adaptive (test_adaptive).
OF_ONE_ORDER = [
    name
    for name, solver in zip(SOLVER_CLASSES, SOLVERS)
    if isinstance(solver, FixedStep) and not solver.stochastic and not isinstance(solver, LogSNR)
]


@pytest.fixture(scope="module")
def model() -> GaussianMixture:
    """Smooth enough for order 5 to show before rounding does."""
    return GaussianMixture(num_classes=3, components=2, shape=(1, 2, 2), std=0.8)


@pytest.fixture(scope="module")
def start() -> tuple[torch.Tensor, Condition]:
    x = noise(0, range(12), (1, 2, 2)).double()
    return x, Condition(torch.arange(12) % 3)


@pytest.fixture(scope="module")
def truth(model, start) -> torch.Tensor:
    """The exact flow, by order 5: 700 steps and 1,000 differ by rounding, and RK4 comes to the same."""
    x, condition = start
    field = NoGuidance().bind(model, condition)
    fine, finer, other = (
        solver.integrate(field, x, Uniform(steps).grid().tolist()).x
        for solver, steps in ((Dopri5Fixed(), 700), (Dopri5Fixed(), 1000), (RK4(), 2000))
    )
    assert rms(fine - finer) < RESOLVED / 8 and rms(other - finer) < 1e-12
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


# The grids that differ most: equal steps, and steps that grow by orders of magnitude. Every solver is tried on these;
# on the others, a solver of each order and kind, since a step sees only its own two times, or those of its history.
DIFFERENT_GRIDS = ("uniform", "karras")
DIFFERENT_SOLVERS = ("euler", "heun", "kutta3", "rk4", "dopri5_fixed", "ab4", "abm", "ipndm")
ORDERS = [
    *((solver, schedule) for solver in OF_ONE_ORDER for schedule in DIFFERENT_GRIDS),
    *(
        pytest.param(solver, schedule, marks=pytest.mark.slow)
        for solver in DIFFERENT_SOLVERS
        for schedule in SMOOTH
        if schedule not in DIFFERENT_GRIDS
    ),
]


@pytest.mark.parametrize(("solver", "schedule"), ORDERS)
def test_order(solver, schedule, model, start, truth):
    """The error at t = 1 falls as steps^-order on every grid: by the finest steps whose error is not yet rounding's."""
    solver = component("solver", solver)

    if isinstance(solver, IPNDM) and schedule == "compat_diffusers":
        pytest.skip("has the weights of equal steps, of which this grid's last never gets shorter than 0.001")
    x, condition = start
    field = NoGuidance().bind(model, condition)
    errors = []
    for steps in (8, 16, 32, 64, 128, 256):
        grid = component("schedule", schedule, steps=steps).grid().tolist()
        error = rms(solver.integrate(field, x, grid).x - truth)
        if error < RESOLVED:
            break
        errors.append(error)
    slope = math.log2(errors[-2] / errors[-1])
    print(f"{type(solver).__name__}, {schedule}: order {solver.order}, measured {slope:.3f}, {len(errors)} errors")
    assert slope == pytest.approx(solver.order, abs=0.2)


@pytest.mark.parametrize("steps", [1, 2, 7, 50, 1000])
@pytest.mark.parametrize("schedule", STEPPED)
def test_grids_run_from_exactly_0_to_exactly_1(schedule, steps):
    if steps == 1 and schedule.startswith("compat_sit"):
        pytest.skip("needs two steps")
    grid = component("schedule", schedule, steps=steps).grid()
    assert grid.dtype == torch.float64 and len(grid) == steps + (schedule != "compat_sit")  # which counts points
    assert grid[0] == 0 and grid[-1] == 1
    assert (grid.diff() > 0).all()


def test_cosine_is_dense_at_both_ends_and_exact_with_an_offset():
    for offset in (0.0, 0.008):
        grid = Cosine(steps=20, offset=offset).grid()
        step = grid.diff()
        assert grid[0] == 0 and grid[-1] == 1 and (step > 0).all()
        assert step[0] < step[10] / 5 and step[-1] < step[10] / 5


def grid(name: str, **values) -> list[float]:
    return component("schedule", name, **values).grid().tolist()


def test_published_grids():
    """Against their formulas, as numbers: SiT, LightningDiT, diffusers with SD3's shift, FLUX, EDM, Movie Gen."""
    assert grid("compat_sit", steps=50) == pytest.approx([i / 49 for i in range(50)], abs=1e-15)
    ours = grid("compat_sit", steps=11, shift=1 / 0.3)
    assert ours == pytest.approx([0.3 * u / (1 + (0.3 - 1) * u) for u in [i / 10 for i in range(11)]], abs=1e-15)
    assert grid("compat_sit_sde", steps=5) == pytest.approx([0, 0.24, 0.48, 0.72, 0.96, 1], abs=1e-15)

    def shifted(sigma):
        return 3 * sigma / (1 + 2 * sigma)

    a = math.sqrt(768 * 16 * 16 / 4096)
    times = [1 - 0.999 * i / 49 for i in range(50)]  # of RAE, from noise to data
    assert grid("compat_rae", steps=50) == pytest.approx([1 - a * t / (1 + (a - 1) * t) for t in times], abs=1e-15)
    assert 1 - grid("compat_rae", steps=50)[-1] == pytest.approx(0.00689, abs=1e-5)
    assert 1 - grid("compat_rae", steps=9, dimension=768 * 32 * 32)[-1] == pytest.approx(0.0137, abs=1e-4)
    sigmas = [1 - i / 3 * (1 - shifted(0.001)) for i in range(4)]  # from 1 to the shifted bound, in four points
    expected = [1 - shifted(sigma) for sigma in sigmas] + [1]
    assert grid("compat_diffusers", steps=4, shift=3.0) == pytest.approx(expected, abs=1e-15)
    assert 1 - expected[-2] == pytest.approx(0.00893, abs=1e-5)
    mu = math.exp(1.15)
    sigmas = [1 - i / 4 for i in range(4)]
    expected = [1 - mu / (mu + (1 / sigma - 1)) for sigma in sigmas] + [1]
    assert grid("flux", steps=4) == pytest.approx(expected, abs=1e-15)
    assert grid("flux", steps=4, resolution=256) == pytest.approx(
        grid("shift", steps=4, shift=math.exp(0.5)), abs=1e-15
    )
    noise_levels = [(80 ** (1 / 7) + i / 9 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(10)]
    inner = [1 / (1 + sigma) for sigma in noise_levels]
    stretched = [(t - inner[0]) / (inner[-1] - inner[0]) for t in inner]
    assert grid("karras", steps=9) == pytest.approx(stretched, abs=1e-12)
    theirs = [
        1 - betaincinv(0.5, 0.7, 1 - i / 9) for i in range(10)
    ]  # diffusers: alpha 0.5, beta 0.7, of sigma = 1 - t
    assert grid("beta", steps=9, alpha=0.7, beta=0.5) == pytest.approx(theirs, abs=1e-12)
    movie_gen = grid("linear_quadratic", steps=50)
    assert movie_gen[:26] == pytest.approx([i / 1000 for i in range(26)], abs=1e-15)  # as 1,000 equal steps
    fewer = grid("linear_quadratic", steps=20, threshold=20 / 2000)
    assert fewer[:11] == pytest.approx([i / 1000 for i in range(11)], abs=1e-15)


def test_one_family_in_its_special_cases():
    uniform = pytest.approx(grid("uniform", steps=9), abs=1e-12)
    assert grid("power", steps=9, exponent=1.0) == uniform == grid("shift", steps=9, shift=1.0)
    assert grid("beta", steps=9, alpha=1.0, beta=1.0) == uniform
    assert grid("power", steps=9) == grid("quadratic", steps=9)
    assert grid("beta", steps=9, alpha=0.5, beta=0.5) == pytest.approx(
        grid("cosine", steps=9), abs=1e-12
    )  # arcsine law


def test_points_may_be_given():
    explicit = component("schedule", "explicit", points=[0, 0.3, 1])
    assert explicit.grid().tolist() == [0, 0.3, 1]
    for wrong in ([0, 0.5], [0.1, 1], [0, 0.6, 0.5, 1], [0], [0, math.nan, 1], [0, 0.5, 0.5, 1]):
        with pytest.raises(ValueError, match=r"schedule.points=\[.*\]: give times that rise from 0"):
            component("schedule", "explicit", points=wrong)


@pytest.mark.parametrize(
    ("schedule", "wrong"),
    [
        ("power", {"exponent": 0.0}),
        ("shift", {"shift": -1.0}),
        ("flux", {"resolution": 0}),
        ("karras", {"rho": math.inf}),
        ("karras", {"sigma_min": 90.0}),
        ("logit_normal", {"std": 0.0}),
        ("logit_normal", {"tail": 0.5}),
        ("beta", {"alpha": math.nan}),
        ("linear_quadratic", {"threshold": 0.5}),
        ("compat_sit", {"shift": 0.0}),
        ("compat_sit_sde", {"last": 1.0}),
        ("compat_diffusers", {"shift": 0.0}),
        ("compat_rae", {"steps": 1}),
        ("compat_rae", {"dimension": 4095}),
        ("compat_sit", {"steps": 1}),
        ("compat_sit_sde", {"steps": 1}),
        ("ddpm", {"steps": 1001}),
        ("ddpm", {"train_steps": 0}),
        ("ddpm", {"beta_start": 0.0}),
        ("ddpm", {"beta_end": 1.0}),
    ],
)
def test_settings_of_schedules_that_cannot_be(schedule, wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{name}={value}\b.*(give|EDM uses)"):
        component("schedule", schedule, **{"steps": 9} | wrong)


@pytest.mark.parametrize("steps", [0, -3, 2.5, "ten", True, None])
@pytest.mark.parametrize("schedule", STEPPED)
def test_steps_must_be_a_positive_whole_number(schedule, steps):
    with pytest.raises(ValueError, match=f"steps={steps}: give a whole number of at least 1"):
        component("schedule", schedule, steps=steps)


class Unconditional:
    num_classes, has_null = 0, False


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
        return (torch.nan if t > 0.65 else 0.0) * x

    with pytest.raises(FloatingPointError, match=r"NaN or Inf in step [78] of 10 \(t = 0.[67] to 0.[78]\)"):
        solver.integrate(field, torch.ones(2, 1), Uniform(10).grid().tolist(), noise=lambda step: torch.zeros(2, 1))


def test_projection_is_applied_after_every_step():
    times = []

    def project(x, t):
        times.append(t)
        return torch.zeros_like(x)

    end = Heun().integrate(lambda x, t: x + 1, torch.ones(2, 3), [0.0, 0.25, 1.0], project)
    assert times == [0.25, 1.0] and not end.x.any()
