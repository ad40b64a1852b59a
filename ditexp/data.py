"""Data sets for training and editing: items are (image, label), or (image, caption) for models of text.

Images are (C, H, W) float32 in [-1, 1]; labels are () int64 in [0, num_classes).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ditexp.files.content import digest
from ditexp.images.digits import load_digits
from ditexp.images.folder import FolderImages
from ditexp.terminal.notices import notice


class Digits(Dataset[tuple[Tensor, Tensor]]):
    """scikit-learn's 1,797 handwritten digits, (1, 8, 8), with pixel values 0 to 16 scaled to [-1, 1]."""

    num_classes = 10
    class_names: ClassVar[list[str]] = [str(digit) for digit in range(10)]
    identity: ClassVar[dict] = {"data": "scikit-learn digits"}

    def __init__(self) -> None:
        images, labels = load_digits()
        self.images = torch.from_numpy(images).float()[:, None] / 8 - 1
        self.labels = torch.from_numpy(labels.copy())

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]


WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PHRASINGS = (
    "a handwritten {word}",
    "a handwritten {number}",
    "the digit {word}",
    "the digit {number}",
    "{word}",
    "{number}",
    "a {word} written by hand",
    "a {number} written with a pen",
    "the number {word}, handwritten",
    "an image of the number {number}",
    "an image of a handwritten {word}",
    "a small picture of the digit {word}",
    "someone wrote the number {word}",
    "a scan of a form with the digit {number} on it",
    "handwriting: {word}",
    "this is the number {word}",
)


def caption(phrasing: str, digit: int) -> str:
    return phrasing.format(word=WORDS[digit], number=digit)


class CaptionedDigits(Dataset[tuple[Tensor, str]]):
    """Every image of `Digits` with each of the phrasings: (image, caption). labels: those of the images, (1797,)."""

    num_classes = Digits.num_classes
    class_names: ClassVar[list[str]] = Digits.class_names
    identity: ClassVar[dict] = Digits.identity

    def __init__(self) -> None:
        digits = Digits()
        self.images, self.labels = digits.images, digits.labels

    def __len__(self) -> int:
        return len(self.labels) * len(PHRASINGS)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        phrasing, image = divmod(index, len(self.labels))
        digit = int(self.labels[image])
        return self.images[image], caption(PHRASINGS[phrasing], digit)


class ImageFolder(Dataset[tuple[Tensor, Tensor]]):
    """A folder with a subfolder for each class, or with images alone, whose labels are all -1.

    Images are turned upright as their EXIF orientation says. path: the folder. size: the side of every image in pixels.
    channels: 1 accepts files of mode L, 3 files of mode RGB. resize: whether to resize images to `size` (bicubic).
    `labels_of` says which label each class folder gets.

    Raises ValueError that lists all files that cannot be read or whose headers show another mode or size. It also
    raises ValueError for images beside class folders, and for class folders without images.
    """

    def __init__(self, *, path: str, size: int, channels: int = 3, resize: bool = False) -> None:
        self.images = FolderImages(path, channels, upright=True, settings="data")
        self.size, self.resize = (size, size), resize
        self.images.check(None if resize else self.size, same_size=not resize)
        paths = [file.relative_to(path) for file in self.images.files]
        self.class_names: list[str] = []  # by label
        self.labels = torch.full((len(paths),), -1)
        if any(len(inside.parts) > 1 for inside in paths):
            for inside in paths:
                if len(inside.parts) < 2:
                    raise ValueError(f"{Path(path) / inside} is in no class folder: move it into one, or remove it")
            numbers = labels_of(Path(path), self._class_folders({inside.parts[0] for inside in paths}))
            self.labels = torch.tensor([numbers[inside.parts[0]] for inside in paths])
            names = {number: name for name, number in numbers.items()}
            self.class_names = [names.get(label, str(label)) for label in range(max(names) + 1)]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def identity(self) -> dict:
        """What determines the images and labels; where the folder is does not matter."""
        facts = {"data": self.images.fingerprint(), "size": self.size[0], "resize": self.resize, "upright": True}
        return facts | {"labels": digest(self.labels.tolist())}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels = self.images.read(index, size=self.size, resize=self.resize).astype(np.float32)
        return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1, self.labels[index]

    def _class_folders(self, with_images: Collection[str]) -> list[str]:
        """The names of all class folders. Raises ValueError for an empty one: skipping it would shift later labels."""
        names = [entry.name for entry in os.scandir(self.images.path) if entry.is_dir() and entry.name[0] != "."]
        for name in sorted(set(names) - set(with_images)):
            folder = self.images.path / name
            others = [file for file in self.images.left_out if file.is_relative_to(folder)]
            found = f" that can be read, only files such as {others[0]}" if others else ""
            raise ValueError(f"the class folder {folder} holds no image{found}: put its images there, or remove it")
        return names


MAX_LABEL = 999_999


def labels_of(path: Path, names: Collection[str]) -> dict[str, int]:
    """The label of each class folder below a path, by its name.

    If all names are numbers, these are the labels, even if smaller numbers are missing; so a part of a data set keeps
    its labels. Otherwise the folders are numbered in alphabetical order. Raises ValueError if two names are the same
    number, and for numbers above MAX_LABEL.
    """
    if not all(is_number(name) for name in names):
        labels = {name: label for label, name in enumerate(sorted(names))}
        if odd := [name for name, label in labels.items() if is_number(name) and int(name) != label]:
            notice(
                f"{path}: not all class folders are numbers, so they are numbered in alphabetical order: "
                f"{odd[0]} is label {labels[odd[0]]}"
            )
        return labels
    labels = {name: int(name) for name in sorted(names, key=lambda name: (int(name), name))}
    for name, after in itertools.pairwise(labels):
        if labels[name] == labels[after]:
            raise ValueError(f"{path}: the class folders {name} and {after} are the same number: rename one")
    highest = max(labels, key=lambda name: labels[name])
    if labels[highest] > MAX_LABEL:
        raise ValueError(
            f"{path}: all class folders are numbers and so are the labels, but {highest} is too large: rename it to a "
            f"number up to {MAX_LABEL}, or to a word"
        )
    if missing := sorted(set(range(labels[highest])) - set(labels.values())):
        notice(
            f"{path}: all class folders are numbers and so are the labels; {len(missing)} of the labels 0 to "
            f"{labels[highest]} {'has' if len(missing) == 1 else 'have'} no folder: "
            f"{', '.join(map(str, missing[:5]))}{', ...' if len(missing) > 5 else ''}"
        )
    return labels


def is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


class ShuffledBatches(Sampler[list[int]]):
    """The batches of indices of steps `start` to `stop` - 1. Each epoch's order is keyed by (seed, epoch).

    Step s has the same batch whether training ran through or was resumed.
    """

    def __init__(self, *, length: int, batch_size: int, seed: int, start: int, stop: int) -> None:
        self.length, self.batch_size, self.seed, self.start, self.stop = length, batch_size, seed, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[int]]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.start, self.stop):
            batch = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
                batch.append(int(order[position % self.length]))
            yield batch
