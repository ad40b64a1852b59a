"""The network as a sampler evaluates it: counted, at its precision, with every first use before the clock starts.

The first use of a network at a new shape of its inputs is slow, above all because of compilation. Fixed steps evaluate
the same shapes in every batch. The batch of an adaptive solver shrinks to any size as samples arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ditexp.allocation import keep_freed_memory
from ditexp.cache.work import walks
from ditexp.core import Cache, EvaluatedModel, FlowMapModel, FlowModel, TransformerModel, VarianceModel, Walk
from ditexp.evaluated import compiled_whole, evaluated
from ditexp.meter import Meter
from ditexp.precision import PRECISIONS, Precision
from ditexp.values import Condition, times_of

# Of x, t and a condition, and of a walk through the blocks, or the second time (B,), if there is one.
Forward = Callable[..., Tensor]


@dataclass(eq=False)
class Network:
    """A FlowModel as guidance evaluates it: the meter counts each evaluation, which runs at the chosen precision.

    compile: one of COMPILE in ditexp/precision.py; a compiled network is evaluated at few batch sizes. adaptive:
    whether batches shrink, because the solver is adaptive. with_variance: it returns the output of the model's variance
    head, too, (B, 2 C, H, W).
    """

    model: FlowModel
    meter: Meter
    precision: Precision = PRECISIONS["fp32"]
    compile: bool | str = False
    adaptive: bool = False
    with_variance: bool = False
    of_two_times: bool = False
    forward: Forward = field(init=False)
    batch_size: int | None = field(init=False, default=None)  # None before `load`
    others: dict[int, Network] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.forward = self.evaluation_of(self.model)

    def load(self, batch_size: int) -> None:
        """Move the model to the device; if asked for, compile it at its first use. batch_size: of a whole batch."""
        self.batch_size, self.others = batch_size, {}
        if self.meter.device.type == "cpu":
            keep_freed_memory()
        self.place(self.compile)
        if self.compile:
            self.forward = Padded(compiled_whole(self.forward) if self.compile == "max" else self.forward, batch_size)

    def place(self, compile: bool | str = False) -> None:
        """Move the model to the device, with its matrices at the precision."""
        ready = evaluated(self.model, precision=self.precision, compile=compile, device=self.meter.device)
        self.forward = self.evaluation_of(ready)

    def evaluation_of(self, model: FlowModel) -> Forward:
        """The method of a model that is evaluated."""
        if self.of_two_times:
            assert isinstance(model, FlowMapModel), "bind checks it"
            return model.average_velocity
        if self.with_variance:
            assert isinstance(model, VarianceModel), "bind checks it"
            return model.velocity_and_variance
        return model.__call__

    def __call__(
        self,
        x: Tensor,
        t: float | Tensor,
        condition: Condition,
        walk: Walk | None = None,
        share: float = 1,
        *,
        until: float | Tensor | None = None,
    ) -> Tensor:
        """walk: computes the blocks of a transformer in place of themselves. share: of an evaluation that it does."""
        self.meter.cost.network_rows += share * len(x)
        given = (*(() if until is None else (times_of(x, until),)), *(() if walk is None else (walk,)))
        return self.evaluate(x, times_of(x, t), condition, *given)

    def evaluate(self, x: Tensor, t: Tensor, condition: Condition, *given: Tensor | Walk) -> Tensor:
        """An evaluation without its count. given: see Forward."""
        # Only the network runs in low precision: the state x stays float32, or small steps would be lost.
        dtype = self.precision.dtype
        with torch.autocast(self.meter.device.type, dtype=dtype, enabled=dtype != torch.float32):
            return self.forward(x, t, condition, *given).to(x.dtype)

    def null(self, condition: Condition) -> Condition:
        return self.model.null(condition)

    def beside(self, model: FlowModel) -> Network:
        """A second model, evaluated in the same way, without a variance, and counted together with this one."""
        if id(model) not in self.others:
            other = replace(self, model=model, with_variance=False)
            if self.batch_size is not None:
                other.load(self.batch_size)
            self.others[id(model)] = other
        return self.others[id(model)]

    def zeros(self, x: Tensor) -> Tensor:
        """What it returns for x, all zero."""
        return torch.cat([torch.zeros_like(x)] * (2 if self.with_variance else 1), dim=1)

    def slow_sizes(self, largest: int) -> Iterable[int]:
        """The batch sizes up to `largest` that an adaptive solver may shrink a batch to, if their first use is slow.

        It is slow with torch.compile, and in low precision on a CPU, where kernels are made for each size: 14 ms a size
        for `digits`, as long as an evaluation. In float32 a new size takes 0.4 ms there, in all less than 1 % of a
        batch's seconds.
        """
        if not self.adaptive:
            return ()
        if isinstance(self.forward, Padded):
            return self.forward.sizes(largest)
        low_precision = self.meter.device.type == "cpu" and self.precision.dtype != torch.float32
        return range(1, largest + 1) if low_precision else ()


@dataclass(eq=False)
class Still(Network):
    """Counts evaluations without making them: the velocity is zero, and samples stay where they are."""

    def evaluate(self, x: Tensor, t: Tensor, condition: Condition, *given: Tensor | Walk) -> Tensor:
        return self.zeros(x)


@dataclass(frozen=True)
class Padded:
    """A network that is evaluated at few batch sizes: each batch is filled up with copies of its last sample.

    full: the batch size of the run. The sizes are this, twice this (with guidance's second half) and powers of two.
    """

    network: Forward
    full: int

    def __call__(self, x: Tensor, t: Tensor, condition: Condition, *given: Tensor | Walk) -> Tensor:
        if (size := self.size(len(x))) == len(x):
            return self.network(x, t, condition, *given)
        rows = torch.arange(size, device=x.device).clamp(max=len(x) - 1)
        filled = (each[rows] if isinstance(each, Tensor) else each for each in given)
        return self.network(x[rows], t[rows], condition.take(rows), *filled)[: len(x)]

    def size(self, count: int) -> int:
        """The smallest size that holds `count` samples. Size 1 is avoided, since torch compiles it separately."""
        power_of_two = max(2, 1 << (count - 1).bit_length())
        return min(size for size in (self.full, 2 * self.full, power_of_two) if size >= count)

    def sizes(self, largest: int) -> list[int]:
        """All sizes that batches of 1 to `largest` samples are filled up to."""
        return sorted({self.size(count) for count in range(1, largest + 1)})


class Rehearsal:
    """Samples stand still, and the network is evaluated once at each new shape of its inputs.

    A task that runs to its end with it meets every shape, at the cost of a few evaluations. With a cache, it meets full
    evaluations and such that reuse.
    """

    def __init__(self, network: Network, cache: Cache | None = None) -> None:
        self.network, self.cache = network, cache
        self.met: set[tuple] = set()
        self.largest = 0  # batch so far
        self.others: dict[int, Rehearsal] = {}

    def load(self, batch_size: int) -> None:
        self.network.load(batch_size)

    def __call__(
        self,
        x: Tensor,
        t: float | Tensor,
        condition: Condition,
        walk: Walk | None = None,
        share: float = 1,
        *,
        until: float | Tensor | None = None,
    ) -> Tensor:
        self.largest, t = max(self.largest, len(x)), times_of(x, t)
        self.meet(x, t, condition, until)
        for size in self.network.slow_sizes(self.largest):
            rows = torch.arange(size, device=x.device) % len(x)
            self.meet(x[rows], t[rows], condition.take(rows))
        return self.network.zeros(x)

    def null(self, condition: Condition) -> Condition:
        return self.network.null(condition)

    def meet(self, x: Tensor, t: Tensor, condition: Condition, until: float | Tensor | None = None) -> None:
        inputs = (x, t, *condition.parts)
        kind = tuple(None if part is None else (part.dtype, part.shape, part.stride()) for part in inputs)
        if kind not in self.met:
            self.met.add(kind)
            for walk in self.walks():
                self.network(x, t, condition, walk, until=until)

    def walks(self) -> Iterable[Walk | None]:
        if self.cache is None:
            return [None]
        assert isinstance(self.network.model, TransformerModel), "bind checks it"
        return walks(self.cache, self.network.model)

    def beside(self, model: FlowModel) -> EvaluatedModel:
        if id(model) not in self.others:
            self.others[id(model)] = Rehearsal(self.network.beside(model))
        return self.others[id(model)]
