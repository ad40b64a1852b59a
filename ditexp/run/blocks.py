"""How a worker makes blocks of a sample set: what it is sent, and what it builds from that."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from ditexp.core import Feature
from ditexp.extraction import extract_block, folder_of
from ditexp.outputs import Outputs
from ditexp.provenance import code_version, machine
from ditexp.run.components import build_component, build_for_sampling
from ditexp.sampler import Sampler
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
        """Build the sampler, load its model on the device and compile it.

        Raises ValueError if the configuration now leads to another set than in the parent.
        """
        os.chdir(self.folder)
        cfg = OmegaConf.create(self.config)
        sampler, store = build_for_sampling(cfg, device)
        if store.id != self.set_id:
            raise ValueError(
                f"sample set {self.set_id} has become {store.id}: weights or code were changed during the run"
            )
        sampler.prepare(cfg.batch_size)
        feature = build_component(cfg, "feature").to(device) if cfg.get("metric") else None
        return BlockMaker(
            sampler=sampler,
            store=store,
            batch_size=cfg.batch_size,
            feature=feature,
            features=Outputs(cfg.outputs).features,
            maker={**code_version(), **machine(device), "precision": cfg.precision, "compile": cfg.compile},
        )


@dataclass(frozen=True)
class Block:
    """images: (b, H, W, C) uint8, whole batches. labels: (b,) int64, or None."""

    number: int
    images: np.ndarray
    labels: np.ndarray | None
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class BlockMaker:
    """Makes, writes and evaluates the blocks of one set in a worker.

    feature: the network whose features of each block are kept; None without metrics. features: the folder of their
    cache. maker: JSON-able facts about this process, for the manifests.
    """

    sampler: Sampler
    store: SampleStore
    batch_size: int
    feature: Feature | None
    features: Path
    maker: dict[str, Any]

    def make(self, number: int, advance: Callable[[int], None]) -> Block:
        """Sample a block, batch after batch. advance: called with the number of images of each batch that is done."""
        indices, batches = self.store.indices(number), []
        for start in range(0, len(indices), self.batch_size):
            batches.append(self.sampler.images(indices[start : start + self.batch_size]))
            advance(self.batch_size)
        images, labels = zip(*batches)
        return Block(
            number,
            torch.cat(images).permute(0, 2, 3, 1).numpy(),
            None if labels[0] is None else torch.cat(labels).numpy(),
            self.sampler.take_cost(),
        )

    def write(self, block: Block) -> None:
        self.store.write(block.number, block.images, block.labels, cost=block.cost, maker=self.maker)

    def extract(self, block: Block) -> None:
        """Compute and keep the block's features. A failure is ignored: scoring tries again and reports it."""
        if self.feature is not None:
            with suppress(Exception):
                folder = folder_of(self.store.id, self.feature, self.features)
                extract_block(block.images, self.feature, folder, block.number)
