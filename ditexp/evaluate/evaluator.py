"""What turns images into numbers: a feature network, a reference, metrics, and whose protocol they follow."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig

from ditexp.core import Feature
from ditexp.evaluate.extraction import are_kept, check_channels, extract, folder_of
from ditexp.evaluate.uncertainty import deviations
from ditexp.images.source import ImageSource
from ditexp.metric.base import Metric
from ditexp.reference import Reference, StatisticsFile, gaussians_of, reference_features, to_extract
from ditexp.samples.claims import Claims
from ditexp.samples.store import SampleStore
from ditexp.terminal.progress import progress_bar

POLL = 1.0  # seconds between looks at whether another process has extracted features


@dataclass(frozen=True)
class Evaluator:
    """metrics: by their names in the configuration. protocol: what `protocol_of` tells of it."""

    feature: Feature | None
    reference: Reference | None
    metrics: dict[str, Metric]
    protocol: dict

    @property
    def outputs(self) -> set[str]:
        """Of the network's outputs, those that the metrics are taken of."""
        return {metric.uses for metric in self.metrics.values()}

    def needed(self, of_reference: str) -> set[str]:
        """The outputs that "images", or "statistics", of the reference are needed of."""
        return {metric.uses for metric in self.metrics.values() if metric.reference == of_reference}

    @property
    def needs(self) -> dict[str, set[str]]:
        """What `reference_features` has to give."""
        return {"outputs": self.needed("images"), "statistics": self.needed("statistics")}

    def mistakes(self, images: ImageSource, count: int) -> Iterator[str]:
        """What keeps `count` of these images from being judged, a line each; found before any work."""
        if not self.metrics:
            return
        if self.feature is None:
            yield f"{', '.join(self.metrics)}: no network to judge by: choose feature=inception, dinov2 or digits"
            return
        for name, metric in self.metrics.items():
            if metric.needs_labels:
                try:
                    check_labels(images, self.feature)
                except ValueError as error:
                    yield f"{name}: {error}; or leave {name} out"
        needy = [name for name, metric in self.metrics.items() if metric.reference]
        if self.reference is None and needy:
            choices = "reference=digits, folder, npz, torchvision or statistics"
            yield f"{', '.join(needy)} {'needs' if len(needy) == 1 else 'need'} a reference: choose {choices}"
            return
        unreadable = [error for source in (images, self.reference) if (error := error_of(source))]
        yield from unreadable
        if unreadable:
            return
        try:
            check_channels(images, self.feature)
            self._check_reference(images)
        except ValueError as error:
            yield str(error)
        for name, metric in self.metrics.items():
            try:
                self._check_metric(name, metric, count)
            except ValueError as error:
                yield str(error)

    def _check_reference(self, images: ImageSource) -> None:
        reference = self.reference
        if reference is None:
            return
        if isinstance(reference, StatisticsFile):
            reference.check(self.feature)
        if reference.image_shape and reference.image_shape != images.image_shape:
            theirs, ours = ("{} x {} x {}".format(*shape) for shape in (reference.image_shape, images.image_shape))
            raise ValueError(
                f"the reference {reference.name} is of {theirs} images, {images.name} of {ours}: choose a reference of "
                "that size"
            )
        for output, gaussian in gaussians_of(reference).items():
            size = self.feature.outputs.get(output, 0)
            if output in self.needed("statistics") and len(gaussian.mean) != size:
                raise ValueError(
                    f"the reference {reference.name} has statistics of {len(gaussian.mean)} {output} features, but "
                    f"feature={self.feature.name} gives {size}: choose a reference made with the same network"
                )

    def _check_metric(self, name: str, metric: Metric, count: int) -> None:
        reference, images = self.reference, 0 if self.reference is None else len(self.reference)
        if metric.uses not in self.feature.outputs:
            raise ValueError(
                f"{name} is taken of {metric.uses}, which feature={self.feature.name} does not give: "
                "choose feature=inception, or leave it out"
            )
        if metric.reference == "images" and not images:
            raise ValueError(
                f"{name} needs images of the reference, but {reference.name} holds statistics alone: choose another, "
                "or leave it out"
            )
        known = metric.reference == "statistics" and metric.uses in gaussians_of(reference)
        if metric.reference == "statistics" and not images and not known:
            raise ValueError(f"{name} needs statistics of {metric.uses} features, which {reference.name} lacks")
        metric.check(fake=count, real=None if known else images or None)

    def prepare(self, *, cache: Path, device: torch.device, title: str) -> None:
        """Find whatever is wrong with the reference before samples are made; its features are kept in the cache.

        Of processes that need the same features, one extracts them, and the others wait. Raises ValueError for images
        that cannot be read and for statistics that are damaged.
        """
        if self.reference is None or not any(self.needs.values()):
            return
        if not to_extract(self.reference, **self.needs):
            reference_features(self.reference, self.feature, cache, **self.needs)
            return
        if are_kept(self.reference, self.feature, cache):
            return
        folder, what = folder_of(self.reference.fingerprint(), self.feature, cache), "features of the reference"
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):  # nothing would be kept: `score` extracts them, and says so
            return
        with progress_bar(f"{title}, {what}", total=len(self.reference)) as bar, Claims(folder) as claims:
            while not claims.take("features"):
                bar.note("waiting for another process that extracts them")
                time.sleep(POLL)
            if not are_kept(self.reference, self.feature, cache):
                self.feature.to(device)
                reference_features(self.reference, self.feature, cache, progress=bar, **self.needs)
        if device.type == "cuda":
            torch.cuda.empty_cache()  # sampling may need all of the memory

    def score(
        self,
        images: ImageSource,
        *,
        count: int,
        resamples: int,
        cache: Path,
        device: torch.device,
        title: str,
        units: Sequence[int] | None = None,
    ) -> tuple[dict[str, float], dict[str, dict]]:
        """All metrics of the first `count` images, from features extracted once and cached block by block.

        And how they differ between random halves of the images, see `uncertainty.deviations`. units: of each image,
        where images of one unit are not independent.
        """
        if not self.metrics:
            return {}, {}
        self.feature.to(device)
        total = count + (0 if self.reference is None else len(self.reference))
        with progress_bar(f"{title}, {self.feature.name} features", total=total) as bar:
            real = None
            if self.reference is not None:
                real = reference_features(self.reference, self.feature, cache, progress=bar, **self.needs)
            fake = extract(images, self.feature, cache, outputs=self.outputs, progress=bar, limit=count)
            if resamples or any(metric.needs_labels for metric in self.metrics.values()):  # else, no set need be read
                fake = dataclasses.replace(fake, labels=self._labels(images, count))
        scores: dict[str, float] = {}
        for metric in self.metrics.values():
            scores |= metric(fake, real)
        with progress_bar(f"{title}, uncertainty", total=resamples, unit="resamples") as bar:
            found = deviations(
                self.metrics.values(), fake, real, resamples=resamples, units=units, advance=lambda: bar.advance(1)
            )
        return scores, found

    def _labels(self, images: ImageSource, count: int) -> torch.Tensor | None:
        labels = images.labels() if isinstance(images, SampleStore) else None
        if labels is None and (needy := [name for name, metric in self.metrics.items() if metric.needs_labels]):
            raise ValueError(f"{images.name} have no labels: leave out {', '.join(needy)}")
        return None if labels is None else torch.from_numpy(labels[:count])

    def record(self) -> dict:
        """What a number needs beside it to be compared with another."""
        reference = self.reference
        if reference is not None:
            facts = {"name": reference.name, "count": len(reference), "fingerprint": reference.fingerprint()}
            if isinstance(reference, StatisticsFile):
                facts["statistics"] = reference.contents
        return {
            **self.protocol,
            "feature": self.feature and {"name": self.feature.name, **self.feature.identity},
            "reference": None if reference is None else facts,
            "metrics": {name: dataclasses.asdict(metric) for name, metric in self.metrics.items()},
        }


def error_of(source: ImageSource | Reference | None) -> str | None:
    """Why a set of images cannot be read, as far as headers tell; None if it can."""
    try:
        _ = source and source.image_shape
    except ValueError as error:
        return str(error)
    return None


def check_labels(images: ImageSource, feature: Feature) -> None:
    """Raise ValueError unless the images have labels, and these are of the network's classes."""
    if not isinstance(images, SampleStore) or not feature.judges_labels:
        raise ValueError("it takes a sample set with labels and a network of these labels, feature=digits")
    meaning, count, judge = images.label_meaning, feature.outputs["logits"], f"feature={feature.name}"
    if meaning.classes is None:
        raise ValueError(meaning.why_not)
    if wrong := [label for label in meaning.classes if not 0 <= label < count]:
        raise ValueError(f"there are samples of class {wrong[0]}, but {judge} knows classes 0 to {count - 1}")
    names, known = dict(enumerate(meaning.names)), feature.class_names
    if known and names:
        if others := [label for label in meaning.classes if names.get(label) != known[label]]:
            name = names.get(others[0], "without a name")
            raise ValueError(f"class {others[0]} is {name} to the model, but {known[others[0]]} to {judge}")
    elif meaning.count not in (None, count):
        raise ValueError(
            f"the model has {meaning.count:,} classes, {judge} {count:,}, and nothing tells which is which"
        )


def protocol_of(cfg: DictConfig) -> dict:
    """{"protocol": its name, "changed": settings that differ from it, "beyond": metrics that its evaluator lacks}."""
    protocol = cfg.protocol
    pairs = [("feature", protocol.feature, cfg.feature or {})]
    metrics = cfg.get("metric") or {}
    pairs += [(f"metric.{name}", protocol.metric.get(name, {}), metric) for name, metric in metrics.items()]
    changed = [
        f"{where}.{key}={chosen[key]}"
        for where, meant, chosen in pairs
        for key, value in meant.items()
        if key in chosen and chosen[key] != value
    ]
    beyond = [name for name in metrics if name not in protocol.offers]
    return {"protocol": protocol.name, "changed": changed, "beyond": beyond}
