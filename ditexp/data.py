"""Training data: map-style data sets of (image (C, H, W) float32 in [-1, 1], label in [0, num_classes))."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ditexp.files.content import digest
from ditexp.images import FolderImages
from ditexp.terminal.notices import notice


class Digits(Dataset):
    """scikit-learn's 1,797 handwritten digits, (1, 8, 8); ink 0..16 becomes -1..1."""

    num_classes = 10
    class_names: ClassVar[list[str]] = [str(digit) for digit in range(10)]
    identity: ClassVar[dict] = {"data": "scikit-learn digits"}

    def __init__(self):
        digits = load_digits()
        self.images = torch.from_numpy(digits.images).float()[:, None] / 8 - 1
        self.labels = torch.from_numpy(digits.target).long()

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


class CaptionedDigits(Digits):
    """Every digit under every phrasing: (image, caption)."""

    def __len__(self) -> int:
        return len(self.labels) * len(PHRASINGS)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        phrasing, image = divmod(index, len(self.labels))
        digit = int(self.labels[image])
        return self.images[image], caption(PHRASINGS[phrasing], digit)


class ImageFolder(Dataset):
    """A folder of class folders; or of images without labels, which all are -1. Images are upright, as EXIF says.

    size: side in pixels that every image must have, or with resize is brought to. channels: 1 takes files of mode L, 3
    of mode RGB. Labels: see `numbered`. Raises ValueError for files whose headers tell another mode or size, or that
    cannot be read, all of them in one error; for one beside class folders, and for a class folder without images.
    """

    def __init__(self, *, path: str, size: int, channels: int = 3, resize: bool = False):
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
            numbers = numbered(Path(path), self._class_folders({inside.parts[0] for inside in paths}))
            self.labels = torch.tensor([numbers[inside.parts[0]] for inside in paths])
            names = {number: name for name, number in numbers.items()}
            self.class_names = [names.get(label, str(label)) for label in range(max(names) + 1)]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def identity(self) -> dict:
        """Of the files' contents, however they are named above this folder."""
        facts = {"data": self.images.fingerprint(), "size": self.size[0], "resize": self.resize, "upright": True}
        return facts | {"labels": digest(self.labels.tolist())}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels = self.images.read(index, size=self.size, resize=self.resize).astype(np.float32)
        return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1, self.labels[index]

    def _class_folders(self, with_images: Collection[str]) -> list[str]:
        """The names of all class folders: an empty one that doesn't count would shift the labels of later ones."""
        names = [entry.name for entry in os.scandir(self.images.path) if entry.is_dir() and entry.name[0] != "."]
        for name in sorted(set(names) - set(with_images)):
            folder = self.images.path / name
            others = [file for file in self.images.left_out if file.is_relative_to(folder)]
            found = f" that can be read, only files such as {others[0]}" if others else ""
            raise ValueError(f"the class folder {folder} holds no image{found}: put its images there, or remove it")
        return names


LARGEST_LABEL = 999_999


def numbered(path: Path, names: Collection[str]) -> dict[str, int]:
    """The labels of the class folders below a path: their numbers where all names are numbers, else in order of text.

    A number is a label whether or not the smaller ones are there, so that parts of a data set keep its labels. Raises
    ValueError for two names of one number, and for numbers that are no labels.
    """
    if not all(is_number(name) for name in names):
        labels = {name: label for label, name in enumerate(sorted(names))}
        if odd := [name for name, label in labels.items() if is_number(name) and int(name) != label]:
            notice(
                f"{path}: not all class folders are numbers, so they are numbered in the order of their names: "
                f"{odd[0]} is label {labels[odd[0]]}"
            )
        return labels
    labels = {name: int(name) for name in sorted(names, key=lambda name: (int(name), name))}
    for name, after in itertools.pairwise(labels):
        if labels[name] == labels[after]:
            raise ValueError(f"{path}: the class folders {name} and {after} are one number: rename one")
    if labels[after := max(labels, key=labels.get)] > LARGEST_LABEL:
        raise ValueError(
            f"{path}: the class folder {after} is no label, but where all names are numbers they are the labels: "
            f"rename it, to a number up to {LARGEST_LABEL} or to a word"
        )
    if missing := sorted(set(range(max(labels.values()))) - set(labels.values())):
        notice(
            f"{path}: class folders are numbers, which are the labels, and {len(missing)} of the labels 0 to "
            f"{max(labels.values())} {'has' if len(missing) == 1 else 'have'} no folder: "
            f"{', '.join(map(str, missing[:5]))}{', ...' if len(missing) > 5 else ''}"
        )
    return labels


def is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


class ShuffledBatches(Sampler):
    """Batches of indices from step `start` to `stop`, every epoch in an order of its own keyed by (seed, epoch).

    Step s is the same batch whether training ran through or was resumed at s.
    """

    def __init__(self, *, length: int, batch_size: int, seed: int, start: int, stop: int):
        self.length, self.batch_size, self.seed, self.start, self.stop = length, batch_size, seed, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[int]]:
        epoch, order = -1, None
        for step in range(self.start, self.stop):
            batch = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
                batch.append(int(order[position % self.length]))
            yield batch
