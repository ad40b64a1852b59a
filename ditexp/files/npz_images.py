"""The images in an npz file; where they are not (N, H, W, C) uint8 in arr_0, the command that makes them so."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ditexp.files.image import BLOCK_BYTES, BLOCK_SIZE, MODES, PIXELS
from ditexp.files.npz import Header, command, images_beside, npy_header, opened_npz
from ditexp.files.reading import unfit
from ditexp.terminal.notices import notice

SCANNED = 16  # images that the range of values is read from; the proposed command checks the others
SCANNED_BYTES = 2**26  # the most that is read of them
SCALE = "bring the grey levels to 0..255, where 255 is white, and save them as uint8"


class Repair(NamedTuple):
    """What is wrong with an array, and how to put it right.

    right: an expression with {0} for the array; None if only `advice` can be given. condition: an expression that must
    hold for the whole array, or `right` would be wrong.
    """

    wrong: str
    right: str | None = None
    condition: str | None = None
    advice: str = ""


def shape_of_images(path: Path, headers: Mapping[str, Header]) -> tuple[int, int, int, int]:
    """(N, H, W, C) of arr_0. Raises ValueError with the remedy unless arr_0 holds all images of the file, as uint8."""
    positional = {name: header for name, header in headers.items() if re.fullmatch(r"arr_\d+", name)}
    dimensions = max((len(header.shape) for header in positional.values()), default=0)
    parts = [name for name, header in positional.items() if len(header.shape) == dimensions]
    if dimensions > 2 and len(parts) > 1:
        raise ValueError(several(path, headers, parts))
    name = where_images_are(path, headers)
    header = headers[name]
    if 0 in header.shape:
        raise ValueError(f"{path}: {name} of shape {header.shape} holds no images: give a file with at least one")
    repairs = [repair for repair in (of_shape(header), of_values(path, name, header)) if repair]
    if repairs or name != "arr_0":
        raise ValueError(remedied(path, name, repairs, headers))
    labels = headers.get("arr_1")
    if labels and len(labels.shape) == 1 and labels.shape != header.shape[:1]:
        raise ValueError(
            f"{path}: arr_0 holds {header.shape[0]} images, but arr_1 {labels.shape[0]} labels: save those that belong "
            "together"
        )
    count, height, width, channels = header.shape
    check_size(path, (count, height, width, channels))
    return count, height, width, channels


def check_size(path: Path, shape: tuple[int, int, int, int]) -> None:
    """Raise ValueError for images, or blocks of them, that are too large for memory."""
    count, height, width, channels = shape
    block = min(count, BLOCK_SIZE) * height * width * channels
    if height * width > PIXELS or block > BLOCK_BYTES:
        raise unfit(
            path,
            f"holds {count:,} images of {width:,} x {height:,} pixels",
            f"give images of up to {PIXELS:,} pixels, {BLOCK_SIZE} of them in up to {BLOCK_BYTES:,} bytes",
        )


def several(path: Path, headers: Mapping[str, Header], parts: Sequence[str]) -> str:
    """The error for images in several arrays: np.savez(path, *batches) saves arr_0, arr_1, ..."""
    shown = ", ".join(f"{name} {headers[name].shape}" for name in parts[:2])
    more = f" and {len(parts) - 2} more" if len(parts) > 2 else ""
    if len({(headers[name].shape[1:], headers[name].dtype) for name in parts}) > 1:
        return f"{path} holds several arrays that may be images, {shown}{more}: save the right one by np.savez(path, x)"
    joined = f"np.concatenate([f[name] for name in f if f[name].ndim == {len(headers[parts[0]].shape)}])"
    made = images_beside(path).name
    return f"{path} holds its images in parts, {shown}{more}: make {made} by {command(path, joined)}"


def where_images_are(path: Path, headers: Mapping[str, Header]) -> str:
    """The name of the array that holds the images, in whatever form: arr_0, or the only one that could."""
    if "arr_0" in headers and len(headers["arr_0"].shape) > 2:
        return "arr_0"
    found = [name for name, header in headers.items() if len(header.shape) == 4]
    if len(found) == 1:
        return found[0]
    if "arr_0" in headers:
        return "arr_0"
    held = ", ".join(headers) or "nothing"
    raise unfit(path, f"has no arr_0, only {held}", "save images (N, H, W, C) by np.savez(path, images)")


def of_shape(header: Header) -> Repair | None:
    """What is wrong with an array's shape or order; None if nothing is."""
    shape, right, condition = header.shape, None, None
    advice = "save images of that shape"
    if len(shape) == 4 and shape[3] in MODES:
        if not header.fortran:
            return None
        right = "{0}"
    elif len(shape) == 4 and shape[1] in MODES:
        right = "{0}.transpose(0, 2, 3, 1)"
    elif len(shape) == 4 and 4 in (shape[1], shape[3]):
        advice = "decode them if they are latents; lay them on a background if the fourth channel is transparency"
        if header.dtype == np.uint8:
            last = shape[3] == 4
            right = "{0}[..., :3]" if last else "{0}[:, :3].transpose(0, 2, 3, 1)"
            condition = f"({{0}}[{'..., 3' if last else ':, 3'}] == 255).all()"  # opaque
    elif len(shape) == 3:
        right = "{0}[None]" if shape[2] in MODES else "{0}[..., None]"
    elif len(shape) == 5 and shape[4] in MODES:
        right = "{0}.reshape(-1, *{0}.shape[2:])"
    if right and header.fortran:
        right = f"np.ascontiguousarray({right})"
    order = " in Fortran order" if header.fortran else ""
    return Repair(f"has shape {shape}{order}, not (N, H, W, C) with C = 1 or 3", right, condition, advice)


def of_values(path: Path, name: str, header: Header) -> Repair | None:
    """What is wrong with an array's type or range, which the first images show; None if nothing is."""
    dtype = header.dtype
    if dtype.kind == "b":
        return Repair("is bool, not uint8", "np.uint8(255) * {0}")
    if dtype.kind not in "iuf":
        return Repair(f"is {dtype}, not uint8", advice="save grey levels from 0 to 255 as uint8")
    values = first_values(path, name, header)
    if not np.isfinite(values).all():
        return Repair(f"is {dtype} with pixels that are NaN or infinite, not uint8", advice="make the images again")
    low, high = values.min(), values.max()
    if dtype == np.uint8:
        if high == 1:
            notice(f"{path}: the first images hold only 0 and 1, of 255 grey levels: if 1 is white, save 255 * x")
        return None
    wrong = f"is {dtype} (the first images range from {low:g} to {high:g}), not uint8"
    right, condition, advice = (of_floats if dtype.kind == "f" else of_integers)(float(low), float(high))
    return Repair(wrong, right, condition, advice)


def first_values(path: Path, name: str, header: Header) -> np.ndarray:
    images = [min(count, SCANNED) for count in header.shape[:1]]  # empty for a single number
    size = min(math.prod([*images, *header.shape[1:]]), SCANNED_BYTES // header.dtype.itemsize) * header.dtype.itemsize
    try:
        with opened_npz(path) as archive, archive.open(f"{name}.npy") as member:
            npy_header(member)
            content = member.read(size)
    except Exception as error:  # zipfile and numpy raise a dozen kinds
        raise unfit(path, f"is damaged within the first images ({error})", "write it again") from None
    if len(content) < size:
        raise unfit(path, "ends within the first images", "write it again")
    return np.frombuffer(content, header.dtype)


def of_floats(low: float, high: float) -> tuple[str | None, str | None, str]:
    """`right`, `condition` and `advice` of the Repair for floats in this range."""
    if low >= 0 and high <= 1:
        return "np.clip(255 * {0} + 0.5, 0, 255).astype(np.uint8)", "{0}.min() >= 0 and {0}.max() <= 1", ""
    if -1.5 <= low < -0.5 and high <= 1.5:  # a model's samples go somewhat beyond 1
        return "np.clip(127.5 * {0} + 128, 0, 255).astype(np.uint8)", "abs({0}).max() < 2", ""
    if low >= 0 and 10 < high <= 255:
        return "({0} + 0.5).astype(np.uint8)", "{0}.min() >= 0 and {0}.max() <= 255", ""
    return None, None, SCALE


def of_integers(low: float, high: float) -> tuple[str | None, str | None, str]:
    """The same for integers."""
    if low >= 0 and 1 < high <= 255:
        return "{0}.astype(np.uint8)", "{0}.min() >= 0 and {0}.max() <= 255", ""
    if low >= 0 and 2**15 <= high < 2**16:
        return "({0} >> 8).astype(np.uint8)", f"{{0}}.min() >= 0 and {{0}}.max() < {2**16}", ""
    if low >= -1 and high <= 1:
        return None, None, "save 255 * x as uint8 if these are masks; if they were floats, make them again from those"
    return None, None, SCALE


def remedied(path: Path, name: str, repairs: Sequence[Repair], headers: Mapping[str, Header]) -> str:
    """The error for images that need repairs, with the command that makes them right, or advice."""
    where = name
    if name != "arr_0":
        found = f"has shape {headers['arr_0'].shape}" if "arr_0" in headers else "is missing"
        where = f"arr_0 {found}, the images seem to be in {name}{', which' if repairs else ''}"
    message = " ".join([f"{path}: {where}", " and ".join(repair.wrong for repair in repairs)]).rstrip()
    right, conditions = "x" if repairs else f"f[{json.dumps(name)}]", []
    if advice := next((repair.advice for repair in repairs if repair.right is None), None):
        return f"{message}: {advice}"
    for repair in repairs:
        conditions += [repair.condition.format(right)] if repair.condition else []
        right = (repair.right or "{0}").format(right)
    return f"{message}: make {images_beside(path).name} by {command(path, right, name=name, conditions=conditions)}"
