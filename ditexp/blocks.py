"""How a block of images lies in its file: losslessly, in half to two thirds of the space, readable without ditexp.

A gzip of two arrays in numpy's own format: labels (b,), empty if there are none, and differences (b, C, H, W) uint8,
where red and blue stand as their difference from green and each pixel as its difference from its left neighbour and
then from the one above, modulo 256. Photographs differ little from pixel to pixel, so run lengths and Huffman codes
(zlib's RLE strategy) do what PNG does at two to three times its speed; benchmarks/block_formats.py compares.
"""

from __future__ import annotations

import gzip
import io
import zlib

import numpy as np

SUFFIX = ".npy.gz"
CHUNK = 32  # images filtered at a time: they stay in the processor's cache, and memory stays small

READ_WITHOUT_DITEXP = """\
import gzip, numpy as np
with gzip.open("000000.npy.gz") as file:
    labels, x = np.load(file), np.load(file)
x = x.cumsum(2, dtype=np.uint8).cumsum(3, dtype=np.uint8)
if x.shape[1] == 3:
    x[:, 0] += x[:, 1]
    x[:, 2] += x[:, 1]
images = x.transpose(0, 2, 3, 1)
"""


def encode(images: np.ndarray, labels: np.ndarray | None) -> bytes:
    """images: (b, H, W, C) uint8; labels: (b,) int64 or None."""
    count, height, width, channels = images.shape
    head = io.BytesIO()
    np.save(head, np.empty(0, np.int64) if labels is None else labels)
    shape = {"descr": "|u1", "fortran_order": False, "shape": (count, channels, height, width)}
    np.lib.format.write_array_header_1_0(head, shape)
    coder = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS + 16, 9, zlib.Z_RLE)
    parts = [coder.compress(head.getvalue())]
    for start in range(0, count, CHUNK):
        parts.append(coder.compress(differences(images[start : start + CHUNK])))
    return b"".join([*parts, coder.flush()])


def decode(data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Images (b, H, W, C) uint8 and labels (b,) int64 or None."""
    with gzip.open(io.BytesIO(data)) as file:
        labels, x = np.load(file), np.load(file)
    images = np.empty((len(x), *x.shape[2:], x.shape[1]), np.uint8)
    for start in range(0, len(x), CHUNK):
        undo_differences(x[start : start + CHUNK], out=images[start : start + CHUNK])
    return images, labels if len(labels) else None


def decode_labels(data: bytes) -> np.ndarray | None:
    """The labels alone, which come first."""
    with gzip.open(io.BytesIO(data)) as file:
        labels = np.load(file)
    return labels if len(labels) else None


def differences(images: np.ndarray) -> np.ndarray:
    x = images.transpose(0, 3, 1, 2).copy()
    if x.shape[1] == 3:
        x[:, 0] -= x[:, 1]
        x[:, 2] -= x[:, 1]
    x[..., 1:] -= x[..., :-1].copy()
    x[:, :, 1:] -= x[:, :, :-1].copy()
    return x


def undo_differences(x: np.ndarray, *, out: np.ndarray) -> None:
    for row in range(1, x.shape[2]):  # as np.add.accumulate over rows would do, but several times faster
        x[:, :, row] += x[:, :, row - 1]
    np.add.accumulate(x, axis=3, dtype=np.uint8, out=x)
    if x.shape[1] == 3:
        x[:, 0] += x[:, 1]
        x[:, 2] += x[:, 1]
    out[...] = x.transpose(0, 2, 3, 1)
