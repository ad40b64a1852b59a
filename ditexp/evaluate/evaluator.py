"""The evaluator scores images by a feature network, a reference and metrics, and records the protocol."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ditexp.core import Feature, TextFeature
from ditexp.evaluate.checks import find_mistakes, needed
from ditexp.evaluate.per_prompt import scores_per_prompt
from ditexp.evaluate.protocol import Protocol
from ditexp.evaluate.uncertainty import deviations
from ditexp.extraction import are_kept, embed_texts, extract, folder_of
from ditexp.images.source import ImageSource
from ditexp.metric.base import Metric, SampleMean
from ditexp.reference.kinds import Reference, StatisticsFile, images_of, reference_features, to_extract
from ditexp.result import Deviations, Measurement, PromptScore, ReferenceRecord
from ditexp.samples.claims import Claims
from ditexp.samples.store import SampleStore
from ditexp.terminal.notices import notice
from ditexp.terminal.progress import Bar, progress_bar
from ditexp.values import Features, Prompt

POLL = 1.0  # seconds between looks at whether another process has extracted the features


@dataclass(frozen=True)
class Scored:
    """The scores of images, how they differ between random halves of them, and the scores of each prompt."""

    metrics: dict[str, float] = field(default_factory=dict)
    deviations: dict[str, Deviations] = field(default_factory=dict)
    per_prompt: list[PromptScore] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluator:
    """What images are scored with. metrics: by their names in the configuration. feature: None if nothing needs it."""

    feature: Feature | None
    reference: Reference | None
    metrics: dict[str, Metric]
    protocol: Protocol

    @property
    def channels(self) -> int:
        """Of the images that it scores."""
        return self.feature.channels if self.feature else 3

    def mistakes(self, images: ImageSource, count: int, prompts: Sequence[Prompt] = ()) -> Iterator[str]:
        """What keeps the first `count` images from being scored, one line each; found before any work."""
        return find_mistakes(
            images, count, feature=self.feature, reference=self.reference, metrics=self.metrics, prompts=prompts
        )

    def prepare(self, *, cache: Path, device: torch.device) -> None:
        """Extract and cache the features of the reference before samples are made.

        This finds images that cannot be read, and statistics that are damaged: both raise ValueError. If several
        processes need the same features, one extracts them and the others wait.
        """
        outputs, statistics = needed(self.metrics, "images"), needed(self.metrics, "statistics")
        if self.feature is None or self.reference is None or not outputs | statistics:
            return
        images = images_of(self.reference)
        if images is None or not to_extract(self.reference, outputs=outputs, statistics=statistics):
            self._reference_features(cache)
            return
        if are_kept(images, self.feature, cache):
            return
        folder = folder_of(images.fingerprint(), self.feature, cache)
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):  # nothing can be cached: `score` extracts the features, and says so
            return
        with progress_bar("features of the reference", total=len(images)) as bar, Claims(folder) as claims:
            while not claims.take("features"):
                bar.note("waiting for another process that extracts them")
                time.sleep(POLL)
            if not are_kept(images, self.feature, cache):
                self.feature.to(device)
                self._reference_features(cache, progress=bar)
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
        units: Sequence[int] | None = None,
        prompts: Sequence[Prompt] = (),
    ) -> Scored:
        """The scores of the first `count` images.

        Network and metrics compute on the device; on CUDA metrics by the same algorithms, which no GPU has run yet.
        Features are extracted once and cached block by block. resamples: the number of halves, see
        `uncertainty.deviations`. units: the unit of each image; images of one unit are not independent. prompts: that
        the images have in turn.
        """
        if not self.metrics:
            return Scored()
        fake, real = self._features(images, count, cache=cache, device=device)
        if resamples or any(metric.needs_labels for metric in self.metrics.values()):
            fake = dataclasses.replace(fake, labels=self._labels(images, count))
        if any(metric.needs_prompts for metric in self.metrics.values()):
            fake = dataclasses.replace(fake, text=self._text(prompts, count, cache))

        def on(device: torch.device) -> Scored:
            x, y = fake.to(device), None if real is None else real.to(device)
            scores: dict[str, float] = {}
            for metric in self.metrics.values():
                scores |= metric(x, y)
            means = [metric for metric in self.metrics.values() if prompts and isinstance(metric, SampleMean)]
            of_prompts = scores_per_prompt(prompts, count, {each.name: each.values(x).cpu() for each in means})
            with progress_bar("uncertainty", total=resamples, unit="resamples") as bar:
                advance = partial(bar.advance, 1)
                spread = deviations(self.metrics.values(), x, y, resamples=resamples, units=units, advance=advance)
            return Scored(scores, spread, of_prompts)

        try:
            return on(device)
        except torch.OutOfMemoryError:
            notice(f"{device} has not enough memory for the metrics: the CPU computes them")
        return on(torch.device("cpu"))

    def _features(
        self, images: ImageSource, count: int, *, cache: Path, device: torch.device
    ) -> tuple[Features, Features | None]:
        """Of the first `count` images, and of the reference."""
        assert self.feature is not None  # see `mistakes`
        feature = self.feature.to(device)
        total = count + (0 if self.reference is None else len(self.reference))
        with progress_bar(f"{feature.name} features", total=total) as bar:
            real = None if self.reference is None else self._reference_features(cache, progress=bar)
            fake = extract(images, feature, cache, outputs=needed(self.metrics), progress=bar, limit=count)
        return fake, real

    def _reference_features(self, cache: Path, progress: Bar | None = None) -> Features:
        assert self.feature is not None and self.reference is not None  # the callers have looked
        outputs, statistics = needed(self.metrics, "images"), needed(self.metrics, "statistics")
        return reference_features(
            self.reference, self.feature, cache, outputs=outputs, statistics=statistics, progress=progress
        )

    def _labels(self, images: ImageSource, count: int) -> Tensor | None:
        """The labels that the images were made with, (count,) int64. Raises ValueError if a metric lacks them."""
        labels = images.labels() if isinstance(images, SampleStore) else None
        if labels is not None:
            return torch.from_numpy(labels[:count])
        if needy := [name for name, metric in self.metrics.items() if metric.needs_labels]:
            raise ValueError(f"{images.name} have no labels: leave out {', '.join(needy)}")
        return None

    def _text(self, prompts: Sequence[Prompt], count: int, cache: Path) -> Tensor:
        """The embedding of each image's prompt, (count, D)."""
        assert isinstance(self.feature, TextFeature)  # see `mistakes`
        return embed_texts([prompts[index % len(prompts)].text for index in range(count)], self.feature, cache)

    def record(self) -> Measurement:
        """How scores are measured: whatever must be equal for two scores to be comparable."""
        feature, reference = self.feature, self.reference
        return Measurement(
            **self.protocol,
            feature=None if feature is None else {"name": feature.name, **feature.identity},
            reference=None if reference is None else record_of(reference),
            metrics={name: dataclasses.asdict(metric) for name, metric in self.metrics.items()},
        )


def record_of(reference: Reference) -> ReferenceRecord:
    return ReferenceRecord(
        name=reference.name,
        count=len(reference),
        fingerprint=reference.fingerprint(),
        statistics=reference.contents if isinstance(reference, StatisticsFile) else None,
    )
