"""Sample sets on disk: identified by content, made of blocks that are complete or absent.

outputs/samples/<id>/set.json        what made the set: its identity, provenance, and the command
                     000000.npz      images (b, H, W, C) uint8 and labels (b,) int64
                     000000.json     sha256 of the block, what it cost; a block counts only once this exists
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ditexp.core import Cost
from ditexp.files import atomic, digest, sweep

BLOCK_IMAGES = 256


def images_per_block(*, batch_size: int, num_samples: int) -> int:
    """Whole batches of about 256 images; fewer in sets smaller than that, so that a preview costs a preview."""
    return batch_size * max(1, min(BLOCK_IMAGES, num_samples) // batch_size)


class SampleStore:
    """The first `num_samples` images of one sample set; also an image source for feature extraction.

    The set's id covers `identity`: everything that changes pixels, block and batch shape included, and nothing
    else; so sets of different num_samples share their blocks, and the last block of each may hold a few more.
    """

    def __init__(self, root: Path, *, identity: dict, num_samples: int):
        self.id = digest(identity)
        self.folder = Path(root) / self.id
        self.identity, self.num_samples = identity, num_samples
        self.block_size, self.channels = identity["block_size"], identity["image_channels"]
        self.name = f"samples {self.id}"

    @classmethod
    def open(cls, folder: Path, *, num_samples: int | None = None) -> SampleStore:
        """A set that is on disk already; num_samples: None for every block in a row from the first.

        Raises ValueError when there is no such set, or fewer samples than asked for.
        """
        folder = Path(folder)
        try:
            identity = json.loads((folder / "set.json").read_text())["identity"]
        except (OSError, ValueError, KeyError):
            sets = sorted(path.parent.name for path in folder.parent.glob("*/set.json"))
            raise ValueError(f"{folder} is no sample set; there are: {', '.join(sets) or 'none'}") from None
        every = cls(folder.parent, identity=identity, num_samples=0)
        made = next(block for block in itertools.count() if every.facts(block) is None) * every.block_size
        if not 0 < (num_samples or made) <= made:
            raise ValueError(f"{folder} holds {made} whole samples, not {num_samples}: run its command with more")
        every.num_samples = num_samples or made
        return every

    @property
    def num_blocks(self) -> int:
        return -(-self.num_samples // self.block_size)

    def __len__(self) -> int:
        return self.num_samples

    def fingerprint(self) -> str:
        return self.id

    def indices(self, block: int) -> range:
        """The samples of a block; the last block is whole too, whatever num_samples is."""
        return range(block * self.block_size, (block + 1) * self.block_size)

    def path(self, block: int) -> Path:
        return self.folder / f"{block:06d}.npz"

    def facts(self, block: int) -> dict | None:
        """The manifest of a block, or None while it is absent or damaged."""
        try:
            facts = json.loads(self.path(block).with_suffix(".json").read_text())
            intact = facts["sha256"] == hashlib.sha256(self.path(block).read_bytes()).hexdigest()
        except (OSError, ValueError, KeyError):
            return None
        return facts if intact else None

    def missing(self) -> list[int]:
        """Blocks that are absent, truncated or changed since they were written."""
        return [block for block in range(self.num_blocks) if self.facts(block) is None]

    def begin(self, provenance: dict) -> None:
        """Make the folder, clear what killed processes left behind, and record what the set is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        if not (self.folder / "set.json").exists():
            with atomic(self.folder / "set.json") as temporary:
                temporary.write_text(json.dumps({"id": self.id, "identity": self.identity} | provenance, indent=2))

    def write(self, block: int, images: np.ndarray, labels: np.ndarray | None, cost: Cost) -> None:
        """images (b, H, W, C) uint8. The manifest is renamed into place last: it declares the block complete."""
        buffer = io.BytesIO()
        np.savez(buffer, images=images, **({} if labels is None else {"labels": labels}))
        data = buffer.getvalue()
        with atomic(self.path(block)) as temporary:
            temporary.write_bytes(data)
        facts = {"sha256": hashlib.sha256(data).hexdigest(), "written": time.time(), "cost": vars(cost)}
        with atomic(self.path(block).with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(facts))

    def read(self, block: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Images (b, H, W, C) uint8 and labels (b,) of a whole block."""
        with np.load(self.path(block)) as arrays:
            return arrays["images"], arrays.get("labels", None)

    def blocks(self) -> Iterator[np.ndarray]:
        """Images of whole blocks: the last may go beyond num_samples."""
        for block in range(self.num_blocks):
            yield self.read(block)[0]

    def cost(self) -> dict[str, float]:
        """What the set's blocks cost per image, from their manifests: it doesn't matter when they were made."""
        costs = [
            json.loads(self.path(block).with_suffix(".json").read_text())["cost"] for block in range(self.num_blocks)
        ]
        images, seconds = sum(cost["images"] for cost in costs), sum(cost["seconds"] for cost in costs)
        return {
            "nfe": sum(cost["velocity_rows"] for cost in costs) / images,
            "forwards": sum(cost["network_rows"] for cost in costs) / images,
            "seconds_per_image": seconds / images,
            "images_per_second": images / seconds,
            "peak_memory_mb": max(cost["peak_memory_mb"] for cost in costs),
        }

    def export_npz(self, path: Path) -> None:
        """The exchange format: arr_0 (N, H, W, C) uint8 and arr_1 (N,) labels, with one block in memory at a time."""
        images, labels = self.read(0)
        with (
            atomic(path) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
        ):
            with archive.open("arr_0.npy", "w", force_zip64=True) as member:
                header = {
                    "descr": "|u1",
                    "fortran_order": False,
                    "shape": (self.num_samples, *images.shape[1:]),
                }
                np.lib.format.write_array_header_1_0(member, header)
                for number, block in enumerate(self.blocks()):
                    member.write(block[: self.num_samples - number * self.block_size].tobytes())
            if labels is not None:
                with archive.open("arr_1.npy", "w") as member:
                    every = np.concatenate([self.read(block)[1] for block in range(self.num_blocks)])
                    np.lib.format.write_array(member, every[: self.num_samples])
