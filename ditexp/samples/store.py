"""Sample sets on disk: identified by what determines their pixels, made of blocks that are complete or absent.

outputs/samples/<id>/README.md       the set for people: what it is, what made it, how to make it again (card.py)
                     set.json        the same for programs (set_record.py)
                     000000.npy.gz   the images and labels of a block (block_format.py)
                     000000.json     its manifest: size, hashes, cost and maker (manifest.py)
                     000001.claim    a process is making this block (claims.py)
                     <process>.claim a process makes, scores or reads the set
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ditexp.files.atomic import move_aside, remove_abandoned
from ditexp.files.content import digest
from ditexp.files.reading import unfit
from ditexp.result import CostPerImage
from ditexp.samples.block import Block
from ditexp.samples.claims import Claims
from ditexp.samples.cost import cost_per_image
from ditexp.samples.manifest import Manifest
from ditexp.samples.set_record import COMPLETE, NAME, NOT_KNOWN, SetRecord, check_sizes
from ditexp.terminal.notices import in_line, notice
from ditexp.values import Cost, LabelMeaning

BLOCK_IMAGES = 256
AGAIN = "it is written again"
Facts = dict[str, Any]  # JSON-able


def images_per_block(*, batch_size: int, num_samples: int) -> int:
    """Whole batches, together about 256 images, or about num_samples in a smaller set, which stays cheap."""
    return batch_size * max(1, min(BLOCK_IMAGES, num_samples) // batch_size)


class SampleStore:
    """The first `num_samples` images of a sample set; also an image source for feature extraction.

    identity: everything that changes pixels, block and batch shape included, and nothing else; the set's id is its
    digest. Sets that differ only in num_samples share their blocks, so the last block may hold more images than asked
    for. label_meaning: of the samples' labels.

    is_ours: whether features of this set are known by its id, see `open`. is_copy: whether the folder's name is not the
    set's id.
    """

    def __init__(
        self, root: Path, *, identity: Facts, num_samples: int, label_meaning: LabelMeaning | None = None
    ) -> None:
        self.id = digest(identity)
        self.folder = Path(root) / self.id
        self.identity, self.num_samples = identity, num_samples
        height, width, channels = identity["image_shape"]
        self.block_size, self.image_shape = identity["block_size"], (height, width, channels)
        check_sizes(num_samples, self.block_size, self.image_shape)
        self.name = f"samples {self.id}"
        self.is_ours, self.is_copy = True, False
        self.label_meaning = label_meaning or NOT_KNOWN

    @classmethod
    def open(cls, folder: Path, *, num_samples: int | None = None, samples: Path | None = None) -> SampleStore:
        """A set that is on disk. num_samples: None for all whole blocks from the first up to the first gap.

        samples: the folder of the sets whose features are known by their ids. The same set in another folder may come
        from another machine and differ in its last bits, so its fingerprint is a digest of its blocks.

        Raises ValueError if there is no such set, or fewer samples than asked for.
        """
        every = cls.find(folder)
        made = every.whole_blocks() * every.block_size
        if not 0 < (num_samples or made) <= made:
            wanted = "" if num_samples is None else f", not {num_samples}"
            raise unfit(folder, f"holds {made} whole samples{wanted}", "run its command with more")
        every.num_samples = num_samples or made
        every.is_ours = samples is None or folder.resolve() == (samples / every.id).resolve()
        return every

    @classmethod
    def find(cls, folder: Path) -> SampleStore:
        """The set in a folder, of the largest size that a run asked for, whether its blocks are there or not.

        Raises ValueError if the folder is no set.
        """
        folder = Path(folder)
        try:
            record = SetRecord.read(folder)
        except FileNotFoundError:
            sets = sorted(path.parent.name for path in folder.parent.glob(f"[!.]*/{NAME}"))
            others = in_line(", ".join(sets) or "none", 100)
            raise ValueError(in_line(f"{folder} is no sample set; there are: {others}")) from None
        facts = {"identity": record.identity, "num_samples": record.num_samples}
        found = cls(folder.parent, **facts, label_meaning=record.label_meaning)
        if folder.name not in (found.id, record.id):
            found.is_copy, found.name = True, f"samples {folder}"
        found.folder = folder  # it may have been renamed
        return found

    def record(self) -> SetRecord:
        """set.json. Raises FileNotFoundError, or ValueError if it is damaged."""
        return SetRecord.read(self.folder)

    @property
    def num_blocks(self) -> int:
        return -(-self.num_samples // self.block_size)

    @property
    def block_bytes(self) -> int:
        """The bytes of a block's pixels, and the most that its file has."""
        return self.block_size * math.prod(self.image_shape)

    def __len__(self) -> int:
        return self.num_samples

    def fingerprint(self) -> str:
        return self.id if self.is_ours else digest([manifest.sha256 for manifest in self.manifests()])

    def indices(self, block: int) -> range:
        """The samples of a block; the last block is whole too, even beyond num_samples."""
        return range(block * self.block_size, (block + 1) * self.block_size)

    def block(self, number: int) -> Block:
        name, then = (self.folder, "copy it") if self.is_copy else (self.id, "run the set's command")
        remedy = f"`python -m ditexp.samples verify {name}` drops it; then {then} again"
        return Block(self.folder, number, (self.block_size, *self.image_shape), remedy)

    def path(self, block: int) -> Path:
        return self.block(block).path

    def manifest(self, block: int, *, verify: bool = False) -> Manifest | None:
        """The manifest of a whole block; None if it is absent or damaged. verify: hash it whatever its date."""
        return self.block(block).manifest(verify=verify)

    def manifests(self) -> Iterator[Manifest]:
        """The manifests of the blocks that are there."""
        return filter(None, map(self.manifest, range(self.num_blocks)))

    def whole_blocks(self) -> int:
        """How many blocks there are from the first up to the first gap, even beyond num_samples."""
        return next(block for block in itertools.count() if self.manifest(block) is None)

    def missing(self) -> list[int]:
        """Blocks that are absent, or were truncated or changed after they were written."""
        return [block for block in range(self.num_blocks) if self.manifest(block) is None]

    def begin(self, *, config: Facts | None = None, command: str = "", provenance: Facts | None = None) -> bool:
        """Make the folder, and write set.json where it is missing, damaged or of a smaller run. Whether it was written.

        config, command, provenance: of this run.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        num_samples = self.num_samples
        try:
            known = SetRecord.read(self.folder, shape=COMPLETE, remedy=AGAIN)
            if (known.id, known.identity) != (self.id, json.loads(json.dumps(self.identity))):
                raise ValueError(f"{self.folder / NAME} is damaged (it is of another set): {AGAIN}")
            if known.num_samples >= num_samples:
                return False
        except FileNotFoundError:
            num_samples = max(num_samples, self._asked_for())
        except ValueError as error:
            notice(str(error))
            num_samples = max(num_samples, self._asked_for())
        facts = {"id": self.id, "config": config or {}, "command": command, "provenance": provenance or {}}
        SetRecord(num_samples, self.identity, self.label_meaning, **facts).write(self.folder)
        return True

    def _asked_for(self) -> int:
        """The fewest samples that a larger run must have asked for, by the blocks that are there; 0 without one."""
        made = self.whole_blocks()
        return made * self.block_size if made > self.num_blocks else 0

    def move_other_set_aside(self) -> None:
        """Rename the set's folder if its set.json is another set's, whose blocks are not ours."""
        with suppress(ValueError):  # it is no set, or damaged
            found = self.find(self.folder)
            if found.is_copy or self.id not in (found.id, found.record().id):
                move_aside(self.folder, f"held another set, {found.id}")

    def enter(self, claims: Claims) -> None:
        """Make the folder, and keep it from being removed as long as the claims last. Raises OSError."""
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another process has just removed it
                return claims.keep()

    def clear(self) -> None:
        """Remove temporary files and claims of killed processes."""
        remove_abandoned(self.folder)
        Claims(self.folder).remove_void()

    def write(self, block: int, images: np.ndarray, labels: np.ndarray | None, *, cost: Cost, maker: Facts) -> None:
        """images: (b, H, W, C) uint8; labels: (b,) int64 or None, of a whole block.

        maker: JSON-able facts about the machine and the code that made the block.
        """
        self.block(block).write(images, labels, cost=cost, maker=maker)

    def read(self, block: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Images (b, H, W, C) uint8 and labels (b,) of a whole block. Raises ValueError if it is damaged."""
        return self.block(block).read()

    def labels(self) -> np.ndarray | None:
        """The labels that the samples were made under, (num_samples,) int64; None if there are none.

        Raises ValueError if a block is damaged.
        """
        every = [self._labels(block) for block in range(self.num_blocks)]
        labels = [part for part in every if part is not None]
        return np.concatenate(labels)[: self.num_samples] if len(labels) == len(every) else None

    def _labels(self, block: int) -> np.ndarray | None:
        labels, classes = self.block(block).labels(), self.label_meaning.classes
        if labels is not None and classes is not None and not np.isin(labels, list(classes)).all():
            strange = labels[~np.isin(labels, list(classes))][0]
            raise self.block(block).unfit(f"has a sample of class {strange}, which its set has none of")
        return labels

    def drop(self, block: int) -> None:
        """Delete a block, so that the next run makes it again."""
        self.block(block).drop()

    def blocks(self) -> Iterator[np.ndarray]:
        """The images of whole blocks; the last may go beyond num_samples."""
        for block in range(self.num_blocks):
            yield self.read(block)[0]

    def cost(self, *, steps: int | None) -> CostPerImage:
        """What an image of the set costs. steps: of the sampler; None for an adaptive solver."""
        try:
            return cost_per_image([manifest.cost for manifest in self.manifests()], steps=steps)
        except ValueError as error:
            raise unfit(self.folder, f"has manifests of {error}", "delete the set, and run again") from None


def folder_named(given: str, samples: Path) -> Path:
    """The path of a set, or of images, that a user names: any path that exists; else a bare name is a set's id."""
    path = Path(given)
    return path if os.path.lexists(path) or path.name != given else samples / given
