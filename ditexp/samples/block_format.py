"""The file format of a block of images: lossless, half to two thirds of the raw size, readable without ditexp.

A gzip of two arrays in numpy's own format: labels (b,), empty if there are none, and differences (b, C, H, W) uint8.
Red and blue are replaced by their difference from green, then each pixel by its difference from its left neighbour and
then from the one above, all modulo 256. Neighbouring pixels of photographs are similar, so run lengths and Huffman
codes (zlib's RLE strategy) compress like PNG at two to three times its speed; benchmarks/block_formats.py compares.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Sequence

import numpy as np

from ditexp.files.npz import Readable, npy_header

SUFFIX = ".npy.gz"
CHUNK = 32  # images filtered at a time: few enough for the processor's cache
PART = 2**20  # bytes decompressed at a time

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
        parts.append(coder.compress(differences(images[start : start + CHUNK]).data))
    return b"".join([*parts, coder.flush()])


def largest_file(shape: Sequence[int]) -> int:
    """The most bytes of a block's file: of images (b, H, W, C) of noise, which doesn't compress, and labels."""
    return int(1.01 * (math.prod(shape) + 8 * shape[0])) + 2**12


def decode(data: bytes, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None]:
    """Images (b, H, W, C) uint8 of this shape, and labels (b,) int64 or None.

    Decompresses no more than images of this shape take. Raises ValueError if the block is damaged or has another shape.
    """
    count, height, width, channels = shape
    try:
        with gzip.open(io.BytesIO(data)) as file:
            labels = read_labels(file, count)
            x = read_array(file, [(count, channels, height, width)], np.dtype(np.uint8))
            if file.read(1):  # reading past the end checks the checksum
                raise ValueError("there is more in it than labels and images")
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(str(error)) from None
    images = np.empty(shape, np.uint8)
    for start in range(0, count, CHUNK):
        undo_differences(x[start : start + CHUNK], out=images[start : start + CHUNK])
    return images, labels


def decode_labels(data: bytes, count: int) -> np.ndarray | None:
    """The labels alone, which come first. Raises ValueError if they are damaged, or neither `count` nor none."""
    try:
        with gzip.open(io.BytesIO(data)) as file:
            return read_labels(file, count)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(str(error)) from None


def read_labels(file: Readable, count: int) -> np.ndarray | None:
    labels = read_array(file, [(0,), (count,)], np.dtype(np.int64))
    return labels if len(labels) else None


def read_array(file: Readable, shapes: Sequence[tuple[int, ...]], dtype: np.dtype) -> np.ndarray:
    """A numpy array of one of these shapes. Raises ValueError."""
    header = npy_header(file)
    if header.shape not in shapes or header.dtype != dtype or (header.fortran and len(header.shape) > 1):
        raise ValueError(f"it holds {header.shape} of {header.dtype}, not {shapes[-1]} of {dtype}")
    array, filled = np.empty(header.shape, dtype), 0
    content = array.reshape(-1).view(np.uint8)
    while filled < len(content):
        part = file.read(min(PART, len(content) - filled))
        if not part:
            raise ValueError("it ends too early")
        content[filled : filled + len(part)] = np.frombuffer(part, np.uint8)
        filled += len(part)
    return array


def differences(images: np.ndarray) -> np.ndarray:
    """(b, H, W, C) uint8 -> (b, C, H, W) uint8, see above."""
    x = images.transpose(0, 3, 1, 2).copy()
    if x.shape[1] == 3:
        x[:, 0] -= x[:, 1]
        x[:, 2] -= x[:, 1]
    x[..., 1:] -= x[..., :-1].copy()
    x[:, :, 1:] -= x[:, :, :-1].copy()
    return x


def undo_differences(x: np.ndarray, *, out: np.ndarray) -> None:
    """Write the images of differences x to `out`; x is overwritten."""
    for row in range(1, x.shape[2]):  # several times faster than np.add.accumulate over rows
        x[:, :, row] += x[:, :, row - 1]
    np.add.accumulate(x, axis=3, dtype=np.uint8, out=x)
    if x.shape[1] == 3:
        x[:, 0] += x[:, 1]
        x[:, 2] += x[:, 1]
    out[...] = x.transpose(0, 2, 3, 1)
