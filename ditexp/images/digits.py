"""scikit-learn's handwritten digits as a set of images."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ditexp.files.image import BLOCK_SIZE
from ditexp.images.source import hash_facts


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """(Images (1797, 8, 8) of whole numbers from 0 to 16, labels (1797,) int64), as of `sklearn.datasets.load_digits`.

    They are read from scikit-learn's file: importing scikit-learn takes longer than importing torch.
    """
    package = find_spec("sklearn")
    assert package and package.origin, "a dependency of ditexp"
    table = np.loadtxt(Path(package.origin).parent / "datasets/data/digits.csv.gz", delimiter=",", dtype=np.int64)
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1]


class DigitsImages:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 x 1, with the grey levels that models decode to."""

    name = "digits"
    image_shape = (8, 8, 1)

    def __len__(self) -> int:
        return 1797

    def fingerprint(self) -> str:
        return hash_facts("scikit-learn digits, floor(127.5 (p / 8 - 1) + 128)", len(self))

    def blocks(self) -> Iterator[np.ndarray]:
        x = load_digits()[0][..., None] / 8 - 1
        images = np.clip(127.5 * x + 128, 0, 255).astype(np.uint8)
        yield from np.split(images, range(BLOCK_SIZE, len(images), BLOCK_SIZE))
