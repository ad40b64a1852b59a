"""The kinds of references: images, prepared features, or only statistics; and the features of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path

from ditexp.core import Feature
from ditexp.extraction import extract
from ditexp.images.source import ImageSource
from ditexp.reference.npz import NpzReference
from ditexp.reference.statistics import StatisticsFile
from ditexp.terminal.progress import Bar
from ditexp.values import Features, Gaussian

Reference = ImageSource | NpzReference | StatisticsFile


def reference_features(
    reference: Reference,
    feature: Feature,
    cache: Path | str,
    *,
    outputs: Collection[str],
    statistics: Collection[str],
    progress: Bar | None = None,
) -> Features:
    """The features of a reference.

    outputs: the network's outputs that are needed for each image. statistics: the outputs whose statistics are enough;
    known statistics are used as they are, else the outputs themselves are returned. Raises ValueError if there are no
    images to extract features from.
    """
    if isinstance(reference, StatisticsFile):
        return reference.features(outputs=outputs, statistics=statistics)
    known = {name: gaussian for name, gaussian in gaussians_of(reference).items() if name in statistics}
    names = to_extract(reference, outputs=outputs, statistics=statistics)
    if not names:
        return Features(count=0, gaussians=known)
    images = images_of(reference)
    if images is None:
        raise ValueError(f"{reference.name} holds only statistics, and none of {', '.join(sorted(names))} features")
    features = extract(images, feature, cache, outputs=names, progress=progress)
    return dataclasses.replace(features, gaussians=known)


def to_extract(reference: Reference, *, outputs: Collection[str], statistics: Collection[str]) -> set[str]:
    """The network's outputs that no file has, so that they must be extracted from the images."""
    if isinstance(reference, StatisticsFile):
        return set()
    return {*outputs, *(name for name in statistics if name not in gaussians_of(reference))}


def contents_of(reference: Reference | None) -> str | None:
    """A hash of everything in a reference that changes scores."""
    if reference is None:
        return None
    return reference.contents if isinstance(reference, StatisticsFile) else reference.fingerprint()


def images_of(reference: Reference) -> ImageSource | None:
    """The images of a reference; None if it holds only features or statistics."""
    if isinstance(reference, StatisticsFile):
        return None
    return reference.images if isinstance(reference, NpzReference) else reference


def gaussians_of(reference: Reference) -> Mapping[str, Gaussian]:
    """The statistics that an npz file holds, by the network's output."""
    return reference.gaussians if isinstance(reference, NpzReference) else {}
