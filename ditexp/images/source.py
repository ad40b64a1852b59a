"""What every set of images offers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Protocol

import numpy as np


class ImageSource(Protocol):
    """A set of images of one size.

    name: for messages. image_shape: (H, W, C), with C = 1 (grey) or 3 (RGB). len(): the number of images.
    """

    name: str

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    def __len__(self) -> int: ...

    def fingerprint(self) -> str:
        """A hash of the images' content at the first call.

        Features are cached under the fingerprint, so `blocks` gives the images that were hashed, or raises ValueError
        if they have changed since.
        """
        ...

    def blocks(self) -> Iterator[np.ndarray]:
        """The images in order, as uint8 arrays (b, H, W, C) with b <= 256. Each block is read when it is asked for."""
        ...


def hash_facts(*facts: object) -> str:
    """The sha256 of facts, one a line. File names may contain bytes that are not UTF-8."""
    return hashlib.sha256("\n".join(map(str, facts)).encode(errors="surrogateescape")).hexdigest()


def hash_pixels(images: np.ndarray) -> str:
    """The sha256 of an array's shape and values."""
    return hashlib.sha256(f"{images.shape}".encode() + images.tobytes()).hexdigest()
