"""What a checkpoint, or the folder of a DiTPipeline, holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ditexp.checkpoint.container import Container, read_checkpoint
from ditexp.checkpoint.networks import anchor_of
from ditexp.checkpoint.weights import ANCHORS, Weights, weights_of
from ditexp.files.reading import parse_json, unfit
from ditexp.model.architecture import NoDiT
from ditexp.model.diffusers_dit import ANCHOR as DIFFUSERS_ANCHOR
from ditexp.model.diffusers_dit import Folder, dit_folder, in_dits_layout
from ditexp.model.families.dits import DIT
from ditexp.model.families.family import Family
from ditexp.model.families.known import renamed


@dataclass(frozen=True)
class Training:
    """What ditexp.train writes beside weights. by_ditexp: whether it made the file."""

    by_ditexp: bool = False
    num_heads: int | None = None
    num_classes: int | None = None
    class_names: tuple[str, ...] = ()


class Contents(NamedTuple):
    """weights: those that were chosen. tensors: all of the network's, by DiT's or the family's names of today.

    sha256: of the file. of_diffusers: whether it is the folder of a DiTPipeline.
    """

    weights: Weights
    tensors: Mapping[str, Tensor]
    trained: Training
    sha256: str
    of_diffusers: bool = False


def contents_of(checkpoint: str, *, which: str | None, name: str) -> Contents:
    """which: the setting `weights`. Raises ValueError."""
    if folder := dit_folder(checkpoint):
        container = read_checkpoint(folder.weights, name=name)
        found = weights_of(container, anchor=DIFFUSERS_ANCHOR, which=which)
        return Contents(found, from_folder(found, folder, name), training_in(folder), container.sha256, True)
    container = read_checkpoint(checkpoint, name=name)
    found = weights_of(container, anchor=anchor_of(container.state, ANCHORS), which=which)
    return Contents(found, renamed(found.tensors), training_of(container), container.sha256)


def from_folder(found: Weights, folder: Folder, name: str) -> dict[str, Tensor]:
    """The tensors of a DiT of diffusers by DiT's own names. Raises ValueError."""
    try:
        return in_dits_layout(found.tensors, folder.config)
    except NoDiT as error:
        raise no_such(DIT, error, name) from None


def training_in(folder: Folder) -> Training:
    return Training(False, folder.config["num_attention_heads"], None, folder.class_names)


def training_of(container: Container) -> Training:
    """What ditexp.train wrote, if it made the file. Raises ValueError if it is damaged."""
    state, metadata = container.state, container.metadata
    try:
        if "architecture" in metadata:
            network, names = parse_json(metadata["architecture"]), parse_json(metadata.get("class_names", "[]"))
        elif isinstance(state, Mapping) and {"settings", "data"} <= state.keys():
            network, names = parse_json(state["settings"])["network"], parse_json(state["data"])["class_names"]
        else:
            return Training()
        return Training(True, network.get("num_heads"), network.get("num_classes"), tuple(map(str, names)))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{container.name} has metadata that ditexp train did not write: remove it") from None


def no_such(family: Family, error: Exception, name: str) -> ValueError:
    return unfit(name, f"is not {family.with_article}: {error}", "give another file")
