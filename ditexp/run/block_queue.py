"""The queue of blocks that a pool of workers makes.

When a worker dies, or fails to make a block, `BlockQueue.replace` closes it and returns its blocks to the queue, and
`BlockQueue.hand_out` starts another worker. A block that fails twice ends the cell with the worker's own error, once
the other blocks in progress are complete.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import wait

import torch

from ditexp.run.blocks import SetSpec
from ditexp.run.pictures import draw_first
from ditexp.run.watch import Watch
from ditexp.run.worker_process import Advanced, Failed, Idle, Said, Written
from ditexp.run.workers import Died, WorkerPool
from ditexp.samples.claims import Claims
from ditexp.samples.store import SampleStore
from ditexp.terminal.console import LOG_FILE
from ditexp.terminal.notices import notice
from ditexp.terminal.units import plural

POLL = 1.0  # seconds between looks at what other processes have done


class BlockFailed(RuntimeError):
    """A worker's own error, in one line."""


class LacksMemory(BlockFailed):
    """A device has too little memory for a batch."""


@dataclass
class BlockQueue:
    """The blocks of one set that a pool is to make; other processes may make some of them meanwhile.

    total: how many blocks there are in all. left: those that are not complete yet. forwards: network evaluations of
    the blocks that are no longer in progress.
    """

    pool: WorkerPool
    store: SampleStore
    claims: Claims
    watch: Watch
    spec: SetSpec
    total: int
    left: set[int]
    failures: Counter[int] = field(default_factory=Counter)
    forwards: float = 0

    def run(self) -> None:
        """Return once all blocks are complete.

        Raises BlockFailed if a block failed twice, or would fail again; blocks in progress are completed first.
        """
        failed: BlockFailed | None = None
        polled = time.monotonic()
        try:
            while self.left or self.pool.active():
                if not failed:
                    self.hand_out()
                active = self.pool.active()
                if failed and not active:
                    raise failed
                if not active:
                    self.watch.note(f"waiting for {plural(len(self.left), 'block')} that other processes make")
                    time.sleep(POLL)
                ready = wait(list(active.values()), timeout=POLL) if active else []
                for number in [number for number, connection in active.items() if connection in ready]:
                    failed = self.handle(number) or failed
                if time.monotonic() - polled > POLL:
                    self.poll()
                    polled = time.monotonic()
                self.report()
        except BaseException:
            self.pool.close()
            raise

    def hand_out(self) -> None:
        """Give each idle worker a block that nobody else has claimed."""
        for number in self.pool.idle():
            block = self.claim()
            if block is None:
                return
            self.pool.worker(number).make(self.spec, block)

    def claim(self) -> int | None:
        for block in sorted(self.left - self.pool.held().keys()):
            if self.claims.take(claim_name(block)):
                if self.store.manifest(block) is None:
                    return block
                self.claims.release(claim_name(block))  # another process has just made it
        return None

    def poll(self) -> None:
        """Note the blocks that other processes have made."""
        for block in self.left - self.pool.held().keys():
            if self.store.manifest(block) is not None:
                self.left.discard(block)

    def report(self) -> None:
        """Report how far the blocks are."""
        held = [how_far for block, how_far in self.pool.held().items() if block in self.left]
        if held and not self.forwards and not any(each.forwards for each in held):
            self.watch.note("loading the network")
        elif self.pool.active():
            self.watch.note("")
        self.watch.sampled(
            images=(self.total - len(self.left)) * self.store.block_size,
            in_progress=sum(each.images for each in held),
            forwards=self.forwards + sum(each.forwards for each in held),
            failed=self.failures.total(),
        )

    def handle(self, number: int) -> BlockFailed | None:
        """Act on a worker's next message; returns the error that ends the cell, if it is one."""
        worker = self.pool.workers[number]
        match message := worker.receive():
            case Advanced(block) if block in worker.held:
                worker.held[block] = message
            case Idle():
                worker.busy_with = None
            case Written(block, forwards):
                del worker.held[block]
                self.forwards += forwards
                self.left.discard(block)
                self.claims.release(claim_name(block))
                if not self.watch.has_preview:
                    self.watch.preview(lambda path: draw_first(self.store, block, path))
            case Said(name, text):
                show_said(name, text, worker.device)
            case Failed(block, error, is_final, trace, lacks_memory):
                LOG_FILE.error(trace)
                kind = LacksMemory if lacks_memory else BlockFailed
                return self.replace(number, blamed=[block], error=error, is_final=is_final, kind=kind)
            case Died(error):
                return self.replace(number, blamed=sorted(worker.held), error=error, is_final=False)
        return None

    def replace(
        self,
        number: int,
        *,
        blamed: Iterable[int],
        error: str,
        is_final: bool,
        kind: type[BlockFailed] = BlockFailed,
    ) -> BlockFailed | None:
        """Close a worker that died or failed, so that others make its blocks; CUDA does not recover from most errors.

        blamed: the blocks that may have caused it. Returns an error of this kind if one of them is given up.
        """
        worker = self.pool.workers.pop(number)
        worker.close()
        for block, how_far in worker.held.items():
            self.claims.release(claim_name(block))
            self.forwards += how_far.forwards
        for block in blamed:
            self.failures[block] += 1
            if is_final or self.failures[block] > 1:
                samples = self.store.indices(block)
                return kind(f"block {block} (samples {samples[0]} to {samples[-1]}): {error}")
        return None


def show_said(name: str, text: str, device: torch.device) -> None:
    """Give a worker's notice, unless this process has; other messages and warnings go to the log alone."""
    if name == "ditexp":
        notice(text)
    else:
        LOG_FILE.warning(f"worker on {device}: {text}")


def claim_name(block: int) -> str:
    return f"{block:06d}"
