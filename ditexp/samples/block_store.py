"""Sets on disk: identified by what determines their content, made of blocks that are complete or absent.

outputs/samples/<id>/README.md       the set for people: what it is, what made it, how to make it again (card.py)
                     set.json        the same for programs (set_record.py)
                     prompts.jsonl   the prompts of the samples, if they have any (prompt_list.py)
                     000000.npy.gz   the images and labels of a block (store.py, block_format.py)
                     000000.safetensors   or its latents and labels (latents.py)
                     000000.json     its manifest: size, hashes, cost and maker (manifest.py)
                     000001.claim    a process is making this block (claims.py)
                     <process>.claim a process makes, scores or reads the set
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from ditexp.files.atomic import move_aside, remove_abandoned
from ditexp.files.content import digest
from ditexp.files.reading import unfit
from ditexp.samples.block import Array, Block, BlockFormat
from ditexp.samples.claims import Claims
from ditexp.samples.manifest import Manifest
from ditexp.samples.set_record import COMPLETE, NAME, NOT_KNOWN, SetRecord, check_sizes, shape_in
from ditexp.terminal.notices import in_line, notice
from ditexp.values import Cost, LabelMeaning

AGAIN = "it is written again"
Facts = dict[str, Any]  # JSON-able


class BlockStore:
    """The first `num_samples` samples of a set, as blocks of arrays and labels: of images, or of latents.

    identity: everything that changes the arrays, block and batch shape included, and nothing else; the set's id is its
    digest. Sets that differ only in num_samples share their blocks, so the last block may hold more than asked for.
    label_meaning: of the samples' labels.

    kind: what the set holds. format: of its files. value_bytes: of each value of an array. is_copy: whether the
    folder's name is not the set's id.
    """

    kind: ClassVar[str]
    format: ClassVar[BlockFormat]
    value_bytes: ClassVar[int]

    def __init__(
        self, root: Path, *, identity: Facts, num_samples: int, label_meaning: LabelMeaning | None = None
    ) -> None:
        self.id = digest(identity)
        self.folder = Path(root) / self.id
        self.identity, self.num_samples = identity, num_samples
        self.block_size, self.shape = identity["block_size"], shape_in(identity)
        check_sizes(num_samples, self.block_size, self.shape)
        self.name = f"samples {self.id}"
        self.is_copy = False
        self.label_meaning = label_meaning or NOT_KNOWN

    @classmethod
    def find(cls, folder: Path) -> Self:
        """The set in a folder, of the largest size that a run asked for, whether its blocks are there or not.

        Raises ValueError if the folder is no set, or one of another kind.
        """
        folder = Path(folder)
        record = record_in(folder)
        if record.is_of_latents is not (cls.kind == "latents"):
            holds, wanted = ("latents", "images") if record.is_of_latents else ("images", "latents")
            raise unfit(folder, f"is a set of {holds}", f"give a set of {wanted}, see `ditexp samples ls`")
        facts = {"identity": record.identity, "num_samples": record.num_samples}
        found = cls(folder.parent, **facts, label_meaning=record.label_meaning)
        if folder.name not in (found.id, record.id):
            found.is_copy, found.name = True, f"samples {folder}"
        found.folder = folder  # it may have been renamed
        return found

    def first(self, num_samples: int | None) -> Self:
        """The set, cut to this many samples; None: to all whole blocks from the first up to the first gap.

        Raises ValueError if there are fewer.
        """
        made = self.whole_blocks() * self.block_size
        if not 0 < (num_samples or made) <= made:
            wanted = "" if num_samples is None else f", not {num_samples}"
            raise unfit(self.folder, f"holds {made} whole samples{wanted}", "run its command with more")
        self.num_samples = num_samples or made
        return self

    def record(self) -> SetRecord:
        """set.json. Raises FileNotFoundError, or ValueError if it is damaged."""
        return SetRecord.read(self.folder)

    @property
    def num_blocks(self) -> int:
        return -(-self.num_samples // self.block_size)

    @property
    def block_bytes(self) -> int:
        """The bytes of a block's array."""
        return self.block_size * math.prod(self.shape) * self.value_bytes

    def __len__(self) -> int:
        return self.num_samples

    def indices(self, block: int) -> range:
        """The samples of a block; the last block is whole too, even beyond num_samples."""
        return range(block * self.block_size, (block + 1) * self.block_size)

    def block(self, number: int) -> Block:
        name, then = (self.folder, "copy it") if self.is_copy else (self.id, "run the set's command")
        remedy = f"`ditexp samples verify {name}` drops it; then {then} again"
        return Block(self.folder, number, (self.block_size, *self.shape), self.format, remedy)

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

    def write(self, block: int, array: Array, labels: np.ndarray | None, *, cost: Cost, maker: Facts) -> None:
        """array: (b, ...); labels: (b,) int64 or None, of a whole block.

        maker: JSON-able facts about the machine and the code that made the block.
        """
        self.block(block).write(array, labels, cost=cost, maker=maker)

    def read(self, block: int) -> tuple[Array, np.ndarray | None]:
        """The array (b, ...) and the labels (b,) of a whole block. Raises ValueError if it is damaged."""
        return self.block(block).read()

    def read_labels(self, block: int) -> np.ndarray | None:
        """The labels alone."""
        return self.block(block).labels()

    def labels(self) -> np.ndarray | None:
        """The labels that the samples were made under, (num_samples,) int64; None if there are none.

        Raises ValueError if a block is damaged.
        """
        every = [self._labels(block) for block in range(self.num_blocks)]
        labels = [part for part in every if part is not None]
        return np.concatenate(labels)[: self.num_samples] if len(labels) == len(every) else None

    def _labels(self, block: int) -> np.ndarray | None:
        labels, classes = self.read_labels(block), self.label_meaning.classes
        if labels is not None and classes is not None and not np.isin(labels, list(classes)).all():
            strange = labels[~np.isin(labels, list(classes))][0]
            raise self.block(block).unfit(f"has a sample of class {strange}, which its set has none of")
        return labels

    def drop(self, block: int) -> None:
        """Delete a block, so that the next run makes it again."""
        self.block(block).drop()


def record_in(folder: Path) -> SetRecord:
    """set.json of a folder. Raises ValueError if the folder is no set."""
    try:
        return SetRecord.read(folder)
    except FileNotFoundError:
        sets = sorted(path.parent.name for path in folder.parent.glob(f"[!.]*/{NAME}"))
        others = in_line(", ".join(sets) or "none", 100)
        raise ValueError(in_line(f"{folder} is no sample set; there are: {others}")) from None
