"""Images from stored latents: the batches, and so the pixels, of the run that would sample them."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ditexp.sampler import Sampler
from ditexp.transfer import to_host


@dataclass(frozen=True)
class Decoder:
    """Decodes blocks of latents through the sampler's codec, on its device."""

    sampler: Sampler
    batch_size: int

    def __call__(self, x: np.ndarray, indices: range) -> np.ndarray:
        """Images (b, H, W, C) uint8 of latents x (b, C, H, W) float32."""
        return as_images(to_host(self.pixels(torch.tensor(x).split(self.batch_size), indices))())

    def pixels(self, batches: Iterable[Tensor], indices: range) -> Tensor:
        """Pixels (b, C, H, W) uint8, on the device, of latents in batches (B, C, H, W) float32."""
        self.sampler.load_codec()
        with one_thread(self.sampler.device):
            parts = zip(batches, batches_of(indices, self.batch_size))
            return torch.cat([self.sampler.pixels(part, batch) for part, batch in parts])


def as_images(pixels: Tensor) -> np.ndarray:
    """(b, C, H, W) on the host -> (b, H, W, C)."""
    return pixels.permute(0, 2, 3, 1).numpy()


def batches_of(indices: range, size: int) -> list[range]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


@contextmanager
def one_thread(device: torch.device) -> Generator[None]:
    """As in a worker: on a CPU, the last bits of a convolution depend on the number of threads."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
