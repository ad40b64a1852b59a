"""Where images come from: scikit-learn's digits, npz files, folders, torchvision; all streamed in blocks."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, Protocol

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
from ditexp.files.npz import npy_header, npz_headers, one_array, opened_npz
from ditexp.files.npz_images import shape_of_images
from ditexp.files.reading import read, unfit
from ditexp.terminal.notices import notice
from ditexp.terminal.progress import progress_bar


class ImageSource(Protocol):
    """A set of images of one size. image_shape: (H, W, C), C = 1 (grey) or 3 (RGB)."""

    name: str
    image_shape: tuple[int, int, int]

    def __len__(self) -> int: ...

    def fingerprint(self) -> str:
        """Of the images' content, as it is when this is first asked for.

        Images that are read later are those, or a ValueError: features are kept by the fingerprint.
        """
        ...

    def blocks(self) -> Iterator[np.ndarray]:
        """(b, H, W, C) uint8 with b <= 256, in order. Nothing is read before it is asked for."""
        ...


class DigitsImages:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 x 1, in the grey levels that a model decodes to."""

    name = "digits"
    image_shape = (8, 8, 1)

    def __len__(self) -> int:
        return 1797

    def fingerprint(self) -> str:
        return _fingerprint("scikit-learn digits, floor(127.5 (p / 8 - 1) + 128)", len(self))

    def blocks(self) -> Iterator[np.ndarray]:
        from sklearn.datasets import load_digits

        x = load_digits().images[..., None] / 8 - 1
        images = np.clip(127.5 * x + 128, 0, 255).astype(np.uint8)
        yield from np.split(images, range(BLOCK_SIZE, len(images), BLOCK_SIZE))


class NpzImages:
    """`arr_0` of an npz file, (N, H, W, C) uint8 with C = 1 or 3, as ADM and SiT exchange samples.

    Raises ValueError when the file is no npz, or `arr_0` is missing, of another type or shape, truncated, or only a
    part of the images. Other types are refused, since only who wrote them knows for sure which level is white.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.shape = shape_of_images(self.path, npz_headers(self.path))
        self.image_shape = self.shape[1:]

    def __len__(self) -> int:
        return self.shape[0]

    def fingerprint(self) -> str:
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        return content.sha256(self.path)

    def blocks(self) -> Iterator[np.ndarray]:
        size, sha256 = int(np.prod(self.image_shape)), self.fingerprint()
        with opened_npz(self.path) as archive, archive.open("arr_0.npy") as member:
            shape = npy_header(member).shape
            for start in range(0, len(self), BLOCK_SIZE):
                count = min(BLOCK_SIZE, len(self) - start)
                try:
                    data = member.read(count * size)
                except Exception as error:  # zipfile raises a dozen kinds for damaged files
                    raise unfit(self.path, f"is damaged after image {start} ({error})", "write it again") from None
                if len(data) < count * size:
                    raise unfit(self.path, f"ends within image {start + len(data) // size}", "write it again")
                content.require(self.path, sha256)
                if shape != self.shape:
                    raise content.changed(self.path)
                yield np.frombuffer(data, np.uint8).reshape(count, *self.image_shape)


class FolderImages:
    """All images below a folder but hidden ones, sorted by relative path; their size is that of most.

    channels: 1 takes files of mode L, 3 of mode RGB. upright: turn them as their EXIF orientation says. settings: the
    group of settings that path and channels are of, which refusals name; None if they are no settings.
    Nothing is converted or resized silently: a file of another mode or size, or unreadable, is a ValueError; see
    docs/data.md for every kind of file. `check` finds all of them that headers show, as does asking for `image_shape`.
    """

    def __init__(
        self, path: str, channels: int = 3, *, upright: bool = False, settings: str | None = "reference"
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
            raise unfit(self.path, size, f"give images of which {BLOCK_SIZE} have up to {BLOCK_BYTES:,} bytes")
        return height, width, self.channels

    def check(self, size: tuple[int, int] | None = None, *, same_size: bool = True) -> tuple[int, int]:
        """The (width, height) of most images, by the headers of all files, which are looked at once and remembered.

        size: what it must be. same_size: whether all must have one size. Raises ConfigError that lists the files that
        cannot be read, are of another mode, or of another size.
        """
        facts = f"headers, Pillow {PIL.__version__}, {size} {same_size} {self.upright} {self.fingerprint()}"
        return tuple(json.loads(content.found_once(facts, lambda: json.dumps(self._check_headers(size, same_size)))))

    def _check_headers(self, size: tuple[int, int] | None, same_size: bool) -> tuple[int, int]:
        facts = {"channels": self.channels, "upright": self.upright, "settings": self.settings}
        sizes, wrong = {}, {}
        with progress_bar(f"headers of {self.name}", total=len(self), unit="files") as bar:
            for done, file in enumerate(self.files, 1):
                try:
                    sizes[file] = size_of_image(file, **facts)
                except ValueError as error:
                    wrong[file] = str(error)
                if done % BLOCK_SIZE == 0:
                    bar.advance(BLOCK_SIZE)
        counted = Counter(sizes.values()).most_common(1)
        most = size or (counted[0][0] if counted else (0, 0))
        for file, found in sizes.items() if same_size else ():
            if found != most:
                wrong[file] = f"{file} {of_other_size(found, most, settings=self.settings)}"
        if wrong:
            reasons = {line.removeprefix(str(file)) for file, line in wrong.items()}
            listed = 1 if len(reasons) == 1 and len(wrong) == len(self) else LISTED
            more = f"more of the {len(self):,} images below {self.path} are unfit, too"
            raise ConfigError(in_lines([wrong[file] for file in self.files if file in wrong], more, listed=listed))
        return most

    def __len__(self) -> int:
        return len(self.files)

    def fingerprint(self) -> str:
        folder = os.path.join(self.path, "")
        names = (os.fspath(file).removeprefix(folder) for file in self.files)  # ten times as fast as Path.relative_to
        return _fingerprint(self.channels, *(f"{name}\0{sha256}" for name, sha256 in zip(names, self._sha256s)))

    @cached_property
    def _sha256s(self) -> list[str]:
        """Of the files, from when the fingerprint is first asked for."""
        try:
            return content.hashes(self.files, title=self.name, most=FILE_BYTES)
        except OSError as error:
            self._check_headers(None, same_size=False)  # may find others that cannot be read, either
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
        """An error that lists the first images from `start` on that cannot be read, whatever their headers say."""
        wrong = []
        for index in range(start, len(self)):
            try:
                self._pixels(index)
            except ValueError as error:
                wrong.append(str(error))
            if len(wrong) == LISTED:
                wrong.append(f"others of the {len(self):,} images below {self.path} may be damaged, too")
                break
        return ConfigError("\n".join(wrong))

    def read(self, index: int, *, size: tuple[int, int] | None = None, resize: bool = False) -> np.ndarray:
        """(H, W, C) uint8. size: the (width, height) that it must have, or with resize is brought to (bicubic)."""
        return read_image(
            self.files[index],
            opened=self._opened(index),
            channels=self.channels,
            size=size,
            resize=resize,
            upright=self.upright,
            settings=self.settings,
        )

    def _opened(self, index: int) -> IO[bytes] | None:
        """What to read instead of a file: once the files are hashed, bytes that have this hash."""
        file = self.files[index]
        if "_sha256s" not in vars(self):
            return None
        data = read(file, "an image", most=FILE_BYTES)
        if hashlib.sha256(data).hexdigest() != self._sha256s[index]:
            raise content.changed(file)
        return io.BytesIO(data)


class TorchvisionImages:
    """A data set of torchvision.datasets that is on disk, by its name, as RGB images.

    root: its folder. options: further arguments of its constructor, such as {train: false} or {split: test}.
    Raises ValueError when there is no such data set, it isn't there, or its images differ in size.
    """

    def __init__(self, dataset: str, root: str, options: Mapping | None = None) -> None:
        from torchvision import datasets

        if dataset not in datasets.__all__:
            raise ValueError(f"reference.dataset={dataset}: choose a class of torchvision.datasets, such as CIFAR10")
        arguments = {"root": root, **(options or {})}
        self._root, self._before = root, content.stamps_below(root)  # before it is read
        try:
            self.dataset = getattr(datasets, dataset)(**arguments)
        except Exception as error:  # torchvision raises nearly anything for damaged files
            remedy = "download it there first, or correct reference.root and reference.options"
            raise unfit(f"torchvision has no {dataset} at {root}", f"({error})", remedy) from None
        self.name = f"torchvision {dataset}"
        self._facts = json.dumps([dataset, sorted((options or {}).items())], default=str)
        self.image_shape = self._read(0).shape

    def __len__(self) -> int:
        return len(self.dataset)

    def fingerprint(self) -> str:
        return _fingerprint(*self._sha256s)

    @cached_property
    def _sha256s(self) -> list[str]:
        """Of the pixels of each block: which files they lie in, only torchvision knows."""

        def hash_blocks() -> str:
            found = []
            with progress_bar(f"hashing {self.name}", total=len(self)) as bar:
                for block in self._blocks():
                    found.append(_sha256_of_pixels(block))
                    bar.advance(len(block))
            return json.dumps(found)

        return json.loads(content.remembered(self._facts, self._root, self._before, hash_blocks))

    def blocks(self) -> Iterator[np.ndarray]:
        for number, block in enumerate(self._blocks()):
            if _sha256_of_pixels(block) != self._sha256s[number]:
                raise content.changed(self.name)
            yield block

    def _blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), BLOCK_SIZE):
            images = [self._read(index) for index in range(start, min(start + BLOCK_SIZE, len(self)))]
            if any(image.shape != self.image_shape for image in images):
                raise ValueError(f"{self.name} has images of several sizes: bring them to one, then reference=folder")
            yield np.stack(images)

    def _read(self, index: int) -> np.ndarray:
        try:
            image = self.dataset[index][0]
        except Exception as error:
            raise unfit(self.name, f"has an image {index} that cannot be read ({error})", "download it again") from None
        if image.mode not in MODES.values():
            raise ValueError(
                f"{self.name} has images of mode {image.mode}, not L or RGB: save them as RGB files, then choose "
                "reference=folder"
            )
        return np.asarray(image.convert("RGB"))


def _fingerprint(*facts: object) -> str:
    return hashlib.sha256("\n".join(map(str, facts)).encode(errors="surrogateescape")).hexdigest()


def _sha256_of_pixels(images: np.ndarray) -> str:
    return hashlib.sha256(f"{images.shape}".encode() + images.tobytes()).hexdigest()


def not_a_folder(path: Path, *, settings: str | None) -> str:
    """What to say of a path where a folder of images is wanted."""
    if path.suffix.lower() == ".npz" and path.exists() and settings == "reference":
        return f"{path} is an npz file, not a folder: choose reference=npz"
    if path.suffix.lower() == ".npy" and path.exists() and settings != "data":
        then = ", and choose reference=npz" if settings else ""
        return one_array(path) + then
    return f"{path} is not a folder: give the path of a folder of images"
