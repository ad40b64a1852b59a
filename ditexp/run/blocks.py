"""How a worker makes blocks of a sample set: what it is sent, and what it builds from that."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor

from ditexp.core import Feature
from ditexp.extraction import extract_block, folder_of
from ditexp.outputs import Outputs
from ditexp.precision import library_of
from ditexp.provenance import code_version, machine
from ditexp.run.components import build_component, build_for_sampling
from ditexp.run.decoding import Decoder, as_images, batches_of
from ditexp.run.underway import Underway
from ditexp.sampler import Sampler
from ditexp.samples.latents import LatentStore
from ditexp.samples.store import SampleStore
from ditexp.transfer import Pending, to_host
from ditexp.values import Cost


@dataclass(frozen=True)
class SetSpec:
    """The sample set that a worker makes blocks of; a value that is pickled and sent to it.

    config: the cell's, resolved. set_id: what the configuration must lead to. folder: the parent's working directory,
    where relative paths begin.
    """

    config: dict[str, Any]
    set_id: str
    folder: str

    def block_maker(self, device: torch.device) -> BlockMaker:
        """Build the sampler. Its model is loaded and compiled for the first block that needs sampling.

        Raises ValueError if the configuration now leads to another set than in the parent.
        """
        os.chdir(self.folder)
        cfg = OmegaConf.create(self.config)
        sampler, store = build_for_sampling(cfg, device)
        if store.id != self.set_id:
            raise ValueError(
                f"sample set {self.set_id} has become {store.id}: weights or code were changed during the run"
            )
        assert store.latents is not None, "every set of a run has one"
        feature = build_component(cfg, "feature").to(device) if cfg.get("metric") and cfg.feature else None
        return BlockMaker(
            sampler=sampler,
            store=store,
            latents=store.latents,
            batch_size=cfg.batch_size,
            feature=feature,
            features=Outputs(cfg.outputs).features,
            maker={
                **code_version(),
                **machine(device),
                **library_of(cfg.precision),
                "precision": cfg.precision,
                "compile": cfg.compile,
            },
            underway=Underway(sampler),
        )


@dataclass(frozen=True)
class Latents:
    """The samples of a block at t = 1, which the device may still be making.

    batches: (B, C, H, W) float32 each, whole batches. labels: (b,) int64, or None. cost: of sampling them.
    """

    batches: Sequence[Tensor]
    labels: Pending[np.ndarray | None]
    cost: Pending[Cost]


@dataclass(frozen=True)
class Block:
    """A block that the device may still be making: `images`, `labels` and `cost` wait for it.

    pixels: (b, C, H, W) uint8, whole batches, on the device. latents: the id of the set that has the block's latents;
    empty if none has.
    """

    number: int
    pixels: Tensor
    pixels_at_host: Pending[Tensor]
    labels_at_host: Pending[np.ndarray | None]
    measured: Pending[Cost]
    latents: str = ""

    @cached_property
    def images(self) -> np.ndarray:
        """(b, H, W, C) uint8."""
        return as_images(self.pixels_at_host())

    @cached_property
    def labels(self) -> np.ndarray | None:
        """(b,) int64, or None."""
        return self.labels_at_host()

    @cached_property
    def cost(self) -> Cost:
        """Of sampling and decoding."""
        return self.measured()


@dataclass(frozen=True, kw_only=True)
class BlockMaker:
    """Makes, writes and evaluates the blocks of one set in a worker.

    latents: the set that latents are taken from, and stored in. feature: the network whose features of each block are
    kept; None without metrics. features: the folder of their cache. maker: JSON-able facts about this process, for the
    manifests. underway: how far the batch is that is being sampled. prepared: which of "sampling" and "decoding" has
    been prepared.
    """

    sampler: Sampler
    store: SampleStore
    latents: LatentStore
    batch_size: int
    feature: Feature | None
    features: Path
    maker: dict[str, Any]
    underway: Underway
    prepared: set[str] = field(default_factory=set)

    def make(self, number: int) -> Block:
        """Make a block: decode its latents if they are stored; if not, sample them, and store them if wanted.

        On CUDA this launches the work and waits only where latents are stored.
        """
        self.underway.reset()
        stored = self.stored(number)
        self.prepare(sampling=stored is None)
        made = stored or self.sample(number)
        pixels = Decoder(self.sampler, self.batch_size).pixels(made.batches, self.store.indices(number))
        decoding = self.sampler.meter.take_later()
        source = self.latents.id if stored or self.store.keeps_latents else ""
        return Block(number, pixels, to_host(pixels), made.labels, lambda: made.cost() + decoding(), source)

    def prepare(self, *, sampling: bool) -> None:
        """Do what is done once a process. A worker that only decodes loads no network."""
        if ("sampling" if sampling else "decoding") in self.prepared:
            return
        if sampling:
            self.sampler.prepare(self.batch_size)
            self.prepared.update({"sampling", "decoding"})
        else:
            self.sampler.prepare_decoding(self.batch_size)
            self.prepared.add("decoding")

    def stored(self, number: int) -> Latents | None:
        """The latents of a block as they are on disk; None if they are absent or damaged."""
        if (manifest := self.latents.manifest(number)) is None:
            return None
        try:
            x, labels = self.latents.read(number)
        except ValueError:  # they have changed under an unchanged date
            return None
        return Latents(torch.tensor(x).split(self.batch_size), lambda: labels, lambda: manifest.cost)

    def sample(self, number: int) -> Latents:
        """Sample a block, batch after batch, and store its latents if wanted."""
        batches = batches_of(self.store.indices(number), self.batch_size)
        every_x, every_label = [], []
        for batch, following in itertools.zip_longest(batches, batches[1:]):
            self.underway.begin(len(batch), images=sum(map(len, every_x)))
            if following:
                self.sampler.expect(following)
            x, labels = self.sampler.samples(batch)
            every_x.append(x.float())
            every_label.append(labels)
        self.underway.end(sum(map(len, every_x)), self.sampler.meter.cost.network_rows)
        made = Latents(every_x, lambda: joined(every_label), self.sampler.meter.take_later())
        if self.store.keeps_latents:  # before they are decoded, so that a fault from here on costs no sampling
            x = torch.cat([wait() for wait in map(to_host, every_x)]).numpy()
            self.latents.write(number, x, made.labels(), cost=made.cost(), maker=self.maker)
        return made

    def write(self, block: Block) -> None:
        self.store.write(
            block.number, block.images, block.labels, cost=block.cost, maker=self.maker, latents=block.latents
        )

    def extract(self, block: Block) -> Pending[object]:
        """Run the feature network on the block. The result waits for the features, and keeps them in their cache.

        A failure is ignored: scoring tries again and reports it.
        """
        if self.feature is not None:
            with suppress(Exception):
                folder = folder_of(self.store.id, self.feature, self.features)
                return extract_block(block.pixels, self.feature, folder, block.number)
        return lambda: None


def joined(labels: Sequence[Pending[Tensor] | None]) -> np.ndarray | None:
    """The labels of all batches; None if they have none."""
    every = [wait() for wait in labels if wait is not None]
    return torch.cat(every).numpy() if every else None
