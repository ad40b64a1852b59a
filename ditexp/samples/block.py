"""One block of a sample set: its file of images and labels, and its manifest."""

from __future__ import annotations

import hashlib
import json
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ditexp.files.atomic import atomic, make_way
from ditexp.files.content import sha256
from ditexp.files.process import this_process
from ditexp.files.reading import UnfitFile, read, unfit
from ditexp.samples.block_format import SUFFIX, decode, decode_labels, encode, largest_file
from ditexp.samples.manifest import Manifest
from ditexp.values import Cost


@dataclass(frozen=True)
class Block:
    """shape: (b, H, W, C) of its images. remedy: what to do if it is damaged."""

    folder: Path
    number: int
    shape: tuple[int, int, int, int]
    remedy: str

    @property
    def path(self) -> Path:
        return self.folder / f"{self.number:06d}{SUFFIX}"

    @property
    def manifest_path(self) -> Path:
        return self.folder / f"{self.number:06d}.json"

    def manifest(self, *, verify: bool) -> Manifest | None:
        """The manifest of a whole block; None if the block is absent or damaged.

        As in git's index, a file of the recorded size and date counts as whole, and others are hashed. verify: read and
        hash the file anyway, which also finds silent corruption that leaves the date unchanged.
        """
        try:
            manifest = Manifest.read(self.manifest_path)
            found = self.path.stat()
            if not stat.S_ISREG(found.st_mode) or manifest.block not in (None, self.number):  # another's, renamed
                return None
            if verify:
                self.read()
            elif (found.st_size, found.st_mtime_ns) != (manifest.bytes, manifest.mtime_ns):
                return manifest if manifest.sha256 == sha256(self.path) else None
        except (OSError, ValueError):
            return None
        return manifest

    def write(self, images: np.ndarray, labels: np.ndarray | None, *, cost: Cost, maker: dict[str, Any]) -> None:
        """The manifest is renamed into place last: it declares the block complete."""
        data = encode(images, labels)
        for path in (self.path, self.manifest_path):
            make_way(path)
        with atomic(self.path) as temporary:
            temporary.write_bytes(data)
        manifest = Manifest(
            block=self.number,
            bytes=len(data),
            mtime_ns=self.path.stat().st_mtime_ns,
            sha256=hashlib.sha256(data).hexdigest(),
            pixels=hashlib.sha256(images.tobytes()).hexdigest(),
            written=time.time(),
            process=this_process(),
            cost=cost,
            maker=maker,
        )
        with atomic(self.manifest_path) as temporary:
            temporary.write_text(json.dumps(manifest.to_json()))

    def read(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Images (b, H, W, C) uint8 and labels (b,) int64. Raises ValueError if the block is damaged."""
        data = self._content()
        try:
            return decode(data, self.shape)
        except ValueError as error:
            raise self.unfit(f"is no block of its set ({error})") from None

    def labels(self) -> np.ndarray | None:
        """(b,) int64, without decoding the images. Raises ValueError if the block is damaged."""
        data = self._content()
        try:
            return decode_labels(data, self.shape[0])
        except ValueError as error:
            raise self.unfit(f"is no block of its set ({error})") from None

    def drop(self) -> None:
        for path in (self.manifest_path, self.path):
            make_way(path)
            path.unlink(missing_ok=True)

    def unfit(self, wrong: str) -> UnfitFile:
        return unfit(self.path, wrong, self.remedy)

    def _content(self) -> bytes:
        data = read(self.path, "a block of this set", most=largest_file(self.shape))
        if hashlib.sha256(data).hexdigest() != Manifest.read(self.manifest_path).sha256:
            raise self.unfit("has changed since it was written")
        return data
