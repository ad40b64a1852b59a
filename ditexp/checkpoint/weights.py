"""The weights of one network in a checkpoint: chosen, by the network's own names, in float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ditexp.checkpoint.arguments import training_arguments
from ditexp.checkpoint.container import Container
from ditexp.checkpoint.networks import Found, NoAverage, NotOne, networks, tensor_names
from ditexp.checkpoint.record import Record, UnusableTensor
from ditexp.files.reading import UnfitFile, unfit
from ditexp.terminal.notices import in_line, notice

ANCHOR = "final_layer.linear.weight"  # every DiT has it
ANCHORS = (ANCHOR, "u_final_layer.linear.weight")  # or, as iMF and pMF, that
NAMED = 3  # names that a message lists
MAX_NAME = 60  # characters of a weight's name in a message
SAVE = "save its state dict alone"
DENSE = "give dense float32, bfloat16 or float16"


@dataclass(frozen=True)
class Weights:
    """The weights of one network.

    tensors: by the network's own names; floating point of any precision is float32 here, and complex numbers and
    integers, which some buffers have, stay as they are. Where the file has float32, they are mapped from it.
    which: what was chosen: "model", "ema", "ema1", ... where: the keys and the prefix that lead to it, joined by dots.
    available: everything that could be chosen. args: the training's arguments in the file, as plain values; empty if
    there are none. bytes: of the weights in the file. converted: the types that became float32. others: names of
    tensors beside the network's, which are left out, such as "loss.vgg.weight".
    """

    tensors: dict[str, Tensor]
    which: str
    where: str
    available: tuple[str, ...]
    args: dict[str, Any] = field(repr=False)
    bytes: int
    converted: tuple[str, ...]
    others: tuple[str, ...] = field(repr=False)

    @property
    def summary(self) -> str:
        """In words: what was taken, and from what."""
        others = [one for one in self.available if one != self.which]
        facts = [
            f"{self.which} weights" + (f" at {self.where}" if self.where else ""),
            f"{len(self.tensors):,} tensors of {self.bytes / 1e6:,.1f} MB",
            *([f"from {' and '.join(self.converted)}"] if self.converted else []),
            *([f"not {', '.join(others)}"] if others else []),
            *([f"without {some(self.others)}"] if self.others else []),
        ]
        return ", ".join(facts)


def weights_of(
    container: Container,
    *,
    anchor: str = ANCHOR,
    kind: str = "a DiT",
    which: str | None = None,
    setting: str | None = "model.weights",
) -> Weights:
    """The weights of one network in a checkpoint.

    anchor: the name of a weight that every such network has, which marks it within dictionaries and behind prefixes.
    kind: the network in messages, with its article. which: "model", "ema", "ema1", ..., or the key of a network; None:
    the averaged weights if there are any (the first of several), else the others. setting: of `which`, in messages;
    None: there is none, so that several networks are refused. Raises ValueError, in one line, if there is no such
    network, if several could be meant, or for tensors that no network can have.
    """
    name = container.name
    try:
        found = networks(container.state, anchor, which)
    except NoAverage as error:
        raise unfit(name, str(error), f"choose {setting}=model" if setting else SAVE) from None
    except NotOne as error:
        raise unfit(name, str(error), SAVE) from None
    if not found:
        raise no_network(container, anchor, kind)
    available = tuple(dict.fromkeys(sorted((one.choice for one in found), key=order)))
    chosen = choose(found, which, available, name=name, setting=setting)
    tensors, converted = in_float32(chosen.weights, name=name, most=2 * container.bytes)
    container.require_unchanged()
    return Weights(
        tensors,
        which=chosen.choice,
        where=chosen.place,
        available=available,
        args=training_arguments(container.state),
        bytes=sum(value.nbytes for value in chosen.weights.values() if isinstance(value, Tensor)),
        converted=converted,
        others=chosen.others,
    )


def order(choice: str) -> tuple[bool, int, str]:
    """Averages first: ema, ema1, ema2."""
    return choice == "model", len(choice), choice


def choose(
    found: list[Found], which: str | None, available: tuple[str, ...], *, name: str, setting: str | None
) -> Found:
    """The network that is meant. Raises ValueError."""
    wanted = available[0] if which is None else which
    chosen = [one for one in found if one.choice == wanted or setting is None]
    chosen = chosen or [one for one in found if which in (one.place, *one.where)]
    if not chosen:
        choices = ", ".join([*available, *(one.place for one in found if one.place not in available and one.place)][:6])
        raise unfit(name, f"has no weights {in_line(repr(which), 40)}", f"choose {setting}={choices}")
    if any(are_others(one.weights, chosen[0].weights) for one in chosen[1:]):
        places = " and ".join(in_line(one.place or "the top", MAX_NAME) for one in chosen[:2])
        raise unfit(name, f"holds several networks, at {places}", f"choose one by {setting}" if setting else SAVE)
    return chosen[0]


def are_others(weights: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    return weights.keys() != others.keys() or not all(is_same(weights[key], others[key]) for key in weights)


def is_same(one: object, other: object) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return one == other
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return (one.data_ptr() == other.data_ptr() and one.stride() == other.stride()) or torch.equal(one, other)


def no_network(container: Container, anchor: str, kind: str) -> UnfitFile:
    """The error for a checkpoint without such a network, which says what it has."""
    name, state = container.name, container.state
    if isinstance(state, Record):
        wrong = f"holds an object of {in_line(state.kind, MAX_NAME)}, whose code is never run"
        return unfit(name, wrong, "save its state_dict()")
    if tensors := tensor_names(state):
        return unfit(name, f"is not {kind}: it has no {anchor!r}", f"it has {some(tensors)}")
    keys = some([str(key) for key in state]) if isinstance(state, Mapping) else ""
    return unfit(name, f"holds no state dict (keys: {keys or 'none'})", "give a file of weights")


def in_float32(weights: Mapping[str, Any], *, name: str, most: int) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights as float32 and the other types that they had, with notices of both and of values not finite.

    most: bytes that they may have together; more can only mean that they share theirs. Raises ValueError.
    """
    for key, value in weights.items():
        if wrong := unusable(value):
            raise unfit(name, f"holds {in_line(key, MAX_NAME)}, which {wrong}", DENSE)
    if (size := sum(value.nbytes for value in weights.values())) > most:
        raise unfit(name, f"holds weights of {size:,} bytes, more than the file has", SAVE)
    floats = {key: value for key, value in weights.items() if value.is_floating_point()}
    converted = tuple(sorted({type_of(value) for value in floats.values()} - {"float32"}))
    if converted:
        notice(f"{name} holds weights in {' and '.join(converted)}, which are converted to float32")
    found = {**weights, **{key: aligned(value).float() for key, value in floats.items()}}
    if lost := [key for key in floats if not is_finite(found[key])]:
        first = in_line(lost[0], MAX_NAME) + (f" and {len(lost) - 1} more weights have" if len(lost) > 1 else " has")
        notice(f"{name}: {first} NaN or infinite values, and what is computed with them has, too")
    return found, converted


def is_finite(value: Tensor) -> bool:
    """Whether there is no NaN and no infinity; without the memory that isfinite takes."""
    return not value.numel() or all(bool(end.isfinite()) for end in value.aminmax())


def aligned(value: Tensor) -> Tensor:
    """The tensor, copied if its numbers lie at odd places, as they may in torch's old format."""
    return value.clone() if value.data_ptr() % value.element_size() else value


def type_of(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def unusable(value: Tensor | UnusableTensor) -> str | None:
    """Why no network can have a tensor; None if one can."""
    if isinstance(value, UnusableTensor):
        return value.wrong
    if value.is_floating_point() and value.element_size() == 1:
        return f"is {type_of(value)}"
    return None


def misfit(weights: Mapping[str, Tensor], network: Mapping[str, Tensor]) -> str | None:
    """The first way in which weights differ from a network's in shapes, names or kinds of numbers; None if they don't.

    network: the network's state dict; its tensors may be on the meta device. At most 150 characters.
    """
    for key, value in weights.items():
        if key in network and value.shape != network[key].shape:
            return f"{in_line(key, MAX_NAME)} is {shape_of(value)}, not {shape_of(network[key])}"
        if key in network and network[key].is_floating_point() and not value.is_floating_point():
            return f"{in_line(key, MAX_NAME)} is {type_of(value)}, which is no weight"
    if missing := [key for key in network if key not in weights]:
        return f"it lacks {some(missing)}"
    if unknown := [key for key in weights if key not in network]:
        return f"it should not have {some(unknown)}"
    return None


def shape_of(value: Tensor) -> str:
    return in_line(str(tuple(value.shape)), 40)


def some(names: list[str] | tuple[str, ...]) -> str:
    """The first of these names, and the number of others, in at most 130 characters."""
    room = MAX_NAME if len(names) == 1 else MAX_NAME // 2
    first = [in_line(key, room) for key in names[:NAMED]]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more:,} more" if more > 0 else "")
