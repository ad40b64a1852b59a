"""torchdiffeq's adaptive solvers: one step size for a batch, counted steps, and ends that cannot be reached."""

from __future__ import annotations

import math

import pytest
import torch

from ditexp.guidance.cfg import ClassifierFree
from ditexp.model.analytic import GaussianMixture
from ditexp.solver.torchdiffeq import METHODS, Torchdiffeq
from tests.helpers.fields import Field
from tests.helpers.samplers import sampler_of

OSCILLATOR = Field(lambda x, t: 5 * torch.stack([x[:, 1], -x[:, 0]], dim=1))  # turns x by 5 radians until t = 1
X0 = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
END = X0 @ torch.tensor([[math.cos(5), -math.sin(5)], [math.sin(5), math.cos(5)]], dtype=torch.float64)


@pytest.mark.parametrize("method", METHODS)
def test_it_follows_the_flow(method):
    found = Torchdiffeq(method=method, rtol=1e-6, atol=1e-8, max_steps=20_000).integrate(OSCILLATOR, X0, [0.0, 1.0])
    assert (found.x - END).abs().max() < 3e-3  # fehlberg2 is of order 2
    assert len(set(found.accepted)) == 1 and len(found.accepted) == len(found.rejected) == 2


def test_a_sample_depends_on_its_batch():
    solver = Torchdiffeq()
    together = solver.integrate(OSCILLATOR, torch.cat([X0, 100 * X0]), [0.0, 1.0]).x[:2]
    assert not torch.equal(together, solver.integrate(OSCILLATOR, X0, [0.0, 1.0]).x)


def test_every_evaluation_is_counted():
    """With guidance of some channels, both halves are evaluated, but only the first is sampled."""
    model = GaussianMixture(num_classes=3, components=2, shape=(4, 2, 2), std=0.3)
    guidance = ClassifierFree(scale=2.0, guided_channels=3, interval=(0.2, 0.9))
    sampler = sampler_of(model, Torchdiffeq(), guidance=guidance)
    x, indices = sampler.noise(range(3)), range(3)
    end = sampler.integrate(x, sampler.condition(indices), indices)
    cost = sampler.take_cost()
    steps = sum(number * count for number, count in (cost.accepted + cost.rejected).items()) / 3
    assert end.shape == x.shape
    assert cost.velocity_rows == 3 * (2 + 6 * steps) and cost.network_rows == 2 * cost.velocity_rows


def test_too_few_steps_are_an_error():
    with pytest.raises(ArithmeticError, match=r"after 3 steps \(solver.max_steps=3\)"):
        Torchdiffeq(max_steps=3).integrate(OSCILLATOR, X0, [0.0, 1.0])


def test_a_state_that_is_not_finite_is_an_error():
    broken = Field(lambda x, t: x.where(t[:, None] < 0.5, torch.nan))
    with pytest.raises(FloatingPointError, match="NaN or Inf at t = 0"):
        Torchdiffeq().integrate(broken, X0, [0.0, 1.0])


def test_a_projection_is_refused():
    with pytest.raises(ValueError, match="does not support a projection"):
        Torchdiffeq().integrate(OSCILLATOR, X0, [0.0, 1.0], project=lambda x, t: x)
