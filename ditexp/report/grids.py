"""Samples as pictures: grids of images, sheets with captions, films."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ditexp.terminal.escape import one_line
from ditexp.values import Sheet

if TYPE_CHECKING:  # a report draws results, and needs no torch
    from torch import Tensor

GUTTER = 2  # pixels between images
GRID_COLUMNS = 10  # of a cell's picture: balanced labels align
FRAME_MS = 80
END_MS = 400  # for the first and the last frame of a film
MAX_FRAMES = 11  # of a film, in a sheet


def evenly_spaced(count: int, wanted: int) -> list[int]:
    """Up to `wanted` indices below `count`, from first to last."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, wanted))})


def draw(sheet: Sheet) -> Image.Image:
    """A sheet with its headings and captions; of a film, MAX_FRAMES frames."""
    count = sheet.images.shape[1]
    shown = evenly_spaced(count, MAX_FRAMES) if sheet.moving else list(range(count))
    images = sheet.images[:, shown]
    grid = image_grid(images.flatten(0, 1).permute(0, 2, 3, 1).numpy(), columns=len(shown)).convert("RGB")
    font = ImageFont.load_default(size=13)
    columns = [sheet.columns[i] for i in shown] if sheet.columns else []
    width, height = (grid.width + GUTTER) / len(shown), (grid.height + GUTTER) / len(images)
    max_lines = max(1, int(height // 17))
    rows = ["\n".join(textwrap.wrap(one_line(row), 40, max_lines=max_lines, placeholder=" ...")) for row in sheet.rows]
    left = max((ceil(font.getlength(line)) + 12 for row in rows for line in row.splitlines()), default=0)
    lines = [textwrap.wrap(one_line(column), max(6, int(width // 7))) for column in columns]
    top = 17 * max(map(len, lines), default=0) + 6 * bool(lines)
    page = Image.new("RGB", (left + grid.width, top + grid.height), "white")
    page.paste(grid, (left, top))
    pen = ImageDraw.Draw(page)
    for i, words in enumerate(lines):
        middle = left + (i + 0.5) * width - 1
        pen.multiline_text((middle, top - 4), "\n".join(words), "black", font, anchor="md", align="center")
    for i, row in enumerate(rows):
        pen.multiline_text((left - 8, top + (i + 0.5) * height - 1), row, "black", font, anchor="rm", align="right")
    return page


def by_caption(images: Tensor, captions: Sequence[str]) -> Sheet:
    """A row of up to ten images for each of the first ten captions; all rows have the same length.

    images: (N, C, H, W) uint8. captions: of each image.
    """
    import torch

    rows: dict[str, list[int]] = {}
    for i, caption in enumerate(captions):
        rows.setdefault(caption, []).append(i)
    shown = dict(list(rows.items())[:10])
    count = min(10, *map(len, shown.values()))
    return Sheet(torch.stack([images[row[:count]] for row in shown.values()]), rows=list(shown))


def film(sheet: Sheet, path: Path) -> None:
    """Write an endless GIF that shows the columns of a sheet one after another, forwards and backwards."""
    pixels = sheet.images.transpose(0, 1).permute(0, 1, 3, 4, 2).numpy()
    frames = [image_grid(rows, columns=ceil(len(rows) ** 0.5)).convert("RGB") for rows in pixels]
    frames += frames[-2:0:-1]
    durations = [END_MS if i in (0, len(pixels) - 1) else FRAME_MS for i in range(len(frames))]
    frames[0].save(path, "gif", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def image_grid(images: np.ndarray, columns: int, scale: int | None = None) -> Image.Image:
    """Tile (N, H, W, C) uint8 images, C = 1 or 3, row by row with a white gutter between them.

    scale: each pixel becomes scale x scale pixels; by default, so that images are at least about 48 pixels high.
    """
    count, height, width, channels = images.shape
    scale = scale or max(1, round(48 / height))
    rows = -(-count // columns)
    height, width = height * scale, width * scale
    grid = np.full((rows * (height + GUTTER) - GUTTER, columns * (width + GUTTER) - GUTTER, channels), 255, np.uint8)
    for i, image in enumerate(images.repeat(scale, axis=1).repeat(scale, axis=2)):
        y, x = i // columns * (height + GUTTER), i % columns * (width + GUTTER)
        grid[y : y + height, x : x + width] = image
    return Image.fromarray(grid.squeeze(-1) if channels == 1 else grid)
