"""Solvers of the SDE: weak order in closed form, marginals by a stated test, noise that belongs to the sample."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from ditexp.core import Solver
from ditexp.guidance.none import NoGuidance
from ditexp.model.analytic import GaussianMixture
from ditexp.noise import noise
from ditexp.sampler import Sampler
from ditexp.schedule.cosine import Cosine
from ditexp.schedule.quadratic import Quadratic
from ditexp.schedule.uniform import Uniform
from ditexp.solver.diffusion import FORMS
from ditexp.solver.euler import Euler
from ditexp.solver.euler_maruyama import EulerMaruyama
from ditexp.solver.heun import Heun
from ditexp.solver.stochastic_heun import StochasticHeun
from ditexp.values import Condition, times_of
from tests.helpers.samplers import sampler_of

# linear is sigma and sbdm is kl: see test_forms_that_are_one_on_this_path.
DISTINCT = ("constant", "sigma", "decreasing", "increasing_decreasing", "kl", "kl_eta")
SOLVERS = (EulerMaruyama, StochasticHeun)
every_form = pytest.mark.parametrize("form", DISTINCT)
every_solver = pytest.mark.parametrize("solver", SOLVERS)


def make(solver: type, form: str, **settings):
    return solver(diffusion=form, eta=0.1 if form == "kl_eta" else None, **settings)


def bound(model: GaussianMixture, count: int) -> Callable[[Tensor, Tensor], Tensor]:
    return NoGuidance().bind(model, Condition(torch.zeros(count, dtype=torch.int64)))


# Weak order. For one Gaussian component, N(M, S^2), the field is affine in x, and so is every step in x and its noise:
# the output is mean + a x_0 + sum b_k noise_k, whose coefficients are read off by giving 1 to one input at a time.

GAUSSIAN = GaussianMixture(num_classes=1, components=1, shape=(1, 1, 1), std=0.5)
M, S = GAUSSIAN.means.item(), GAUSSIAN.std


def variance(t):
    """Of x_t."""
    return t**2 * S**2 + (1 - t) ** 2


def gaussian_field(x: Tensor, t: float | Tensor) -> Tensor:
    """The model's own, without what a mixture takes: x (B, 1)."""
    t = times_of(x, t)[:, None]
    return M + (t * S**2 - (1 - t)) / variance(t) * (x - t * M)


def test_the_field_of_one_gaussian_is_the_models():
    x, t = torch.randn(50, 1, dtype=torch.float64), torch.rand(50, dtype=torch.float64)
    model = bound(GAUSSIAN, 50)(x.view(-1, 1, 1, 1), t)
    assert (gaussian_field(x, t) - model.flatten(1)).abs().max() < 1e-13


def law(solver, grid: Sequence[float]) -> tuple[float, float, float]:
    """(mean, a, variance) of the output for x_0 ~ N(0, 1); a: what x_0 = 1 adds to the mean."""
    inputs = torch.eye(len(grid) + 1, len(grid), dtype=torch.float64)  # the last row gives 1 to none
    end = solver.integrate(gaussian_field, inputs[:, :1], grid, noise=lambda step: inputs[:, step + 1, None]).x[:, 0]
    response = end[:-1] - end[-1]
    return end[-1].item(), response[0].item(), response.square().sum().item()


NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)
NODES, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2  # of [0, 1]


def memory(solver, t: np.ndarray) -> np.ndarray:
    """What is left at 1 of a deviation from the mean at times t > 0, by the SDE.

    y = x - t M has dy = A y dt + noise, A = (V' - w) / (2 V): hence sqrt(V(1) / V(t)) exp(-1/2 integral of w / V),
    integrated in log t, in which kl's 1 / t is smooth.
    """
    between = t[:, None] ** (1 - NODES)
    w = np.vectorize(solver.w)(between)
    return S / np.sqrt(variance(t)) * np.exp((WEIGHTS * w / variance(between) * between).sum(1) * np.log(t) / 2)


def exact_response(solver) -> float:
    """a of the SDE; kl forgets x_0."""
    if solver.diffusion == "kl":
        return 0.0
    rate = np.vectorize(solver.w)(NODES) / variance(NODES)
    return S * math.exp(-(WEIGHTS @ rate) / 2)


def slope(values: Sequence[float]) -> float:
    return math.log2(abs(values[0] / values[1]))


@pytest.mark.parametrize("schedule", [Uniform, Quadratic])
@pytest.mark.parametrize("last", ["mean", "tweedie"])
@every_form
@every_solver
def test_weak_order(solver, form, last, schedule):
    """The errors of the output's variance and of a fall as steps^-order; its mean is exact."""
    solver, spread, response = make(solver, form, last=last), [], []
    for steps in (128, 256):
        mean, a, found = law(solver, schedule(steps).grid().tolist())
        # A step moves t M to (t + h) M exactly, whatever w: there v = M and the score is 0.
        assert mean == pytest.approx(M, abs=1e-12)
        spread.append(found - S**2)
        response.append(a - exact_response(solver))
    # Where w doesn't vanish at t = 1, the last step, of order 1 in w, costs the mean step variance h w, which it leaves
    # out, and the ODE's step, which keeps the variance, the part of w in a.
    late = form == "constant"
    expected = 1 if late and last == "mean" else solver.order
    if isinstance(solver, EulerMaruyama) and form == "kl" and schedule is Uniform:
        expected = 2  # there its term of order 1 is 0: see the next test
    print(f"{type(solver).__name__} {form} {last} {schedule.__name__}: variance {slope(spread):.2f}")
    assert slope(spread) == pytest.approx(expected, abs=0.2)
    if form == "kl":
        assert max(map(abs, response)) < 1e-12
    else:
        print(f"a {slope(response):.2f}")
        assert slope(response) == pytest.approx(1 if late and last == "tweedie" else solver.order, abs=0.2)


WARPS = {  # t(u) and dt/du
    Uniform: (lambda u: u, lambda u: 1 + 0 * u),
    Quadratic: (lambda u: u**2, lambda u: 2 * u),
    Cosine: (lambda u: np.sin(np.pi * u / 2) ** 2, lambda u: np.pi / 2 * np.sin(np.pi * u)),
}


def leading_term(solver, schedule: type) -> float:
    """C such that Euler-Maruyama's error of the variance is C / N + O(1 / N^2), with last=tweedie.

    A step takes V to (1 + h A)^2 V + h w, the SDE to V + h (2 A V + w) + h^2 V'' / 2, and V'' / 2 = 1 + S^2. With
    steps of h = t'(u) / N the sum of h^2 (A^2 V - 1 - S^2), by what is left of each at 1, is an integral over u.
    """
    warp, derivative = WARPS[schedule]
    t = warp(NODES)
    w = np.vectorize(solver.w)(t)
    rate = (t * S**2 - (1 - t) - w / 2) / variance(t)
    local = rate**2 * variance(t) - 1 - S**2
    return WEIGHTS @ (local * memory(solver, t) ** 2 * derivative(NODES) ** 2)


@pytest.mark.parametrize("schedule", WARPS)
@every_form
def test_the_error_of_euler_maruyama_is_the_one_that_theory_predicts(form, schedule):
    """What remains of it falls as steps^-2: stronger than a slope of 1, which hides where C is small."""
    solver = make(EulerMaruyama, form, last="tweedie")
    term, rest = leading_term(solver, schedule), []
    for steps in (64, 128):
        rest.append(law(solver, schedule(steps).grid().tolist())[2] - S**2 - term / steps)
    print(f"{form} {schedule.__name__}: C = {term:.6f}, the rest falls by {slope(rest):.3f}")
    assert slope(rest) == pytest.approx(2, abs=0.2)


# Marginals. By the inequality of Dvoretzky, Kiefer, Wolfowitz and Massart (1990) the Kolmogorov-Smirnov distance of n
# draws from their own distribution is above r with probability of at most 2 exp(-2 n r^2), for every n. With
# Bonferroni's correction for all projections of all forms and solvers, one of them fails by chance in 1 % of seeds.

MIXTURE = GaussianMixture(num_classes=1, components=2, shape=(1, 1, 2), spread=1.0, std=0.4)
SAMPLES, STEPS = 20_000, {EulerMaruyama: 200, StochasticHeun: 24}
ANGLES = [math.pi * number / 8 for number in range(8)]
TESTS = len(ANGLES) * len(DISTINCT) * len(SOLVERS)
RESOLUTION = math.sqrt(math.log(2 * TESTS / 0.01) / (2 * SAMPLES))


def draw(solver, steps: int, samples: int = SAMPLES) -> Tensor:
    """(samples, 2) float32 outputs for the mixture."""
    generator = torch.Generator().manual_seed(0)

    def normal(step: int | None = None) -> Tensor:
        return torch.randn(samples, 1, 1, 2, generator=generator)

    return solver.integrate(bound(MIXTURE, samples), normal(), Uniform(steps).grid().tolist(), noise=normal).x.flatten(
        1
    )


def distance(x: Tensor) -> float:
    """The largest Kolmogorov-Smirnov distance to the data over the projections, which are mixtures of Gaussians too."""
    ranks, largest = torch.arange(len(x) + 1, dtype=torch.float64) / len(x), 0.0
    for angle in ANGLES:
        direction = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
        along, centres = (x.double() @ direction).sort().values, MIXTURE.means[0].flatten(1) @ direction
        below = torch.special.ndtr((along[:, None] - centres) / MIXTURE.std).mean(1)
        largest = max(largest, (ranks[1:] - below).max().item(), (below - ranks[:-1]).max().item())
    return largest


def for_marginals(solver: type, form: str):
    """A constant w needs the ODE's last step, or lacks noise of variance h w in the end."""
    return make(solver, form, last="tweedie" if form == "constant" else "mean")


@every_form
@every_solver
def test_marginals(solver, form):
    """Distances above 0.0157 are seen. Those of the solvers at these steps are less than a fourth of it.

    Of 400,000 samples the largest distance was 0.0036 (Euler-Maruyama's with decreasing) of which chance makes 0.002.
    """
    found = distance(draw(for_marginals(solver, form), STEPS[solver]))
    print(f"{solver.__name__} {form}: {found:.4f} of {RESOLUTION:.4f}")
    assert found < RESOLUTION


class WithoutScore(EulerMaruyama):
    def drift(self, v, x, t):
        return v


class ScoreOfTheOtherNormalisation(EulerMaruyama):
    def drift(self, v, x, t):
        return 2 * super().drift(v, x, t) - v


@pytest.mark.parametrize(
    ("wrong", "form"), [*((WithoutScore, form) for form in DISTINCT), (ScoreOfTheOtherNormalisation, "sigma")]
)
def test_the_test_of_marginals_rejects_a_wrong_sde(wrong, form):
    """At fewer steps, to save time: there the right one's distance is below 0.015."""
    found = distance(draw(for_marginals(wrong, form), 40))
    print(f"{wrong.__name__} {form}: {found:.4f} of {RESOLUTION:.4f}")
    assert found > 2 * RESOLUTION


# Forms and normalisations.


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("sbdm", "kl")])
def test_w_is_finite_and_never_negative_at_both_ends(form):
    for normalisation, norm in itertools.product(("paper", "code"), (0, 0.3, 1.7)):
        solver = make(EulerMaruyama, form, normalisation=normalisation, norm=norm)
        assert all(0 <= solver.w(t) < 20 for t in (0.0, 1e-9, 0.3, 1 - 1e-9, 1.0))


@every_solver
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("grid", [[0.0, 1.0], [0.0, 0.5, 1.0], [0.0, 0.5, 1 - 1e-9, 1.0]])
@pytest.mark.parametrize("last", ["mean", "tweedie", "euler"])
def test_nothing_blows_up_at_the_ends(solver, form, grid, last):
    x = noise(0, range(50), (1, 1, 2)).double()
    end = make(solver, form, last=last).integrate(bound(MIXTURE, 50), x, grid, noise=lambda step: x.roll(step + 1, 0))
    assert end.x.abs().max() < 20


def test_forms_that_are_one_on_this_path():
    for one, other in (("sigma", "linear"), ("sbdm", "kl")):
        for t in (0.0, 0.1, 0.7, 1.0):
            assert make(EulerMaruyama, one, norm=1.3).w(t) == make(EulerMaruyama, other, norm=1.3).w(t)


@pytest.mark.parametrize("form", FORMS)
def test_the_code_has_twice_the_noise_but_where_the_sde_is_derived(form):
    paper, code = (make(EulerMaruyama, form, normalisation=name) for name in ("paper", "code"))
    factor = 1 if form in ("sbdm", "kl", "kl_eta") else 2
    assert all(code.w(t) == factor * paper.w(t) for t in (0.1, 0.5, 0.9))


def test_kl_is_where_the_bound_is_least():
    """SiT's bound, for an error of the velocity and for one of the score, with and without a cost of noise."""
    t, eta = 0.3, 0.2
    w = torch.linspace(0.01, 20, 200_001, dtype=torch.float64)
    score_of_v, v_of_score = t / (1 - t), (1 - t) / t  # their errors, from s = (t v - x) / (1 - t)
    by_v = (1 + w / 2 * score_of_v).square() / (2 * w)
    by_score = (v_of_score + w / 2).square() / (2 * w)
    for bound_of_w, form in ((by_v, "kl"), (by_score, "kl"), (by_v + eta * w, "kl_eta")):
        solver = EulerMaruyama(diffusion=form, eta=eta if form == "kl_eta" else None)
        assert w[bound_of_w.argmin()].item() == pytest.approx(solver.w(t), abs=2e-4)  # two points of the grid


@pytest.mark.parametrize("form", ["sigma", "decreasing"])
def test_euler_maruyama_is_sits_code(form):
    """Its equations, written out: the score from the general path, the drift v + w s, noise sqrt(2 w), a mean step."""
    norm, x = 0.8, noise(0, range(6), (1, 1, 2)).double()
    grid = [*torch.linspace(0, 0.96, 20, dtype=torch.float64).tolist(), 1.0]
    field, kicks = bound(MIXTURE, 6), [noise(step, range(6), (1, 1, 2)).double() for step in range(20)]
    solver = EulerMaruyama(diffusion=form, norm=norm, normalisation="code")
    found = solver.integrate(field, x, grid, noise=kicks.__getitem__).x
    for (t0, t1), kick in zip(itertools.pairwise(grid), kicks):
        v, sigma = field(x, torch.full((6,), t0, dtype=torch.float64)), 1 - t0
        score = (t0 * v - x) / (sigma**2 + t0 * sigma)
        w = norm * sigma if form == "sigma" else 0.25 * (norm * math.cos(math.pi * t0) + 1) ** 2
        x = x + (t1 - t0) * (v + w * score)
        if t1 < 1:
            x = x + math.sqrt(2 * w) * math.sqrt(t1 - t0) * kick
    assert (found - x).abs().max() < 1e-12


# Noise that belongs to the sample, and what it costs.


@pytest.mark.parametrize("t", [0.2, 0.8, 0.95])
def test_a_step_near_the_data_multiplies_by_the_factor_in_the_docs(t):
    """What is off the surface of the data, where D = 0 is predicted: 1 - h / (1 - t) - h w / (2 (1 - t)^2)."""
    h, n, x = 0.02, 0.7, torch.ones(1, 1, dtype=torch.float64)
    solver = EulerMaruyama(diffusion="constant", norm=n)
    step = solver.begin(lambda x, t: -x / (1 - t), lambda number: torch.zeros_like(x))
    assert step(x, t, t + h).item() == pytest.approx(1 - h / (1 - t) - h * n / (2 * (1 - t) ** 2), rel=1e-12)
    nearest = (h + math.sqrt(h**2 + 4 * n * h)) / 4  # of 1, where steps don't grow yet
    assert abs(step(x, 1 - nearest, 1 - nearest + h).item()) == pytest.approx(1, rel=1e-12)


def sampler(solver: Solver) -> Sampler:
    return sampler_of(GaussianMixture(num_classes=3, components=2, shape=(1, 4, 4)), solver, steps=10)


def samples(s: Sampler, indices: Sequence[int]) -> Tensor:
    return s.integrate(s.noise(indices).double(), s.condition(indices), indices)


@every_solver
@pytest.mark.parametrize("form", ["sigma", "kl"])
def test_a_sample_is_the_same_bit_for_bit_alone_and_among_strangers(solver, form):
    s, indices = sampler(make(solver, form)), [5, 2, 0, 9, *range(100, 160)]
    together = samples(s, indices)
    assert torch.equal(together, torch.cat([samples(s, [index]) for index in indices]))
    assert len(together.flatten().unique()) == together.numel()


@every_solver
def test_a_run_that_goes_on_at_another_block_makes_the_same_samples(solver):
    whole = samples(sampler(solver()), range(24))
    resumed = sampler(solver())
    assert torch.equal(samples(resumed, range(16, 24)), whole[16:])
    assert torch.equal(samples(resumed, range(16)), whole[:16])


@every_solver
def test_each_step_takes_noise_of_its_own_number(solver):
    numbers = []

    def normal(step: int) -> Tensor:
        numbers.append(step)
        return torch.zeros(2, 1, 1, 2)

    for _ in range(2):  # a solver keeps nothing of an integration
        solver().integrate(bound(MIXTURE, 2), torch.zeros(2, 1, 1, 2), Uniform(5).grid().tolist(), noise=normal)
    assert numbers == 2 * [0, 1, 2, 3]  # the last step has none


@pytest.mark.parametrize(
    ("solver", "evaluations"),
    [
        (EulerMaruyama(), 10),
        (EulerMaruyama(diffusion="kl"), 10),
        (StochasticHeun(), 19),
        (StochasticHeun(diffusion="kl"), 18),
    ],
)
def test_what_ten_steps_evaluate(solver, evaluations):
    s = sampler(solver)
    assert s.evaluations() == (evaluations, evaluations)
    samples(s, range(6))
    assert s.meter.cost.velocity_rows == s.meter.cost.network_rows == 6 * evaluations


@pytest.mark.parametrize(("solver", "ode"), [(EulerMaruyama, Euler()), (StochasticHeun, Heun(correct_last=False))])
@pytest.mark.parametrize("form", [form for form in FORMS if form != "decreasing"])
@pytest.mark.parametrize("last", ["mean", "tweedie", "euler"])
def test_without_noise_it_is_the_method_of_the_ode_bit_for_bit(solver, ode, form, last):
    s = sampler(make(solver, form, norm=0, last=last))
    assert torch.equal(samples(s, range(6)), samples(sampler(ode), range(6)))


@every_solver
def test_with_little_noise_it_is_close_to_the_ode(solver):
    """The difference falls as sqrt(norm), the size of the noise."""
    ode = samples(sampler(make(solver, "sigma", norm=0)), range(6))
    far, near = ((samples(sampler(make(solver, "sigma", norm=n)), range(6)) - ode).norm() for n in (1e-6, 1e-8))
    assert far / near == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"diffusion": "sigmoid"}, "solver.diffusion=sigmoid: choose from constant, sigma, linear, .* kl, kl_eta"),
        ({"normalisation": "sit"}, "solver.normalisation=sit: choose from paper, code"),
        ({"last": "Mean"}, "solver.last=Mean: choose from mean, tweedie, euler"),
        ({"norm": -1.0}, "solver.norm=-1.0: give a number of at least 0"),
        ({"norm": math.nan}, "solver.norm=nan: give a number of at least 0"),
        ({"norm": "much"}, "solver.norm=much: give a number of at least 0"),
        ({"eta": 0.1}, "solver.eta=0.1 acts on solver.diffusion=kl_eta only"),
        ({"diffusion": "kl_eta"}, "solver.diffusion=kl_eta needs the cost of noise: give solver.eta a number"),
        ({"diffusion": "kl_eta", "eta": 0}, "solver.eta=0: give a number above 0"),
    ],
)
@every_solver
def test_settings_that_cannot_be(solver, wrong, message):
    with pytest.raises(ValueError, match=message):
        solver(**wrong)


@every_solver
def test_noise_is_asked_for(solver):
    with pytest.raises(ValueError, match=f"{solver.__name__} adds noise in every step"):
        solver().integrate(lambda x, t: x, torch.ones(2, 1), [0.0, 1.0])
