"""Sample sets on disk: identified by content, made of blocks that are complete or absent.

outputs/samples/<id>/README.md       the set for people: what it is, what made it, how to make it again
                     set.json        the same for programs: identity, config, command, provenance
                     000000.npy.gz   images and labels (blocks.py)
                     000000.json     its size, hashes, cost and maker; a block counts only once this exists
                     000001.claim    a block that a process is making (claims.py)
                     <process>.claim a process that makes, judges or reads the set
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ditexp.files.atomic import atomic, make_way, remove_abandoned
from ditexp.files.content import digest, sha256
from ditexp.files.image import BLOCK_BYTES
from ditexp.files.process import this_process
from ditexp.files.reading import read, unfit
from ditexp.files.records import ABOUT, COSTS, MANIFEST, WHOLE_ABOUT, read_record
from ditexp.samples.block_format import SUFFIX, decode, decode_labels, encode, largest_file
from ditexp.samples.claims import Claims
from ditexp.terminal.notices import in_line, notice
from ditexp.values import Cost, LabelMeaning

BLOCK_IMAGES = 256
SAMPLES = 10**8  # of a set
REMEDY = "the run that made the set mends it"
NOT_KNOWN = LabelMeaning(
    None,
    why_not="labels of these samples are no classes, or it is not recorded: judge them by the command that made them",
)


def images_per_block(*, batch_size: int, num_samples: int) -> int:
    """Whole batches of about 256 images; fewer in sets smaller than that, so that a preview costs a preview."""
    return batch_size * max(1, min(BLOCK_IMAGES, num_samples) // batch_size)


class SampleStore:
    """The first `num_samples` images of one sample set; also an image source for feature extraction.

    The set's id covers `identity`: everything that changes pixels, block and batch shape included, and nothing
    else; so sets of different num_samples share their blocks, and the last block of each may hold a few more.
    label_meaning: what the samples' labels are.
    """

    def __init__(self, root: Path, *, identity: dict, num_samples: int, label_meaning: LabelMeaning | None = None):
        self.id = digest(identity)
        self.folder = Path(root) / self.id
        self.identity, self.num_samples = identity, num_samples
        self.block_size, self.image_shape = identity["block_size"], tuple(identity["image_shape"])
        check_sizes(num_samples, self.block_size, self.image_shape)
        self.name = f"samples {self.id}"
        self.is_ours = True
        self.is_copy = False  # whether its folder has another name than its id
        self.label_meaning = label_meaning or NOT_KNOWN

    @classmethod
    def open(cls, folder: Path, *, num_samples: int | None = None, samples: Path | None = None) -> SampleStore:
        """A set that is on disk already; num_samples: None for every block in a row from the first.

        samples: the folder of the sets whose features are known by their ids. Another folder may hold the same set with
        other last bits, made by another machine, so the fingerprint of one from there is of its blocks.

        Raises ValueError when there is no such set, or fewer samples than asked for.
        """
        every = cls.find(folder)
        made = next(block for block in itertools.count() if every.manifest(block) is None) * every.block_size
        if not 0 < (num_samples or made) <= made:
            wanted = "" if num_samples is None else f", not {num_samples}"
            raise unfit(folder, f"holds {made} whole samples{wanted}", "run its command with more")
        every.num_samples = num_samples or made
        every.is_ours = samples is None or folder.resolve() == (samples / every.id).resolve()
        return every

    @classmethod
    def find(cls, folder: Path) -> SampleStore:
        """The set of a folder as long as its largest run asked for, made or not. Raises ValueError if it is none."""
        folder = Path(folder)
        try:
            about = read_about(folder)
        except FileNotFoundError:
            sets = sorted(path.parent.name for path in folder.parent.glob("[!.]*/set.json"))
            others = in_line(", ".join(sets) or "none", 100)
            raise ValueError(in_line(f"{folder} is no sample set; there are: {others}")) from None
        try:
            labels = label_meaning_in(about["labels"]) if "labels" in about else label_meaning_of_older(about)
            facts = {"identity": about["identity"], "num_samples": about["num_samples"], "label_meaning": labels}
            found = cls(folder.parent, **facts)
            if len(found.image_shape) != 3:
                raise ValueError
        except (AttributeError, KeyError, TypeError, ValueError):
            raise unfit(folder / "set.json", "is damaged", REMEDY) from None
        if folder.name not in (found.id, about.get("id")):
            found.is_copy, found.name = True, f"samples {folder}"
        found.folder = folder  # which may have been renamed
        return found

    def about(self) -> dict:
        """What set.json tells: id, identity, config, command and provenance of the run that began the set."""
        return read_about(self.folder)

    @property
    def num_blocks(self) -> int:
        return -(-self.num_samples // self.block_size)

    @property
    def block_bytes(self) -> int:
        """What a block's pixels take, and its file at most."""
        return self.block_size * math.prod(self.image_shape)

    def __len__(self) -> int:
        return self.num_samples

    def fingerprint(self) -> str:
        return self.id if self.is_ours else digest([manifest["sha256"] for manifest in self.manifests()])

    def indices(self, block: int) -> range:
        """The samples of a block; the last block is whole too, whatever num_samples is."""
        return range(block * self.block_size, (block + 1) * self.block_size)

    def path(self, block: int) -> Path:
        return self.folder / f"{block:06d}{SUFFIX}"

    def manifest_path(self, block: int) -> Path:
        return self.folder / f"{block:06d}.json"

    def manifest(self, block: int, *, verify: bool = False) -> dict | None:
        """What is recorded of a block that is there and whole; None of one that is absent or damaged.

        A file is known by its size and time of change, as in git's index, and hashed only where these differ from
        the record, or to `verify`. Every read checks the hash as well.
        """
        path = self.path(block)
        try:
            record = read_record(self.manifest_path(block), MANIFEST)
            found = path.stat()
            if not stat.S_ISREG(found.st_mode) or record.get("block", block) != block:  # another's, renamed
                return None
            if verify:
                self.read(block)  # compares its hash, and finds one that is of other images
            elif (found.st_size, found.st_mtime_ns) != (record["bytes"], record["mtime_ns"]):
                return record if record["sha256"] == sha256(path) else None
        except (OSError, ValueError):
            return None
        return record

    @property
    def _again(self) -> str:
        then = "it can be copied again" if self.is_copy else "the next run makes it anew"
        return f"`python -m ditexp.samples verify {self.folder if self.is_copy else self.id}` drops it, and {then}"

    def missing(self) -> list[int]:
        """Blocks that are absent, truncated or changed since they were written."""
        return [block for block in range(self.num_blocks) if self.manifest(block) is None]

    def begin(self, about: dict) -> bool:
        """Make the folder, and record what the set is. Whether that was not recorded yet, or the record is damaged."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path, num_samples = self.folder / "set.json", self.num_samples
        try:
            known, identity = read_record(path, WHOLE_ABOUT), json.loads(json.dumps(self.identity))
            if (known.get("id"), known["identity"]) != (self.id, identity):
                raise ValueError(f"{path} is damaged (it is of another set)")
            if self.find(self.folder).num_samples >= num_samples:
                return False
        except (FileNotFoundError, ValueError) as error:
            if isinstance(error, ValueError):
                notice(f"{error}: it is written anew")
            made = next(block for block in itertools.count() if self.manifest(block) is None)
            if made > self.num_blocks:  # a larger run has asked for more
                num_samples = made * self.block_size
        make_way(path)
        with atomic(path) as temporary:
            facts = {"id": self.id, "num_samples": num_samples, "identity": self.identity}
            facts["labels"] = asdict(self.label_meaning)
            temporary.write_text(json.dumps(facts | about, indent=2))
        return True

    def expel_stranger(self) -> None:
        """Rename the set's folder if another set, by its set.json, has been put there: its blocks are not ours."""
        with suppress(ValueError):  # it is none, or damaged
            found = self.find(self.folder)
            if found.is_copy or self.id not in (found.id, found.about().get("id")):
                aside = self.folder.with_name(f"{self.id}.aside-{time.time_ns()}")
                self.folder.rename(aside)
                notice(f"{self.folder} held another set, {found.id}: it is {aside.name} now")

    def enter(self, claims: Claims) -> None:
        """Make the folder, and keep it from being removed as long as the claims last. Raises OSError."""
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # it has been removed since
                return claims.keep()

    def clear(self) -> None:
        """Remove temporary files and claims of processes that were killed."""
        remove_abandoned(self.folder)
        Claims(self.folder).remove_void()

    def write(self, block: int, images: np.ndarray, labels: np.ndarray | None, *, cost: Cost, maker: dict) -> None:
        """images (b, H, W, C) uint8. The manifest is renamed into place last: it declares the block complete.

        maker: JSON-able facts about the process, the machine and the code that made the block.
        """
        data = encode(images, labels)
        for path in (self.path(block), self.manifest_path(block)):
            make_way(path)
        with atomic(self.path(block)) as temporary:
            temporary.write_bytes(data)
        record = {
            "block": block,
            "bytes": len(data),
            "mtime_ns": self.path(block).stat().st_mtime_ns,
            "sha256": hashlib.sha256(data).hexdigest(),
            "pixels": hashlib.sha256(images.tobytes()).hexdigest(),  # the same whatever zlib wrote the file
            "written": time.time(),
            "process": this_process(),
            "cost": vars(cost),
            "maker": maker,
        }
        with atomic(self.manifest_path(block)) as temporary:
            temporary.write_text(json.dumps(record))

    def read(self, block: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Images (b, H, W, C) uint8 and labels (b,) of a whole block. Raises ValueError if it is damaged."""
        data = self._bytes(block)
        try:
            return decode(data, (self.block_size, *self.image_shape))
        except ValueError as error:
            raise unfit(self.path(block), f"is no block of its set ({error})", self._again) from None

    def _bytes(self, block: int) -> bytes:
        most = largest_file((self.block_size, *self.image_shape))
        data = read(self.path(block), "a block of this set", most=most)
        if hashlib.sha256(data).hexdigest() != read_record(self.manifest_path(block), MANIFEST)["sha256"]:
            raise unfit(self.path(block), "has changed since it was written", self._again)
        return data

    def labels(self) -> np.ndarray | None:
        """What the set's samples were made under, (num_samples,) int64; None if under nothing.

        Raises ValueError if a block is damaged.
        """
        labels = [self._labels(block) for block in range(self.num_blocks)]
        return None if any(part is None for part in labels) else np.concatenate(labels)[: self.num_samples]

    def _labels(self, block: int) -> np.ndarray | None:
        data, classes = self._bytes(block), self.label_meaning.classes
        try:
            labels = decode_labels(data, self.block_size)
        except ValueError as error:
            raise unfit(self.path(block), f"is no block of its set ({error})", self._again) from None
        if labels is not None and classes is not None and not np.isin(labels, list(classes)).all():
            strange = labels[~np.isin(labels, list(classes))][0]
            raise unfit(self.path(block), f"has a sample of class {strange}, which its set has none of", self._again)
        return labels

    def drop(self, block: int) -> None:
        """Forget a block, so that the next run makes it anew."""
        for path in (self.manifest_path(block), self.path(block)):
            make_way(path)
            path.unlink(missing_ok=True)

    def blocks(self) -> Iterator[np.ndarray]:
        """Images of whole blocks: the last may go beyond num_samples."""
        for block in range(self.num_blocks):
            yield self.read(block)[0]

    def manifests(self) -> Iterator[dict]:
        """What is recorded of the blocks that are there."""
        return filter(None, map(self.manifest, range(self.num_blocks)))

    def cost(self) -> dict[str, float]:
        """What the set's blocks cost per image, from their manifests: it doesn't matter when they were made.

        seconds are one device's: with several at work, the set was ready sooner. preparation_seconds are those of all
        workers together, not per image; None where a block was made before they were recorded.
        """
        costs = [manifest["cost"] for manifest in self.manifests()]
        if wrong := [cost for cost in costs if not is_cost(cost)]:
            raise unfit(self.folder, f"has a manifest with the cost {wrong[0]}", "delete the set, and run again")
        images, seconds = sum(cost["images"] for cost in costs), sum(cost["seconds"] for cost in costs)
        preparation = [cost.get("preparation_seconds") for cost in costs]
        return {
            "nfe": sum(cost["velocity_rows"] for cost in costs) / images,
            "forwards": sum(cost["network_rows"] for cost in costs) / images,
            "seconds_per_image": seconds / images,
            "images_per_second": images / seconds,
            "preparation_seconds": None if None in preparation else sum(preparation),
            "peak_memory_mb": max(cost["peak_memory_mb"] for cost in costs),
            **{f"{kind}_steps": steps for kind in ("accepted", "rejected") if (steps := step_counts(costs, kind))},
        }


def check_sizes(num_samples: int, block_size: int, image_shape: tuple[int, ...]) -> None:
    """Raise ValueError for sizes that no set has, or whose blocks don't fit into memory."""
    if not all(type(size) is int and size > 0 for size in (num_samples, block_size, *image_shape)):
        raise ValueError(f"no set has {num_samples} samples of {image_shape} in blocks of {block_size}")
    if num_samples > SAMPLES:
        raise ValueError(f"num_samples={num_samples}: a set has {SAMPLES:,} at most")
    if (size := block_size * math.prod(image_shape)) > BLOCK_BYTES:
        raise ValueError(
            f"batch_size={block_size}: as many images take {size:,} bytes, over the limit of {BLOCK_BYTES:,}: choose a "
            "smaller one"
        )


def is_cost(cost: dict) -> bool:
    """Whether some images can have cost so much."""
    counts = [cost.get(kind, {}) for kind in ("accepted", "rejected")]
    if not all(isinstance(steps, dict) and all(map(str.isdecimal, steps)) for steps in counts):
        return False
    numbers = [*map(cost.get, COSTS), *(images for steps in counts for images in steps.values())]
    fit = all(type(number) in (int, float) and 0 <= number < math.inf for number in numbers)
    return fit and cost["images"] > 0 and cost["seconds"] > 0


def step_counts(costs: list[dict], kind: str) -> dict:
    """How many steps samples took (accepted) or threw away (rejected): per image, and {steps: images}."""
    images = Counter()
    for cost in costs:
        images.update({int(steps): number for steps, number in cost.get(kind, {}).items()})
    if not images:  # fixed grids
        return {}
    return {
        "mean": sum(steps * number for steps, number in images.items()) / images.total(),
        "smallest": min(images),
        "largest": max(images),
        "images": {str(steps): number for steps, number in sorted(images.items())},
    }


def folder_named(given: str, samples: Path) -> Path:
    """Of a set, or of images, that a user names: what exists as a path is that; else a bare name is a set's id."""
    path = Path(given)
    return path if os.path.lexists(path) or path.name != given else samples / given


def label_meaning_in(facts: dict) -> LabelMeaning:
    """Raises ValueError or TypeError for what is none."""
    meaning = LabelMeaning(**facts)
    classes, names = meaning.classes or (), meaning.names
    if not all(type(label) is int for label in classes) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"labels are {facts}")
    return meaning


def label_meaning_of_older(about: dict) -> LabelMeaning:
    """Of a set that was begun before set.json told what its labels are: of classes, as its configuration says."""
    condition = about.get("config", {}).get("condition", {})
    kind, count = condition.get("_target_", ""), about["identity"].get("model", {}).get("num_classes")
    if about.get("config", {}).get("task", {}).get("direction") is not None:
        return NOT_KNOWN
    if kind.endswith((".Balanced", ".Random")) and count:
        return LabelMeaning(condition.get("classes") or range(count), count)
    if kind.endswith(".Prompts") and isinstance(condition.get("prompts"), dict):
        return LabelMeaning([int(label) for label in condition["prompts"]])
    return NOT_KNOWN


def read_about(folder: Path) -> dict:
    """Raises FileNotFoundError, or ValueError with the remedy."""
    try:
        return read_record(folder / "set.json", ABOUT)
    except ValueError as error:
        raise ValueError(f"{error}: {REMEDY}") from None
