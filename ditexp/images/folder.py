"""Images in a folder."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
import PIL

from ditexp.checks import ConfigError
from ditexp.files import content
from ditexp.files.image import (
    BLOCK_BYTES,
    BLOCK_SIZE,
    EXTENSIONS,
    FILE_BYTES,
    LISTED,
    MODES,
    find_images,
    in_lines,
    of_other_size,
    read_image,
    size_of_image,
)
from ditexp.files.npz import one_array
from ditexp.files.reading import read, unfit
from ditexp.images.source import hash_facts
from ditexp.terminal.notices import notice
from ditexp.terminal.progress import progress_bar


class FolderImages:
    """All images below a folder except hidden ones, sorted by relative path. The most frequent size is the set's size.

    channels: 1 accepts files of mode L, 3 files of mode RGB. upright: whether to turn images as their EXIF orientation
    says. settings: the configuration group that path and channels belong to, for error messages; None if they are not
    settings.

    Nothing is converted or resized silently. A file that cannot be read, or that has another mode or size, raises
    ValueError; docs/data.md lists what happens to each kind of file. `check` and `image_shape` find every such file
    that its header gives away.
    """

    def __init__(
        self, path: Path | str, channels: int = 3, *, upright: bool = False, settings: str | None = "reference"
    ) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.channels, self.upright, self.settings = channels, upright, settings
        if channels not in MODES:
            raise ValueError(f"{f'{settings}.' if settings else ''}channels={channels}: choose 1 (grey) or 3 (colour)")
        if not self.path.is_dir():
            raise ValueError(not_a_folder(self.path, settings=settings))
        self.files, self.left_out = find_images(self.path)
        kinds = ", ".join(sorted(EXTENSIONS))
        if not self.files:
            found = f", only files such as {self.left_out[0]}" if self.left_out else ""
            raise ValueError(f"{path} holds no image that can be read{found}: give a folder with {kinds} files")
        if self.left_out:
            count = f"{len(self.left_out):,} files are" if len(self.left_out) > 1 else "a file is"
            notice(f"{count} left out of {path}, first {self.left_out[0]}: images are {kinds} files")

    @cached_property
    def image_shape(self) -> tuple[int, int, int]:
        width, height = self.check()
        if min(len(self), BLOCK_SIZE) * width * height * self.channels > BLOCK_BYTES:
            size = f"holds {len(self):,} images of {width:,} x {height:,} pixels"
            raise unfit(self.path, size, f"give smaller images; {BLOCK_SIZE} of them may have {BLOCK_BYTES:,} bytes")
        return height, width, self.channels

    def check(self, size: tuple[int, int] | None = None, *, same_size: bool = True) -> tuple[int, int]:
        """The most frequent (width, height), by the headers of all files. They are read once, and the result is cached.

        size: the required size. same_size: whether all images must have one size. Raises ConfigError that lists the
        files that cannot be read or have another mode or size.
        """
        facts = f"headers, Pillow {PIL.__version__}, {size} {same_size} {self.upright} {self.fingerprint()}"
        found = content.found_once(facts, lambda: json.dumps(self._check_headers(size, same_size)))
        width, height = json.loads(found)
        return width, height

    def _check_headers(self, size: tuple[int, int] | None, same_size: bool) -> tuple[int, int]:
        sizes, wrong = self._read_headers()
        counted = Counter(sizes.values()).most_common(1)
        expected = size or (counted[0][0] if counted else (0, 0))
        for file, found in sizes.items() if same_size else ():
            if found != expected:
                wrong[file] = f"{file} {of_other_size(found, expected, settings=self.settings)}"
        if wrong:
            reasons = {line.removeprefix(str(file)) for file, line in wrong.items()}
            listed = 1 if len(reasons) == 1 and len(wrong) == len(self) else LISTED
            more = f"more of the {len(self):,} images below {self.path} cannot be used"
            raise ConfigError(in_lines([wrong[file] for file in self.files if file in wrong], more, listed=listed))
        return expected

    def _read_headers(self) -> tuple[dict[Path, tuple[int, int]], dict[Path, str]]:
        """The (width, height) of each file that can be used, and what is wrong with each other file."""
        sizes: dict[Path, tuple[int, int]] = {}
        wrong: dict[Path, str] = {}
        with progress_bar(f"headers of {self.name}", total=len(self), unit="files") as bar:
            for done, file in enumerate(self.files, 1):
                try:
                    sizes[file] = size_of_image(
                        file, channels=self.channels, upright=self.upright, settings=self.settings
                    )
                except ValueError as error:
                    wrong[file] = str(error)
                if done % BLOCK_SIZE == 0:
                    bar.advance(BLOCK_SIZE)
        return sizes, wrong

    def __len__(self) -> int:
        return len(self.files)

    def fingerprint(self) -> str:
        folder = os.path.join(self.path, "")
        names = (os.fspath(file).removeprefix(folder) for file in self.files)  # ten times as fast as Path.relative_to
        return hash_facts(self.channels, *(f"{name}\0{sha256}" for name, sha256 in zip(names, self._sha256s)))

    @cached_property
    def _sha256s(self) -> list[str]:
        """The hash of each file at the first call of `fingerprint`."""
        try:
            return content.hashes(self.files, title=self.name, most=FILE_BYTES)
        except OSError as error:
            self._check_headers(None, same_size=False)  # may find more files that cannot be read
            raise ValueError(f"{error.filename} cannot be read ({error.strerror}): replace or remove it") from None

    def blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), BLOCK_SIZE):
            try:
                block = [self._pixels(index) for index in range(start, min(start + BLOCK_SIZE, len(self)))]
            except content.Changed:
                raise
            except ValueError:
                raise self._damaged(start) from None
            yield np.stack(block)

    def _pixels(self, index: int) -> np.ndarray:
        height, width, _ = self.image_shape
        return self.read(index, size=(width, height))

    def _damaged(self, start: int) -> ConfigError:
        """An error that lists the first images from `start` on whose pixels cannot be read."""
        wrong = []
        for index in range(start, len(self)):
            try:
                self._pixels(index)
            except ValueError as error:
                wrong.append(str(error))
            if len(wrong) == LISTED:
                wrong.append(f"more of the {len(self):,} images below {self.path} may be damaged")
                break
        return ConfigError("\n".join(wrong))

    def read(self, index: int, *, size: tuple[int, int] | None = None, resize: bool = False) -> np.ndarray:
        """One image, (H, W, C) uint8. size: the required (width, height). resize: resize to it (bicubic)."""
        return read_image(
            self.files[index],
            opened=self._hashed_bytes(index),
            channels=self.channels,
            size=size,
            resize=resize,
            upright=self.upright,
            settings=self.settings,
        )

    def _hashed_bytes(self, index: int) -> IO[bytes] | None:
        """The bytes of a file, checked against its hash; None where the files have not been hashed yet."""
        file = self.files[index]
        if "_sha256s" not in vars(self):
            return None
        data = read(file, "an image", most=FILE_BYTES)
        if hashlib.sha256(data).hexdigest() != self._sha256s[index]:
            raise content.changed(file)
        return io.BytesIO(data)


def not_a_folder(path: Path, *, settings: str | None) -> str:
    """The error message for a path that is not a folder."""
    if path.suffix.lower() == ".npz" and path.exists() and settings == "reference":
        return f"{path} is an npz file, not a folder: choose reference=npz"
    if path.suffix.lower() == ".npy" and path.exists() and settings != "data":
        then = ", and choose reference=npz" if settings else ""
        return one_array(path) + then
    where = f"{settings}.path={path}" if settings else str(path)
    return f"{where} is not a folder: give the path of a folder of images"
