"""How much work of the network an evaluation does that reuses outputs of an earlier one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ditexp.core import Cache, TransformerModel, Walk
from ditexp.values import Condition

# The shares that were counted, by the model.
SHARES: WeakKeyDictionary[TransformerModel, dict[tuple[Any, ...], float]] = WeakKeyDictionary()


def share_of_work(cache: Cache, model: TransformerModel, x: Tensor, condition: Condition) -> float:
    """The floating-point operations of an evaluation that reuses, relative to a full one; of matrix products alone.

    Counted once for each model and kind of input, without computing anything. x, condition: a batch as the model is
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
    """The evaluations of one sample until one has reused outputs, and the multiplications of each."""
    device = next(model.blocks.parameters()).device
    x, condition = x[:1].to(device), condition.take(slice(0, 1)).to(device)
    for walk in walks(cache, model):
        with Multiplications() as counter:
            model(x, x.new_zeros(1), condition, walk)
        yield walk, counter.count


def walks(cache: Cache, model: TransformerModel) -> Iterator[Walk]:
    """The evaluations of an integration, at one time, until one has reused outputs."""
    state = cache.begin(model)
    for _ in range(cache.period):
        walk = state.evaluation(0.0, 1)
        yield walk
        if not walk.is_full:
            break


class Multiplications(TorchFunctionMode):
    """Counts those of matrix products instead of computing them: the network's output has no meaning.

    torch.utils.flop_counter counts the same, but takes 4 s to import, and so does the first use of the device "meta".

    count: so far.
    """

    def __init__(self) -> None:
        self.count = 0

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is F.linear:
            x, weight = args[:2]
            made, each = x.new_empty(*x.shape[:-1], len(weight)), weight.shape[1]
        elif func is F.scaled_dot_product_attention:
            q, k, v = args
            made, each = q.new_empty(*q.shape[:-1], v.shape[-1]), k.shape[-2]
            self.count += q.numel() * each  # of q k; the product with v follows
        elif func in (torch.matmul, Tensor.matmul, Tensor.__matmul__):
            first, second = args
            made, each = first.new_empty(*first.shape[:-1], second.shape[-1]), first.shape[-1]
        elif func is F.layer_norm:  # low-precision weights may not fit the input
            return args[0]
        else:
            made = func(*args, **kwargs or {})
            if func is not F.conv2d:
                return made
            each = math.prod(args[1].shape[1:])
        self.count += made.numel() * each
        return made
