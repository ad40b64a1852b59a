"""How much work of the network an evaluation does that reuses outputs of an earlier one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ditexp.core import Cache, TransformerModel, Walk
from ditexp.values import Condition

# The shares that were counted, by the model.
SHARES: WeakKeyDictionary[TransformerModel, dict[tuple[Any, ...], float]] = WeakKeyDictionary()


def share_of_work(cache: Cache, model: TransformerModel, x: Tensor, condition: Condition) -> float:
    """The floating-point operations of an evaluation that reuses, relative to a full one; of matrix products alone.

    Counted once for each network and kind of input, without computing anything. x, condition: a batch as the network is
    given it; the share does not depend on its size. The cache reuses at some time.
    """
    kind = *cache.work, *(None if part is None else tuple(part.shape[1:]) for part in (x, *condition.parts))
    shares = SHARES.setdefault(model, {})
    if kind not in shares:
        counts = [(walk.is_full, count) for walk, count in counted(cache, model, x, condition)]
        full = next(count for is_full, count in counts if is_full)
        reused = next(count for is_full, count in counts if not is_full)
        shares[kind] = reused / full
    return shares[kind]


def counted(cache: Cache, model: TransformerModel, x: Tensor, condition: Condition) -> Iterator[tuple[Walk, int]]:
    """The evaluations of one sample until one has reused outputs, and the operations of each."""
    twin = model.without_values()
    x, condition = x[:1].to("meta"), condition.take(slice(0, 1)).to("meta")
    for walk in walks(cache, twin):
        with FlopCounterMode(display=False) as counter, torch.compiler.set_stance("force_eager"):
            twin(x, x.new_zeros(1), condition, walk)
        yield walk, counter.get_total_flops()


def walks(cache: Cache, model: TransformerModel) -> Iterator[Walk]:
    """The evaluations of an integration, at one time, until one has reused outputs."""
    state = cache.begin(model)
    for _ in range(cache.period):
        walk = state.evaluation(0.0, 1)
        yield walk
        if not walk.is_full:
            break
