"""Directions to move noise along: between two classes, between two prompts, or from a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ditexp.checks import notice_fewer_classes
from ditexp.core import Data, TextModel
from ditexp.task.originals import by, encoded
from ditexp.task.tensor_file import READERS, read_tensor
from ditexp.values import Condition

if TYPE_CHECKING:
    from ditexp.sampler import Sampler

BATCH = 64  # fixed, so that the last bits of a direction do not depend on the batch size of the run


class Inversion(Protocol):
    """The part of an edit that its direction uses; see ditexp/task/edit.py."""

    @property
    def data(self) -> Data: ...
    @property
    def count(self) -> int: ...

    def source_condition(self, sampler: Sampler, indices: Sequence[int]) -> Condition: ...

    def to_noise(self, sampler: Sampler, x: Tensor, indices: Sequence[int]) -> Tensor: ...


class Direction(ABC):
    """Where an edit moves the noise of its images."""

    @abstractmethod
    def check(self, sampler: Sampler, edit: Inversion) -> None:
        """Raise ValueError if the direction does not exist for this model and these images."""
        ...

    @abstractmethod
    def find(self, sampler: Sampler, edit: Inversion) -> Tensor:
        """(classes of the data, at least 1; *sample_shape): what is added to the noise of an image of each class."""
        ...

    def targets(self, labels: Tensor) -> Tensor | None:
        """The classes (B,) that images of these classes become. None: the direction does not say."""
        return None


@dataclass(frozen=True)
class BetweenClasses(Direction):
    """From the mean noise of the images of one class to the mean of another. pairs: (from, to); other classes stay."""

    pairs: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        return f"{{{', '.join(f'{start}: {end}' for start, end in self.pairs)}}}"

    @property
    def classes(self) -> list[int]:
        return sorted({label for pair in self.pairs for label in pair})

    def check(self, sampler: Sampler, edit: Inversion) -> None:
        notice_fewer_classes(edit.data, sampler.model)
        labels = edit.data.labels
        if missing := sorted(set(self.classes) - set(labels.tolist())):
            known = f"labels run from {labels.min()} to {labels.max()}" if edit.data.num_classes else "have no labels"
            raise ValueError(f"task.direction={self}: no image is of class {missing[0]}; the images' {known}")
        firsts = [images_of(edit.data, label, 1)[0] for label in self.classes]
        if not are_the_same(edit.source_condition(sampler, firsts), sampler.condition(firsts)):
            raise ValueError(
                f"task.direction={self} is between classes, but one of the two conditions depends on the class "
                "already: choose task=edit_direction, where both are the null condition"
            )

    def find(self, sampler: Sampler, edit: Inversion) -> Tensor:
        means = {}
        for label in self.classes:
            indices = batches(images_of(edit.data, label, edit.count))
            noises = [edit.to_noise(sampler, encoded(edit.data, sampler, batch), batch) for batch in indices]
            means[label] = torch.cat(noises).mean(0)
        moves = torch.zeros(edit.data.num_classes, *sampler.model.sample_shape, device=sampler.device)
        for start, end in self.pairs:
            moves[start] = means[end] - means[start]
        return moves

    def targets(self, labels: Tensor) -> Tensor:
        ends = dict(self.pairs)
        return torch.tensor([ends.get(label, label) for label in labels.tolist()])


@dataclass(frozen=True)
class BetweenPrompts(Direction):
    """From the mean noise of images drawn with one prompt to the mean with another, from the same noises."""

    start: str
    end: str

    def __str__(self) -> str:
        return f"{{{self.start}: {self.end}}}"

    def check(self, sampler: Sampler, edit: Inversion) -> None:
        if not isinstance(sampler.model, TextModel):
            raise ValueError(
                f"task.direction={self} is between prompts, but this model takes no text: give labels, as {{3: 8}}"
            )
        sampler.model.notice_truncation([self.start, self.end])

    def find(self, sampler: Sampler, edit: Inversion) -> Tensor:
        assert isinstance(sampler.model, TextModel), "check refuses other models"
        means = []
        for prompt in (self.start, self.end):
            noises = []
            for batch in batches(range(edit.count)):
                condition = sampler.model.encode([prompt] * len(batch)).to(sampler.device)
                x = sampler.integrate(sampler.noise(batch), condition, batch)
                noises.append(edit.to_noise(sampler, x, batch))
            means.append(torch.cat(noises).mean(0))
        return for_every_class(means[1] - means[0], edit.data)


class Given(Direction):
    """The tensor of a file, see ditexp/task/tensor_file.py. Raises ValueError for a file without one."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.tensor, sha256 = read_tensor(path, f"task.direction={path}")
        self.identity = {"sha256": sha256}

    def check(self, sampler: Sampler, edit: Inversion) -> None:
        if self.tensor.shape != sampler.model.sample_shape:
            theirs, ours = (by(shape) for shape in (self.tensor.shape, sampler.model.sample_shape))
            raise ValueError(f"task.direction={self.path} is {theirs}, this model's samples {ours}: give that shape")

    def find(self, sampler: Sampler, edit: Inversion) -> Tensor:
        return for_every_class(self.tensor.to(sampler.device), edit.data)


def read_direction(given: Mapping | str) -> Direction:
    """The direction that task.direction stands for. Raises ValueError if it is none."""
    if isinstance(given, str) and Path(given).suffix in READERS:
        return Given(given)
    pairs = tuple(given.items()) if isinstance(given, Mapping) else ()
    if pairs and all(type(label) is int for pair in pairs for label in pair):
        return BetweenClasses(pairs)
    if len(pairs) == 1 and all(isinstance(prompt, str) for prompt in pairs[0]):
        return BetweenPrompts(*pairs[0])
    raise ValueError(
        f"task.direction={given}: give classes as {{3: 8}}, two prompts as {{a three: an eight}}, or the path of a "
        f"{', '.join(READERS)} file"
    )


def batches(indices: Sequence[int]) -> list[Sequence[int]]:
    return [indices[start : start + BATCH] for start in range(0, len(indices), BATCH)]


def for_every_class(direction: Tensor, data: Data) -> Tensor:
    return direction.expand(max(1, data.num_classes), *direction.shape)


def images_of(data: Data, label: int, count: int) -> list[int]:
    """The indices of the first images of a class."""
    return (data.labels == label).nonzero()[:count, 0].tolist()


def are_the_same(first: Condition, second: Condition) -> bool:
    """Whether all samples of these two conditions have one and the same condition."""
    if [part is None for part in first.parts] != [part is None for part in second.parts]:
        return False
    parts = [part for part in Condition.cat(first, second).parts if part is not None]
    return all(torch.equal(part, part[:1].expand_as(part)) for part in parts)
