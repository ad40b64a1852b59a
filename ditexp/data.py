"""Training data: map-style data sets of (image (C, H, W) float32 in [-1, 1], label)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import Dataset, Sampler


class Digits(Dataset):
    """scikit-learn's 1,797 handwritten digits, (1, 8, 8); ink 0..16 becomes -1..1."""

    def __init__(self):
        digits = load_digits()
        self.images = torch.from_numpy(digits.images).float()[:, None] / 8 - 1
        self.labels = torch.from_numpy(digits.target).long()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]


class ImageFolder(Dataset):
    """A folder of class folders; classes are numbered in sorted order.

    size: side in pixels that every image must have. channels: 1 (grey) or 3 (RGB); other modes are refused.
    """

    extensions = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

    def __init__(self, *, path: str, size: int, channels: int = 3):
        root = Path(path)
        if not root.is_dir():
            raise ValueError(f"data.path={path} is not a folder")
        self.classes = sorted(child.name for child in root.iterdir() if child.is_dir())
        self.files = [
            (file, label)
            for label, name in enumerate(self.classes)
            for file in sorted((root / name).rglob("*"))
            if file.suffix.lower() in self.extensions
        ]
        if not self.files:
            raise ValueError(f"data.path={path} holds no images in class folders ({', '.join(self.extensions)})")
        self.size, self.mode = size, {1: "L", 3: "RGB"}[channels]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        file, label = self.files[index]
        with Image.open(file) as image:
            if image.mode != self.mode or image.size != (self.size, self.size):
                raise ValueError(
                    f"{file} is {image.mode} {image.size[0]}x{image.size[1]}, expected {self.mode} "
                    f"{self.size}x{self.size}: convert it, or set data.channels and data.size"
                )
            pixels = np.asarray(image, dtype=np.float32)
        return torch.from_numpy(pixels).view(self.size, self.size, -1).permute(2, 0, 1) / 127.5 - 1, torch.tensor(label)


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
