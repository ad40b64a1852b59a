"""Predictions on other paths, as velocities: on mixtures whose exact velocity, and so exact noise, is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ditexp.condition.labels import Balanced
from ditexp.core import Schedule, Solver
from ditexp.guidance.apg import AdaptiveProjected
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.cfg_zero import CFGZero
from ditexp.model.analytic import GaussianMixture
from ditexp.model.paths import Discrete, Exponential, Linear, Path, Trigonometric
from ditexp.model.prediction import (
    Angular,
    DataOnPath,
    Noise,
    OnPath,
    Score,
    Velocity,
    VelocityOnPath,
    sit_prediction,
)
from ditexp.schedule.ddpm import RespacedDDPM
from ditexp.schedule.uniform import Uniform
from ditexp.solver.dopri5 import Dopri5
from ditexp.solver.euler import Euler
from ditexp.solver.rk4 import RK4
from ditexp.values import Condition, append_dims
from tests.helpers.components import solver_for_any_model
from tests.helpers.errors import rms
from tests.helpers.predicted_mixture import PredictedMixture, alphas_cumprod
from tests.helpers.samplers import in_float64, sampler_of

MIXTURE = {"num_classes": 3, "components": 2, "shape": (1, 2, 2), "std": 0.3}
PATHS: dict[str, Path] = {
    "ddpm": Discrete(),
    "cosine": Discrete("cosine"),
    "linear": Linear(first=0.001, last=0.999),
    "GVP": Trigonometric(first=0.001, last=0.999),
    "VP": Exponential(last=0.999),
}
KINDS = {"noise": Noise, "score": Score, "data": DataOnPath, "v": Angular, "velocity": VelocityOnPath}
# The flow's own path has its own velocity, and no angle; a discrete path has no rate.
PAIRS = [
    (path, kind)
    for path in PATHS
    for kind in KINDS
    if not (path == "linear" and kind in ("v", "velocity")) and not (path in ("ddpm", "cosine") and kind == "velocity")
]


def predicted(path: str, kind: str) -> PredictedMixture:
    return PredictedMixture(KINDS[kind](PATHS[path]), **MIXTURE)


def points(model: PredictedMixture, dtype: torch.dtype) -> tuple[Tensor, Tensor, Condition]:
    """x where samples are, at times from the model's start to its path's end."""
    count = 1500
    t = torch.linspace(model.start, model.prediction.path.end, count, dtype=torch.float64).to(dtype)
    draw = torch.Generator().manual_seed(0)
    noise, more = torch.randn(2, count, *model.sample_shape, generator=draw, dtype=torch.float64)
    labels = torch.arange(count) % model.num_classes
    data = model.means[labels, labels % 2] + model.std * more
    return torch.lerp(noise, data, append_dims(t.double(), noise)).to(dtype), t, Condition(labels)


@pytest.mark.parametrize(("path", "kind"), PAIRS)
def test_the_velocity_is_the_exact_one(path, kind):
    """In float64; a discrete path differs by the rounding of indices that are nearly whole."""
    model = predicted(path, kind)
    x, t, condition = points(model, torch.float64)
    exact = model.exact(x, t, condition)
    error = ((model(x, t, condition) - exact).abs().max() / exact.abs().max()).item()
    print(f"{path}, {kind}: {error:.1e}")
    assert error < (1e-6 if path in ("ddpm", "cosine") else 1e-8)


@pytest.mark.parametrize(("path", "kind"), PAIRS)
def test_float32_costs_what_the_path_divides_by(path, kind):
    """The rounding of the network's own output is divided by t where it is noise, and by 1 - t where it is data."""
    model = predicted(path, kind)
    x, t, condition = points(model, torch.float32)
    exact = model.exact(x.double(), t.double(), condition)
    error = (model(x, t, condition) - exact).abs().flatten(1).max(1).values
    divisor = {"noise": t, "score": t, "data": 1 - t, "v": torch.ones_like(t), "velocity": t}[kind]
    assert (error * divisor).max() < 4e-6


@pytest.mark.parametrize("betas", ["linear", "cosine"])
def test_the_network_is_given_whole_indices_at_their_times(betas):
    path = Discrete(betas)
    x = torch.zeros(1000, 1, 1, 1)
    _, time = Noise(path).inputs(x, path.times.float())
    assert torch.equal(time, torch.arange(1000).float())
    between = Noise(path).inputs(x[:1], (path.times[600:601] + path.times[601:602]).float() / 2)[1].item()
    assert 600.4 < between < 600.6


@pytest.mark.parametrize("betas", ["linear", "cosine"])
def test_a_discrete_path_has_the_alphas_of_its_betas(betas):
    path = Discrete(betas)
    remaining = torch.from_numpy(alphas_cumprod(path))
    alpha = path.times * path.scale(path.times)
    assert (alpha.square() / remaining - 1).abs().max() < 1e-11


def test_dit_begins_where_its_diffusion_does():
    """Unit noise at index 999, with abar = 4.0e-5, in the flow's time and scale."""
    remaining = alphas_cumprod(Discrete())[-1]
    alpha, sigma = math.sqrt(remaining), math.sqrt(1 - remaining)
    prediction = Noise(Discrete())
    assert remaining == pytest.approx(4.04e-5, rel=0.01)
    assert prediction.start == pytest.approx(alpha / (alpha + sigma), rel=1e-12) == pytest.approx(0.0063, abs=5e-5)
    assert prediction.start_std == pytest.approx(1 / (alpha + sigma), rel=1e-12)


def test_beyond_a_paths_ends_the_velocity_stays():
    """So that Heun's evaluation at t = 1 is finite, and the network is never given a time that it does not know."""
    model = predicted("ddpm", "noise")
    x, condition = torch.ones(2, 1, 2, 2), Condition(torch.tensor([0, 1]))
    for t, end in ((0.0, model.start), (1.0, model.prediction.path.end)):
        beyond, at_end = (model(x, torch.full((2,), time), condition) for time in (t, end))
        assert torch.equal(beyond, at_end) and beyond.isfinite().all()
        assert model.prediction.inputs(x, torch.full((2,), t))[1].unique().item() in (0, 999)


def test_what_sit_was_trained_for():
    assert sit_prediction(path_type="Linear", prediction="velocity") == Velocity()
    assert sit_prediction(path_type="GVP", prediction="velocity").start == 0
    for path_type, kind in (("Linear", "noise"), ("GVP", "score"), ("VP", "velocity"), ("VP", "score")):
        found = sit_prediction(path_type=path_type, prediction=kind)
        assert isinstance(found, OnPath) and found.predicts == kind and 0 < found.start < 0.01
        assert found.path.end < 1
    with pytest.raises(ValueError, match="path_type=linear: choose from Linear, GVP, VP"):
        sit_prediction(path_type="linear", prediction="noise")
    with pytest.raises(ValueError, match="prediction=eps: choose from velocity, noise, score"):
        sit_prediction(path_type="VP", prediction="eps")


def test_predictions_have_identities_of_their_own():
    found = {str(kind(path).identity) for path in PATHS.values() for kind in KINDS.values()}
    assert len(found) == len(PATHS) * len(KINDS)


# Samples.

ONE_CLASS = {"num_classes": 1, "components": 2, "shape": (1, 2, 2), "std": 0.3, "spread": 0.8}


def ddim_in_the_diffusions_own_terms(model: PredictedMixture, x: Tensor, indices: list[int]) -> Tensor:
    """Song et al. 2021, equation 12, without noise: from unit noise x, with the network alone."""
    remaining = np.append(alphas_cumprod(model.prediction.path), 1.0)  # index -1 is the data
    condition = Condition(torch.zeros(len(x), dtype=torch.int64))
    for now, then in zip(indices, [*indices[1:], -1]):
        noise = model.network(x, torch.full((len(x),), float(now), dtype=x.dtype), condition)
        data = (x - math.sqrt(1 - remaining[now]) * noise) / math.sqrt(remaining[now])
        x = math.sqrt(remaining[then]) * data + math.sqrt(1 - remaining[then]) * noise
    return x


def test_ddim_and_the_flow_end_in_the_same_points():
    """The same steps give the same points; other steps of the flow come to them as they get shorter."""
    model, indices = PredictedMixture(Noise(Discrete()), **ONE_CLASS), range(20)

    def end(solver: Solver, schedule: Schedule) -> Tensor:
        made = in_float64(sampler_of(model, solver, schedule=schedule))
        return made.integrate(made.noise(indices), made.condition(indices), indices)

    noise = in_float64(sampler_of(model, Euler())).noise(indices)
    ddim = ddim_in_the_diffusions_own_terms(model, noise, list(range(999, -1, -1)))
    exact = end(RK4(), Uniform(150))
    same = rms(end(Euler(), RespacedDDPM(1000)) - ddim)
    flow = {steps: rms(end(Euler(), Uniform(steps)) - exact) for steps in (125, 250, 500)}
    print(f"same steps {same:.1e}, DDIM {rms(ddim - exact):.1e}, Euler {flow}, data {rms(exact):.2f}")
    assert same < 1e-12
    assert rms(ddim - exact) < 3e-3 and flow[500] < 2e-3
    assert flow[125] / flow[250] == pytest.approx(2, abs=0.1)
    assert flow[250] / flow[500] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("path", ["ddpm", "cosine", "GVP", "VP"])
def test_samples_of_the_mixture(path):
    """Its moments and the shares of its components, within 4 standard errors."""
    model, count = PredictedMixture(Noise(PATHS[path]), **ONE_CLASS), 4000
    made = sampler_of(model, RK4(), steps=40)
    end = made.integrate(made.noise(range(count)), made.condition(range(count)), range(count)).double()
    means = model.means[0].flatten(1)
    nearest = torch.cdist(end.flatten(1), means).argmin(1)
    share = nearest.double().mean().item()
    print(f"{path}: share {share:.3f}", end="")
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(count)
    for component in (0, 1):
        own = end.flatten(1)[nearest == component] - means[component]
        bias, spread = own.mean(0), own.var(0)
        print(f", mean off {bias.abs().max():.4f}, std {spread.mean().sqrt():.4f}", end="")
        assert (bias.abs() < 4.5 * model.std / math.sqrt(len(own))).all()
        assert (spread / model.std**2 - 1).abs().max() < 4.5 * math.sqrt(2 / len(own))
    print()


STRONG = {**MIXTURE, "std": 0.4, "spread": 1.0}  # a mixture on which kinds of guidance differ
SOLVERS = ("euler", "heun", "rk4", "dopri5", "dpmpp_2m", "unipc", "ddim")
GUIDANCES = {
    "cfg": ClassifierFree(scale=1.5),
    "cfg_zero": CFGZero(scale=1.5, zero_init=0),
    "apg": AdaptiveProjected(scale=1.5),
    "interval in t": ClassifierFree(scale=1.5, interval=(0.25, 0.75)),
    "interval in sigma": ClassifierFree(scale=1.5, interval=(0.25, 4.0), interval_in="sigma"),
}


@pytest.fixture(scope="module")
def noise_model() -> PredictedMixture:
    return PredictedMixture(Noise(Discrete()), **STRONG)


@pytest.fixture(scope="module")
def references() -> dict[str, Tensor]:
    """The exact flow from the same start, by a model of velocities."""
    made = {}
    for name, guidance in GUIDANCES.items():
        model = GaussianMixture(**STRONG)
        model.start, model.start_std = Noise(Discrete()).start, Noise(Discrete()).start_std
        solver = replace(Dopri5(), rtol=1e-8, atol=1e-8, max_steps=100_000)
        sampler = in_float64(sampler_of(model, solver, guidance=guidance))
        made[name] = sampler.integrate(sampler.noise(range(6)), sampler.condition(range(6)), range(6))
    assert all(rms(made["cfg"] - made[name]) > 0.02 for name in GUIDANCES if name != "cfg")
    return made


@pytest.mark.parametrize("guidance", GUIDANCES)
@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_and_guidance_runs_on_a_model_of_noise(name, guidance, noise_model, references):
    """And comes to the exact flow. A guided interval has jumps at its ends, which steps miss by a part of one."""
    solver = solver_for_any_model(name)
    if solver.adaptive:
        solver = replace(solver, rtol=1e-6, atol=1e-6)
    made = in_float64(sampler_of(noise_model, solver, steps=100, guidance=GUIDANCES[guidance]))
    end = made.integrate(made.noise(range(6)), made.condition(range(6)), range(6))
    error = rms(end - references[guidance])
    print(f"{name}, {guidance}: {error:.1e}")
    first_order = name in ("euler", "ddim") or "interval" in guidance
    assert error < (0.02 if first_order else 1e-3)


@pytest.mark.parametrize("name", ["euler_maruyama", "ddpm"])
def test_solvers_with_noise_run_on_a_model_of_noise(name, noise_model):
    """The mean of a class within 4.5 standard errors."""
    made = sampler_of(noise_model, solver_for_any_model(name), steps=50, conditioner=Balanced(classes=[1]))
    indices = range(500)
    end = made.integrate(made.noise(indices), made.condition(indices), indices).double()
    bias = (end.mean(0) - noise_model.means[1].mean(0)).abs()
    assert (bias < 4.5 * end.std(0) / math.sqrt(len(end))).all()
