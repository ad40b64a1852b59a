"""How a worker makes blocks of a sample set: what it is sent, and what it builds from that."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from ditexp.core import Feature
from ditexp.extraction import extract_block, folder_of
from ditexp.outputs import Outputs
from ditexp.precision import library_of
from ditexp.provenance import code_version, machine
from ditexp.run.components import build_component, build_for_sampling
from ditexp.run.decoding import Decoder, batches_of
from ditexp.run.underway import Underway
from ditexp.sampler import Sampler
from ditexp.samples.latents import LatentStore
from ditexp.samples.store import SampleStore
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
    """x: (b, C, H, W) float32, whole batches. labels: (b,) int64, or None. cost: of sampling them."""

    x: np.ndarray
    labels: np.ndarray | None
    cost: Cost


@dataclass(frozen=True)
class Block:
    """images: (b, H, W, C) uint8, whole batches. labels: (b,) int64, or None.

    cost: of sampling and decoding. latents: the id of the set that has the block's latents; empty if none has.
    """

    number: int
    images: np.ndarray
    labels: np.ndarray | None
    cost: Cost
    latents: str = ""


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
        """Make a block: decode its latents if they are stored; if not, sample them, and store them if wanted."""
        self.underway.reset()
        made = self.stored(number)
        are_stored = made is not None
        self.prepare(sampling=not are_stored)
        if made is None:
            made = self.sample(number)
        images = Decoder(self.sampler, self.batch_size)(made.x, self.store.indices(number))
        source = self.latents.id if are_stored or self.store.keeps_latents else ""
        return Block(number, images, made.labels, made.cost + self.sampler.take_cost(), source)

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
            return Latents(*self.latents.read(number), manifest.cost)
        except ValueError:  # they have changed under an unchanged date
            return None

    def sample(self, number: int) -> Latents:
        """Sample a block, batch after batch, and store its latents if wanted."""
        every_x, every_label = [], []
        for indices in batches_of(self.store.indices(number), self.batch_size):
            self.underway.begin(len(indices), images=sum(map(len, every_x)))
            x, labels = self.sampler.samples(indices)
            every_x.append(x.float().cpu())
            every_label.append(labels)
        labels = None if every_label[0] is None else torch.cat(every_label).numpy()
        made = Latents(torch.cat(every_x).numpy(), labels, self.sampler.take_cost())
        self.underway.end(len(made.x), made.cost.network_rows)
        if self.store.keeps_latents:  # before they are decoded, so that a fault from here on costs no sampling
            self.latents.write(number, made.x, made.labels, cost=made.cost, maker=self.maker)
        return made

    def write(self, block: Block) -> None:
        self.store.write(
            block.number, block.images, block.labels, cost=block.cost, maker=self.maker, latents=block.latents
        )

    def extract(self, block: Block) -> None:
        """Compute and keep the block's features. A failure is ignored: scoring tries again and reports it."""
        if self.feature is not None:
            with suppress(Exception):
                folder = folder_of(self.store.id, self.feature, self.features)
                extract_block(block.images, self.feature, folder, block.number)
