"""The network as a sampler evaluates it: counted, at some precision, and used for the first time before that is timed.

A network's first use at a shape of its inputs costs something once, compilation above all. Fixed steps evaluate the
same shapes in every batch; an adaptive solver's batch shrinks as samples arrive, to any size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ditexp.core import FlowModel
from ditexp.values import Condition, Cost

Network = Callable[[Tensor, Tensor, Condition], Tensor]


@dataclass
class CountedModel:
    """A FlowModel as guidance sees it: each evaluation is counted and runs at the chosen precision.

    forward_of: what evaluates a model: itself, or its network compiled.
    """

    model: FlowModel
    cost: Cost
    device: torch.device
    dtype: torch.dtype = torch.float32
    forward_of: Callable[[FlowModel], Network] = lambda model: model
    others: dict[int, CountedModel] = field(init=False, default_factory=dict)

    def __post_init__(self):
        self.forward = self.forward_of(self.model)
        self.num_classes, self.has_null, self.null = (
            self.model.num_classes,
            self.model.has_null,
            self.model.null,
        )

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.cost.network_rows += len(x)
        # Only the network runs in low precision: the state x stays float32, or small steps would be lost.
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            return self.forward(x, t, condition).to(x.dtype)

    def beside(self, model: FlowModel) -> CountedModel:
        """A second model, whose evaluations count with this one's and run in the same way."""
        if id(model) not in self.others:
            self.others[id(model)] = replace(self, model=model)
        return self.others[id(model)]


@dataclass(frozen=True)
class Padded:
    """A network that is evaluated at few batch sizes: each batch is filled up with copies of its last sample.

    full: the batch size of the run; sizes are that, twice that (with guidance's second half) and the powers of two.
    """

    network: Network
    full: int

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        rows = torch.arange(self.size(len(x)), device=x.device).clamp(max=len(x) - 1)
        return self.network(x[rows], t[rows], condition.take(rows))[: len(x)]

    def size(self, count: int) -> int:
        """The smallest of the sizes that holds so many samples. Not 1 for the sake of 1, which torch compiles apart."""
        power_of_two = max(2, 1 << (count - 1).bit_length())
        return min(size for size in (self.full, 2 * self.full, power_of_two) if size >= count)

    def sizes(self, largest: int) -> list[int]:
        """All sizes that batches of 1 to `largest` samples are filled up to."""
        return sorted({self.size(count) for count in range(1, largest + 1)})


@dataclass
class Rehearsal:
    """A model that stands still, and evaluates `model` once for each new shape of its inputs.

    A task that runs with it, to its end, has met every shape that it will meet, for a few evaluations.

    sizes: from the largest batch so far, the batch sizes that one of any size stands for; None: each only for itself.
    """

    model: FlowModel
    sizes: Callable[[int], Iterable[int]] | None
    met: set[tuple] = field(default_factory=set)
    largest: int = 0

    def __post_init__(self):
        self.num_classes, self.has_null, self.null = self.model.num_classes, self.model.has_null, self.model.null
        self.others: dict[int, Rehearsal] = {}

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.largest = max(self.largest, len(x))
        self.meet(x, t, condition)
        for size in self.sizes(self.largest) if self.sizes else ():
            rows = torch.arange(size, device=x.device) % len(x)
            self.meet(x[rows], t[rows], condition.take(rows))
        return torch.zeros_like(x)

    def meet(self, x: Tensor, t: Tensor, condition: Condition) -> None:
        inputs = (x, t, *condition.parts)
        kind = tuple(None if part is None else (part.dtype, part.shape, part.stride()) for part in inputs)
        if kind not in self.met:
            self.met.add(kind)
            self.model(x, t, condition)

    def beside(self, model: FlowModel) -> Rehearsal:
        """A second model, as a CountedModel has it."""
        if id(model) not in self.others:
            self.others[id(model)] = Rehearsal(self.model.beside(model), self.sizes)
        return self.others[id(model)]
