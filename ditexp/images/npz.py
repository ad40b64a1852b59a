"""Images in an npz file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from ditexp.files import content
from ditexp.files.image import BLOCK_SIZE
from ditexp.files.npz import npy_header, npz_headers, opened_npz
from ditexp.files.npz_images import shape_of_images
from ditexp.files.reading import unfit


class NpzImages:
    """The array `arr_0` of an npz file, (N, H, W, C) uint8 with C = 1 or 3: the format of ADM and SiT.

    Raises ValueError when the file is not an npz file, or when `arr_0` is missing, truncated, or of another type or
    shape. Other types are refused because only their author knows which value is white.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.shape = shape_of_images(self.path, npz_headers(self.path))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        _, height, width, channels = self.shape
        return height, width, channels

    def __len__(self) -> int:
        return self.shape[0]

    def fingerprint(self) -> str:
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        return content.sha256(self.path)

    def blocks(self) -> Iterator[np.ndarray]:
        size, sha256 = int(np.prod(self.image_shape)), self.fingerprint()
        with opened_npz(self.path) as archive, archive.open("arr_0.npy") as member:
            shape = npy_header(member).shape
            for start in range(0, len(self), BLOCK_SIZE):
                count = min(BLOCK_SIZE, len(self) - start)
                try:
                    data = member.read(count * size)
                except Exception as error:  # zipfile raises a dozen kinds for damaged files
                    raise unfit(self.path, f"is damaged after image {start} ({error})", "write it again") from None
                if len(data) < count * size:
                    raise unfit(self.path, f"ends within image {start + len(data) // size}", "write it again")
                content.require(self.path, sha256)
                if shape != self.shape:
                    raise content.changed(self.path)
                yield np.frombuffer(data, np.uint8).reshape(count, *self.image_shape)
