"""Sample sets for tests, of random pixels; and what the sets of two runs have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ditexp.outputs import Outputs
from ditexp.samples.store import SampleStore
from ditexp.values import Cost


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def complete_set(outputs: Path, **more: int) -> SampleStore:
    """20 colour images in three blocks of 8, so that the last block holds 4 more; with labels. more: identity."""
    identity = {"block_size": 8, "image_shape": [6, 5, 3], **more}
    store = SampleStore(Outputs(outputs).samples, identity=identity, num_samples=20)
    provenance = {"time": "2026-01-01T00:00:00", "commit": "abc", "dirty": False}
    store.begin(command="ditexp run seed=0", provenance=provenance)
    every = random_images(24, 6, 5, 3)
    for block in range(3):
        part = slice(8 * block, 8 * block + 8)
        cost = Cost(images=8, velocity_rows=80, network_rows=160, seconds=2, peak_memory_mb=100)
        store.write(block, every[part], np.arange(24)[part] % 10, cost=cost, maker={"host": "here", "device": "a GPU"})
    return store


@dataclass
class Samples:
    """What scores see of a sample set: images (N, H, W, C) in blocks, the last of which may go beyond its count."""

    images: np.ndarray
    count: int
    block_size: int = 4

    @classmethod
    def of_pixels(cls, pixels: Tensor, count: int) -> Samples:
        """A set of images (N, C, H, W)."""
        return cls(pixels.permute(0, 2, 3, 1).numpy(), count)

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.images.shape[1:]

    def __len__(self) -> int:
        return self.count

    def blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, self.count, self.block_size):
            yield self.images[start : start + self.block_size]


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything below a folder that must not differ between two runs: blocks, not manifests with their times."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.npy.gz"))}
