"""Sets of images, which metrics score; their pixels are kept, or decoded again from a set of latents."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ditexp.files.content import digest
from ditexp.files.reading import UnfitFile, unfit
from ditexp.result import CostPerImage
from ditexp.samples import block_format
from ditexp.samples.block import BlockFormat
from ditexp.samples.block_store import BlockStore, Facts, record_in
from ditexp.samples.cost import cost_per_image
from ditexp.samples.latents import LatentStore
from ditexp.samples.manifest import Manifest
from ditexp.samples.prompt_list import NAME as PROMPTS
from ditexp.samples.prompt_list import stored_prompts, write_prompts
from ditexp.samples.set_record import check_sizes
from ditexp.terminal.notices import notice
from ditexp.values import Cost, LabelMeaning, Prompt

BLOCK_IMAGES = 256
KEEP = ("pixels", "latents", "both")

# Latents (b, C, H, W) float32 of samples with these indices -> their images (b, H, W, C) uint8.
Decode = Callable[[np.ndarray, range], np.ndarray]


def images_per_block(*, batch_size: int, num_samples: int) -> int:
    """Whole batches, together about 256 images, or about num_samples in a smaller set, which stays cheap."""
    return batch_size * max(1, min(BLOCK_IMAGES, num_samples) // batch_size)


class SampleStore(BlockStore):
    """A set of images; also an image source for feature extraction.

    latents: the set of their latents. keep: what a run leaves on disk; "latents" leaves a manifest in place of a
    block's pixels, and the latents must be there for the block to count as whole. decode: makes pixels of latents.
    Without it, as where a set is opened from its folder alone, pixels that are not kept cannot be read.
    prompts: that the samples have in turn; None for those in the set's folder.

    is_ours: whether features of this set are known by its id, see `open`.
    """

    kind = "images"
    format = BlockFormat(
        block_format.SUFFIX,
        block_format.encode,
        block_format.decode,
        block_format.decode_labels,
        block_format.largest_file,
        block_format.READ_WITHOUT_DITEXP,
    )
    value_bytes = 1

    def __init__(
        self,
        root: Path,
        *,
        identity: Facts,
        num_samples: int,
        label_meaning: LabelMeaning | None = None,
        latents: LatentStore | None = None,
        keep: str = "pixels",
        decode: Decode | None = None,
        prompts: Sequence[Prompt] | None = None,
    ) -> None:
        super().__init__(root, identity=identity, num_samples=num_samples, label_meaning=label_meaning)
        self.image_shape, self.is_ours = self.shape, True
        self.latents, self.decode, self._prompts = latents, decode, prompts
        self._opened: dict[str, LatentStore] = {}
        self.keeps_pixels, self.keeps_latents = keep != "latents", latents is not None and keep != "pixels"
        if latents is not None and self.keeps_latents:
            check_sizes(num_samples, self.block_size, latents.shape, latents.value_bytes)

    @classmethod
    def open(cls, folder: Path, *, num_samples: int | None = None, samples: Path | None = None) -> SampleStore:
        """A set that is on disk. num_samples: None for all whole blocks from the first up to the first gap.

        samples: the folder of the sets whose features are known by their ids. The same set in another folder may come
        from another machine and differ in its last bits, so its fingerprint is a digest of its blocks.

        Raises ValueError if there is no such set, or fewer samples than asked for.
        """
        every = cls.find(folder).first(num_samples)
        every.is_ours = samples is None or folder.resolve() == (samples / every.id).resolve()
        return every

    @classmethod
    def find(cls, folder: Path) -> SampleStore:
        found = super().find(folder)
        found.keeps_pixels = False  # pixels that are not kept are no gap
        return found

    @property
    def prompts(self) -> Sequence[Prompt]:
        """Sample i has prompt i modulo their number; empty if samples have none, or if it is not known."""
        if self._prompts is None:
            self._prompts = stored_prompts(self.folder / PROMPTS)
        return self._prompts

    def begin(self, *, config: Facts | None = None, command: str = "", provenance: Facts | None = None) -> bool:
        is_written = super().begin(config=config, command=command, provenance=provenance)
        if self._prompts and not (self.folder / PROMPTS).exists():
            write_prompts(self.folder / PROMPTS, self._prompts)
        return is_written

    def fingerprint(self) -> str:
        return self.id if self.is_ours else digest([one.sha256 or one.pixels for one in self.manifests()])

    def manifest(self, block: int, *, verify: bool = False) -> Manifest | None:
        found = super().manifest(block, verify=verify)
        if found is None or (self.keeps_pixels and not found.has_file):
            return None
        sources = [] if found.has_file else [self._latents_named(found.latents)]
        if self.keeps_latents and self.latents not in sources:
            sources.append(self.latents)
        return found if all(one and one.manifest(block, verify=verify) for one in sources) else None

    def _latents_named(self, id: str) -> LatentStore | None:
        """The set of latents with this id, beside this set; None if it is gone."""
        if self.latents is not None and self.latents.id == id:
            return self.latents
        if id not in self._opened and Path(id).name == id:
            with suppress(ValueError):
                self._opened[id] = LatentStore.find(self.folder.parent / id)
        return self._opened.get(id)

    def decodable(self) -> list[int]:
        """The missing blocks whose latents are there: they need no sampling."""
        return [block for block in self.missing() if self.latents and self.latents.manifest(block)]

    def write(
        self, block: int, array: np.ndarray, labels: np.ndarray | None, *, cost: Cost, maker: Facts, latents: str = ""
    ) -> None:
        """array: images (b, H, W, C) uint8. latents: the id of the set that they were decoded from.

        Pixels that are there already stay, even if they need not be kept.
        """
        known = super().manifest(block)
        if self.keeps_pixels or known is None or not known.has_file:
            self.block(block).write(array, labels, cost=cost, maker=maker, latents=latents, is_kept=self.keeps_pixels)

    def read(self, block: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Images (b, H, W, C) uint8 and labels (b,) of a whole block. Raises ValueError if it is damaged."""
        if (latents := self._source(block)) is None:
            return super().read(block)
        if self.decode is None:
            raise self.undecoded()
        x, labels = latents.read(block)
        images = self.decode(x, self.indices(block))
        if hashlib.sha256(images.tobytes()).hexdigest() != Manifest.read(self.block(block).manifest_path).pixels:
            notice(f"{self.name}: latents decode to other last bits here than where they were scored")
        return images, labels

    def read_labels(self, block: int) -> np.ndarray | None:
        latents = self._source(block)
        return super().read_labels(block) if latents is None else latents.read_labels(block)

    def _source(self, block: int) -> LatentStore | None:
        """The latents that a block is read from; None for one whose pixels are kept, or that is damaged."""
        found = super().manifest(block)
        return None if found is None or found.has_file else self._latents_named(found.latents)

    def undecoded(self) -> UnfitFile:
        remedy = "run its command, which `ditexp samples ls` shows, with store=both"
        return unfit(self.folder, "has no pixels, only latents", remedy)

    def check_pixels(self) -> None:
        """Raise ValueError if a block cannot be read, since its pixels are not kept."""
        if self.decode is None and any(self._source(block) for block in range(self.num_blocks)):
            raise self.undecoded()

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


def find_set(folder: Path) -> SampleStore | LatentStore:
    """The set of either kind in a folder. Raises ValueError if it is none."""
    folder = Path(folder)
    return (LatentStore if record_in(folder).is_of_latents else SampleStore).find(folder)


def folder_named(given: str, samples: Path) -> Path:
    """The path of a set, or of images, that a user names: any path that exists; else a bare name is a set's id."""
    path = Path(given)
    return path if os.path.lexists(path) or path.name != given else samples / given
