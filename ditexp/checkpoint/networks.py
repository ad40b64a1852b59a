"""Finds networks in a checkpoint's nested dictionaries: behind wrappers' prefixes, and in averages without names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ditexp.checkpoint.record import UnusableTensor

Weight = Tensor | UnusableTensor
# Parts of weights' names that come from wrappers: DDP, torch.compile, FSDP, activation checkpointing, iMF's layers.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
WRAPPERS |= {"_flax_linear", "_flax_embedding"}
# A key of averaged weights: ema, model_ema, ema_model, model_ema1, ema_denoiser.
AVERAGED = re.compile(r"(?:^|_)ema_?(\d*)(?:_|$)")
SHADOW = re.compile(r"(?:(.*)\.)?shadow_params\.(\d{1,6})")
# What a list of averaged parameters does not have: buffers, and parameters that are not trained.
FIXED = re.compile(r"pos_embed|running_mean|running_var|num_batches_tracked|n_averaged|rope|freqs|num_updates")
MAX_DEPTH = 3  # of nested dictionaries
MAX_NETWORKS = 16


@dataclass(frozen=True)
class Found:
    """A network in a checkpoint. where: the keys that lead to it and the prefix of its names.

    weights: by the network's own names. others: names beside the network's, which are left out.
    """

    where: tuple[str, ...]
    weights: dict[str, Weight]
    others: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return ".".join(self.where)

    @property
    def choice(self) -> str:
        """What selects it: "model", "ema", or "ema1" and so on where an average has a number."""
        for part in reversed(self.where):
            if found := AVERAGED.search(part):
                return f"ema{found[1]}"
        return "model"


class NotOne(ValueError):
    """A checkpoint whose networks are not clear; the message is what is wrong with it."""


class NoAverage(NotOne):
    """Averages without names that do not fit the other weights."""


def networks(state: object, anchor: str, which: str | None = None) -> list[Found]:
    """Every network in a checkpoint, each with a weight of the anchor's name. Raises NotOne.

    which: what the user has chosen; averages that do not fit are left out if it is "model".
    """
    found = list(named_networks(state, anchor))
    if len(found) > MAX_NETWORKS:
        raise NotOne(f"holds {len(found):,} networks")
    plain = next((one for one in found if one.choice == "model"), None)
    if plain is not None:
        for where, shadow in shadows(state):
            with suppress(*([NoAverage] if which == "model" else [])):
                found.append(average_of(plain, where, shadow))
    return found


def mappings(state: object) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """All dictionaries in nested ones, each once, inner ones first, with the keys that lead to them."""
    seen: set[int] = set()

    def below(value: object, where: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
        if not isinstance(value, Mapping) or id(value) in seen or len(where) > MAX_DEPTH:
            return
        seen.add(id(value))
        for key, inner in value.items():
            yield from below(inner, (*where, str(key)))
        yield where, value

    yield from below(state, ())


def tensor_names(state: object) -> list[str]:
    """The names of all tensors in nested dictionaries, each without the keys that lead to its dictionary."""
    return [str(key) for _, one in mappings(state) for key, value in one.items() if isinstance(value, Tensor)]


def named_networks(state: object, anchor: str) -> Iterator[Found]:
    for where, mapping in mappings(state):
        named = {key: value for key, value in mapping.items() if isinstance(value, Tensor | UnusableTensor)}
        if not any(isinstance(key, str) and is_named(bare(key), anchor) for key in named):
            continue
        if other := next((key for key in named if not isinstance(key, str)), None):
            raise NotOne(f"has a weight whose name is {other!r:.40}, not text")
        weights = {key: value for key, value in without_wrappers(named).items() if not SHADOW.fullmatch(key)}
        prefixes = [key.removesuffix(anchor) for key in weights if is_named(key, anchor)]
        if len(prefixes) > MAX_NETWORKS:
            raise NotOne(f"holds {len(prefixes):,} networks")
        for prefix in prefixes:
            deeper = tuple(one for one in prefixes if one != prefix and one.startswith(prefix))
            own = (key for key in weights if key.startswith(prefix) and not key.startswith(deeper))
            inside = {key.removeprefix(prefix): weights[key] for key in own}
            inside.pop("n_averaged", None)
            others = tuple(key for key in weights if not key.startswith(tuple(prefixes)))
            yield Found((*where, *prefix.split(".")[:-1]), inside, others)


def without_wrappers(named: Mapping[str, Weight]) -> dict[str, Weight]:
    """Weights by their names without the parts of wrappers. Raises NotOne if two then have one name."""
    weights: dict[str, Weight] = {}
    for key, value in named.items():
        if (name := bare(key)) in weights:
            raise NotOne(f"holds {name} twice, once as {key}")
        weights[name] = value
    return weights


def bare(key: str) -> str:
    """A weight's name without the parts of wrappers."""
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)


def is_named(key: str, anchor: str) -> bool:
    """Whether a weight has the anchor's name, behind any prefix."""
    return key == anchor or key.endswith(f".{anchor}")


def anchor_of(state: object, anchors: Sequence[str]) -> str:
    """The first of several anchors that a checkpoint has a weight of; the first of all if it has none."""
    names = [bare(name) for name in tensor_names(state)]
    return next((anchor for anchor in anchors if any(is_named(name, anchor) for name in names)), anchors[0])


def shadows(state: object) -> Iterator[tuple[tuple[str, ...], list[Tensor]]]:
    """Averaged weights without names: lists `shadow_params`, as torch_ema, diffusers and RectifiedFlow write them.

    flow_matching's have names that end in shadow_params.0, shadow_params.1, ...
    """
    for where, mapping in mappings(state):
        given = mapping.get("shadow_params")
        if isinstance(given, list | tuple) and given and all(isinstance(one, Tensor) for one in given):
            yield averaged(where), list(given)
        numbered = {
            int(found[2]): value
            for key, value in mapping.items()
            if isinstance(key, str)
            and len(key) < 200
            and (found := SHADOW.fullmatch(key))
            and isinstance(value, Tensor)
        }
        if numbered and sorted(numbered) == list(range(len(numbered))):
            yield averaged(where), [numbered[number] for number in range(len(numbered))]


def averaged(where: tuple[str, ...]) -> tuple[str, ...]:
    """Keys that lead to averaged weights, and say so."""
    return where if any(AVERAGED.search(part) for part in where) else (*where, "ema")


def average_of(plain: Found, where: tuple[str, ...], shadow: Sequence[Tensor]) -> Found:
    """Averaged parameters by the names of the plain ones, in their order; what they lack is that of the plain ones.

    Raises NoAverage if they don't fit.
    """
    trained = [key for key in plain.weights if not FIXED.search(key)]
    for keys in (list(plain.weights), trained):
        shapes = [value.shape if isinstance(value := plain.weights[key], Tensor) else None for key in keys]
        if shapes == [value.shape for value in shadow]:
            return Found(where, plain.weights | dict(zip(keys, shadow)), plain.others)
    raise NoAverage(
        f"has {len(shadow):,} averaged weights without names, whose shapes are not those of its {len(trained):,} others"
    )
