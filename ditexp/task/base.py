"""The base class of all tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from ditexp.core import FlowModel
from ditexp.values import LabelMeaning, PerSample, Sheet

if TYPE_CHECKING:
    from ditexp.sampler import Sampler

Classify = Callable[[Tensor], Tensor]  # pixels (B, C, H, W) uint8 -> the classes (B,) that a network takes them for


class Samples(Protocol):
    """The images of a sample set. image_shape: (H, W, C), C = 1 (grey) or 3 (RGB)."""

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    def __len__(self) -> int: ...

    def blocks(self) -> Iterator[np.ndarray]:
        """(b, H, W, C) uint8, in order; the last block may go beyond the set."""
        ...


class Task(ABC):
    """What is done with a sampler to make the samples of given indices.

    Only `__call__` is required. The other methods have defaults that fit a task with nothing to add.

    class_scores: the names of the `scores` that need the classes which a network takes samples for.
    has_own_conditions: whether sample i is made under the condition of index i.
    decoding_facts: which of "codec" and "rounding" change the x that `__call__` returns. Stored latents are of use to
    sets that differ in the others.
    """

    class_scores: ClassVar[tuple[str, ...]] = ()
    has_own_conditions: ClassVar[bool] = True
    decoding_facts: ClassVar[tuple[str, ...]] = ("codec", "rounding")

    @property
    def min_samples(self) -> int:
        """The fewest samples that the task can make."""
        return 1

    def check(self, sampler: Sampler) -> None:
        """Raise ValueError if the task does not fit the sampler's model, solver, guidance or conditioner."""
        return  # it fits all

    def prepare(self, sampler: Sampler) -> None:
        """Compute what all samples need, once a process. The cost of this is no sample's."""
        return  # nothing

    @abstractmethod
    def __call__(self, sampler: Sampler, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """x (B, *sample_shape) at t = 1, and the labels (B,) int64 that are stored with the samples, or None."""
        ...

    def finish(self, sampler: Sampler, indices: Sequence[int], pixels: Tensor) -> Tensor:
        """The samples from their decoded pixels; (B, C, H, W) uint8 on the device both."""
        return pixels  # as they are

    def units(self, indices: Sequence[int]) -> Sequence[int] | None:
        """The unit that each sample belongs to; samples of different units are independent. None: all samples are.

        For example the path of an interpolation, or the image that an edit starts from.
        """
        return None

    def label_meaning(self, model: FlowModel) -> LabelMeaning | None:
        """What the labels are, if the task chooses them. None: they are the condition's."""
        return None

    def scores(
        self, sampler: Sampler, samples: Samples, classes: Tensor | None, classify: Classify | None
    ) -> dict[str, float | PerSample]:
        """Metrics of this task alone, by name, of a complete set.

        classes: (N,) int64, the class that the feature network takes each sample for; None if its classes are not the
        model's, or `class_scores` is empty. classify: the same for any pixels; None if the network has no logits.
        """
        return {}

    def sheet(self, sampler: Sampler, images: Tensor) -> Sheet | None:
        """A picture of the first samples, from their pixels (N, C, H, W) uint8. None: they are shown as they are."""
        return None

    def trajectory(self, sampler: Sampler, indices: Sequence[int]) -> Sheet | None:
        """A picture of some samples on their way from noise to data. None: there is none."""
        return None


def blocks_of(samples: Samples) -> Iterator[tuple[range, Tensor]]:
    """The images of a set, block by block: their indices, and (b, H, W, C) uint8."""
    start = 0
    for block in samples.blocks():
        indices = range(start, min(start + len(block), len(samples)))
        yield indices, torch.from_numpy(block[: len(indices)])
        start = indices.stop
