"""Images for feature networks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ditexp.images.digits import DigitsImages


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
