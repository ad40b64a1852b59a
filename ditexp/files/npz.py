"""Reads npz files: the headers of their arrays, and single arrays, without unpickling."""

from __future__ import annotations

import io
import json
import math
import shlex
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from ditexp.files.reading import opened_zip, unfit

ARRAYS = 10_000  # of a file
HEADER_BYTES = 10_000  # as numpy's own limit
KIND, AGAIN = "an npz file", "save it by np.savez"


@dataclass(frozen=True)
class Header:
    """The header of an array in a file. fortran: whether the array is in Fortran order."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def bytes(self) -> int:
        """The array's size; meaningless for objects."""
        return math.prod(self.shape) * self.dtype.itemsize


def opened_npz(path: Path | str) -> AbstractContextManager[zipfile.ZipFile]:
    """Open an npz file. Raises ValueError, which names the file, if it is missing or damaged."""
    return opened_zip(path, KIND, remedy=AGAIN)


def npz_headers(path: Path) -> dict[str, Header]:
    """The header of each array, by its name, in the file's order.

    Raises ValueError if the file is no npz file, or if an array is not as long as its header says.
    """
    if path.suffix.lower() == ".npy" and path.is_file():
        raise ValueError(one_array(path))
    with opened_npz(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        if len(names) > ARRAYS:
            raise unfit(path, f"holds {len(names):,} arrays", f"{AGAIN}, {ARRAYS:,} in one file at most")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise unfit(path, f"holds two arrays of one name, {twice}", AGAIN)
        return {name.removesuffix(".npy"): header_in(path, archive, name) for name in names}


def header_in(path: Path, archive: zipfile.ZipFile, name: str) -> Header:
    """The header of one array. Raises ValueError if the array is not as long as its header says."""
    try:
        with archive.open(name) as member:
            header, start = npy_header(member), member.tell()
    except Exception as error:  # zipfile and numpy raise a dozen kinds
        raise unfit(path, f"is damaged in {name} ({error})", AGAIN) from None
    there = archive.getinfo(name).file_size - start
    if not header.dtype.hasobject and header.bytes != there:
        array = f"{name.removesuffix('.npy')} {header.shape} of {header.dtype}"
        raise unfit(path, f"has {array}, which takes {header.bytes:,} bytes, in {there:,} bytes", "write it again")
    return header


def npy_header(member: IO[bytes]) -> Header:
    """Read the header of an open npy file, up to the array's first byte. Raises ValueError."""
    magic = member.read(8)
    if magic[:6] != b"\x93NUMPY" or len(magic) < 8 or magic[6] not in (1, 2, 3):
        raise ValueError("it holds no numpy array")
    length = member.read(2 if magic[6] == 1 else 4)
    size = int.from_bytes(length, "little")
    if size > HEADER_BYTES:
        raise ValueError(f"its header takes {size:,} bytes")
    first = magic[:6] + b"\x01\x00" + size.to_bytes(2, "little")  # the versions' differences don't matter here
    content = io.BytesIO(first[8:] + member.read(size))
    try:
        header = Header(*np.lib.format.read_array_header_1_0(content))
    except Exception:  # numpy's messages are pages of advice
        raise ValueError("its header cannot be read") from None
    if any(isinstance(length, bool) or length < 0 for length in header.shape):
        raise ValueError(f"its header has shape {header.shape}")
    return header


def read_array(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """An array of an npz file whose headers were checked. Raises ValueError, also for an array of pickled objects."""
    try:
        with archive.open(f"{name}.npy") as member:
            header = npy_header(member)
            if header.dtype.hasobject:
                raise ValueError("it holds objects, which only unpickling could read")
            content = member.read(header.bytes)
            member.read(1)  # reading past the end checks the checksum
    except Exception as error:
        raise unfit(path, f"is damaged in {name} ({error})", "get the file again") from None
    if len(content) < header.bytes:
        raise unfit(path, f"ends within {name}", "get the file again")
    return np.frombuffer(content, header.dtype).reshape(header.shape, order="F" if header.fortran else "C")


def command(path: Path, right: str, *, name: str | None = None, conditions: Sequence[str] = ()) -> str:
    """The shell command that saves the images of an expression as an npz file; f is the old file, x its array."""
    statements = [
        "import numpy as np",
        f"f = np.load({json.dumps(str(path))})",
        *([f"x = f[{json.dumps(name)}]"] if name and right != f"f[{json.dumps(name)}]" else []),
        *(f"np.testing.assert_({condition})" for condition in conditions),
        f"np.savez({json.dumps(str(images_beside(path)))}, {right})",
    ]
    return f"python -c {shlex.quote('; '.join(statements))}"


def one_array(path: Path) -> str:
    """The error for an npy file in place of an npz file."""
    return f"{path} holds one array, not named ones: make {images_beside(path).name} by {command(path, 'f')}"


def images_beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}_images.npz")
