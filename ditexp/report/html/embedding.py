"""Pictures as data URIs within the page, which together stay within a budget."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ditexp.report.picture_files import describe_damage, is_picture, warn_of_damage

BUDGET = 6_000_000  # characters of all embedded pictures together
MAX_WIDTH = 1200  # pixels of an embedded picture
MIN_WIDTH = 50


@dataclass(frozen=True)
class Embedded:
    """width, height: in pixels. hard: whether it has every pixel of the file, to be shown with hard edges."""

    uri: str
    width: int
    height: int
    hard: bool


def embed(paths: Iterable[Path]) -> dict[Path, Embedded]:
    """The pictures that are there and complete, by path.

    All get an equal share of the budget; what small ones do not use is left to larger ones.
    """
    sizes = {path: path.stat().st_size for path in set(paths) if is_picture(path)}
    remaining, pictures = BUDGET, {}
    for done, path in enumerate(sorted(sizes, key=lambda path: (sizes[path], path))):
        try:
            pictures[path] = embedded(path.read_bytes(), room=remaining // (len(sizes) - done))
            remaining -= len(pictures[path].uri)
        except Exception as error:  # Pillow raises nearly anything for what is no picture
            warn_of_damage(path, describe_damage(error))
    return pictures


def embedded(content: bytes, room: int) -> Embedded:
    """A PNG as a URI of at most `room` characters: with every pixel if that fits, else at a smaller size."""
    with Image.open(io.BytesIO(content)) as image:
        if image.width <= MAX_WIDTH and len(content) < 2 * room:
            whole = min(uri("png", content), uri("webp", encode_webp(image, lossless=True)), key=len)
            if len(whole) <= room:
                return Embedded(whole, image.width, image.height, hard=True)
        image = image.convert("RGB")
    width = min(MAX_WIDTH, image.width)
    while True:
        size = (width, max(1, round(image.height * width / image.width)))
        small = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
        reduced = uri("webp", encode_webp(small, quality=80))
        if len(reduced) <= room or width < MIN_WIDTH:
            return Embedded(reduced, *size, hard=False)
        width = int(width * min(0.9, math.sqrt(room / len(reduced))))


def encode_webp(image: Image.Image, *, lossless: bool = False, quality: int = 80) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "webp", lossless=lossless, quality=quality)
    return buffer.getvalue()


def uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
