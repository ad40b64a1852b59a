"""Images in memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from ditexp.files.image import BLOCK_SIZE
from ditexp.images.source import hash_pixels


class ArrayImages:
    """An array (N, H, W, C) uint8 with C = 1 or 3. It may not be changed afterwards. Raises ValueError for another."""

    def __init__(self, images: np.ndarray, *, name: str = "images in memory") -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
            shape = " x ".join(map(str, images.shape))
            raise ValueError(f"{name} are {shape} of {images.dtype}: give N x H x W x C of uint8, with C = 1 or 3")
        self.images, self.name = np.ascontiguousarray(images), name

    @property
    def image_shape(self) -> tuple[int, int, int]:
        _, height, width, channels = self.images.shape
        return height, width, channels

    def __len__(self) -> int:
        return len(self.images)

    def fingerprint(self) -> str:
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        return hash_pixels(self.images)

    def blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), BLOCK_SIZE):
            yield self.images[start : start + BLOCK_SIZE]
