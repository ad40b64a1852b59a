"""One block of a sample set: its file of images or latents and labels, and its manifest."""

from __future__ import annotations

import hashlib
import json
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ditexp.files.atomic import atomic, make_way
from ditexp.files.content import sha256
from ditexp.files.process import this_process
from ditexp.files.reading import UnfitFile, read, unfit
from ditexp.samples.manifest import Manifest
from ditexp.values import Cost

Array = np.ndarray  # images (b, H, W, C) uint8, or latents (b, C, H, W) float32


@dataclass(frozen=True)
class BlockFormat:
    """How a block lies in a file.

    suffix: of the file's name. encode: the file's bytes, from an array and labels. decode: both from the bytes, given
    the array's shape. decode_labels: the labels alone, given their number. largest_file: the most bytes that a file of
    an array of this shape has. read_without_ditexp: Python code for strangers. The decoders raise ValueError for
    damaged bytes.
    """

    suffix: str
    encode: Callable[[Array, np.ndarray | None], bytes]
    decode: Callable[[bytes, tuple[int, ...]], tuple[Array, np.ndarray | None]]
    decode_labels: Callable[[bytes, int], np.ndarray | None]
    largest_file: Callable[[tuple[int, ...]], int]
    read_without_ditexp: str


@dataclass(frozen=True)
class Block:
    """shape: (b, ...) of its array. remedy: what to do if it is damaged."""

    folder: Path
    number: int
    shape: tuple[int, ...]
    format: BlockFormat
    remedy: str

    @property
    def path(self) -> Path:
        return self.folder / f"{self.number:06d}{self.format.suffix}"

    @property
    def manifest_path(self) -> Path:
        return self.folder / f"{self.number:06d}.json"

    def manifest(self, *, verify: bool) -> Manifest | None:
        """The manifest of a whole block; None if the block is absent or damaged. A block without a file is whole.

        As in git's index, a file of the recorded size and date counts as whole; one of another date is hashed.
        verify: read and hash the file anyway, which also finds silent corruption that leaves the date unchanged.
        """
        try:
            manifest = Manifest.read(self.manifest_path)
            if manifest.block not in (None, self.number):  # another's, renamed
                return None
            if not manifest.has_file:
                return manifest
            found = self.path.stat()
            if not stat.S_ISREG(found.st_mode):
                return None
            if verify:
                self._decode(self._content(manifest.sha256))
            elif found.st_size != manifest.bytes:
                return None
            elif found.st_mtime_ns != manifest.mtime_ns:
                return manifest if manifest.sha256 == sha256(self.path) else None
        except (OSError, ValueError):
            return None
        return manifest

    def write(
        self,
        array: Array,
        labels: np.ndarray | None,
        *,
        cost: Cost,
        maker: dict[str, Any],
        latents: str = "",
        is_kept: bool = True,
    ) -> None:
        """The manifest is renamed into place last: it declares the block complete.

        latents: see `Manifest`. is_kept: whether the array is written; if not, only the manifest is.
        """
        data = self.format.encode(array, labels) if is_kept else b""
        for path in (self.path, self.manifest_path):
            make_way(path)
        if is_kept:
            with atomic(self.path) as temporary:
                temporary.write_bytes(data)
        manifest = Manifest(
            block=self.number,
            bytes=len(data),
            mtime_ns=self.path.stat().st_mtime_ns if is_kept else 0,
            sha256=hashlib.sha256(data).hexdigest() if is_kept else "",
            pixels=hashlib.sha256(array.tobytes()).hexdigest(),
            latents=latents,
            written=time.time(),
            process=this_process(),
            cost=cost,
            maker=maker,
        )
        with atomic(self.manifest_path) as temporary:
            temporary.write_text(json.dumps(manifest.to_json()))
        if not is_kept:  # a damaged file may be there
            self.path.unlink(missing_ok=True)

    def read(self) -> tuple[Array, np.ndarray | None]:
        """The array, and labels (b,) int64 or None. Raises ValueError if the block is damaged."""
        return self._decode(self._content())

    def labels(self) -> np.ndarray | None:
        """(b,) int64, without decoding the array. Raises ValueError if the block is damaged."""
        data = self._content()
        try:
            return self.format.decode_labels(data, self.shape[0])
        except ValueError as error:
            raise self.unfit(f"is no block of its set ({error})") from None

    def drop(self) -> None:
        for path in (self.manifest_path, self.path):
            make_way(path)
            path.unlink(missing_ok=True)

    def unfit(self, wrong: str) -> UnfitFile:
        return unfit(self.path, wrong, self.remedy)

    def _content(self, expected: str | None = None) -> bytes:
        """expected: the sha256 of the file, if its manifest has been read."""
        data = read(self.path, "a block of this set", most=self.format.largest_file(self.shape))
        if hashlib.sha256(data).hexdigest() != (expected or Manifest.read(self.manifest_path).sha256):
            raise self.unfit("has changed since it was written")
        return data

    def _decode(self, data: bytes) -> tuple[Array, np.ndarray | None]:
        try:
            return self.format.decode(data, self.shape)
        except ValueError as error:
            raise self.unfit(f"is no block of its set ({error})") from None
