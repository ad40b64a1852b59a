"""Checkpoints of each published family, in its own container: whole, damaged, and by the name of another family."""

from __future__ import annotations

import argparse
import functools
import posix
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.checkpoint.cases import Case, Cases, accepted, as_torch, refused
from tests.checkpoint.pickle_cases import RAN
from tests.golden.files import FOLDER, read_golden
from tests.golden.published import published
from tests.helpers.hostile_files import Code

FAMILIES = ("sit", "dit", "repa", "lightningdit", "jit", "ddt", "rae")
FLOW_MAPS = ("meanflow", "imf", "pmf")
# A weight that each family has, and that its network cannot do without: its names in files and in messages.
PROJECTION = "blocks.1.attn.proj.weight"
SHARED, SHARED_SHOWN = "shared_blocks.1.attn.out_proj._flax_linear.weight", "blocks.1.attn.out_proj.weight"
PROJECTIONS = (PROJECTION, SHARED)


@functools.cache
def shapes(family: str) -> dict[str, Any]:
    """The smallest of the networks that the golden files know."""
    cases = read_golden(FOLDER / family / "forward.npz")[0]["cases"].values()
    return min(cases, key=lambda case: sum(torch.Size(shape).numel() for shape in case["shapes"].values()))


def state(family: str, change: Callable[[dict[str, Tensor]], dict] = dict, **more: Any) -> dict[str, Any]:
    """change: of all networks in the file. more: beside them."""

    def changed(found: Any) -> Any:
        if not isinstance(found, dict):
            return found
        if any(isinstance(value, Tensor) and key.endswith(PROJECTIONS) for key, value in found.items()):
            return change(found)
        return {key: changed(value) for key, value in found.items()}

    return changed(published(family, shapes(family)["shapes"])) | more


def settings(family: str) -> dict[str, Any]:
    if family in FLOW_MAPS:
        inside = {} if family == "meanflow" else {"omega": 2.0, "interval": [0.2, 0.8]}
        scale = {"noise_scale": 1.0} if family == "pmf" else {}
        return {"family": family, "num_heads": 4 if family == "meanflow" else None, **inside, **scale}
    options = shapes(family)["options"]
    given = {"in_context_start": options["in_context_start"]} if family == "jit" else {}
    if family == "ddt":
        given = {"encoder_depth": options["num_encoder_blocks"], "input_size": options["input_size"]}
    heads = None if family == "rae" else options.get("num_heads")  # a table of rotations tells them
    return {"family": family, "num_heads": heads, **given}


def in_bfloat16(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.bfloat16() if value.is_floating_point() else value for key, value in found.items()}


def own(family: str) -> Cases:
    given = settings(family)

    def of(change: Callable[[dict[str, Tensor]], dict], *words: str, works: bool = False) -> Case:
        make = as_torch(lambda: state(family, change))
        return accepted(make, **given) if works else refused(make, *words, **given)

    def replaced(value: Callable[[Tensor], object]) -> Callable[[dict[str, Tensor]], dict]:
        return lambda found: {k: value(v) if k.endswith(PROJECTIONS) else v for k, v in found.items()}

    def without(ending: str) -> Callable[[dict[str, Tensor]], dict]:
        return lambda found: {key: value for key, value in found.items() if not key.endswith(ending)}

    key, shown = (SHARED, SHARED_SHOWN) if family in ("imf", "pmf") else (PROJECTION, PROJECTION)
    width = shapes(family)["shapes"][key][0]
    positions = {} if family in ("imf", "ddt") else {"no positions": of(without("pos_embed"), "pos_embed")}
    return {
        "whole": of(dict, works=True),
        "in bfloat16": of(in_bfloat16, works=True),
        "code in args": accepted(as_torch(lambda: state(family, args=Code(posix.mkdir, RAN))), **given),
        "another shape": of(replaced(lambda value: value[:, 1:]), shown, f"({width}, {width})"),
        "no projection": of(without(key), shown),
        **positions,
        "complex": of(replaced(lambda value: value.to(torch.complex64)), shown, "complex64"),
        "sparse": of(replaced(lambda value: value.to_sparse()), shown, "sparse"),
        "one block more": of(lambda found: found | {f"{prefix_of(found)}blocks.9.x": torch.zeros(1)}, "blocks.9"),
        "100,000 blocks": of(lambda found: found | {f"{prefix_of(found)}blocks.100000.x": torch.zeros(1)}, "100000"),
        "an unknown weight": of(lambda found: found | {f"{prefix_of(found)}cls_token": torch.zeros(1)}, "cls_token"),
        "strange arguments": accepted(as_torch(lambda: state(family, args=argparse.Namespace(lr="x"))), **given),
    }


def prefix_of(found: dict[str, Tensor]) -> str:
    """Of the averaged weights, which come last where a file has others beside them."""
    names = ((key, name) for key in found for name in PROJECTIONS if key.endswith(name))
    return [key.removesuffix(name) for key, name in names][-1]


def rotations() -> Cases:
    """Tables that LightningDiT's and RAE's files have, and their networks compute."""
    of_rae = {f"of RAE, {name}": case for name, case in other_tables("rae", "dec_feat_rope.freqs_cos").items()}
    return other_tables("lightningdit", "feat_rope.freqs_cos") | of_rae


def other_tables(family: str, key: str) -> Cases:
    def of(change: Callable[[Tensor], Tensor]) -> Case:
        replaced = lambda found: {k: change(v) if k.endswith(key) else v for k, v in found.items()}  # noqa: E731
        return refused(as_torch(lambda: state(family, replaced)), key, **settings(family))

    return {
        "others": of(lambda value: value.flip(0)),
        "of NaN": of(lambda value: value * torch.nan),
        "of complex numbers": of(lambda value: value.to(torch.complex64)),
        "of integers": of(lambda value: value.long()),
        "of another width": of(lambda value: value[:, 1:]),
        "of no width": of(lambda value: value[:, :0]),
        "of no axes": of(lambda value: value[0, 0]),
    }


def by_the_name_of_another() -> Cases:
    """DiT and SiT have the same names and shapes, so that only the network's own answers can contradict a name.

    Networks of drawn weights have no such answers.
    """
    made: Cases = {}
    for family in FAMILIES:
        for other in FAMILIES:
            alike = {family, other} <= {"sit", "dit"} or (family, other) in (("sit", "repa"), ("repa", "sit"))
            if family != other and not alike:
                make = as_torch(lambda family=family: state(family))
                made[f"{family} as {other}"] = refused(make, "is not a", **settings(family) | {"family": other})
    for family in FLOW_MAPS:
        for other in ("sit", "jit"):
            given = {"family": other, "num_heads": 4}
            made[f"{family} as {other}"] = refused(as_torch(lambda family=family: state(family)), "is not a", **given)
        made[f"{family} as itself, of one time"] = refused(
            as_torch(lambda family=family: state(family)), "a model of two times", family=None, num_heads=None
        )
    return made


KINDS: dict[str, Callable[[], Cases]] = {
    **{f"{family}'s": functools.partial(own, family) for family in FAMILIES + FLOW_MAPS},
    "rotations": rotations,
    "by another's name": by_the_name_of_another,
}
