"""Pictures of samples: a grid of images, and the grids of a sweep's cells side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageSequence, UnidentifiedImageError
from torch import Tensor

from ditexp.report.columns import is_finite
from ditexp.report.plots import house_style
from ditexp.report.table import Table
from ditexp.terminal.escape import for_picture, one_line
from ditexp.terminal.notices import notice
from ditexp.values import Sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_SAMPLES = 9
FRAME_MS = 80
GIF_END = b"\x3b"
MISSING = "missing"


def side_by_side(table: Table) -> Figure | None:
    """The cells' grids of samples, labelled, same noise in the same place; None if no cell has a grid."""
    rows, columns = choose_samples(table)
    if not rows:
        return None
    from matplotlib.figure import Figure

    tiles = {row: fit(picture, columns) for row in rows if (picture := opened(table.results[row]["grid"]))}
    rows, tiles = list(tiles), list(tiles.values())
    if not rows:
        return None
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    gap = 24
    titles = [for_picture(table.label(row), width // 9, max_lines=4) for row in rows]
    header = 20 * max(title.count("\n") + 1 for title in titles) + 26  # pixels above a tile
    total = (
        gap + columns * (width + gap),
        gap + -(-len(rows) // columns) * (header + height + gap),
    )
    dpi = 100
    figure = Figure(figsize=(total[0] / dpi, total[1] / dpi), dpi=dpi)
    for i, (row, tile, title) in enumerate(zip(rows, tiles, titles)):
        x = gap + i % columns * (width + gap)
        top = total[1] - gap - i // columns * (header + height + gap)
        y = top - header
        figure.figimage(np.asarray(tile), x, y - tile.height)
        at = {"transform": None, "va": "bottom"}
        with house_style():
            figure.text(x, y + 25, title, weight="bold", fontsize=10.5, **at)
            figure.text(x, y + 8, facts(table, row), color="#707070", fontsize=9, **at)
    return figure


def facts(table: Table, row: int) -> str:
    """A row's steps and FID in a few words."""
    steps = table.column("steps").values[row]
    parts = [f"{steps:g} steps"] if is_finite(steps) else []
    if table.fid is not None and is_finite(table.fid.values[row]):
        parts.append(f"{table.fid.header} {table.fid.texts[row]}")
    return "  ·  ".join(parts)


def choose_samples(table: Table) -> tuple[list[int], int]:
    """Up to nine rows that have a grid, and the number of columns to lay them out in.

    A line of the picture for each of the best settings, its cells spread from the fewest steps to the most.
    """
    if not table.results:
        return [], 0
    steps = table.column("steps").values
    shown = [row for row, result in enumerate(table.results) if is_picture(Path(result.get("grid") or ""))]
    by_steps = sorted(shown, key=lambda row: (table.label(row), steps[row] or 0))
    lines = [list(line) for _, line in groupby(by_steps, key=table.label)]
    lines.sort(key=min)  # rows are ordered from best to worst
    if not lines:
        return [], 0
    columns = min(max(map(len, lines)), max(3, MAX_SAMPLES // len(lines)))
    lines = lines[: MAX_SAMPLES // columns]
    chosen = [line[i] for line in lines for i in spread(len(line), columns)]
    return chosen, columns if all(len(line) >= columns for line in lines) and columns > 1 else min(3, len(chosen))


def is_picture(path: Path) -> bool:
    """Whether a .png or .gif is there and complete; a notice names one that is damaged."""
    flaw = flaw_of(path)
    if flaw and flaw != MISSING:
        tell_of_damage(path, flaw)
    return not flaw


def flaw_of(path: Path) -> str:
    """What is wrong with a .png or .gif, or ""."""
    if not path.is_file():
        return MISSING
    try:
        with Image.open(path) as image:
            if image.format != path.suffix[1:].upper():
                raise ValueError(f"a {image.format} file")
            if image.format == "PNG":
                image.verify()  # checksums; nothing is decoded
            else:
                for frame in ImageSequence.Iterator(image):
                    frame.load()
                if not path.read_bytes().endswith(GIF_END):
                    raise ValueError("its end is missing")
    except Exception as error:  # Pillow raises nearly anything
        return reason_of(error)
    return ""


def reason_of(error: Exception) -> str:
    what = "no image is in it" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())[:80]
    return f"damaged ({what})"


def opened(path: str) -> Image.Image | None:
    """In RGB; None, which a notice tells, if it is damaged."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except Exception as error:
        tell_of_damage(path, reason_of(error))
        return None


def tell_of_damage(path: Path | str, flaw: str) -> None:
    notice(f"{path} is {flaw}: it is left out; the run that drew it draws it again")


def spread(count: int, wanted: int) -> list[int]:
    """Up to `wanted` indices below `count`, evenly from first to last."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, wanted))})


def fit(image: Image.Image, columns: int) -> Image.Image:
    """As wide as leaves room for `columns`: enlarged in whole pixels, or reduced smoothly."""
    room = 1600 // columns
    if image.width > room:
        return image.resize((room, round(image.height * room / image.width)), Image.Resampling.LANCZOS)
    factor = max(1, min(room, 400) // image.width)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def draw(sheet: Sheet) -> Image.Image:
    """A sheet with its headings and captions; of a film, eleven frames at most."""
    shown = spread(sheet.images.shape[1], 11) if sheet.moving else range(sheet.images.shape[1])
    images = sheet.images[:, list(shown)]
    grid = image_grid(images.flatten(0, 1).permute(0, 2, 3, 1).numpy(), columns=len(shown)).convert("RGB")
    font = ImageFont.load_default(size=13)
    columns = [sheet.columns[i] for i in shown] if sheet.columns else []
    width, height = (grid.width + 2) / len(shown), (grid.height + 2) / len(images)
    fitting = {"width": 40, "max_lines": max(1, int(height // 17)), "placeholder": " ..."}
    rows = ["\n".join(textwrap.wrap(one_line(row), **fitting)) for row in sheet.rows]
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
    """The first ten captions, a row each, with as many of its images (N, C, H, W) as all of them have, ten at most."""
    rows: dict[str, list[int]] = {}
    for i, caption in enumerate(captions):
        rows.setdefault(caption, []).append(i)
    shown = dict(list(rows.items())[:10])
    count = min(10, *map(len, shown.values()))
    return Sheet(torch.stack([images[row[:count]] for row in shown.values()]), rows=list(shown))


def film(sheet: Sheet, path: Path) -> None:
    """The columns of a sheet one after another, there and back, as an endless GIF."""
    pixels = sheet.images.transpose(0, 1).permute(0, 1, 3, 4, 2).numpy()
    frames = [image_grid(rows, columns=ceil(len(rows) ** 0.5)).convert("RGB") for rows in pixels]
    frames += frames[-2:0:-1]
    still = 400 // FRAME_MS  # frames that the ends stand for
    ends = [FRAME_MS * (still if i in (0, len(pixels) - 1) else 1) for i in range(len(frames))]
    frames[0].save(path, "gif", save_all=True, append_images=frames[1:], duration=ends, loop=0)


def image_grid(images: np.ndarray, columns: int, scale: int | None = None) -> Image.Image:
    """Tile (N, H, W, C) uint8 images, C = 1 or 3, row by row with a gutter of 2 pixels.

    Each is enlarged `scale` times with hard pixels, by default so that the smallest are about 48 pixels high.
    """
    count, height, width, channels = images.shape
    scale = scale or max(1, round(48 / height))
    gutter, rows = 2, -(-count // columns)
    height, width = height * scale, width * scale
    grid = np.full((rows * (height + gutter) - gutter, columns * (width + gutter) - gutter, channels), 255, np.uint8)
    for i, image in enumerate(images.repeat(scale, axis=1).repeat(scale, axis=2)):
        y, x = i // columns * (height + gutter), i % columns * (width + gutter)
        grid[y : y + height, x : x + width] = image
    return Image.fromarray(grid.squeeze(-1) if channels == 1 else grid)
