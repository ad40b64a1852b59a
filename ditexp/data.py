"""Training data: map-style data sets of (image (C, H, W) float32 in [-1, 1], label in [0, num_classes))."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ditexp.images import FolderImages


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
    """A folder of class folders, numbered in sorted order; or of images without labels, which all are -1.

    size: side in pixels that every image must have, or with resize is brought to. channels: 1 takes files of mode L, 3
    of mode RGB. Raises ValueError for a file of another mode or size, unreadable, or beside class folders.
    """

    def __init__(self, *, path: str, size: int, channels: int = 3, resize: bool = False):
        self.images, self.size, self.resize = FolderImages(path, channels), (size, size), resize
        paths = [file.relative_to(path) for file in self.images.files]
        if all(len(inside.parts) == 1 for inside in paths):
            self.num_classes, self.labels = 0, torch.full((len(paths),), -1)
            self.class_names: list[str] = []
        else:
            for inside in paths:
                if len(inside.parts) < 2:
                    raise ValueError(f"{Path(path) / inside} is in no class folder: move it into one, or remove it")
            classes, labels = np.unique([inside.parts[0] for inside in paths], return_inverse=True)
            self.num_classes, self.labels = len(classes), torch.from_numpy(labels)
            self.class_names = classes.tolist()

    @property
    def identity(self) -> dict:
        """Looks at every file, which training has no need of."""
        return {"data": self.images.fingerprint(), "size": self.size[0], "resize": self.resize}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels = self.images.read(index, size=self.size, resize=self.resize).astype(np.float32)
        return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1, self.labels[index]


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
