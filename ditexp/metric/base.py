"""What metrics share: looking at the features they are given, and going through them block by block."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ditexp.core import Solver
from ditexp.values import Features, PerSample

MOST_SEED = 2**32 - 1  # of numpy's RandomState
BLOCK_SIZE = 1024  # images: large enough for matrix products at full speed, small enough to stay in a cache


class Comparison:
    """A metric of how samples are made and not of images: it integrates some of them itself. samples: how many."""

    samples: int

    @abstractmethod
    def check(self, solver: Solver) -> None:
        """Raise ValueError if this solver cannot be compared."""

    @abstractmethod
    def compare(
        self, sampler: Any, *, batch_size: int, identity: dict, cache: Path, advance: Callable[[int], None]
    ) -> tuple[dict[str, float | PerSample], dict[str, Any]]:
        """Scores, and JSON-able details beside them."""


def blocks(count: int) -> list[slice]:
    """Nearly equal slices of at most BLOCK_SIZE that together cover `count` rows."""
    number = -(-count // BLOCK_SIZE)
    return [slice(i * count // number, (i + 1) * count // number) for i in range(number)]


def output(features: Features | None, uses: str, *, metric: str) -> Tensor:
    """(N, D) float32, one of the network's outputs. Raises ValueError if it is not there, or not finite."""
    x = None if features is None else getattr(features, uses)
    if x is None:
        raise ValueError(
            f"{metric} needs the {uses} features of images, but one set has none: choose a network that gives them, "
            "and a reference that holds images"
        )
    if not torch.stack(x.aminmax()).isfinite().all():
        raise ValueError(f"{metric} got NaN or infinite {uses} features: check the images and the network's weights")
    return x


def outputs(fake: Features, real: Features | None, uses: str, *, metric: str) -> tuple[Tensor, Tensor]:
    """The same output for both sets. Raises ValueError, too, if they are of different dimensions."""
    x, y = output(fake, uses, metric=metric), output(real, uses, metric=metric)
    check_dimensions(x.shape[1], y.shape[1], metric=metric)
    return x, y


def check_dimensions(fake: int, real: int, *, metric: str) -> None:
    if fake != real:
        raise ValueError(
            f"{metric} got features of {fake} dimensions and a reference of {real}: "
            "prepare the reference with the same feature network"
        )


def check_counts(
    needed: int, *, fake: int | None = None, real: int | None = None, metric: str, remedy: str = "add images"
) -> None:
    """Raise ValueError if either count is known and below what is needed."""
    for name, count in {"samples": fake, "reference": real}.items():
        if count is not None and count < needed:
            raise ValueError(f"{metric} needs {needed} images or more, got {count} in the {name}: {remedy}")


def check_neighbours(k: int, *, fake: int | None = None, real: int | None = None, metric: str) -> None:
    """Raise ValueError unless k is 1 or more and each count, where known, leaves everyone k others."""
    whole_number(f"metric.{metric}.k", k, least=1)
    remedy = f"add images or lower metric.{metric}.k"
    check_counts(k + 1, fake=fake, real=real, metric=f"{metric} with k={k}", remedy=remedy)


def whole_number(name: str, value: object, *, least: int, most: int = 2**63 - 1) -> None:
    """Raise ValueError unless a setting of that name is a whole number from `least` to `most`."""
    if type(value) is not int or value < least:
        raise ValueError(f"{name}={value}: choose {least} or more, in whole numbers")
    if value > most:
        raise ValueError(f"{name}={value}: choose {most:,} or less")
