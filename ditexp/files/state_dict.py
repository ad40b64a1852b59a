"""Finds the weights of one network in a checkpoint: unwrapped, without prefixes, in float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ditexp.terminal.notices import notice

AVERAGED = {"ema", "model_ema", "ema_model", "ema_state_dict", "model_ema_state_dict", "state_dict_ema"}
# Parts of weights' names that come from wrappers: DDP, torch.compile, FSDP, activation checkpointing.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
COUNTERS = ("n_averaged", "num_batches_tracked")  # whole numbers of averaged models and batch normalisation
MAX_DEPTH = 3  # of nested dictionaries
NAMED = 3  # weights that a message lists
REMEDY = "save its state dict alone"


class Found(NamedTuple):
    """A network's weights. where: the keys that lead to them and the prefix of their names, joined by dots."""

    where: str
    weights: dict[str, Tensor]

    @property
    def is_averaged(self) -> bool:
        return not AVERAGED.isdisjoint(self.where.split("."))


def state_dict_of(state: object, *, name: str, kind: str, anchor: str, ema: bool | None = None) -> dict[str, Tensor]:
    """The weights in a checkpoint, by the network's own names; floating point of any precision becomes float32.

    name: the checkpoint's name in messages. kind: the network, such as "a DiT". anchor: the name of a weight that every
    such network has, which marks the network within dictionaries and behind prefixes. ema: whether to choose averaged
    weights if there are both; None: the user has not chosen. Raises ValueError if there is no such network or more than
    one candidate, and for weights that no float32 network can have.
    """
    found = list(networks(state, name, anchor))
    averaged, plain = ([one for one in found if one.is_averaged is kept] for kept in (True, False))
    chosen = found if ema is None else (averaged or plain) if ema else plain
    if ema and chosen is plain and (unnamed := next(averages(state), None)):
        raise ValueError(
            f"{name} has averaged weights at {unnamed}, but not as {kind} names its own: choose model.ema=false for "
            "the others, or rename them"
        )
    if any(are_others(one.weights, chosen[0].weights) for one in chosen[1:]):
        places = " and ".join(one.where or "the top" for one in chosen[:NAMED])
        raise ValueError(f"{name} holds several networks, at {places}: {REMEDY}, of the one that is meant")
    if not chosen and averaged:
        raise ValueError(f"{name} holds averaged weights alone, at {averaged[0].where}: choose model.ema=true")
    if not chosen:
        if weights := some(list(names_below(state))):
            raise ValueError(f"{name} is not {kind}: it has no {anchor!r} (it has {weights[:120]})")
        keys = ", ".join(map(str, list(state)[:8])) if isinstance(state, Mapping) else ""
        raise ValueError(f"{name} holds no state dict (keys: {keys[:120] or 'none'})")
    return in_float32(chosen[0].weights, name)


def networks(state: object, name: str, anchor: str, where: tuple[str, ...] = ()) -> Iterator[Found]:
    """Every network below a dictionary. Raises ValueError if two weights have the same name without wrappers."""
    if not isinstance(state, Mapping) or len(where) > MAX_DEPTH:
        return
    for key, value in state.items():
        yield from networks(value, name, anchor, (*where, str(key)))
    weights: dict[str, Tensor] = {}
    named = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    for key in named if any(key.endswith(anchor) for key in named) else ():
        bare = ".".join(part for part in key.split(".") if part not in WRAPPERS)
        if bare in weights:
            raise ValueError(f"{name} holds {bare} twice, once as {key}: {REMEDY}, of the network that is meant")
        weights[bare] = named[key]
    for prefix in [key.removesuffix(anchor) for key in weights if key == anchor or key.endswith(f".{anchor}")]:
        inside = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        inside.pop("n_averaged", None)
        yield Found(".".join([*where, *prefix.split(".")]).strip("."), inside)


def are_others(weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return weights.keys() != others.keys() or any(not torch.equal(weights[key], others[key]) for key in weights)


def names_below(state: object, depth: int = 0) -> Iterator[str]:
    """The names of all tensors below a dictionary, each without the keys that lead to it."""
    for key, value in state.items() if isinstance(state, Mapping) and depth <= MAX_DEPTH else ():
        if isinstance(value, Tensor):
            yield str(key)
        yield from names_below(value, depth + 1)


def averages(state: object, depth: int = 0) -> Iterator[str]:
    """The names below a dictionary that averaged weights usually have."""
    for key, value in state.items() if isinstance(state, Mapping) and depth <= MAX_DEPTH else ():
        if isinstance(value, Mapping | list | tuple | Tensor) and len(found := AVERAGED & {*str(key).split(".")}):
            yield from found
        yield from averages(value, depth + 1)


def in_float32(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The weights as float32, with a notice if they were not, or are not finite. Raises ValueError if they can't be."""
    for key, value in weights.items():
        if wrong := no_weight(value) if not key.endswith(COUNTERS) else None:
            raise ValueError(f"{name}: {key} {wrong}: give dense weights in float32, bfloat16 or float16")
    floats = {key: value for key, value in weights.items() if value.is_floating_point()}
    if others := sorted({str(value.dtype).removeprefix("torch.") for value in floats.values()} - {"float32"}):
        notice(f"{name} holds weights in {' and '.join(others)}, which are converted to float32")
    found = {**weights, **{key: value.float() for key, value in floats.items()}}
    if lost := [key for key in floats if not found[key].isfinite().all()]:
        more = f" and {len(lost) - 1} more weights have" if len(lost) > 1 else " has"
        notice(f"{name}: {lost[0]}{more} NaN or infinite values, and what is computed with them has, too")
    return found


def no_weight(value: Tensor) -> str | None:
    """Why a tensor cannot be a weight in float32; None if it can."""
    if value.is_meta:
        return "has no values (it was saved from the meta device)"
    if value.layout is not torch.strided:
        return "is sparse"
    if value.is_quantized or not value.is_floating_point() or value.element_size() == 1:
        return f"is {str(value.dtype).removeprefix('torch.')}{'' if value.is_complex() else ', quantized or no weight'}"
    return None


def misfit(weights: Mapping[str, Tensor], network: Mapping[str, Tensor]) -> str | None:
    """How a checkpoint's weights differ from a network's in names and shapes; None if they don't."""
    missing, unknown = (
        [key for key in one if key not in other] for one, other in ((network, weights), (weights, network))
    )
    shapes = [
        f"{key} is {tuple(value.shape)}, not {tuple(network[key].shape)}"
        for key, value in weights.items()
        if key in network and value.shape != network[key].shape
    ]
    words = [("it has no ", missing), ("nothing takes its ", unknown), ("", shapes)]
    return "; ".join(text + some(keys) for text, keys in words if keys) or None


def some(keys: list[str]) -> str:
    """The first of these names, and the number of others."""
    more = len(keys) - NAMED
    return ", ".join(keys[:NAMED]) + (f" and {more} more" if more > 0 else "")
