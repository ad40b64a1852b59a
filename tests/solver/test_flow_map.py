"""Jumps of models of two times, against a flow map that is known exactly."""

from __future__ import annotations

import pytest
import torch

from ditexp.binding import bind
from ditexp.cache.fora import FORA
from ditexp.condition.labels import Balanced
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.none import NoGuidance
from ditexp.model.analytic import GaussianMixture
from ditexp.schedule.shift import Shift
from ditexp.schedule.uniform import Uniform
from ditexp.solver.dopri5 import Dopri5
from ditexp.solver.flow_map import FlowMapJumps
from ditexp.solver.heun import Heun
from ditexp.task.generate import Generate
from tests.helpers.flow_maps import GaussianFlowMap
from tests.helpers.refusals import refused


def sampler(**changes):
    parts = {
        "model": GaussianFlowMap(),
        "solver": FlowMapJumps(),
        "schedule": Uniform(steps=1),
        "guidance": NoGuidance(),
        "conditioner": Balanced(),
        "task": Generate(),
        "seed": 0,
        "device": torch.device("cpu"),
    }
    return bind(**{**parts, **changes})


@pytest.mark.parametrize("schedule", [Uniform(steps=1), Uniform(steps=2), Shift(steps=4, shift=3.0)], ids=str)
def test_an_exact_map_jumps_to_the_end_of_the_exact_flow(schedule):
    jumps = sampler(schedule=schedule)
    found, _ = jumps.samples(range(20))
    exact = sampler(model=GaussianMixture(components=1), solver=Dopri5(rtol=1e-7, atol=1e-7))
    torch.testing.assert_close(found, exact.samples(range(20))[0], rtol=0, atol=2e-5)
    cost = jumps.take_cost()
    assert (cost.velocity_rows, cost.network_rows) == (20 * schedule.steps, 20 * schedule.steps)
    assert jumps.evaluations() == (schedule.steps, schedule.steps)


def test_what_is_prepared_and_padded_is_the_same():
    found = sampler(schedule=Uniform(steps=2), compile="max")
    found.network.compile = False
    found.load(8)
    found.prepare(8)
    torch.testing.assert_close(found.images(range(5))[0], sampler(schedule=Uniform(steps=2)).images(range(5))[0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": GaussianMixture()}, ["solver=flow_map", "GaussianMixture has one", "solver=heun"]),
        ({"solver": Heun()}, ["model of two times", "not for Heun", "solver=flow_map"]),
        ({"cache": FORA(interval=2)}, ["cache", "cache=none"]),
    ],
)
def test_what_does_not_fit_is_refused(changes, words):
    with refused(words):
        sampler(**changes)


def test_guidance_beside_the_network_s_own_is_refused():
    with refused(["ClassifierFree", "GaussianFlowMap", "inside the network", "guidance=none"]):
        ClassifierFree(scale=2).check(GaussianFlowMap())
