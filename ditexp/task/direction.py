"""Directions that noise can be moved along: between classes, between prompts, or given in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ditexp.checks import tell_of_fewer_classes
from ditexp.core import Data
from ditexp.files.content import unchanged
from ditexp.files.npz import npy_header
from ditexp.files.pickles import read_pickled
from ditexp.files.reading import opened, unfit
from ditexp.files.tensors import opened_tensors
from ditexp.task.pixels import by
from ditexp.values import Condition

FILE_BYTES = 2**28
KIND, REMEDY = "a file of one tensor", "save one tensor of real, finite numbers"
BATCH = 64  # whatever the run's own batches are, so that their size doesn't change a direction's last bits


class Direction(Protocol):
    def check(self, sampler, edit) -> None:
        """Raise ValueError if there is no such direction for this model and these images."""
        ...

    def find(self, sampler, edit) -> Tensor:
        """(classes of the data, at least 1; *sample_shape): where the noise of images of each label goes."""
        ...

    def targets(self, labels: Tensor) -> Tensor | None:
        """What class images of these labels (B,) are to become; None if it doesn't say."""
        ...


@dataclass(frozen=True)
class BetweenClasses:
    """From the mean noise of images of one class to that of another's. pairs: (from, to); other classes stay."""

    pairs: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        return f"{{{', '.join(f'{start}: {end}' for start, end in self.pairs)}}}"

    def check(self, sampler, edit) -> None:
        tell_of_fewer_classes(edit.data, sampler.model)
        labels = edit.data.labels
        if missing := sorted({label for pair in self.pairs for label in pair} - set(labels.tolist())):
            known = f"labels run from {labels.min()} to {labels.max()}" if edit.data.num_classes else "have no labels"
            raise ValueError(f"task.direction={self}: no image is of class {missing[0]}; the images' {known}")
        firsts = [images_of(edit.data, label, 1)[0] for pair in self.pairs for label in pair]
        if not one_for_all(edit.source_condition(sampler, firsts), sampler.condition(firsts)):
            raise ValueError(
                f"task.direction={self} is between classes that the condition of one of the ways tells apart already: "
                "choose task=edit_direction, where both are under the null condition"
            )

    def find(self, sampler, edit) -> Tensor:
        means = {}
        for label in sorted({label for pair in self.pairs for label in pair}):
            indices = images_of(edit.data, label, edit.count)
            means[label] = mean_noise(sampler, edit, edit.originals(indices)[0].to(sampler.device), indices)
        moves = torch.zeros(edit.data.num_classes, *sampler.model.sample_shape, device=sampler.device)
        for start, end in self.pairs:
            moves[start] = means[end] - means[start]
        return moves

    def targets(self, labels: Tensor) -> Tensor:
        ends = dict(self.pairs)
        return torch.tensor([ends.get(label, label) for label in labels.tolist()])


@dataclass(frozen=True)
class BetweenPrompts:
    """From the mean noise of images drawn under one prompt to that under another, from the same noises."""

    start: str
    end: str

    def __str__(self) -> str:
        return f"{{{self.start}: {self.end}}}"

    def check(self, sampler, edit) -> None:
        if not hasattr(sampler.model, "encode"):
            raise ValueError(
                f"task.direction={self} is between prompts, but this model takes no text: give labels, as {{3: 8}}"
            )
        sampler.model.tell_of_truncation([self.start, self.end])

    def find(self, sampler, edit) -> Tensor:
        indices, means = range(edit.count), []
        for prompt in (self.start, self.end):
            parts = []
            for batch in batches(indices):
                condition = sampler.model.encode([prompt] * len(batch)).to(sampler.device)
                parts.append(sampler.integrate(sampler.noise(batch), condition, batch))
            means.append(mean_noise(sampler, edit, torch.cat(parts), indices))
        return for_every_class(means[1] - means[0], edit.data)

    def targets(self, labels: Tensor) -> None:
        return None


class Given:
    """The one tensor of a file: .npy, .safetensors, or .pt, which is never unpickled as code.

    Raises ValueError if it is missing or unreadable, holds no single tensor of numbers, or NaN or Inf.
    """

    def __init__(self, path: str):
        self.path, name = path, f"task.direction={path}"
        opened(path, KIND, most=FILE_BYTES, name=name).close()  # before it is hashed
        with unchanged(path) as sha256:
            found = READERS[Path(path).suffix](path, name)
        self.identity = {"sha256": sha256}
        tensors = list(found.values()) if isinstance(found, dict) else [found]
        if len(tensors) != 1 or not isinstance(tensors[0], Tensor) or tensors[0].is_complex():
            raise unfit(name, "holds no single tensor of real numbers", REMEDY)
        self.tensor = tensors[0].float()
        if not self.tensor.isfinite().all():
            raise unfit(name, "holds NaN or Inf", REMEDY)

    def check(self, sampler, edit) -> None:
        if self.tensor.shape != sampler.model.sample_shape:
            theirs, ours = (by(shape) for shape in (self.tensor.shape, sampler.model.sample_shape))
            raise ValueError(f"task.direction={self.path} is {theirs}, this model's samples {ours}: give that shape")

    def find(self, sampler, edit) -> Tensor:
        return for_every_class(self.tensor.to(sampler.device), edit.data)

    def targets(self, labels: Tensor) -> None:
        return None


def read_npy(path: str, name: str) -> Tensor:
    try:
        with opened(path, KIND, name=name) as file:
            header = npy_header(file)
            content = file.read(min(header.bytes, FILE_BYTES) + 1)
        if len(content) != header.bytes or header.dtype.hasobject:
            raise ValueError(f"it has {len(content):,} bytes for {header.shape} of {header.dtype}")
        array = np.frombuffer(content, header.dtype).reshape(header.shape, order="F" if header.fortran else "C")
        return torch.from_numpy(np.array(array, dtype=header.dtype.newbyteorder("=")))
    except (TypeError, ValueError) as error:  # types that torch lacks
        raise unfit(name, f"is damaged, or holds code ({error})", REMEDY) from None


def read_safetensors(path: str, name: str) -> dict[str, Tensor]:
    with opened_tensors(path, KIND, remedy=REMEDY, name=name) as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


READERS = {
    ".npy": read_npy,
    ".safetensors": read_safetensors,
    ".pt": lambda path, name: read_pickled(path, KIND, remedy=REMEDY, name=name),
}


def read_direction(given: Mapping | str) -> Direction:
    """What task.direction stands for. Raises ValueError if it is nothing that is known."""
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


def mean_noise(sampler, edit, images: Tensor, indices: Sequence[int]) -> Tensor:
    """Of images (N, *sample_shape), taken back under the source condition of the samples of these indices."""
    parts = zip(images.split(BATCH), batches(indices))
    return torch.cat([edit.to_noise(sampler, part, batch) for part, batch in parts]).mean(0)


def batches(indices: Sequence[int]) -> list[Sequence[int]]:
    return [indices[start : start + BATCH] for start in range(0, len(indices), BATCH)]


def for_every_class(direction: Tensor, data: Data) -> Tensor:
    return direction.expand(max(1, data.num_classes), *direction.shape)


def images_of(data: Data, label: int, count: int) -> list[int]:
    """The indices of the first images of a class."""
    return (data.labels == label).nonzero()[:count, 0].tolist()


def one_for_all(*conditions: Condition) -> bool:
    """Whether all samples of these conditions are under the same."""
    kinds = {tuple(part is None for part in condition.parts) for condition in conditions}
    parts = filter(lambda part: part is not None, Condition.cat(*conditions).parts) if len(kinds) == 1 else ()
    return len(kinds) == 1 and all((part == part[:1]).all() for part in parts)
