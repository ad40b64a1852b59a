"""Samples in memory."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ditexp.report.grids import image_grid
from ditexp.result import CostPerImage
from ditexp.samples.export import export

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_SHOWN = 100


@dataclass(frozen=True, eq=False, repr=False)
class Samples:
    """Images (N, H, W, C) uint8, C = 1 or 3; labels (N,) int64, or None; and what an image cost.

    A notebook shows the first 100 as a picture.
    """

    images: np.ndarray
    labels: np.ndarray | None
    cost: CostPerImage

    kind: ClassVar[str] = "images"  # this and what follows is what `export` reads
    name: ClassVar[str] = "samples in memory"

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.shape))
        return (
            f"<{len(self)} images of {size}, {self.cost.forwards:g} network evaluations and "
            f"{self.cost.seconds_per_image:.2g} s each>"
        )

    def grid(self, columns: int = 10) -> Image:
        """All images in one picture, row by row; small ones are enlarged by whole factors."""
        return image_grid(self.images, min(columns, len(self)))

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        image_grid(self.images[:MAX_SHOWN], min(10, len(self))).save(data, "png")
        return data.getvalue()

    def save(self, path: str | Path) -> None:
        """Write an .npz (arr_0 the images, arr_1 the labels), a .tar of PNGs, or else a folder of PNGs.

        As `ditexp samples export` does. Raises ValueError if a folder is there already.
        """
        export(self, Path(path), lambda count: None)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of an image."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    @property
    def block_size(self) -> int:
        return len(self)

    @property
    def block_bytes(self) -> int:
        return math.prod(self.images.shape)

    @property
    def num_blocks(self) -> int:
        return 1

    def read(self, block: int) -> tuple[np.ndarray, np.ndarray | None]:
        return self.images, self.labels
