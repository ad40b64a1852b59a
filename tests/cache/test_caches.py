"""Caches on the digits model and on blocks whose branches are known functions of time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ditexp.cache.base import Periodic
from ditexp.cache.delta import Delta
from ditexp.cache.fora import FORA
from ditexp.cache.taylorseer import TaylorSeer
from ditexp.cache.work import Multiplications, share_of_work
from ditexp.core import Walk
from ditexp.data import Digits
from ditexp.guidance.autoguidance import Autoguidance
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.none import NoGuidance
from ditexp.model.analytic import GaussianMixture
from ditexp.model.dit import DiT
from ditexp.model.layers import BlockOptions
from ditexp.model.prediction import Velocity
from ditexp.model.pretrained import PretrainedDiT
from ditexp.sampler import Sampler
from ditexp.schedule.shift import Shift
from ditexp.solver.dopri5 import Dopri5
from ditexp.solver.euler import Euler
from ditexp.solver.heun import Heun
from ditexp.task.inpaint import Inpaint
from ditexp.values import Condition
from tests.helpers.components import component
from tests.helpers.networks import tiny_dit
from tests.helpers.paths import WEIGHTS
from tests.helpers.refusals import refused
from tests.helpers.results import cell, table_of
from tests.helpers.samplers import sampler_of

METHODS: dict[str, Callable[..., Periodic]] = {"fora": FORA, "taylorseer": partial(TaylorSeer, order=2), "delta": Delta}
every_method = pytest.mark.parametrize("method", METHODS)
INDICES = range(3)
INTERVAL = ClassifierFree(weight=1.0, interval=(0.3, 0.8))


@pytest.fixture(scope="module")
def model() -> PretrainedDiT:
    return PretrainedDiT(checkpoint=str(WEIGHTS / "digits_dit.safetensors"))


def drawn(sampler: Sampler, indices: Sequence[int] = INDICES) -> Tensor:
    return sampler.samples(indices)[0]


def around(network: DiT) -> PretrainedDiT:
    """A model of a network that was not read from a file."""
    model = PretrainedDiT.__new__(PretrainedDiT)
    model.network, model.prediction, model.sample_shape = network, Velocity(), (3, 6, 6)
    return model


def forwards(sampler: Sampler) -> float:
    """Of one sample, counted where it is drawn."""
    sampler.take_cost()
    drawn(sampler)
    return sampler.take_cost().network_rows / len(INDICES)


@every_method
@pytest.mark.parametrize("guidance", [NoGuidance(), INTERVAL], ids=["unguided", "interval"])
def test_with_interval_1_nothing_changes(method, guidance, model):
    plain = sampler_of(model, Heun(), guidance=guidance)
    cached = sampler_of(model, Heun(), guidance=guidance, cache=METHODS[method](interval=1))
    assert torch.equal(drawn(plain), drawn(cached))
    assert forwards(cached) == forwards(plain) and isinstance(forwards(cached) * len(INDICES), float | int)


def test_taylorseer_of_order_0_is_fora(model):
    zero, fora = (sampler_of(model, Euler(), steps=9, cache=cache) for cache in (TaylorSeer(order=0), FORA(first=2)))
    first = sampler_of(model, Euler(), steps=9, cache=TaylorSeer(order=1))
    assert torch.equal(drawn(zero), drawn(fora)) and not torch.equal(drawn(first), drawn(fora))


@every_method
def test_a_batch_remembers_nothing_of_another(method, model):
    sampler = sampler_of(model, Euler(), steps=8, guidance=INTERVAL, cache=METHODS[method]())
    once = drawn(sampler)
    drawn(sampler, range(7, 10))
    assert torch.equal(drawn(sampler), once)


class Known(nn.Module):
    """A block with one branch, whose output at the evaluation's time is set from outside; it counts how it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.output, self.computations = torch.zeros(()), 0

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.computed(x, c)[0]

    def computed(self, x: Tensor, c: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        self.computations += 1
        return x + c * self.output, (self.output,)

    def completed(self, x: Tensor, c: Tensor, branches: Sequence[Tensor]) -> Tensor:
        return x + c * branches[0]


class Blocks:
    """As much of a model as a cache's state knows."""

    def __init__(self, depth: int = 1) -> None:
        self.blocks = nn.ModuleList(Known() for _ in range(depth))

    def network_time(self, t: float) -> float:
        return 3 - 5 * t

    def walked(self, walk: Walk, output: Tensor, c: float = 2.0) -> Tensor:
        x = torch.ones(1, 1, 1, dtype=torch.float64)
        for number, block in enumerate(self.blocks):
            block.output = output
            x = walk(number, block, x, torch.tensor(c, dtype=torch.float64))
        return x


def worst_error(cache: Periodic, times: Sequence[float], function: Callable[[float], float], after: int) -> float:
    """The largest error of a branch that is this function of time, from evaluation number `after` on."""
    blocks: Any = Blocks()
    state, errors = cache.begin(blocks), []
    for number, t in enumerate(times):
        exact = torch.tensor([[[function(t)]]], dtype=torch.float64)
        found = blocks.walked(state.evaluation(t, 1), exact)
        if number >= after:
            errors.append(abs(float(found - 1 - 2 * exact)))
    return max(errors)


@pytest.mark.parametrize("grid", ["even", "uneven", "backwards"])
@pytest.mark.parametrize(("order", "extrapolation"), [(1, "taylor"), (1, "newton"), (2, "newton"), (3, "newton")])
def test_a_polynomial_in_time_is_extrapolated_exactly(order, extrapolation, grid):
    times = [i / 20 for i in range(21)] if grid == "even" else [(i / 20) ** 2 for i in range(21)]
    times = [1 - t for t in times] if grid == "backwards" else times
    cache = TaylorSeer(order=order, extrapolation=extrapolation)
    known = 1 + 3 * order  # evaluations until order + 1 of them were full: 0, 1, 4, 7, ...
    errors = [worst_error(cache, times, lambda t, d=d: (1.5 - t) ** d, known) for d in (order, order + 1)]
    assert errors[0] < 1e-12 < 1e-5 < errors[1]


def test_taylor_takes_differences_as_derivatives():
    """As published. At t = 2, 1 and 0 steps ago f = t^2 has D_1 = 1 / 1 and D_2 = 2: one step on, 0 + (-1) + 1."""
    blocks: Any = Blocks()
    state = TaylorSeer(order=2, first=3, interval=2).begin(blocks)
    for steps_ago in (2, 1, 0):
        blocks.walked(state.evaluation(-steps_ago / 5, 1), torch.tensor([[[float(steps_ago) ** 2]]]).double())
    found = blocks.walked(state.evaluation(1 / 5, 1), torch.tensor(torch.nan), c=1.0)
    assert float(found) == pytest.approx(1 + 0 - 1 + 1)  # and not 1 + 1, the value of f


@pytest.mark.parametrize("extrapolation", ["taylor", "newton"])
def test_evaluations_at_one_time_do_not_divide_by_zero(extrapolation):
    times = [0, 0, 0.1, 0.1, 0.1 + 1e-9, 0.2, 0.2, 0.1, 0.3, 0.3, 0.3]
    cache = TaylorSeer(order=3, interval=2, first=3, extrapolation=extrapolation)
    assert worst_error(cache, times, lambda t: 1 + t, 3) < 1e-6


@pytest.mark.parametrize(
    ("solver", "stages", "steps"), [("euler", 1, 12), ("heun", 2, 6), ("rk4", 4, 3), ("ab2", 1, 12), ("unipc", 1, 12)]
)
def test_evaluations_count_as_the_share_that_they_compute(solver, stages, steps, model):
    """0, 1, 4, 7 and 10 of 12 are full, whatever the solver makes of them; the plan counts what sampling counts."""
    cache = TaylorSeer()
    sampler = sampler_of(model, component("solver", solver), schedule=Shift(steps, shift=2), cache=cache)
    share = share_of_work(cache, model, torch.zeros(1, 1, 8, 8), Condition(torch.zeros(1, dtype=torch.int64)))
    plan = sampler.evaluations()
    assert plan is not None and plan[0] == stages * steps == 12
    assert plan[1] == pytest.approx(5 + 7 * share) == forwards(sampler)
    assert 0 < share < 0.1


def test_rows_that_guidance_adds_are_computed_in_full(model):
    """10 steps guided from t = 0.3 to 0.8: 3, 5 and 2 evaluations, each part beginning with a full one."""
    cache = FORA(interval=4)
    sampler = sampler_of(model, Euler(), steps=10, guidance=INTERVAL, cache=cache)
    share = share_of_work(cache, model, torch.zeros(1, 1, 8, 8), Condition(torch.zeros(1, dtype=torch.int64)))
    assert forwards(sampler) == pytest.approx(1 + 2 * share + 2 * (2 + 3 * share) + 1 + share)


def test_the_weaker_model_is_not_cached(model):
    guidance = Autoguidance(weight=1.0, weak=PretrainedDiT(checkpoint=str(WEIGHTS / "digits_dit.safetensors")))
    sampler = sampler_of(model, Euler(), steps=4, guidance=guidance, cache=FORA(interval=4))
    assert 4 + 1 < forwards(sampler) < 4 + 1 + 3 * 0.1


def test_the_share_is_the_operations_of_the_layers_that_are_computed():
    model = around(tiny_dit(depth=3))
    width, tokens, patch = 24, 9, 12
    timestep = 256 * width + width * width
    ends = timestep + tokens * patch * width + 2 * width * width + tokens * width * patch
    modulation, mlp = 6 * width * width, 8 * width * width
    attention = 4 * width * width + 2 * tokens * width
    block = modulation + tokens * (attention + mlp)
    full = ends + 3 * block
    x, condition = torch.zeros(2, 3, 6, 6), Condition(torch.zeros(2, dtype=torch.int64))
    assert share_of_work(FORA(), model, x, condition) == pytest.approx((ends + 3 * modulation) / full)
    assert share_of_work(Delta(blocks=2), model, x, condition) == pytest.approx((ends + block) / full)


JIT: dict[str, Any] = {"rope": True, "bottleneck": 5, "in_context_tokens": 3, "in_context_start": 1}
JIT["options"] = BlockOptions(norm="rms", qk_norm="rms", mlp="swiglu", float32_logits=True)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, JIT], ids=["dit", "jit"])
def test_multiplications_are_counted_as_torch_counts_them(changes):
    from torch.utils.flop_counter import FlopCounterMode

    network, labels = tiny_dit(**changes), torch.zeros(2, dtype=torch.int64)
    with FlopCounterMode(display=False) as torchs:
        network(torch.zeros(2, 3, 6, 6), torch.zeros(2), labels)
    with Multiplications() as ours:
        network(torch.zeros(2, 3, 6, 6), torch.zeros(2), labels)
    assert 2 * ours.count == torchs.get_total_flops()


@pytest.mark.parametrize("cache", [FORA(), TaylorSeer(order=2), Delta(blocks=2)], ids=METHODS)
def test_in_context_tokens_are_cached_with_the_others(cache):
    """JiT's join after the first block. Where nothing changes in time, reused outputs are the computed ones."""
    network = tiny_dit(depth=3, **JIT)
    state = cache.begin(around(network))
    x, t = torch.randn(2, 3, 6, 6), torch.full((2,), 0.3)
    labels = torch.tensor([1, 4])
    with torch.no_grad():
        expected = network(x, t, labels)
        walks = []
        for time in (0.2, 0.21, 0.22, 0.7, 0.71, 0.72):
            walks.append(state.evaluation(time, 2))
            assert torch.allclose(network(x, t, labels, walks[-1]), expected, atol=1e-5)
    assert sum(not walk.is_full for walk in walks) >= 2


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "adaptive": ({"solver": Dopri5()}, ("cache: FORA", "Dopri5", "cache=none")),
    "no blocks": ({"model": GaussianMixture()}, ("cache: FORA", "GaussianMixture", "cache=none")),
    "too many blocks": ({"cache": Delta(blocks=5)}, ("cache.blocks=5", "has 4")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_cached_is_refused(name, model):
    changes, words = REFUSED[name]
    with refused(words):
        sampler_of(**{"model": model, "solver": Euler(), "cache": FORA()} | changes)


def test_repainting_step_by_step_is_refused(model):
    sampler = sampler_of(model, Euler(), task=Inpaint(data=Digits(), passes=2), cache=FORA())
    with refused(("task.passes=2", "cache=none", "task.passes=1")):
        sampler.task.check(sampler)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FORA(interval=0), ("cache.interval=0", "at least 1")),
        (lambda: TaylorSeer(order=-1), ("cache.order=-1", "at least 0")),
        (lambda: TaylorSeer(extrapolation="linear"), ("cache.extrapolation=linear", "newton")),
        (lambda: Delta(boundary=2), ("cache.boundary=2", "at most 1")),
        (lambda: Delta(blocks=0), ("cache.blocks=0", "at least 1")),
    ],
)
def test_settings_are_checked(make, words):
    with refused(words):
        make()


def test_delta_skips_rear_blocks_first_and_front_blocks_later():
    blocks: Any = Blocks(depth=4)
    state = Delta(interval=3, blocks=3, boundary=0.5).begin(blocks)
    computed = []
    for t in (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9):
        blocks.walked(state.evaluation(t, 1), torch.ones(()))
        computed.append([block.computations for block in blocks.blocks])
    every = [[1, 1, 1, 1], [2, 1, 1, 1], [3, 1, 1, 1], [4, 2, 2, 2], [5, 2, 2, 2]]  # t = 0 and 0.3 are full
    assert computed == [*every, [6, 3, 3, 3], [6, 3, 3, 4], [6, 3, 3, 5], [7, 4, 4, 6]]  # so are 0.6 and 0.9


def test_a_table_says_that_forwards_are_fractional():
    old, cached = cell(steps=20), cell(steps=40)
    cached["settings"]["cache"] = "fora"
    cached["cost"]["forwards"] = 17.25
    assert "fractional" not in str(table_of([old]).caption)
    table = table_of([old, cached])
    (column,) = (column for column in table.columns if column.name == "cache")
    assert sorted(column.values) == ["fora", "none"]  # an older result, whose settings have no cache, had none
    assert sum("fractional" in line for line in table.caption) == 1
