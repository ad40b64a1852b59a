"""What all tasks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ditexp.core import FlowModel
from ditexp.values import LabelMeaning, PerSample, Sheet


class Task:
    """What is done with the sampler for the samples of the given indices; a task overrides what it needs."""

    min_samples: int = 1
    class_scores: tuple[str, ...] = ()  # the names of those of its scores that need `classes`

    def check(self, sampler: Any) -> None:
        """Raise ValueError for a model, solver or condition that the task cannot work with."""

    def prepare(self, sampler: Any) -> None:
        """Find what all samples need, once per process."""

    def __call__(self, sampler: Any, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """x (B, *sample_shape) at t = 1, and the labels (B,) int64 that are kept with the samples, or None."""
        raise NotImplementedError

    def units(self, indices: Sequence[int]) -> Sequence[int] | None:
        """The unit that each sample belongs to; samples of different units are independent. None: all are."""
        return None

    def scores(
        self, sampler: Any, samples, classes: Tensor | None, classify: Callable[[Tensor], Tensor] | None
    ) -> dict[str, float | PerSample]:
        """Scores of the task's own."""
        return {}

    def sheet(self, sampler: Any, images: Tensor) -> Sheet | None:
        """The first samples (N, C, H, W) uint8 as the task shows them; None: by their captions."""
        return None

    def trajectory(self, sampler: Any, indices: Sequence[int]) -> Sheet | None:
        """Some samples on their way from noise to data; None if the task does not show that."""
        return None

    def label_meaning(self, model: FlowModel) -> LabelMeaning | None:
        """The meaning of labels that the task sets; None: labels are the condition's."""
        return None
