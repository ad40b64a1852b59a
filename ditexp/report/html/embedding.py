"""Pictures as data URIs within the page, which together stay within a budget."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from ditexp.report.grids import GRID_COLUMNS, GUTTER
from ditexp.report.picture_files import describe_damage, is_picture, warn_of_damage

BUDGET = 6_000_000  # characters of all embedded pictures together
MAX_WIDTH = 1200  # pixels of an embedded picture
MIN_WIDTH = 50


@dataclass(frozen=True)
class Tiles:
    """Square samples in a picture: how many in a row, and the pixels between them."""

    columns: int
    gap: float


@dataclass(frozen=True)
class Embedded:
    """width, height: in pixels. hard: whether it has every pixel of the file, to be shown with hard edges. tiles: None
    for a picture that is not only samples.
    """

    uri: str
    width: int
    height: int
    hard: bool
    tiles: Tiles | None = None


def embed(paths: Iterable[Path]) -> dict[Path, Embedded]:
    """The pictures that are there and complete, by path.

    All get an equal share of the budget; what small ones do not use is left to larger ones.
    """
    sizes = {path: path.stat().st_size for path in set(paths) if is_picture(path)}
    remaining, rooms = BUDGET, {}
    for done, path in enumerate(sorted(sizes, key=lambda path: (sizes[path], path))):
        rooms[path] = remaining // (len(sizes) - done)
        remaining -= min(rooms[path], uri_length(sizes[path]))
    with ThreadPoolExecutor() as pool:  # Pillow's work runs beside other threads
        found = zip(rooms, pool.map(read_embedded, rooms, rooms.values()))
    return {path: picture for path, picture in found if picture}


def read_embedded(path: Path, room: int) -> Embedded | None:
    """The picture in a file as a URI of at most `room` characters; None, with a warning, if it is damaged."""
    try:
        return embedded(path.read_bytes(), room)
    except Exception as error:  # Pillow raises nearly anything for what is no picture
        warn_of_damage(path, describe_damage(error))
        return None


def embedded(content: bytes, room: int) -> Embedded:
    """A picture as a URI of at most `room` characters: with every pixel if that fits, else at a smaller size."""
    with Image.open(io.BytesIO(content)) as image:
        if image.format == "GIF":
            return film(image, content, room)
        tiles = tiles_of(image)
        if image.width <= MAX_WIDTH and (whole := with_every_pixel(image, content, room)):
            return Embedded(whole, image.width, image.height, hard=True, tiles=tiles)
        small = reduced([image.convert("RGB")], [], room)
    return replace(small, tiles=tiles and replace(tiles, gap=tiles.gap * small.width / image.width))


def with_every_pixel(image: Image.Image, content: bytes, room: int) -> str:
    """The URI of a PNG; as a WebP, which takes long to encode, only if the PNG itself doesn't fit. "" if none fits."""
    if uri_length(len(content)) <= room:
        return uri("png", content)
    smaller = uri("webp", encode_webp(image, lossless=True)) if len(content) < 2 * room else ""
    return smaller if len(smaller) <= room else ""


def film(image: Image.Image, content: bytes, room: int) -> Embedded:
    """A GIF with all its frames."""
    whole = uri("gif", content)
    if len(whole) <= room:
        return Embedded(whole, image.width, image.height, hard=True)
    frames = [(frame.convert("RGB"), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
    return reduced([frame for frame, _ in frames], [duration for _, duration in frames], room)


def reduced(frames: Sequence[Image.Image], durations: Sequence[int], room: int) -> Embedded:
    """Frames at the largest size that fits."""
    full = frames[0]
    width = min(MAX_WIDTH, full.width)
    while True:
        size = (width, max(1, round(full.height * width / full.width)))
        small = [frame.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0) for frame in frames]
        found = uri("webp", encode_webp(small[0], small[1:], durations))
        if len(found) <= room or width < MIN_WIDTH:
            return Embedded(found, *size, hard=False)
        width = int(width * min(0.9, math.sqrt(room / len(found))))


def tiles_of(image: Image.Image) -> Tiles | None:
    """Where the samples are in a picture by `image_grid`; None for any other picture."""
    pitch, rest = divmod(image.width + GUTTER, GRID_COLUMNS)
    if rest or pitch <= GUTTER or (image.height + GUTTER) % pitch:
        return None
    pixels = np.asarray(image.convert("L"))
    gutters = [each[at : at + GUTTER] for each in (pixels, pixels.T) for at in range(pitch - GUTTER, len(each), pitch)]
    return Tiles(GRID_COLUMNS, GUTTER) if all((gutter == 255).all() for gutter in gutters) else None


def encode_webp(
    image: Image.Image,
    later: Sequence[Image.Image] = (),
    durations: Sequence[int] = (),
    *,
    lossless: bool = False,
    quality: int = 80,
) -> bytes:
    """later: further frames of a film. durations: of all frames, in ms."""
    buffer = io.BytesIO()
    moving = {"save_all": True, "append_images": later, "duration": durations, "loop": 0} if later else {}
    image.save(buffer, "webp", lossless=lossless, quality=quality, **moving)
    return buffer.getvalue()


def uri_length(size: int) -> int:
    """The most characters of the URI of a picture of `size` bytes."""
    return len("data:image/webp;base64,") + 4 * -(-size // 3)


def uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
