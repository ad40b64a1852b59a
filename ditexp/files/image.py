"""Finds the image files of a folder and reads the pixels of one; docs/data.md lists what happens to each kind."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ditexp.checks import ConfigError
from ditexp.files import reading

T = TypeVar("T")

EXTENSIONS = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
OTHER_IMAGES = {  # not read; a notice names them, since they are missing from the numbers
    *(".apng", ".avif", ".dng", ".exr", ".gif", ".hdr", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jxl", ".npy"),
    *(".npz", ".pbm", ".pgm", ".ppm", ".psd", ".svg", ".tga"),
}
FORMATS = {"BMP", "JPEG", "MPO", "PNG", "TIFF", "WEBP"}  # MPO: JPEGs of iPhones, the photograph first
MODES = {1: "L", 3: "RGB"}
PIXELS = 2**27  # of an image, by its header; a grid of 100 samples of 1024 x 1024 has 105 million
FILE_BYTES = 2**29  # of its file
BLOCK_SIZE, BLOCK_BYTES = 256, 2**32  # images that are in memory together, and the most bytes that they take
LISTED = 20  # files that one error names
SIDEWAYS = range(5, 9)  # EXIF orientations that swap width and height


def find_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images below a folder and the images of other kinds, each sorted by path; hidden files don't count.

    Links are followed. Raises ConfigError that lists links that lead in a circle, to nothing or to an image that is in
    the list already, and folders that cannot be listed.
    """
    images: dict[str, Path] = {}
    others: list[Path] = []
    wrong: list[str] = []
    for file, real in walk(folder, wrong):
        suffix = file.suffix.lower()
        if suffix in OTHER_IMAGES:
            others.append(file)
        elif suffix in EXTENSIONS and (known := images.setdefault(real, file)) != file:
            wrong.append(
                f"{known} and {file} are one file, by a link: remove a link, or copy the file if it is to count twice"
            )
    if wrong:
        raise ConfigError(in_lines(wrong, f"more below {folder} cannot be read, either"))
    return sorted(images.values(), key=str), sorted(others, key=str)


def in_lines(wrong: Sequence[str], more: str, *, listed: int = LISTED) -> str:
    """The first of these, a line each, and the number of others."""
    rest = len(wrong) - listed
    return "\n".join([*wrong[:listed], *([f"{rest:,} {more}"] if rest > 0 else [])])


def walk(folder: Path, wrong: list[str], above: tuple[str, ...] = ()) -> Iterator[tuple[Path, str]]:
    """All files below a folder but hidden ones, each with its real path. above: the real paths that led here.

    A mistake is added to `wrong` for anything that is neither a file nor a folder that can be listed.
    """
    real = os.path.realpath(folder)
    if any(Path(place).is_relative_to(real) for place in above):
        wrong.append(f"{folder} leads back to {real}, a folder that it is in: remove this link")
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        kinds = [(entry, entry.is_dir(), entry.is_file()) for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        wrong.append(f"{error.filename} cannot be read ({error.strerror}): remove it, or make it readable")
        return
    for entry, is_folder, is_file in kinds:
        if is_folder:
            yield from walk(Path(entry.path), wrong, (*above, real))
        elif is_file:
            yield Path(entry.path), os.path.realpath(entry.path) if entry.is_symlink() else f"{real}/{entry.name}"
        else:
            what = "a link to a file that is not there" if entry.is_symlink() else "neither a file nor a folder"
            wrong.append(f"{entry.path} is {what}: remove it")


@contextmanager
def opened_image(
    file: Path | str, content: IO[bytes] | None = None, *, name: str | None = None
) -> Generator[ImageFile]:
    """Open an image without decoding its pixels. content: what to read in place of the file. name: for messages.

    Raises ValueError, which names the file, if it is too large or cannot be read, here or in the body.
    """
    name = name or str(file)
    with content or reading.opened(file, "an image", most=FILE_BYTES, name=name) as stream:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # PIXELS is the limit
                image = Image.open(stream)
            with image:
                if image.width * image.height > PIXELS:
                    size = f"has {image.width:,} x {image.height:,} pixels"
                    raise reading.unfit(name, size, f"give an image of up to {PIXELS:,}")
                yield image
        except reading.UnfitFile:
            raise
        except Image.DecompressionBombError:
            raise reading.unfit(name, "has too many pixels", f"give an image of up to {PIXELS:,}") from None
        except Exception as error:  # Pillow raises nearly anything for a damaged file
            reason = str(error)
            if isinstance(error, UnidentifiedImageError):
                reason = "no image is in it" if stream.seek(0, os.SEEK_END) else "it is empty"
            raise reading.unfit(name, f"cannot be read ({reason})", "replace or remove it") from None


def read_image(
    file: Path,
    *,
    channels: int,
    opened: IO[bytes] | None = None,
    size: tuple[int, int] | None = None,
    resize: bool = False,
    upright: bool = False,
    settings: str | None = None,
) -> np.ndarray:
    """The pixels of a file, (H, W, C) uint8, of mode L (channels=1) or RGB (channels=3); other modes are not converted.

    opened: what to read in place of the file. size: the (width, height) that the image must have or, with resize, is
    resized to (bicubic). upright: turn the image as its EXIF orientation says. settings: the group of settings that has
    `channels`, for the remedy. Raises ValueError, which names the file, if it is damaged or of any other kind.
    """

    def read(image: ImageFile) -> np.ndarray:
        pixels: Image.Image = image
        if upright:
            ImageOps.exif_transpose(image, in_place=True)
        if resize and size and image.size != size:
            pixels = image.resize(size, Image.Resampling.BICUBIC)
        return np.asarray(pixels)

    pixels = of_image(file, opened, read, channels=channels, settings=settings)
    height, width = pixels.shape[:2]
    if size and (width, height) != size:
        raise ValueError(f"{file} {of_other_size((width, height), size, settings=settings)}")
    return pixels.reshape(height, width, channels)


def size_of_image(file: Path, *, channels: int, upright: bool, settings: str | None) -> tuple[int, int]:
    """The (width, height) that `read_image` would give, from the file's header alone. Raises the same ValueErrors."""

    def read(image: ImageFile) -> tuple[int, int]:
        # Pillow has turned a TIFF's size already. Reading the EXIF may decode a whole PNG, so a square one is left out.
        may_be_turned = upright and image.width != image.height and image.format != "TIFF"
        turned = may_be_turned and image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS
        return image.size[::-1] if turned else image.size

    return of_image(file, None, read, channels=channels, settings=settings)


def of_image(
    file: Path, content: IO[bytes] | None, read: Callable[[ImageFile], T], *, channels: int, settings: str | None
) -> T:
    """Call `read` with the open image. Raises ValueError, which names the file, if it is damaged or does not fit."""
    with opened_image(file, content) as image:
        wrong = unfit(image, channels=channels, settings=settings)
        if not wrong:
            return read(image)
    raise ValueError(f"{file} {wrong}")


def of_other_size(size: tuple[int, int], expected: tuple[int, int], *, settings: str | None) -> str:
    """What is wrong with an image of this (width, height), and the remedy."""
    choice = ", or choose data.resize=true" if settings == "data" else ""
    return "is {} x {}, expected {} x {}: bring all images to one size".format(*size, *expected) + choice


def unfit(image: ImageFile, *, channels: int, settings: str | None) -> str | None:
    """Why an open image does not fit, with the remedy; None if it fits."""
    wanted = MODES[channels]
    if image.format not in FORMATS:
        return f"is a {image.format} file, whatever its name: save it as PNG"
    if isinstance(image, PngImageFile | TiffImageFile | WebPImageFile) and image.n_frames > 1:
        return f"holds {image.n_frames} images: save each to a file of its own, or the one that counts"
    if has_more_than_8_bits(image):
        return "has more than 8 bits a channel: bring its range to 0..255 and save it with 8 (of 16 bits, x // 256)"
    if image.has_transparency_data:
        return f"has transparency: lay it on a background, and save it as {wanted}"
    if image.mode != wanted:
        other = {mode: number for number, mode in MODES.items()}.get(image.mode)
        chosen = f" ({settings}.channels={channels})" if settings else ""
        choice = f", or choose {settings}.channels={other} if all images are so" if settings and other else ""
        return f"is of mode {image.mode}, not {wanted}{chosen}: convert it to {wanted}{choice}"
    return None


def has_more_than_8_bits(image: ImageFile) -> bool:
    """Pillow reduces 16-bit colours to 8 bits silently; only the settings of its decoder show that."""
    if isinstance(image, TiffImageFile):
        return max(image.tag_v2.get(258, (1,))) > 8  # BitsPerSample
    return image.mode[0] in "IF" or (image.format == "PNG" and any(";16" in str(tile.args) for tile in image.tile))
