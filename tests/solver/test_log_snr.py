"""Solvers in log-SNR: Euler's step and what a polynomial adds to it, finite and exact at both ends."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from ditexp.guidance.none import ModelField, NoGuidance
from ditexp.model.analytic import GaussianMixture
from ditexp.noise import noise
from ditexp.solver.dpm_solver import DPMSolverMultistep, DPMSolverSinglestep
from ditexp.solver.euler import Euler
from ditexp.solver.ipndm import IPNDM
from ditexp.solver.log_snr import LogSNR, exact_moments, log_snr_at, time_at
from ditexp.solver.rk4 import RK4
from ditexp.solver.unipc import UniPC
from ditexp.values import Condition, times_of
from tests.helpers.components import SOLVERS as SOLVERS_OF_CONF
from tests.helpers.components import component
from tests.helpers.errors import rms
from tests.helpers.refusals import refused

SOLVERS = [
    kind(order, variant)
    for kind in (DPMSolverMultistep, DPMSolverSinglestep, UniPC)
    for order in kind.nominal_orders
    for variant in kind.variants
]
CONFIGURED = [solver for solver in SOLVERS_OF_CONF if isinstance(solver, (LogSNR, IPNDM))]
ALL = [*SOLVERS, *(IPNDM(order) for order in (2, 3, 4))]


def names(solver) -> str:
    return f"{type(solver).__name__}-{solver.nominal_order}-{getattr(solver, 'variant', '')}"


SCHEDULES = (
    "beta",
    "cosine",
    "flux",
    "karras",
    "linear_quadratic",
    "logit_normal",
    "power",
    "quadratic",
    "shift",
    "uniform",
)
every_solver = pytest.mark.parametrize("solver", ALL, ids=names)


@pytest.fixture(scope="module")
def model() -> GaussianMixture:
    return GaussianMixture(num_classes=3, components=2, shape=(1, 2, 2), std=0.4)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return noise(0, range(12), (1, 2, 2)).double()


@pytest.fixture(scope="module")
def field(model):
    return NoGuidance().bind(model, Condition(torch.arange(12) % 3))


def even_in_log_snr(steps: int, start: float = 0.05, end: float = 0.95) -> list[float]:
    return torch.linspace(log_snr_at(start), log_snr_at(end), steps + 1, dtype=torch.float64).sigmoid().tolist()


@pytest.fixture(scope="module")
def truths(field, x) -> dict[float, torch.Tensor]:
    """By t, the flow from x there to t = 0.95, or from 0 to 1, to 1e-9: RK4 errs 16 times less with twice the steps."""
    uniform = component("schedule", "uniform", steps=500).grid().tolist()
    grids = {0.0: uniform, 0.05: even_in_log_snr(500), 0.4: even_in_log_snr(500, 0.4)}
    found = {start: states(RK4(), field, x, grid)[-1] for start, grid in grids.items()}
    for start, grid in grids.items():
        assert rms(states(RK4(), field, x, grid[::2])[-1] - found[start]) < 1.5e-8
    return found


def states(solver, field, x, grid) -> list[torch.Tensor]:
    """x at every point of the grid after the first."""
    found = []
    solver.integrate(field, x, grid, project=lambda x, t: found.append(x) or x)
    return found


def test_log_snr_and_time():
    assert log_snr_at(0.0) == -math.inf and log_snr_at(1.0) == math.inf and log_snr_at(0.5) == 0
    for t in (1e-6, 0.2, 0.999):
        assert time_at(log_snr_at(t)) == pytest.approx(t, rel=1e-12)


@pytest.mark.parametrize("h", [0.05, 1.0, 30.0])
def test_moments_are_the_integrals(h):
    """Against Simpson's rule, whose error is h (h / n)^4 / 180 at most here; and rounding, eps / h^3 at most."""
    u = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    simpson = torch.tensor([1, *[4, 2] * 9_999, 4, 1], dtype=torch.float64) / 60_000
    for m, moment in enumerate(exact_moments(h, 3)):
        assert moment == pytest.approx((simpson * h * torch.exp(-h * (1 - u)) * u**m).sum().item(), abs=1e-11)
    assert exact_moments(math.inf, 3) == [1, 1, 1, 1]


@every_solver
def test_a_first_step_is_eulers(solver, field, x):
    """Of an integration, wherever it starts; so is, at the ends, that of methods which don't need a past."""
    inside = [] if isinstance(solver, DPMSolverSinglestep) else [[0.2, 0.7]]
    for grid in ([0.0, 1.0], [0.0, 0.3], [0.0, 1e-9], *inside, [0.6, 1.0]):
        assert torch.equal(states(solver, field, x, grid)[0], states(Euler(), field, x, grid)[0]), grid


def test_eulers_step_is_the_first_order_of_the_paper(field, x):
    """sigma_t / sigma_s x - alpha_t (e^-h - 1) D."""
    s, t = 0.2, 0.7
    h = log_snr_at(t) - log_snr_at(s)
    data = x + (1 - s) * field(x, x.new_full((len(x),), s))
    expected = (1 - t) / (1 - s) * x - t * math.expm1(-h) * data
    assert rms(states(Euler(), field, x, [s, t])[0] - expected) < 1e-15


@pytest.mark.parametrize("solver", SOLVERS, ids=names)
def test_from_0_to_1_in_two_steps_nothing_is_added_to_euler(solver, field, x):
    """The point at t = 0 is infinitely far from the second step, and the step to t = 1 is Euler's: limits, no NaN."""
    grid = [0.0, 0.4, 1.0]
    assert torch.equal(states(solver, field, x, grid)[-1], states(Euler(), field, x, grid)[-1])


@pytest.mark.parametrize("solver", SOLVERS, ids=names)
def test_the_limit_towards_0_is_what_is_taken_at_0(solver, field, x):
    """A start at t = 1e-12, where nothing is infinite, ends where a start at 0 does.

    The weight of the far point falls as 1 over its distance in log-SNR, 28 for 1e-12 and 691 for 1e-300; the points
    within a step of a singlestep method get there faster.
    """
    if isinstance(solver, UniPC) and solver.variant == "bh1":
        pytest.skip("bh1 has no limit: B(h) = h grows without end")
    ends = [states(solver, field, x, [start, 0.3, 0.5, 0.7, 1.0])[-1] for start in (1e-12, 1e-100, 1e-300, 0.0)]
    distances = [rms(end - ends[-1]) for end in ends[:-1]]
    assert distances[-1] < distances[0] / 20 and distances[0] > 0


def polynomial_data(degree: int):
    """The velocity of D = l^degree, l = log-SNR, whatever x is."""

    def field(x, t):
        t = times_of(x, t).view(-1, 1, 1, 1)
        return (torch.log(t / (1 - t)) ** degree - x) / (1 - t)

    return field


def exact(x: torch.Tensor, s: float, t: float, degree: int) -> torch.Tensor:
    """x at t from x at s, by (1 - t) / (1 - s) x + (1 - t) integral of l^degree d(e^l), for degrees up to 2."""

    def antiderivative(t: float) -> float:
        log_snr = log_snr_at(t)
        return math.exp(log_snr) * (1, log_snr - 1, log_snr**2 - 2 * log_snr + 2)[degree]

    return (1 - t) / (1 - s) * x + (1 - t) * (antiderivative(t) - antiderivative(s))


@pytest.mark.parametrize("solver", SOLVERS, ids=names)
def test_constant_data_is_exact(solver, x):
    """Nothing is added to Euler's step, which is exact; from 0 to 1 too."""
    field = polynomial_data(0)
    for grid in (even_in_log_snr(7), component("schedule", "uniform", steps=7).grid().tolist()):
        expected = 1 - (1 - grid[-1]) / (1 - grid[0]) * (1 - x)
        assert rms(states(solver, field, x, grid)[-1] - expected) < 1e-14


@pytest.mark.parametrize(
    ("solver", "degree", "start"),
    [
        (DPMSolverMultistep(2, "heun"), 1, 1),
        (DPMSolverMultistep(3, "heun"), 2, 2),
        (DPMSolverSinglestep(2, "heun"), 1, 0),
        (DPMSolverSinglestep(3, "heun"), 2, 0),
        (UniPC(3, "bh1"), 2, 3),
        (UniPC(3, "bh2"), 2, 3),
    ],
    ids=lambda value: names(value) if isinstance(value, LogSNR) else str(value),
)
def test_polynomials_in_log_snr_are_exact(solver, degree, start, x):
    """D of a degree less than the order: exact once the method has its past, `start` steps after the beginning.

    Where D is of l alone, an error at s reaches t as (1 - t) / (1 - s) of it, and exact steps add nothing. On unequal
    steps. UniPC's third state is predicted from one that is not yet corrected to that order. One degree more is not
    exact, or the test could not fail.
    """
    grid = [0.05, 0.1, 0.13, 0.3, 0.36, 0.5, 0.72, 0.8, 0.95]

    def added(degree: int) -> float:
        found = [x, *states(solver, polynomial_data(degree), x, grid)]
        errors = [(found[i] - exact(x, grid[0], grid[i], degree)) / (1 - grid[i]) for i in range(len(grid))]
        return max(rms(error - errors[start]) for error in errors[start:])

    assert added(degree) < 1e-11  # 1 / (1 - t) is 20 at most, and |D| 9; weights amplify rounding a few times
    if degree < 2:
        assert added(degree + 1) > 1e-3


@pytest.mark.parametrize(
    ("solver", "order"),
    [
        (DPMSolverMultistep(2, "midpoint"), 2),
        (DPMSolverMultistep(2, "heun"), 2),
        (DPMSolverMultistep(3, "midpoint"), 2),
        (DPMSolverMultistep(3, "heun"), 3),
        (DPMSolverSinglestep(2, "midpoint"), 2),
        (DPMSolverSinglestep(2, "heun"), 2),
        (DPMSolverSinglestep(3, "midpoint"), 3),
        (DPMSolverSinglestep(3, "heun"), 3),
        (UniPC(2, "bh1"), 3),
        (UniPC(2, "bh2"), 3),
        (UniPC(3, "bh1"), 3),
        (UniPC(3, "bh2"), 3),
    ],
    ids=lambda value: names(value) if isinstance(value, LogSNR) else str(value),
)
def test_order_on_grids_even_in_log_snr(solver, order, field, x, truths):
    """The nominal order, but for the published 3M; where the method doesn't have its past, it is given the true flow.

    UniPC starts by itself: Euler's first step errs by h^2, and UniC-1 leaves h^3 of it. So UniPC-2 is of order 3, for
    its corrector's sake, but UniPC-3 not of order 4; it looks like that from t = 0.05, where t^2 makes the error of the
    start small, and therefore starts at 0.4.
    """
    start = 0.4 if isinstance(solver, UniPC) else 0.05
    fine, errors = RK4().integrate, []
    for steps in (64, 128):
        grid, step, now, true = even_in_log_snr(steps, start), solver.begin(field, None), x, x
        for i, (t0, t1) in enumerate(itertools.pairwise(grid)):
            if isinstance(solver, DPMSolverMultistep) and 0 < i < solver.nominal_order:
                true = fine(field, true, torch.linspace(grid[i - 1], t0, 6, dtype=torch.float64).tolist()).x
                now = true
            now = step(now, t0, t1)
        errors.append(rms(now - truths[start]))
    slope = math.log2(errors[-2] / errors[-1])
    print(f"{names(solver)}: order {order}, measured {slope:.3f}, errors {errors}")
    assert slope == pytest.approx(order, abs=0.2)


# How steps shorten towards the ends: t ~ u^p near 0, 1 - t ~ (1 - u)^q near 1. The other grids have p = q = 1, but a
# first or last step so far from the mean that what it leaves doesn't lead, or does alone, before thousands of steps.
ENDS = {"uniform": (1, 1), "quadratic": (2, 1), "beta": (5 / 3, 5 / 3), "cosine": (2, 2)}


@pytest.mark.parametrize("schedule", ENDS)
@pytest.mark.parametrize(
    ("solver", "points"),
    [
        (DPMSolverMultistep(2), 2),
        (DPMSolverMultistep(3, "heun"), 3),
        (DPMSolverSinglestep(2), 2),
        (DPMSolverSinglestep(3), 3),
        (UniPC(2), 3),
    ],
    ids=lambda value: names(value) if isinstance(value, LogSNR) else str(value),
)
def test_order_on_grids_that_reach_the_ends(solver, points, schedule, field, x, truths):
    """min(k, 2 p, 2 q), as LogSNR derives it.

    Where log N comes to it, N^order times the error grows by as much from N to 2 N each time.
    """
    p, q = ENDS[schedule]
    order, scaled = min(points, 2 * p, 2 * q), []
    for steps in (64, 128, 256):
        grid = component("schedule", schedule, steps=steps).grid().tolist()
        scaled.append(steps**order * (states(solver, field, x, grid)[-1] - truths[0.0]))
    slope = order - math.log2(rms(scaled[2]) / rms(scaled[1]))
    growth = rms(scaled[2] - scaled[1]) / rms(scaled[1] - scaled[0])
    print(f"{names(solver)}, {schedule}: order {order}, measured {slope:.3f}, growth {growth:.2f}")
    if points in (2 * p, 2 * q):
        assert growth == pytest.approx(1, abs=0.2)  # it would halve if only higher orders were left to vanish
    else:
        assert slope == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_better_than_euler_on_every_grid(schedule, field, x, truths):
    grid = component("schedule", schedule, steps=50).grid().tolist()
    euler, *errors = (rms(states(solver, field, x, grid)[-1] - truths[0.0]) for solver in (Euler(), *CONFIGURED))
    assert max(errors) < euler / 2


@every_solver
def test_evaluations(solver, field, x):
    """One a step, or as many as the order for a singlestep method, whose steps at t = 0 and 1 take one."""

    def count(grid) -> int:
        times = []
        solver.integrate(lambda x, t: (times.append(t), field(x, t))[1], x, grid)
        assert all(0 <= t < 1 for t in times) and times == sorted(set(times))
        return len(times)

    per_step = solver.nominal_order if isinstance(solver, DPMSolverSinglestep) else 1
    assert count(even_in_log_snr(10)) == 10 * per_step
    assert count(component("schedule", "uniform", steps=10).grid().tolist()) == 8 * per_step + 2


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_finite_on_every_grid(schedule, steps, field, x):
    grid = component("schedule", schedule, steps=steps).grid().tolist()
    for solver in ALL:
        end = solver.integrate(field, x.float(), grid).x  # raises for what is not finite
        assert end.dtype == torch.float32 and rms(end) < 10


@every_solver
def test_alone_and_in_a_batch_bit_for_bit(solver, model, x):
    grid = component("schedule", "cosine", steps=9).grid().tolist()
    label = Condition(torch.zeros(len(x), dtype=torch.int64))
    together = solver.integrate(ModelField(model, label), x, grid).x
    field = ModelField(model, label.take(torch.tensor([0])))
    alone = [solver.integrate(field, one, grid).x for one in x.split(1)]
    assert torch.equal(together, torch.cat(alone))


@every_solver
def test_a_solver_keeps_nothing_of_an_integration(solver, field, x):
    grid = component("schedule", "uniform", steps=5).grid().tolist()
    first = solver.integrate(field, x, grid).x
    solver.integrate(field, x + 1, grid)
    assert torch.equal(solver.integrate(field, x, grid).x, first)


@pytest.mark.parametrize("kind", [DPMSolverMultistep, DPMSolverSinglestep, UniPC, IPNDM])
def test_bad_settings_are_one_line(kind):
    with refused(["solver.nominal_order=5: choose from 2, 3"]):
        kind(5)
    if kind is not IPNDM:
        with refused(["solver.variant=rk4: choose from", *kind.variants]):
            kind(2, "rk4")
