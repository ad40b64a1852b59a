"""The two kinds of metrics, and what they share: checks of features and counts, and blocks of rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from ditexp.checks import whole
from ditexp.core import Solver
from ditexp.values import Features, PerSample

if TYPE_CHECKING:
    from ditexp.sampler import Sampler

MAX_SEED = 2**32 - 1  # the largest seed of numpy's RandomState
BLOCK_SIZE = 1024  # rows: large enough for matrix products at full speed, small enough to stay in a cache


@dataclass(frozen=True)
class Metric(ABC):
    """A score of images, computed from their features.

    A metric is a pure function: it does not depend on batch size and device, nor on the order of images unless its
    definition does. A subclass is a frozen dataclass; its fields are the settings that a result records.

    needs_labels, needs_prompts: whether it needs the labels, or the prompts, that the samples were made with.
    """

    needs_labels: ClassVar[bool] = False
    needs_prompts: ClassVar[bool] = False

    @property
    @abstractmethod
    def uses(self) -> str:
        """The output of the feature network that it is computed from: pool, logits or spatial."""

    @property
    @abstractmethod
    def reference(self) -> str | None:
        """What it needs of the reference: "images", "statistics" (which images also give), or None."""

    @abstractmethod
    def check(self, *, fake: int, real: int | None) -> None:
        """Raise ValueError if there are too few samples or reference images.

        fake: the number of samples. real: of reference images; None if it is unknown or there is no reference.
        """

    @abstractmethod
    def __call__(self, fake: Features, real: Features | None) -> dict[str, float]:
        """The scores by their names. fake: the samples. real: the reference; None if there is none."""

    def against(self, real: Features | None) -> Callable[[Features], dict[str, float]]:
        """The metric as a function of samples alone, for many sets of them.

        A subclass may compute once what the reference alone decides; the scores are the same to the last bit.
        """
        return lambda fake: self(fake, real)

    def of_parts(self, fake: Features, real: Features | None) -> Callable[[Tensor, Features], dict[str, float]]:
        """The metric as a function of parts of the samples, each given by its rows, int64, and its features.

        A subclass may compute once what all samples decide; the scores are the same to the last bit.
        """
        score = self.against(real)
        return lambda rows, part: score(part)


@dataclass(frozen=True)
class SampleMean(Metric):
    """A metric that is the mean of one value of each sample, which needs no reference. name: of the score."""

    name: ClassVar[str]
    reference = None

    @abstractmethod
    def values(self, fake: Features) -> Tensor:
        """(N,) float64, the value of each sample."""

    def check(self, *, fake: int, real: int | None) -> None:
        """Any number of samples is enough."""

    def __call__(self, fake: Features, real: Features | None = None) -> dict[str, float]:
        return {self.name: self.values(fake).mean().item()}

    def of_parts(self, fake: Features, real: Features | None) -> Callable[[Tensor, Features], dict[str, float]]:
        values = self.values(fake)
        return lambda rows, part: {self.name: values[rows.to(values.device)].mean().item()}


@dataclass(frozen=True)
class Comparison(ABC):
    """A score of how samples are made: it integrates some of them itself and sees no images.

    A subclass is a frozen dataclass; its fields are the settings that a result records.
    """

    @property
    @abstractmethod
    def samples(self) -> int:
        """How many samples it integrates, from index 0 on."""

    @abstractmethod
    def check(self, solver: Solver) -> None:
        """Raise ValueError if this solver cannot be compared."""

    @abstractmethod
    def compare(
        self, sampler: Sampler, *, batch_size: int, identity: dict, cache: Path, advance: Callable[[int], None]
    ) -> tuple[dict[str, PerSample], dict]:
        """The scores by their names, and JSON-able details.

        sampler: its model is loaded. identity: facts that determine the exact flow of each noise. cache: a folder for
        results that other runs can reuse. advance: called with the number of samples that are done.
        """


def by_kind(chosen: Mapping[str, object]) -> tuple[dict[str, Metric], dict[str, Comparison]]:
    """The metrics of images and the comparisons among objects, by their names. Raises ValueError for anything else."""
    metrics: dict[str, Metric] = {}
    comparisons: dict[str, Comparison] = {}
    for name, metric in chosen.items():
        if isinstance(metric, Metric):
            metrics[name] = metric
        elif isinstance(metric, Comparison):
            comparisons[name] = metric
        else:
            kind = type(metric).__qualname__
            raise ValueError(f"metric {name}: {kind} is not a metric: inherit Metric or Comparison of metric.base")
    return metrics, comparisons


def blocks(count: int) -> list[slice]:
    """Slices of at most BLOCK_SIZE rows, of nearly equal length, that together cover `count` rows."""
    number = -(-count // BLOCK_SIZE)
    return [slice(i * count // number, (i + 1) * count // number) for i in range(number)]


def output(features: Features | None, uses: str, *, metric: str) -> Tensor:
    """One of the network's outputs, (N, D) float32. Raises ValueError if it is missing or not finite."""
    x = None if features is None else features.output(uses)
    if x is None:
        raise ValueError(
            f"{metric} needs the {uses} features of images, but one set has none: choose a network that gives them, "
            "and a reference that holds images"
        )
    if not torch.stack(x.aminmax()).isfinite().all():
        raise ValueError(f"{metric} got NaN or infinite {uses} features: check the images and the network's weights")
    return x


def outputs(fake: Features, real: Features | None, uses: str, *, metric: str) -> tuple[Tensor, Tensor]:
    """The same output for both sets. Raises ValueError as `output` does, and if the dimensions differ."""
    x, y = output(fake, uses, metric=metric), output(real, uses, metric=metric)
    check_dimensions(x.shape[1], y.shape[1], metric=metric)
    return x, y


def check_dimensions(fake: int, real: int, *, metric: str) -> None:
    """Raise ValueError if features of samples and reference have different dimensions."""
    if fake != real:
        raise ValueError(
            f"{metric} got features of {fake} dimensions and a reference of {real}: "
            "prepare the reference with the same feature network"
        )


def check_counts(
    needed: int, *, fake: int | None = None, real: int | None = None, metric: str, remedy: str = "add images"
) -> None:
    """Raise ValueError if either count is below `needed`; None is an unknown count, which passes."""
    for name, count in {"samples": fake, "reference": real}.items():
        if count is not None and count < needed:
            raise ValueError(f"{metric} needs {needed} images or more, got {count} in the {name}: {remedy}")


def check_neighbours(k: int, *, fake: int | None = None, real: int | None = None, metric: str) -> None:
    """Raise ValueError unless k is at least 1 and every image has k others in its set, where the count is known."""
    whole(f"metric.{metric}.k", k, minimum=1)
    remedy = f"add images or lower metric.{metric}.k"
    check_counts(k + 1, fake=fake, real=real, metric=f"{metric} with k={k}", remedy=remedy)
