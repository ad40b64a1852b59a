"""DDPM and DDIM: DiT's own coefficients and grid, and what both methods have in common with others.

Whole samples of DiT's code are in tests/golden/test_samples.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ditexp.condition.labels import Balanced
from ditexp.guidance.apg import AdaptiveProjected
from ditexp.guidance.autoguidance import Autoguidance
from ditexp.guidance.base import Guided
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.cfg_zero import CFGZero
from ditexp.guidance.rescaled import Rescaled
from ditexp.model.analytic import GaussianMixture
from ditexp.model.paths import Discrete
from ditexp.model.positions import sincos_position_embedding
from ditexp.model.prediction import Noise
from ditexp.model.pretrained import PretrainedDiT
from ditexp.pixels import Undecoded
from ditexp.sampler import Sampler
from ditexp.schedule.ddpm import RespacedDDPM, evenly_spaced
from ditexp.solver.ddim import DDIM
from ditexp.solver.ddpm import DDPM, shares, variance_ratio
from ditexp.solver.euler import Euler
from tests.golden.noise import normal
from tests.golden.weights import drawn
from tests.helpers.fields import Field
from tests.helpers.samplers import sampler_of

GOLDEN = Path(__file__).parents[1] / "golden" / "dit" / "samples.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files if name != "facts"}


with np.load(GOLDEN) as archive:
    FACTS: dict[str, Any] = json.loads(archive["facts"].item())
SHAPE = (len(FACTS["labels"]), 4, 8, 8)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> PretrainedDiT:
    """The network of the golden file, from a file like the released one."""
    width, side = FACTS["network"]["hidden_size"], FACTS["network"]["input_size"] // FACTS["network"]["patch_size"]
    path = tmp_path_factory.mktemp("dit") / "DiT.pt"
    torch.save({**drawn(FACTS["shapes"]), "pos_embed": sincos_position_embedding(width, side)}, path)
    return PretrainedDiT(checkpoint=str(path), family="dit", num_heads=FACTS["network"]["num_heads"])


def sampler(model, solver, *, steps: int, **parts) -> Sampler:
    parts = {"vae": Undecoded(), "conditioner": Balanced(classes=FACTS["labels"])} | parts
    return sampler_of(model, solver, schedule=RespacedDDPM(steps), **parts)


def test_the_posterior_has_dits_coefficients(golden):
    """Of the respaced chain of 250 steps, from the flow's times: those of x_1 and x, and both ends of the variance."""
    grid = [Noise(Discrete()).start, *RespacedDDPM(250).grid().tolist()[1:]]
    found = {name: [] for name in ("posterior_mean_coef1", "posterior_mean_coef2", "betas", "posterior_variance")}
    for t0, t1 in reversed(list(pairwise(grid[:-1]))):  # without the step to t = 1, by rising index
        (kept, renewed), n0, n1 = shares(t0, t1), np.hypot(t0, 1 - t0), np.hypot(t1, 1 - t1)
        small = ((1 - t1) * renewed / n1) ** 2
        found["posterior_mean_coef1"].append(t1 * renewed**2 / n1)
        found["posterior_mean_coef2"].append((1 - t1) / (1 - t0) * kept * n0 / n1)
        found["posterior_variance"].append(small)
        found["betas"].append(small * variance_ratio(t0, t1))
    for name, ours in found.items():
        error = (torch.tensor(ours, dtype=torch.float64) - golden[name][1:]).abs().max().item()
        print(f"{name}: {error:.1e}")
        assert error < 1e-12


@pytest.mark.parametrize("index", [249, 125, 1])
def test_one_step_has_dits_mean_and_variance(index, model, golden):
    """From the same x: the mean to float32, the interpolated variance of each element by what the noise adds."""
    made = sampler(model, DDPM(), steps=250)
    t0, t1 = made.grid[249 - index], made.grid[250 - index]
    x = normal("dit, one step", SHAPE) * np.hypot(t0, 1 - t0)
    with torch.inference_mode():
        output = made.field(made.condition(range(3)))(x, torch.full((3,), t0)).double()

    def step(noise: float) -> Tensor:
        field = Field(lambda x, t: output)
        return made.solver.integrate(field, x.double(), [t0, t1], noise=lambda step: torch.full_like(x, noise)).x

    mean, scale = step(0.0), np.hypot(t1, 1 - t1)
    log_variance = 2 * ((step(1.0) - mean) / scale).log()
    assert (mean / scale - golden[f"mean_{index}"]).abs().max() < 2e-6 * golden[f"mean_{index}"].abs().max()
    assert (log_variance - golden[f"log_variance_{index}"]).abs().max() < 2e-5
    if index < 249:  # where both ends of the variance are nearly equal
        assert log_variance.std() > 1e-3  # it differs from element to element


# The grid.


def test_the_network_is_evaluated_at_dits_timesteps(model, golden):
    """The first and last five of 250, as whole numbers and in float32, as a solver gives the times."""
    made = sampler(model, DDPM(), steps=250)
    x = torch.zeros(1, 1, 1, 1)
    met = [model.prediction.inputs(x, torch.tensor([t]))[1].item() for t in made.grid[:-1]]
    assert met == golden["timesteps"].flip(0).tolist()
    assert met[:5] == [999, 995, 991, 987, 983] and met[-5:] == [16, 12, 8, 4, 0]


def test_respaced_indices_are_dits(golden):
    """Among them some of the 283 numbers of steps where the sum of a stride falls on the other side of a half."""
    respaced, start = golden["respaced"].tolist(), 0
    differ = []
    for steps in FACTS["respacings"]:
        assert evenly_spaced(1000, steps) == respaced[start : start + steps]
        if steps > 1 and respaced[start : start + steps] != [round(k * 999 / (steps - 1)) for k in range(steps)]:
            differ.append(steps)
        start += steps
    assert start == len(respaced) and {21, 23, 27} <= set(differ)


def test_strides():
    assert RespacedDDPM(50, spacing="stride").indices() == list(range(0, 1000, 20))
    assert RespacedDDPM(334, spacing="stride").indices() == list(range(0, 1000, 3))
    assert RespacedDDPM(1, spacing="stride").indices() == [0] == RespacedDDPM(1).indices()
    with pytest.raises(ValueError, match=r"steps=60: .* choose steps=59 or 63, or schedule.spacing=even"):
        RespacedDDPM(60, spacing="stride")
    with pytest.raises(ValueError, match=r"schedule.spacing=ddim: choose from even, stride"):
        RespacedDDPM(50, spacing="ddim")


# Both methods among the others.


@pytest.fixture(scope="module")
def mixture() -> GaussianMixture:
    return GaussianMixture(num_classes=1, components=2, shape=(1, 2, 2), std=0.3, spread=0.8)


def drawn_samples(mixture, solver, *, count: int, steps: int, dtype=torch.float32) -> Tensor:
    made = sampler_of(mixture, solver, steps=steps)
    condition = made.condition(range(count))
    return made.integrate(made.noise(range(count)).to(dtype), condition, range(count))


def test_ddim_without_noise_is_euler(mixture):
    found, euler = (drawn_samples(mixture, solver, count=8, steps=20) for solver in (DDIM(), Euler()))
    assert torch.equal(found, euler)
    assert not DDIM().stochastic and DDIM(eta=0.1).stochastic


def test_ddim_with_all_noise_is_ddpm(mixture):
    solvers = (DDIM(eta=1.0), DDPM("fixed_small"))
    found, ddpm = (drawn_samples(mixture, solver, count=8, steps=20, dtype=torch.float64) for solver in solvers)
    assert (found - ddpm).abs().max() < 1e-12


@pytest.mark.parametrize("solver", [DDPM("fixed_small"), DDIM(eta=0.5)], ids=["ddpm", "ddim"])
def test_a_flow_is_sampled_too(solver, mixture):
    """From t = 0: the shares of both components, their means and spreads, within 4.5 standard errors."""
    count = 600
    end = drawn_samples(mixture, solver, count=count, steps=60).double().flatten(1)
    means = mixture.means[0].flatten(1)
    nearest = torch.cdist(end, means).argmin(1)
    assert abs(nearest.double().mean() - 0.5) < 4.5 * 0.5 / count**0.5
    for component in (0, 1):
        own = end[nearest == component] - means[component]
        assert (own.mean(0).abs() < 4.5 * mixture.std / len(own) ** 0.5).all()
        assert (own.var(0) / mixture.std**2 - 1).abs().max() < 4.5 * (2 / len(own)) ** 0.5


def test_noise_belongs_to_the_sample(mixture):
    made = sampler_of(mixture, DDPM("fixed_small"), steps=5)
    together = made.integrate(made.noise(range(4)), made.condition(range(4)), range(4))
    alone = made.integrate(made.noise([2]), made.condition([2]), [2])
    assert torch.equal(together[2:3], alone)


def test_learned_variance_is_refused_where_there_is_none(mixture):
    with pytest.raises(ValueError, match=r"solver.variance=learned needs .* choose solver.variance=fixed_small"):
        sampler_of(mixture, DDPM())


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: DDPM("large"), "solver.variance=large: choose from learned, fixed_small, fixed_large"),
        (lambda: DDIM(eta=1.5), "solver.eta=1.5: give a number of at least 0 and of at most 1"),
        (lambda: DDPM("fixed_small").integrate(Field(lambda x, t: x), torch.ones(1, 1), [0.0, 1.0]), "adds noise"),
    ],
)
def test_what_cannot_be(make, line):
    with pytest.raises(ValueError, match=line):
        make()


# Guidance, counts and first uses with a variance.

KINDS: dict[str, Callable[[PretrainedDiT], Guided]] = {
    "cfg": lambda weak: ClassifierFree(weight=1.0),
    "three channels": lambda weak: ClassifierFree(weight=1.0, guided_channels=3),
    "interval": lambda weak: ClassifierFree(weight=1.0, interval=(0.2, 0.6)),
    "cfg_zero": lambda weak: CFGZero(weight=1.0, zero_init=0),
    "apg": lambda weak: AdaptiveProjected(weight=1.0),
    "rescaled": lambda weak: Rescaled(weight=1.0),
    "autoguidance": lambda weak: Autoguidance(weight=1.0, weak=weak),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [0.1, 0.5])
def test_guidance_leaves_the_variance_conditional(kind, t, model):
    """And the velocity beside it is that of a solver that needs no variance."""
    guidance, x, times = KINDS[kind](model), normal("x", SHAPE), torch.full((3,), t)
    both, velocity, plain = (
        made.field(made.condition(range(3)))(x, times)
        for made in (
            sampler(model, DDPM(), steps=4, guidance=guidance),
            sampler(model, Euler(), steps=4, guidance=guidance),
            sampler(model, DDPM(), steps=4),
        )
    )
    assert both.shape == (3, 8, 8, 8) and velocity.shape == SHAPE
    assert torch.equal(both[:, :4], velocity)
    torch.testing.assert_close(both[:, 4:], plain[:, 4:], rtol=1e-4, atol=1e-5)  # of another size of batch


def test_what_it_costs_is_known_and_rehearsed(model):
    made = sampler(model, DDPM(), steps=4, guidance=ClassifierFree(weight=1.0))
    assert made.evaluations() == (4, 8)
    made = sampler(model, DDPM(), steps=4, guidance=ClassifierFree(weight=1.0), vae=Halves())
    made.prepare(3)
    images, _ = made.images(range(3))
    assert images.shape == (3, 3, 8, 8)
    cost = made.take_cost()
    assert (cost.velocity_rows, cost.network_rows) == (12, 24)


class Halves(Undecoded):
    """A VAE whose images are the first three channels of latents."""

    image_shape = (8, 8, 3)

    def codec(self, sample_shape):
        return self

    def decode(self, x: Tensor) -> Tensor:
        return x[:, :3] / 2
