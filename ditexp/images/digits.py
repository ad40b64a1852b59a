"""scikit-learn's handwritten digits as a set of images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ditexp.files.image import BLOCK_SIZE
from ditexp.images.source import hash_facts


class DigitsImages:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 x 1, with the grey levels that models decode to."""

    name = "digits"
    image_shape = (8, 8, 1)

    def __len__(self) -> int:
        return 1797

    def fingerprint(self) -> str:
        return hash_facts("scikit-learn digits, floor(127.5 (p / 8 - 1) + 128)", len(self))

    def blocks(self) -> Iterator[np.ndarray]:
        from sklearn.datasets import load_digits

        x = load_digits().images[..., None] / 8 - 1
        images = np.clip(127.5 * x + 128, 0, 255).astype(np.uint8)
        yield from np.split(images, range(BLOCK_SIZE, len(images), BLOCK_SIZE))
