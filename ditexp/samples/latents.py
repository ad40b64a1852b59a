"""Sets of latents: the samples in the model's own space, from which images are decoded without sampling again.

A block is a safetensors file with x (b, C, H, W) float32, exactly as the sampler left it, and labels (b,) int64.
"""

from __future__ import annotations

import math

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ditexp.samples.block import BlockFormat
from ditexp.samples.block_store import BlockStore, Facts

READ_WITHOUT_DITEXP = """\
from safetensors.numpy import load_file
block = load_file("000000.safetensors")
x, labels = block["x"], block.get("labels")
"""


def encode(x: np.ndarray, labels: np.ndarray | None) -> bytes:
    """x: (b, C, H, W) float32; labels: (b,) int64 or None."""
    return save({"x": x} if labels is None else {"labels": labels, "x": x})


def decode(data: bytes, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray | None]:
    """x of this shape, and labels or None. Raises ValueError if the block is damaged or has another shape."""
    try:
        found = load(data)
    except (SafetensorError, KeyError, TypeError) as error:  # the last two: a type that numpy lacks
        raise ValueError(str(error)) from None
    x, labels = found.pop("x", None), found.pop("labels", None)
    if x is None or x.shape != shape or x.dtype != np.float32 or found:
        held = "no x" if x is None else f"x {x.shape} of {x.dtype}"
        raise ValueError(f"it holds {held}, not {shape} of float32")
    if labels is not None and (labels.shape != shape[:1] or labels.dtype != np.int64):
        raise ValueError(f"its labels are {labels.shape} of {labels.dtype}")
    return x, labels


def decode_labels(data: bytes, count: int) -> np.ndarray | None:
    labels = load(data).get("labels")
    if labels is not None and (labels.shape != (count,) or labels.dtype != np.int64):
        raise ValueError(f"its labels are {labels.shape} of {labels.dtype}")
    return labels


def largest_file(shape: tuple[int, ...]) -> int:
    return 4 * math.prod(shape) + 8 * shape[0] + 2**12


class LatentStore(BlockStore):
    """A set of latents.

    Its identity is that of the images decoded from them, without what acts on the decoding alone, and with their shape.
    """

    kind = "latents"
    format = BlockFormat(".safetensors", encode, decode, decode_labels, largest_file, READ_WITHOUT_DITEXP)
    value_bytes = 4

    @property
    def shared_identity(self) -> Facts:
        """What the identity of every set of images has that is decoded from these latents."""
        return {key: value for key, value in self.identity.items() if key != "latent_shape"}
