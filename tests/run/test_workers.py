"""What a queue of blocks does with the reports of workers, and what a worker makes of the spec that it is sent."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from ditexp.cli.packaged import packaged
from ditexp.run import block_queue, workers
from ditexp.run.block_queue import BlockFailed, BlockQueue
from ditexp.run.blocks import SetSpec
from ditexp.run.cell import Cell, build
from ditexp.run.worker_process import Advanced, Extracted, Failed, Idle, MakeBlock, ToParent, Written
from ditexp.run.workers import Died, WorkerPool
from ditexp.samples.claims import Claims
from ditexp.terminal.notices import notice


@pytest.fixture
def cell(tmp_path) -> Cell:
    """Four blocks of four samples."""
    few = (
        "num_samples=16",
        "batch_size=4",
        "steps=2",
        "devices=cpu:2",
        f"outputs={tmp_path}",
        "metric=inception_score",
    )
    with initialize_config_dir(str(packaged("conf")), version_base="1.3"):
        cell = build(compose("config", overrides=[*few, f"outputs={tmp_path}"]))
    cell.store.block_size = 4
    return cell


def spec_of(cell: Cell) -> SetSpec:
    return SetSpec(cell.config, cell.store.id, os.getcwd())


class Script:
    """A worker without a process: it reports what the script has for each block, in turn."""

    started = 0

    def __init__(self, device: torch.device) -> None:
        Script.started += 1
        self.device = device
        self.busy_with: int | None = None
        self.held: dict[int, Advanced] = {}
        self.extracting: set[int] = set()
        self.messages: list = []
        self.is_closed = False
        self.connection = self

    is_active = workers.Worker.is_active

    def make(self, spec: SetSpec, block: int) -> None:
        self.busy_with, self.held[block] = block, Advanced(block, 0, 0)
        self.extracting.add(block)
        self.messages += Script.of[block].pop(0)

    def receive(self):
        return self.messages.pop(0)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def queue(cell, monkeypatch):
    """Gives a function that runs the queue of four blocks on a script: for each block, the reports of each attempt."""
    monkeypatch.setattr(workers, "Worker", Script)
    monkeypatch.setattr(block_queue, "wait", lambda connections, timeout: [one for one in connections if one.messages])
    monkeypatch.setattr(Script, "started", 0)

    def run(script: dict[int, list[list]]) -> tuple[BlockQueue, list[str]]:
        Script.of = {block: [*script.get(block, ()), done(block)] for block in range(4)}
        cell.store.folder.mkdir(parents=True, exist_ok=True)
        with Claims(cell.store.folder) as claims:
            queue = BlockQueue(WorkerPool(cell.devices), cell.store, claims, Mock(), spec_of(cell), 4, set(range(4)))
            try:
                queue.run()
            finally:
                held = [path.name for path in cell.store.folder.glob("*.claim")]
        return queue, held

    return run


def done(block: int) -> list:
    return [Advanced(block, 2, 4), Advanced(block, 4, 8), Idle(), Written(block, 8), Extracted(block)]


def reports(queue: BlockQueue) -> list[dict]:
    return [call.kwargs for call in queue.watch.sampled.call_args_list]


def test_all_blocks_are_made_by_a_worker_for_each_device(queue):
    ended, claims = queue({})
    assert not ended.left and Script.started == 2 and not claims
    assert {"images": 0, "in_progress": 4, "forwards": 8, "failed": 0} in reports(ended)  # half of each
    assert reports(ended)[-1] == {"images": 16, "in_progress": 0, "forwards": 32, "failed": 0}


@pytest.mark.parametrize("end", [[Advanced(1, 4, 8), Died("it was killed")], [Failed(1, "out of luck", False)]])
def test_a_worker_that_dies_or_fails_is_replaced_and_its_block_made_again(queue, end):
    ended, claims = queue({1: [end]})
    assert not ended.left and Script.started == 3 and ended.failures == {1: 1} and not claims
    assert reports(ended)[-1] == {"images": 16, "in_progress": 0, "forwards": 32 + 8 * (len(end) > 1), "failed": 1}


@pytest.mark.parametrize(
    "ends",
    [[[Died("it was killed")]] * 2, [[Failed(1, "it was killed", False)]] * 2, [[Failed(1, "it was killed", True)]]],
)
def test_a_block_that_fails_twice_or_for_good_ends_the_cell_after_the_others(queue, ends, cell):
    with pytest.raises(BlockFailed, match=r"block 1 \(samples 4 to 7\): it was killed"):
        queue({1: ends})
    assert len(Script.of[0]) == 0  # it was in progress, and is complete
    assert not list(cell.store.folder.glob("*.claim"))


def test_what_a_worker_says_is_a_notice_unless_the_parent_has_given_it(queue, caplog):
    notice("given before")
    said = []
    handler = ToParent(Mock(send=said.append))
    for name, text in (("ditexp", "given before"), ("ditexp", "new"), ("py.warnings", "a warning")):
        handler.handle(logging.LogRecord(name, logging.WARNING, "", 0, text, None, None))
    queue({0: [[*said, *done(0)]]})
    assert [record.message for record in caplog.records if record.name == "ditexp"] == ["given before", "new"]


def test_a_spec_that_was_sent_makes_the_blocks_of_its_set(cell, tmp_path):
    spec = pickle.loads(pickle.dumps(MakeBlock(spec_of(cell), 0))).spec
    assert spec == spec_of(cell)
    maker = spec.block_maker(torch.device("cpu"))
    block = maker.make(0)
    assert block.images.shape == (16, 8, 8, 1) and block.images.dtype == np.uint8
    assert maker.underway.how_far() == (16, 32)
    assert block.cost.images == 16 and block.labels is not None and block.labels.tolist() == [*range(10), *range(6)]
    maker.write(block)
    assert np.array_equal(maker.store.read(0)[0], block.images)
    maker.extract(block)()
    assert [path.name for path in Path(tmp_path).rglob("*.safetensors")] == ["000000.safetensors"]
    with pytest.raises(ValueError, match="has become"):
        SetSpec(spec.config, "another", spec.folder).block_maker(torch.device("cpu"))
