"""Files that a cell's settings name but that are not there, and stand-ins for them, so that a plan can be made."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from ditexp.cli.packaged import published_file
from ditexp.core import Walk
from ditexp.files.hub import HubPlace, cached, hub_place
from ditexp.model.families.dits import DIT
from ditexp.model.families.known import FAMILIES
from ditexp.model.label_network import LabelNetwork
from ditexp.model.loading import without_values
from ditexp.model.prediction import Velocity
from ditexp.pixels import Pixels
from ditexp.report.studies.published import Need, load
from ditexp.vae.place import needed
from ditexp.values import Condition, required

# The settings that name a file or folder of the user's, by the component that they belong to.
FILES: Mapping[str, tuple[str, ...]] = {
    "model": ("checkpoint", "folder"),
    "guidance.weak": ("checkpoint", "folder"),
    "vae": ("path", "statistics"),
    "reference": ("path", "root"),
}


@dataclass(frozen=True)
class MissingFile:
    """A file that is not there. part: the component that needs it. setting: names it. path: None if none was given.

    on_hub: whether the run downloads it from the Hugging Face hub.
    """

    part: str
    setting: str
    path: str | None
    on_hub: bool = False


@dataclass(eq=False)
class StandIn:
    """In place of a model whose checkpoint is missing: evaluations are counted on it, and never made.

    family: of the model, if it is known; it decides where samples begin, and whether there is a variance. What a cache
    leaves of an evaluation is counted on a published network of the family, or else on a DiT-XL/2.
    """

    sample_shape: ClassVar[tuple[int, ...]] = (3, 2, 2)
    codec: ClassVar[Pixels] = Pixels((2, 2, 3))
    num_classes: ClassVar[int] = 1000
    class_names: ClassVar[tuple[str, ...]] = ()
    has_null: ClassVar[bool] = True
    identity: ClassVar[dict] = {"model": "stand-in"}
    family: str | None = None

    def __post_init__(self) -> None:
        known = FAMILIES.get(self.family or "")
        prediction = known.prediction({}, {}, side=256, name="model") if known else Velocity()
        self.start, self.start_std = prediction.start, prediction.start_std
        self.has_variance = known is not None and known.variance is True

    def __call__(self, x: Tensor, t: Tensor, condition: Condition, walk: Walk | None = None) -> Tensor:
        if walk is None:
            raise TypeError("a stand-in makes no samples")
        network = published_network(self.family)
        side = network.input_size
        return network(x.new_empty(len(x), network.in_channels, side, side), t, condition.labels, walk)

    velocity_and_variance = __call__

    @property
    def blocks(self) -> nn.ModuleList:
        return published_network(self.family).blocks

    @property
    def parts(self) -> tuple[range, ...]:
        return published_network(self.family).parts

    def network_time(self, t: float) -> float:
        return t

    def null(self, condition: Condition) -> Condition:
        return Condition(torch.full_like(required(condition.labels), self.num_classes))

    def to(self, device: torch.device | str) -> StandIn:
        return self


@dataclass(eq=False)
class StandInFlowMap(StandIn):
    """In place of a model of two times."""

    def average_velocity(self, x: Tensor, t: Tensor, condition: Condition, until: Tensor) -> Tensor:
        raise TypeError("a stand-in makes no samples")


@functools.cache
def published_network(name: str | None) -> LabelNetwork:
    """A network of a published size of a family, or a DiT-XL/2, whose weights have shapes and no values."""
    family = FAMILIES.get(name or "", DIT)
    network = without_values(family.network, family.published)
    return network.to("meta")  # the position embedding, too


@dataclass
class StandInVAE:
    """In place of a VAE that is missing: nothing is decoded."""

    def codec(self, sample_shape: Sequence[int]) -> Pixels:
        _, height, width = sample_shape
        return Pixels((height, width, 3))


def missing_files(cfg: DictConfig) -> list[MissingFile]:
    """The files that the settings of a cell name, or have yet to name, and that are not there."""
    return [missing for part in FILES for missing in missing_of(cfg, part)]


def missing_of(cfg: DictConfig, part: str) -> Iterator[MissingFile]:
    node = OmegaConf.select(cfg, part)
    for key in FILES[part]:
        if not isinstance(node, DictConfig) or key not in node.keys():  # noqa: SIM118 `in` is false for "???"
            continue
        if OmegaConf.is_interpolation(node, key):
            continue  # the setting that it refers to names the file
        if OmegaConf.is_missing(node, key):
            yield MissingFile(part, f"{part}.{key}", None)
        elif isinstance(value := node[key], str):
            place = hub_place(value) if part == "vae" else None
            is_there = is_cached(place) if place else os.path.exists(value)
            if not is_there:
                yield MissingFile(part, f"{part}.{key}", value, on_hub=place is not None)


def is_cached(place: HubPlace) -> bool:
    return cached(place, lambda names: needed(names, place)) is not None


def with_stand_ins(cfg: DictConfig, missing: list[MissingFile]) -> DictConfig:
    """The configuration with stand-ins for what lacks its files. What it costs is the same, and its ids are not."""
    parts = {file.part for file in missing}
    changes: dict[str, object] = {}
    for part in parts & {"model", "guidance.weak"}:
        family = OmegaConf.select(cfg, f"{part}.family")
        kind = StandInFlowMap if family in FAMILIES and FAMILIES[family].of_two_times else StandIn
        changes[part] = {"_target_": f"{__name__}.{kind.__name__}", "family": family}
    if "model" in parts:
        changes["vae"] = None  # the stand-in makes pixels
    elif "vae" in parts:
        changes["vae"] = {"_target_": f"{__name__}.StandInVAE"}
    if "reference" in parts:
        changes |= {"reference": None, "metric": {}}
    stood_in = cfg.copy()
    OmegaConf.set_struct(stood_in, False)
    for part, node in changes.items():
        OmegaConf.update(stood_in, part, node, merge=False)
    return stood_in


def need_of(study: str, setting: str) -> Need | None:
    """What a study says about the file that a setting names."""
    file = published_file(study)
    needs = load(file).needs.values() if file else ()
    return next((need for need in needs if need.setting == setting), None)
