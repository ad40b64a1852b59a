"""Pictures that a run has drawn: whether a file is there and complete."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageSequence, UnidentifiedImageError

from ditexp.terminal.notices import notice

GIF_END = b"\x3b"
MISSING = "missing"
MAX_PICTURED = 200  # rows of a table whose pictures are shown, from the best one on


def is_picture(path: Path) -> bool:
    """Whether a .png or .gif is there and complete. Warns if it is damaged."""
    flaw = flaw_of(path)
    if flaw and flaw != MISSING:
        warn_of_damage(path, flaw)
    return not flaw


def flaw_of(path: Path) -> str:
    """ "missing" or "damaged (...)"; "" for a .png or .gif that is complete."""
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
        return describe_damage(error)
    return ""


def describe_damage(error: Exception) -> str:
    what = "no image is in it" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())[:80]
    return f"damaged ({what})"


def read_picture(path: Path) -> Image.Image | None:
    """The picture in RGB; None, with a warning, if it is damaged."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except Exception as error:
        warn_of_damage(path, describe_damage(error))
        return None


def warn_of_damage(path: Path, flaw: str) -> None:
    notice(f"{path} is {flaw}: it is left out; run its cell's command again to redraw it")
