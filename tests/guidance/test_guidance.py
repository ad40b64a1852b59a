"""Guidance on the analytic model, in float64: formulas, costs, ids, and that samples keep to themselves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from ditexp.files.content import digest
from ditexp.guidance.apg import AdaptiveProjected
from ditexp.guidance.autoguidance import Autoguidance
from ditexp.guidance.base import Guided
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.cfg_zero import CFGZero
from ditexp.guidance.interval import PROFILES
from ditexp.guidance.none import NoGuidance
from ditexp.guidance.norm_cap import NormCap
from ditexp.guidance.rescaled import Rescaled
from ditexp.guidance.token_norm import TokenNorm
from ditexp.meter import Meter
from ditexp.model.analytic import GaussianMixture
from ditexp.network import Network, Still
from ditexp.noise import noise
from ditexp.run.components import build_component
from ditexp.run.identity import identify
from ditexp.sampler import Sampler
from ditexp.schedule.uniform import Uniform
from ditexp.solver.dopri5 import Dopri5
from ditexp.solver.euler import Euler
from ditexp.solver.heun import Heun
from ditexp.values import Condition, Cost
from tests.helpers.components import STEPPED, classes, component
from tests.helpers.refusals import refused
from tests.helpers.samplers import sampler_of

SHAPE = (4, 2, 2)
MODEL = GaussianMixture(num_classes=3, components=2, shape=SHAPE, std=0.3)
WEAK = GaussianMixture(num_classes=3, components=1, shape=SHAPE, std=0.5, seed=1)

KINDS: dict[str, Callable[..., Guided]] = {
    "cfg": ClassifierFree,
    "rescaled": Rescaled,
    "cfg_zero": partial(CFGZero, zero_init=0),
    "apg": partial(AdaptiveProjected, norm_threshold=0.7),
    "autoguidance": partial(Autoguidance, weak=WEAK),
    "cfg_qwen": partial(TokenNorm, patch=1),
    "cfg_z_image": partial(NormCap, cap=0.9),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
SOLVERS = [Euler(), Heun(), Dopri5(rtol=1e-3, atol=1e-3)]
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)

# Formulas written in another order differ by rounding: some 100 operations on numbers up to 50, hence 100 * 50 * 2^-53.
ROUNDING = 1e-12


@dataclass
class Recording:
    """A model that remembers the time and the label of every row that it evaluates."""

    model: GaussianMixture = field(default_factory=lambda: MODEL)
    times: list[float] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.model, name)

    def __call__(self, x, t, condition):
        self.times += t.tolist()
        self.labels += condition.labels.tolist()
        return self.model(x, t, condition)


def sampler(guidance, solver=Euler(), *, model=MODEL, **parts) -> Sampler:  # noqa: B008
    return sampler_of(model, solver, guidance=guidance, steps=10, **parts)


def start(indices) -> tuple[torch.Tensor, Condition, list[int]]:
    return noise(0, indices, SHAPE).double(), Condition(torch.tensor(indices) % 3), list(indices)


def counted(model=MODEL) -> Network:
    return Network(model, Meter(torch.device("cpu")))


def evaluate(guidance, x, t, condition):
    return guidance.on(None).bind(counted(), condition)(x, t)


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor, Condition]:
    x, condition, _ = start(range(12))
    return x, torch.linspace(0, 0.9, 12, dtype=torch.float64), condition


def test_every_kind_is_tested():
    assert sorted(KINDS) == [name for name in classes("guidance") if name != "none"]


# Formulas


def bad_version(kind, x, t, condition):
    return WEAK(x, t, condition) if kind == "autoguidance" else MODEL(x, t, MODEL.null(condition))


def linear(c, u, x, t, w):
    return (1 + w) * c - w * u


def rescaled(c, u, x, t, w):
    """Equations 14 to 16 of Lin et al."""
    guided = u + (1 + w) * (c - u)
    return 0.7 * guided * c.std() / guided.std() + (1 - 0.7) * guided


def cfg_zero(c, u, x, t, w):
    """The scale by least squares."""
    (a,), *_ = np.linalg.lstsq(u.reshape(-1, 1), c.reshape(-1))
    return a * u + (1 + w) * (c - a * u)


def apg(c, u, x, t, w):
    """Algorithm 1 of Sadat et al., on predicted data."""
    data = x + (1 - t) * c
    difference = data - (x + (1 - t) * u)
    difference = difference * min(1, 0.7 / np.linalg.norm(difference))
    direction = data / np.linalg.norm(data)
    parallel = (difference * direction).sum() * direction
    return (data + w * (difference - parallel) - x) / (1 - t)


def cfg_qwen(c, u, x, t, w):
    """A token is an element here, with all its channels."""
    guided = u + (1 + w) * (c - u)
    return guided * np.linalg.norm(c, axis=0) / np.linalg.norm(guided, axis=0)


def cfg_z_image(c, u, x, t, w):
    guided = c + w * (c - u)
    most = 0.9 * np.linalg.norm(c)
    return guided * most / np.linalg.norm(guided) if np.linalg.norm(guided) > most else guided


FORMULAS = {
    "cfg": linear,
    "rescaled": rescaled,
    "cfg_zero": cfg_zero,
    "apg": apg,
    "autoguidance": linear,
    "cfg_qwen": cfg_qwen,
    "cfg_z_image": cfg_z_image,
}


@every_kind
@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("weight", [-0.5, 2.0])
def test_a_kind_is_its_formula(kind, weight, profile, channels, batch):
    """Sample by sample in numpy; what is beyond the guided channels is conditional, and of no account."""
    x, t, condition = batch
    guided = evaluate(KINDS[kind](weight=weight, profile=profile, guided_channels=channels), x, t, condition)
    c, u = MODEL(x, t, condition), bad_version(kind, x, t, condition)
    assert (c - u).abs().amax((1, 2, 3)).min() > 1e-3  # or the formula could not fail
    shape_of_w = {
        "constant": lambda t: 1,
        "linear": lambda t: 2 * t,
        "cosine": lambda t: 2 * np.sin(np.pi * t / 2) ** 2,
        "power_cosine": lambda t: np.sin(np.pi * t**4 / 2) ** 2,
    }[profile]
    for i, time in enumerate(t.tolist()):
        w, part = weight * shape_of_w(time), slice(channels)
        expected = FORMULAS[kind](c[i, part].numpy(), u[i, part].numpy(), x[i, part].numpy(), time, w)
        if w == 0:
            expected = c[i, part].numpy()
        assert np.abs(guided[i, part].numpy() - expected).max() < ROUNDING
        if channels:
            assert torch.equal(guided[i, channels:], c[i, channels:])


def test_the_mean_of_a_rising_weight():
    """Wang et al. keep the mean over time, by the midpoint rule to 1e-12; the masked transformer's rises to w."""
    t = (np.arange(1000) + 0.5) / 1000
    for name in ("constant", "linear", "cosine"):
        assert np.mean([PROFILES[name](time) for time in t]) == pytest.approx(1, abs=1e-12)
    assert PROFILES["power_cosine"](0) == 0 and PROFILES["power_cosine"](1) == 1


def test_each_kind_is_cfg_at_its_neutral_setting(batch):
    x, t, condition = batch
    cfg = evaluate(ClassifierFree(weight=2.0), x, t, condition)
    assert torch.equal(evaluate(Rescaled(weight=2.0, phi=0.0), x, t, condition), cfg)
    assert (evaluate(AdaptiveProjected(weight=2.0, eta=1.0), x, t, condition) - cfg).abs().max() < ROUNDING
    assert not torch.equal(evaluate(AdaptiveProjected(weight=2.0), x, t, condition), cfg)
    loose = AdaptiveProjected(weight=2.0, eta=1.0, norm_threshold=1e3)
    assert (evaluate(loose, x, t, condition) - cfg).abs().max() < ROUNDING


def test_tokens_of_several_elements_keep_their_norm():
    """By the packing of Qwen-Image's pipeline: tokens of 2 x 2 elements with all channels, row by row."""

    def packed(v):
        return v.unflatten(3, (3, 2)).unflatten(2, (2, 2)).permute(0, 2, 4, 1, 3, 5).reshape(2, 6, 12)

    random = torch.Generator().manual_seed(0)
    c, u = torch.randn(2, 2, 3, 4, 6, dtype=torch.float64, generator=random)
    guided = TokenNorm(scale=4.0).combine(c, u, 3.0, x=c, t=torch.zeros(2, 1, 1, 1))
    plain = packed(u + 4 * (c - u))
    expected = plain * (packed(c).norm(dim=-1, keepdim=True) / plain.norm(dim=-1, keepdim=True))
    assert (packed(guided) - expected).abs().max() < ROUNDING


def test_a_cap_acts_on_samples_beyond_it(batch):
    x, t, condition = batch
    c, g = MODEL(x, t, condition), evaluate(ClassifierFree(weight=2.0), x, t, condition)
    ratios = g.flatten(1).norm(dim=1) / c.flatten(1).norm(dim=1)
    cap = ratios.median().item() + 1e-6
    capped = evaluate(NormCap(weight=2.0, cap=cap), x, t, condition)
    beyond = ratios > cap
    assert beyond.any() and not beyond.all()
    assert torch.equal(capped[~beyond], g[~beyond])
    assert (capped[beyond].flatten(1).norm(dim=1) / c[beyond].flatten(1).norm(dim=1) - cap).abs().max() < ROUNDING
    assert torch.equal(evaluate(NormCap(weight=2.0), x, t, condition), g)


def test_samples_without_whole_tokens_are_refused():
    with refused(["guidance.patch=3", "2 x 2", "give the model's patch size"]):
        TokenNorm(scale=4.0, patch=3).check(MODEL)


def test_cfg_zero_is_cfg_where_the_scale_is_1():
    """With u = (1, 0, 0, 0) and c = (1, ...) the projection of c on u is u."""
    u = torch.zeros(1, 4, 1, 1, dtype=torch.float64)
    u[0, 0] = 1
    c = torch.tensor([1.0, -0.3, 2.0, 0.7], dtype=torch.float64).view(1, 4, 1, 1)
    rest = {"x": c, "t": torch.zeros(1, 1, 1, 1)}
    guided = CFGZero(weight=2.0).combine(c, u, 2.0, **rest)
    assert torch.equal(guided, ClassifierFree(weight=2.0).combine(c, u, 2.0, **rest))


def test_autoguidance_by_the_unconditional_model_is_cfg(batch):
    class Blind(GaussianMixture):
        def __call__(self, x, t, condition):
            return super().__call__(x, t, self.null(condition))

    weak = Blind(num_classes=3, components=2, shape=SHAPE, std=0.3)
    x, t, condition = batch
    cfg = evaluate(ClassifierFree(weight=2.0), x, t, condition)
    assert torch.equal(evaluate(Autoguidance(weight=2.0, weak=weak), x, t, condition), cfg)


@every_kind
def test_every_formula_holds_at_the_ends_of_time(kind, batch):
    """Where 1 - t or t is 0, and for velocities of zero."""
    x, _, condition = batch
    for time in (0.0, 1.0):
        v = evaluate(KINDS[kind](weight=2.0), x, torch.full((len(x),), time, dtype=x.dtype), condition)
        assert v.isfinite().all()
    zero = torch.zeros(2, *SHAPE)
    rest = {"x": zero, "t": torch.zeros(2, 1, 1, 1)}
    assert torch.equal(KINDS[kind](weight=2.0).combine(zero, zero, 2.0, **rest), zero)


# Cost


@every_kind
@every_solver
@pytest.mark.parametrize("off", [{"weight": 0.0}, {"scale": 1.0}])
def test_off_is_none_bit_for_bit_at_its_cost(kind, solver, off):
    found = []
    for guidance in (NoGuidance(), KINDS[kind](**off, profile="linear", interval=[0.2, 0.8])):
        s = sampler(guidance, solver)
        found.append((s.integrate(*start(range(4))), s.take_cost()))
    (plain, cost), (guided, guided_cost) = found
    assert torch.equal(plain, guided) and cost == guided_cost


SPELLINGS = [
    {"interval": [0.3, 0.7]},
    {"interval": [3 / 7, 7 / 3], "interval_in": "sigma"},
    {"interval": [3, 7], "interval_in": "steps"},
]


@every_kind
@pytest.mark.parametrize(("solver", "evaluations", "guided"), [(Euler(), 10, 4), (Heun(), 20, 8)])
@pytest.mark.parametrize("interval", SPELLINGS)
def test_an_interval_costs_what_it_uses(kind, interval, solver, evaluations, guided):
    """Of ten steps four start within [0.3, 0.7); of Heun's second evaluations, at the ends of steps, four lie there."""
    s = sampler(KINDS[kind](weight=1.0, **interval), solver)
    s.integrate(*start(range(5)))
    cost = s.take_cost()
    assert (cost.velocity_rows, cost.network_rows) == (5 * evaluations, 5 * (evaluations + guided))
    assert s.evaluations() == (evaluations, evaluations + guided)


@pytest.mark.parametrize("interval", SPELLINGS[:2])
def test_an_adaptive_solver_pays_for_the_samples_within(interval):
    """Each has its own time: the unconditional rows are those of the conditional ones that lie in the interval."""
    model = Recording()
    s = sampler(ClassifierFree(weight=2.0, **interval), Dopri5(), model=model)
    s.integrate(*start(range(6)))
    rows = list(zip(model.times, model.labels, strict=True))
    conditional = sorted(time for time, label in rows if label != 3)
    unconditional = sorted(time for time, label in rows if label == 3)
    assert unconditional == [time for time in conditional if 0.3 <= time < 0.7]
    assert 0 < len(unconditional) < len(conditional)
    assert len(conditional) == s.meter.cost.velocity_rows and len(rows) == s.meter.cost.network_rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("schedule", STEPPED)
def test_steps_are_the_steps_of_any_grid(schedule, dtype):
    """Whatever the rounding of its points, in the state's precision too."""
    x = torch.zeros(1, *SHAPE, dtype=dtype)
    for grid in (component("schedule", schedule, steps=steps) for steps in (4, 50, 300)):
        steps = len(grid.grid()) - 1
        for low, high in ((0, 1), (1, 2), (steps // 3, steps // 2 + 1), (steps - 2, steps), (0, steps)):
            guidance = ClassifierFree(weight=1.0, interval=[low, high], interval_in="steps")
            s = sampler(guidance, schedule=grid)
            s = replace(s, network=Still(s.model, s.meter))
            s.integrate(x, Condition(torch.zeros(1, dtype=torch.int64)), [0])
            assert s.take_cost().network_rows == steps + high - low


@every_solver
@pytest.mark.parametrize("profile", ["linear", "cosine", "power_cosine"])
def test_a_rising_weight_costs_nothing_while_it_is_0(profile, solver):
    """At t = 0 alone."""
    model = Recording()
    sampler(ClassifierFree(weight=1.0, profile=profile), solver, model=model).integrate(*start([0]))
    unconditional = [time for time, label in zip(model.times, model.labels) if label == 3]
    conditional = [time for time, label in zip(model.times, model.labels) if label != 3]
    assert sorted(unconditional) == sorted(conditional)[1:] and conditional[0] == 0


@every_kind
@pytest.mark.parametrize("solver", SOLVERS[:2])
def test_the_cost_is_known_beforehand_without_the_network(kind, solver):
    class Forbidden(GaussianMixture):
        def __call__(self, x, t, condition):
            raise AssertionError("evaluated")

    settings = {"weight": 1.0, "interval": [0.25, 0.5], "profile": "linear"}
    if kind == "autoguidance":
        settings["weak"] = Forbidden(num_classes=3, shape=SHAPE)
    expected = sampler(KINDS[kind](**{**settings, "weak": WEAK} if "weak" in settings else settings), solver)
    expected.integrate(*start([0]))
    model = Forbidden(num_classes=3, shape=SHAPE)
    evaluations = sampler(KINDS[kind](**settings), solver, model=model).evaluations()
    assert evaluations == (expected.meter.cost.velocity_rows, expected.meter.cost.network_rows)


# Ends of the interval, and what decides


@pytest.mark.parametrize(
    ("closed", "guided"),
    [
        ("left", [False, True, True, False]),
        ("right", [False, False, True, True]),
        ("both", [False, True, True, True]),
        ("neither", [False, False, True, False]),
    ],
)
def test_ends_of_the_interval(closed, guided):
    guidance = ClassifierFree(weight=1.0, interval=(0.3, 0.7), interval_closed=closed).on(None)
    assert [bool(guidance.weight_at(t)) for t in (0.2, 0.3, 0.5, 0.7)] == guided
    # As float32 rounds them, and for an interval in other units.
    assert [bool(guidance.weight_at(float(np.float32(t)))) for t in (0.2, 0.3, 0.5, 0.7)] == guided
    in_sigma = ClassifierFree(weight=1.0, interval=(3 / 7, 7 / 3), interval_in="sigma", interval_closed=closed).on(None)
    assert in_sigma == guidance


@pytest.mark.parametrize("closed", ["left", "right", "both", "neither"])
def test_the_ends_of_time_always_belong_to_an_interval(closed):
    assert ClassifierFree(weight=1.0, interval=(0.5, 1), interval_closed=closed).weight_at(1.0)
    assert ClassifierFree(weight=1.0, interval=(0, 0.5), interval_closed=closed).weight_at(0.0)


def test_the_start_of_a_step_decides():
    """Heun's second evaluation is guided as its first: in the steps from 0.2, 0.3, 0.4 and 0.5, and in no other."""
    guidance = ClassifierFree(weight=1.0, interval=(0.2, 0.5), interval_closed="both", decided_per="step")
    x, condition, indices = start(range(2))
    once = sampler(guidance, Heun()).integrate(x, condition, indices)
    on = ClassifierFree(weight=1.0).on(None).bind(counted(), condition)
    off = NoGuidance().bind(counted(), condition)
    for step in range(10):
        field = on if 2 <= step <= 5 else off
        x = Heun().step(field, x, step / 10, (step + 1) / 10)
    assert (once - x).abs().max() < ROUNDING


def test_settings_without_effect_do_not_change_a_set():
    plain = ClassifierFree(weight=1.0)
    odd = ClassifierFree(weight=1.0, interval_closed="both", decided_per="step")
    assert identify(odd.on([0.0, 1.0])) == identify(plain.on([0.0, 1.0])) and odd.on(None) == plain.on(None)
    assert "decided_per" not in identify(plain)  # sets of earlier versions keep their ids


def test_an_adaptive_solver_has_no_steps_to_decide_for():
    with pytest.raises(ValueError, match=r"guidance\.decided_per=step needs a solver with fixed steps"):
        ClassifierFree(weight=1.0, interval=(0.2, 0.5), decided_per="step").on(None)


# Zero-init


@pytest.mark.parametrize("zero_init", [0, 1, 4])
def test_zero_init_leaves_samples_as_they_are(zero_init):
    """By Euler's method written out: in the first steps the velocity is 0, and costs nothing."""
    guidance = CFGZero(weight=1.5, zero_init=zero_init)
    s = sampler(guidance)
    x, condition, indices = start(range(4))
    end = s.integrate(x, condition, indices)
    assert s.take_cost().network_rows == 4 * 2 * (10 - zero_init)
    assert s.evaluations() == (10 - zero_init, 2 * (10 - zero_init))
    field = CFGZero(weight=1.5, zero_init=0).on(None).bind(counted(), condition)
    for step in range(10):
        velocity = field(x, torch.full((4,), step / 10, dtype=x.dtype))
        x = x + 0.1 * velocity * (step >= zero_init)
    assert (end - x).abs().max() < ROUNDING


def test_zero_init_is_off_without_guidance():
    found = []
    for guidance in (NoGuidance(), CFGZero(weight=0.0, zero_init=3)):
        s = sampler(guidance)
        found.append((s.integrate(*start(range(2))), s.take_cost()))
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]
    assert sampler(CFGZero(weight=0.0), Dopri5()).grid[0] == 0  # steps that don't act are no mistake


def test_zero_init_is_the_same_for_every_solver():
    """All start where it ends; an adaptive one is given it in t."""
    x, condition, indices = start(range(4))
    fine = sampler(CFGZero(weight=1.5, zero_init=80), Heun(), schedule=Uniform(800))
    truth = fine.integrate(x, condition, indices)
    s = sampler(CFGZero(weight=1.5, zero_init=0.1, zero_init_in="t"), Dopri5(rtol=1e-8, atol=1e-8))
    # Heun's error falls with h^2: its own estimate is a third of the change from half as many steps.
    half = sampler(CFGZero(weight=1.5, zero_init=40), Heun(), schedule=Uniform(400)).integrate(x, condition, indices)
    assert (s.integrate(x, condition, indices) - truth).abs().max() < (half - truth).abs().max()
    assert sampler(CFGZero(weight=1.5, zero_init=2), Heun()).evaluations() == (16, 32)


# Ids


def id_of(guidance, solver=Euler(), **options) -> str:  # noqa: B008
    return digest(identify(sampler(guidance, solver, **options).guidance))


@every_kind
def test_one_interval_has_one_id_in_every_spelling(kind):
    ids = {id_of(KINDS[kind](weight=1.0, **interval)) for interval in SPELLINGS}
    ids.add(id_of(KINDS[kind](scale=2.0, **SPELLINGS[0]), Dopri5()))
    assert len(ids) == 1
    others = [{"interval": [0.3, 0.8]}, {"interval": [3, 8], "interval_in": "steps"}, {}]
    assert len(ids | {id_of(KINDS[kind](weight=1.0, **other)) for other in others}) == 3
    everywhere = [
        {"interval": [0, 1]},
        {"interval": [0, math.inf], "interval_in": "sigma"},
        {"interval": [0, 10], "interval_in": "steps"},
        {"interval_in": "sigma"},
        {},
    ]
    assert len({id_of(KINDS[kind](weight=1.0, **interval)) for interval in everywhere}) == 1


def test_steps_of_another_grid_are_another_interval():
    steps = {"weight": 1.0, "interval": [3, 7], "interval_in": "steps"}
    assert id_of(ClassifierFree(**steps)) != id_of(ClassifierFree(**steps), schedule=Uniform(20))
    assert sampler(ClassifierFree(**steps), schedule=Uniform(20)).guidance.interval == (0.15, 0.35)


def test_other_settings_make_other_ids():
    changes = [{"profile": "linear"}, {"guided_channels": 3}, {"weight": 2.0}]
    assert len({id_of(ClassifierFree(**{"weight": 1.0} | change)) for change in [{}, *changes]}) == 4
    assert id_of(ClassifierFree(scale=1.4)) == id_of(ClassifierFree(weight=0.4))
    assert id_of(CFGZero(weight=1.0, zero_init=2)) == id_of(CFGZero(weight=1.0, zero_init=0.2, zero_init_in="t"))
    assert id_of(CFGZero(weight=1.0, zero_init=2)) != id_of(CFGZero(weight=1.0, zero_init=1))
    assert id_of(Autoguidance(weight=1.0, weak=WEAK)) != id_of(Autoguidance(weight=1.0, weak=MODEL))


def test_published_intervals():
    """EDM2-S of Kynkaanniemi et al., whose sigma is in (0.28, 2.90]; and REPA's t <= 0.7, where t = 1 is noise."""
    edm2 = ClassifierFree(scale=2.1, interval=[0.28, 2.90], interval_in="sigma").on(None)
    for sigma, on in ((2.95, False), (2.90, True), (1.0, True), (0.285, True), (0.28, False)):
        assert (edm2.weight_at(1 / (1 + sigma)) > 0) is on
    repa = ClassifierFree(scale=1.8, interval=[0.3, 1]).on(None)
    for t, on in ((0.71, False), (0.7, True), (0.04, True), (0.0, True)):
        assert (repa.weight_at(1 - t) > 0) is on


# Samples keep to themselves


@every_kind
@pytest.mark.parametrize("solver", [Heun(), Dopri5()])
def test_a_sample_is_the_same_bit_for_bit_alone_and_among_strangers(kind, solver):
    settings = {"weight": 2.0, "interval": [0.2, 0.6], "profile": "cosine", "guided_channels": 3}
    s, indices = sampler(KINDS[kind](**settings), solver), [5, 2, 0, 9, *range(100, 160)]
    together = s.integrate(*start(indices))
    for row in range(4):
        assert torch.equal(together[row : row + 1], s.integrate(*start([indices[row]])))


# The second model


@every_solver
def test_both_models_are_counted(solver):
    model, weak = Recording(), Recording(WEAK)
    s = sampler(Autoguidance(weight=1.0, weak=weak, interval=[0.3, 0.7]), solver, model=model)
    s.integrate(*start(range(3)))
    assert len(model.times) == s.meter.cost.velocity_rows
    assert len(weak.times) == s.meter.cost.network_rows - s.meter.cost.velocity_rows
    assert sorted(weak.times) == sorted(time for time in model.times if 0.3 <= time < 0.7)
    assert 3 not in weak.labels


def test_both_models_are_moved_and_run_at_the_precision():
    class Network(GaussianMixture):
        def to(self, device):
            self.device = device
            return super().to(device)

        def __call__(self, x, t, condition):
            self.low = torch.is_autocast_enabled("cpu")
            return super().__call__(x, t, condition)

    model, weak = (Network(num_classes=3, shape=SHAPE) for _ in range(2))
    s = sampler(Autoguidance(weight=1.0, weak=weak), model=model, precision="bf16")
    s.prepare(4)
    assert model.device == weak.device == s.device
    assert model.low and weak.low
    assert replace(s.meter.cost, preparation_seconds=0.0) == Cost()  # the first use is not counted as sampling


def test_the_weak_model_is_loaded_once_a_process():
    node = OmegaConf.create(
        {
            "guidance": {
                "_target_": "ditexp.guidance.autoguidance.Autoguidance",
                "weight": 1.0,
                "weak": {"_target_": "ditexp.model.analytic.GaussianMixture", "shape": [1, 4, 4]},
            }
        }
    )
    first, second = (build_component(node, "guidance") for _ in range(2))
    assert first.weak is second.weak and first.weak.sample_shape == (1, 4, 4)
    assert identify(first)["weak"] == first.weak.identity


COMMAND = ("model=analytic", "num_samples=32", "batch_size=32", "steps=4", "metric=[]", "reference=none")
WEAK_ANALYTIC = ("guidance=autoguidance", "guidance.weight=1", "model@guidance.weak=analytic")
IN_STEPS = ("guidance=cfg", "guidance.weight=1", "guidance.interval_in=steps")


@pytest.mark.slow
def test_the_command_is_guided_by_any_model(ditexp, tmp_path):
    steps = ("guidance.interval=[1,3]", "guidance.interval_in=steps")
    done = ditexp("-m", *COMMAND, *WEAK_ANALYTIC, *steps, "guidance.weak.std=0.5,0.6")
    assert done.code == 0, done.output
    assert len(list((tmp_path / "outputs" / "samples").glob("*/set.json"))) == 2
    results = [json.loads(path.read_text()) for path in (tmp_path / "outputs" / "results").glob("*.json")]
    assert sorted(result["settings"]["guidance.weak.std"] for result in results) == [0.5, 0.6]
    assert all((result["cost"]["nfe"], result["cost"]["forwards"]) == (4, 6) for result in results)
    same = (*COMMAND, *WEAK_ANALYTIC, "guidance.weak.std=0.5", "guidance.interval=[0.25,0.75]")
    again = ditexp(*same)
    assert "cached" in again.output, again.output
    plan = ditexp(*same, "hydra/launcher=plan")
    assert plan.code == 0 and " 6 " in plan.output, plan.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["guidance=autoguidance", "guidance.weight=1"], "guidance.weak.checkpoint has no default"),
        (
            [*WEAK_ANALYTIC, "guidance.weak.shape=[1,4,4]"],
            "guidance.weak has sample_shape (1, 4, 4), the model (1, 8, 8)",
        ),
        (
            [*IN_STEPS, "guidance.interval=[0,2]", "solver=dopri5"],
            "guidance.interval is in steps, but an adaptive solver has no fixed steps",
        ),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(in_process, arguments, complaint):
    wrong = in_process("tracker=none", *COMMAND, *arguments)
    assert wrong.code == 2, wrong.err
    assert len(wrong.complaints) == 1 and complaint in wrong.complaints[0]


# Mistakes


class Unconditional:
    num_classes, has_null, sample_shape = 0, False, SHAPE


class WithoutNull:
    num_classes, class_names, has_null, sample_shape = 10, (), False, SHAPE


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "autoguidance"])
@pytest.mark.parametrize(("model", "why"), [(Unconditional, "unconditional"), (WithoutNull, "without label dropout")])
def test_a_null_condition_is_needed(kind, model, why):
    KINDS[kind](weight=0).check(model)
    with refused([why, "use guidance=none"]):
        KINDS[kind](weight=2).check(model)


def test_autoguidance_needs_no_null_condition():
    class Blind(WithoutNull):
        num_classes = 3

    Autoguidance(weight=1.0, weak=WEAK).check(Blind)
    with refused(["guidance.weak has num_classes 3, the model 10"]):
        Autoguidance(weight=1.0, weak=WEAK).check(WithoutNull)


@every_kind
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, ["exactly one of guidance.weight", "guidance.scale", "neither is given"]),
        ({"weight": 2.0, "scale": 3.0}, ["exactly one", "both are given"]),
        ({"weight": "two"}, ["guidance.weight=two: give a number"]),
        ({"scale": math.inf}, ["guidance.scale=inf: give a number"]),
        ({"weight": 1.0, "profile": "rising"}, ["guidance.profile=rising: choose from constant, linear, cosine"]),
        ({"weight": 1.0, "interval_in": "time"}, ["guidance.interval_in=time: choose from t, sigma, steps"]),
        ({"weight": 1.0, "interval": 0.3}, ["guidance.interval=0.3: give [low, high]", "null for everywhere"]),
        ({"weight": 1.0, "interval": [0.3]}, ["guidance.interval=[0.3]"]),
        ({"weight": 1.0, "interval": [0.3, 1.2]}, ["guidance.interval=[0.3, 1.2]", "0 <= low < high <= 1"]),
        ({"weight": 1.0, "interval": [0.7, 0.3]}, ["guidance.interval=[0.7, 0.3]"]),
        ({"weight": 1.0, "interval": [-1, 3], "interval_in": "sigma"}, ["guidance.interval_in=sigma"]),
        ({"weight": 1.0, "interval": [0, 2.5], "interval_in": "steps"}, ["whole numbers", "[0, 2.5]"]),
        ({"weight": 1.0, "guided_channels": 0}, ["guidance.guided_channels=0: give a whole number of at least 1"]),
        ({"weight": 1.0, "guided_channels": 1.5}, ["guidance.guided_channels=1.5"]),
    ],
)
def test_settings_that_cannot_be(kind, settings, words):
    with refused(words):
        KINDS[kind](**settings)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (TokenNorm, {"patch": 0}, ["guidance.patch=0: give a whole number of at least 1"]),
        (NormCap, {"cap": 0}, ["guidance.cap=0: give a number above 0"]),
        (Rescaled, {"phi": 1.5}, ["guidance.phi=1.5: give a number of at least 0 and of at most 1"]),
        (AdaptiveProjected, {"eta": None}, ["guidance.eta=None: give a number"]),
        (AdaptiveProjected, {"norm_threshold": 0}, ["guidance.norm_threshold=0: give a number above 0"]),
        (CFGZero, {"zero_init": 1.5}, ["guidance.zero_init=1.5", "whole number of steps"]),
        (CFGZero, {"zero_init": -1}, ["guidance.zero_init=-1"]),
        (CFGZero, {"zero_init": 1, "zero_init_in": "t"}, ["guidance.zero_init=1", "[0, 1)"]),
        (CFGZero, {"zero_init_in": "sigma"}, ["guidance.zero_init_in=sigma: choose from steps, t"]),
    ],
)
def test_settings_of_a_kind_that_cannot_be(kind, settings, words):
    with refused(words):
        kind(weight=1.0, **settings)


@pytest.mark.parametrize(
    ("guidance", "solver", "words"),
    [
        (
            ClassifierFree(weight=1.0, **SPELLINGS[2]),
            Dopri5(),
            ["guidance.interval is in steps", "guidance.interval_in=t"],
        ),
        (CFGZero(weight=1.0), Dopri5(), ["guidance.zero_init is in steps", "guidance.zero_init_in=t"]),
        (CFGZero(weight=1.0, zero_init=10), Euler(), ["guidance.zero_init=10 leaves no step to make", "fewer"]),
        (
            ClassifierFree(weight=1.0, interval=[2, 11], interval_in="steps"),
            Euler(),
            ["guidance.interval goes to step 11, but there are 10"],
        ),
    ],
)
def test_steps_that_are_not_there(guidance, solver, words):
    with refused(words):
        sampler(guidance, solver)


@every_kind
@pytest.mark.parametrize(
    ("scale", "effect"), [(-0.5, "drives the velocity past"), (0, "draws"), (0.5, "draws the velocity towards")]
)
def test_guidance_the_other_way_round_is_told(kind, scale, effect, caplog):
    KINDS[kind](scale=scale).check(MODEL)
    worse = "the velocity of the weaker model" if kind == "autoguidance" else "the unconditional velocity"
    (message,) = caplog.messages
    assert f"guidance.scale={scale:g} (guidance.weight={scale - 1:g}) {effect}" in message and worse in message


@every_kind
@pytest.mark.parametrize("scale", [1, 1.5, 4])
def test_guidance_that_is_one_is_not_told(kind, scale, caplog):
    KINDS[kind](scale=scale).check(MODEL)
    assert not caplog.messages


def test_channels_that_are_not_there():
    ClassifierFree(weight=1.0, guided_channels=4).check(MODEL)
    with refused(["guidance.guided_channels=5, but this model has 4", "null for all"]):
        ClassifierFree(weight=1.0, guided_channels=5).check(MODEL)


def test_a_guidance_of_ones_own_needs_bind_only():
    @dataclass(frozen=True)
    class Half(NoGuidance):
        def bind(self, model, condition):
            return lambda x, t: 0.5 * model(x, t, condition)

    s = sampler(Half())
    s.prepare(2)
    x, condition, indices = start(range(3))
    s.integrate(x, condition, indices)
    assert s.meter.cost.network_rows == s.meter.cost.velocity_rows == 30
