"""Images for feature networks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ditexp.images.digits import DigitsImages


def random_pixels(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Colour images (N, 3, H, W)."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=draw)


class CountedDigits:
    """600 digits in blocks of a given size; counts the blocks that are read."""

    image_shape = (8, 8, 1)

    def __init__(self, block_size: int = 256, name: str = "images") -> None:
        self.block_size, self.name, self.read = block_size, name, 0
        self.images = np.concatenate(list(DigitsImages().blocks()))[:600]

    def __len__(self) -> int:
        return len(self.images)

    def fingerprint(self) -> str:
        return f"{self.name}-{self.block_size}"

    def blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), self.block_size):
            self.read += 1
            yield self.images[start : start + self.block_size]
