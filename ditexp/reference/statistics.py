"""References prepared by `python -m ditexp.reference`: features, their statistics and what they were made from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ditexp import __version__, content
from ditexp.core import Feature, Features
from ditexp.features import load_tensors, save_tensors
from ditexp.files import digest
from ditexp.images import ImageSource
from ditexp.reference.gaussian import checked

PARTS = ("mean", "covariance")


class StatisticsFile:
    """name, len(), image_shape and fingerprint() are those of the images it was made from; contents is of the file.

    Raises ValueError when the file is missing, damaged or something else.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        remedy = "prepare one by `python -m ditexp.reference`"
        try:
            self.metadata = metadata_of(self.path)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{path} is not a statistics file ({error}): {remedy}") from None
        if not {"reference", "image_shape"} <= set(self.metadata):
            raise ValueError(f"{path} was not written by this version of ditexp.reference: {remedy}")
        self.name = self.metadata["reference"]
        self.image_shape = tuple(json.loads(self.metadata["image_shape"]))

    def __len__(self) -> int:
        return int(self.metadata["count"])

    def fingerprint(self) -> str:
        return self.metadata["fingerprint"]

    @property
    def contents(self) -> str:
        """Of all that is in the file: its metadata have a checksum of each tensor, which reading verifies."""
        return digest(self.metadata)

    def check(self, feature: Feature) -> None:
        """Raise ValueError if another network, or the same in another way, made the statistics."""
        if json.loads(self.metadata["feature"]) != feature.identity:
            raise ValueError(
                f"{self.path} was made with the feature network {self.metadata['feature']}, not with "
                f"feature={feature.name} {json.dumps(feature.identity)}: prepare it again by "
                f"`python -m ditexp.reference feature={feature.name}`, with the same protocol"
            )

    def features(self, *, outputs: Collection[str], statistics: Collection[str]) -> Features:
        """These outputs of the network for each image, and the statistics of those."""
        tensors = load_tensors(self.path, [*outputs, *(f"{name}.{part}" for name in statistics for part in PARTS)])
        if metadata_of(self.path) != self.metadata:
            raise content.changed(self.path)
        gaussians = {}
        for name in statistics:
            names = tuple(f"{name}.{part}" for part in PARTS)
            gaussian = checked(*(tensors.pop(part).numpy() for part in names), names=names, where=self.path)
            gaussians[name] = dataclasses.replace(gaussian, count=len(self))
        return Features(count=len(self), gaussians=gaussians, **tensors)


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def save_statistics(path: Path, source: ImageSource, feature: Feature, pool: Tensor, gaussians: Mapping) -> None:
    """Write what StatisticsFile reads. pool: (N, D) of the source's images; gaussians: by the network's output."""
    tensors = {"pool": pool}
    for name, gaussian in gaussians.items():
        tensors |= {f"{name}.{part}": getattr(gaussian, part) for part in PARTS}
    metadata = {
        "reference": source.name,
        "fingerprint": source.fingerprint(),
        "count": str(len(source)),
        "image_shape": json.dumps(source.image_shape),
        "feature": json.dumps(feature.identity),
        "ditexp": __version__,
    }
    save_tensors(path, tensors, metadata)
