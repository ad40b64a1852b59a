"""Statistics files, which `ditexp reference` writes: features, their statistics, and their origin."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from ditexp import __version__
from ditexp.core import Feature
from ditexp.files import content
from ditexp.files.content import digest
from ditexp.files.image import MODES
from ditexp.files.reading import parse_json, unfit
from ditexp.files.tensors import load_tensors, opened_tensors, save_tensors, shape_in
from ditexp.images.source import ImageSource
from ditexp.reference.gaussian import MAX_FEATURES, checked
from ditexp.values import Features, Gaussian

PARTS = ("mean", "covariance")
KIND, REMEDY = "a statistics file", "prepare one by `ditexp reference`"


class StatisticsFile:
    """Features and statistics of images that are not there themselves.

    name, len(), image_shape and fingerprint() describe the images; contents is a hash of the file. Raises ValueError
    if the file is missing, damaged or of another kind, or if its parts contradict each other.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        with opened_tensors(self.path, KIND, remedy=REMEDY) as file:
            self.metadata = file.metadata() or {}
            if wrong := next(contradictions(file, self.metadata), None):
                raise unfit(self.path, f"is not {KIND} of this version ({wrong})", REMEDY)
        self.name = self.metadata["reference"]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = json.loads(self.metadata["image_shape"])
        return height, width, channels

    def __len__(self) -> int:
        return int(self.metadata["count"])

    def fingerprint(self) -> str:
        return self.metadata["fingerprint"]

    @property
    def contents(self) -> str:
        """A hash of everything in the file: the metadata contain a checksum of each tensor, which reading verifies."""
        return digest(self.metadata)

    def check(self, feature: Feature) -> None:
        """Raise ValueError if the statistics were made with another network, or with other settings of this one."""
        if json.loads(self.metadata["feature"]) != feature.identity:
            raise ValueError(
                f"{self.path} was made with the feature network {self.metadata['feature']}, not with "
                f"feature={feature.name} {json.dumps(feature.identity)}: prepare it again by "
                f"`ditexp reference feature={feature.name}`, with the same protocol"
            )

    def features(self, *, outputs: Collection[str], statistics: Collection[str]) -> Features:
        """The features. outputs: those wanted for each image. statistics: those whose statistics are wanted."""
        tensors = load_tensors(self.path, [*outputs, *(f"{name}.{part}" for name in statistics for part in PARTS)])
        if metadata_of(self.path) != self.metadata:
            raise content.changed(self.path)
        gaussians = {}
        for name in statistics:
            mean, covariance = (f"{name}.{part}" for part in PARTS)
            values = (tensors.pop(part).numpy() for part in (mean, covariance))
            gaussian = checked(*values, names=(mean, covariance), where=self.path)
            gaussians[name] = dataclasses.replace(gaussian, count=len(self))
        return Features(count=len(self), gaussians=gaussians, **tensors)


def metadata_of(path: Path) -> dict[str, str]:
    with opened_tensors(path, KIND, remedy=REMEDY) as file:
        return file.metadata() or {}


def contradictions(file: safe_open, metadata: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with a file, by its header."""
    for key in ("reference", "image_shape", "count", "feature", "fingerprint", "sha256"):
        if key not in metadata:
            yield f"it has no {key}"
    facts = {key: parse_json(metadata[key]) for key in ("image_shape", "count", "feature", "sha256")}
    count, shape = facts["count"], facts["image_shape"]
    if not isinstance(shape, list) or len(shape) != 3 or shape[2] not in MODES or not all(map(is_positive, shape)):
        yield f"its image_shape is {shape}"
    if not isinstance(facts["feature"], dict) or not isinstance(facts["sha256"], dict):
        yield "its feature or sha256 is not a JSON object"
    names = set(file.keys())
    shapes = {name: shape_in(file, name) for name in names}
    if not {"pool", *(f"pool.{part}" for part in PARTS)} <= names:
        yield "it has no pool, pool.mean or pool.covariance"
    if names != facts["sha256"].keys():
        yield "its tensors and its checksums have different names"
    if not is_positive(count) or shapes["pool"][:1] != (count,):
        yield f"its count is {count}, but its pool has the shape {shapes['pool']}"
    if len(shapes["pool"]) != 2 or shapes["pool"][1:] != shapes["pool.mean"]:
        yield f"its pool has the shape {shapes['pool']}, but pool.mean has {shapes['pool.mean']}"
    for name, found in shapes.items():
        if max(found[1:] if name == "pool" else found, default=0) > MAX_FEATURES:
            yield f"its {name} of shape {found} has more than {MAX_FEATURES:,} features"


def is_positive(number: object) -> bool:
    return type(number) is int and number > 0


def save_statistics(
    path: Path, source: ImageSource, feature: Feature, pool: Tensor, gaussians: Mapping[str, Gaussian]
) -> None:
    """Write a file for StatisticsFile. pool: (N, D) for the source's images. gaussians: by the network's output."""
    tensors = {"pool": pool}
    for name, gaussian in gaussians.items():
        tensors |= {f"{name}.mean": gaussian.mean, f"{name}.covariance": gaussian.covariance}
    metadata = {
        "reference": source.name,
        "fingerprint": source.fingerprint(),
        "count": str(len(source)),
        "image_shape": json.dumps(source.image_shape),
        "feature": json.dumps(feature.identity),
        "ditexp": __version__,
    }
    save_tensors(path, tensors, metadata)
