"""What samples are judged against: images, prepared features, or statistics alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from ditexp.core import Feature
from ditexp.evaluate.extraction import extract
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
    """These outputs of the network for each image, and the statistics of those, where they are known already.

    Statistics that are not known need the outputs themselves, which are then given.
    """
    if isinstance(reference, StatisticsFile):
        return reference.features(outputs=outputs, statistics=statistics)
    known = {name: gaussian for name, gaussian in gaussians_of(reference).items() if name in statistics}
    names = to_extract(reference, outputs=outputs, statistics=statistics)
    features = extract(reference, feature, cache, outputs=names, progress=progress) if names else Features(count=0)
    return dataclasses.replace(features, gaussians=known)


def to_extract(reference: Reference, *, outputs: Collection[str], statistics: Collection[str]) -> set[str]:
    """The outputs of the network that these need and no file has."""
    if isinstance(reference, StatisticsFile):
        return set()
    return {*outputs, *(name for name in statistics if name not in gaussians_of(reference))}


def contents_of(reference: Reference | None) -> str | None:
    """What tells a reference from all that give other numbers."""
    if reference is None:
        return None
    return reference.contents if isinstance(reference, StatisticsFile) else reference.fingerprint()


def gaussians_of(reference: Reference) -> dict[str, Gaussian]:
    """The statistics that a file gives beside its images or instead of them, by the network's output."""
    return reference.gaussians if isinstance(reference, NpzReference) else {}
