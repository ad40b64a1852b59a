"""The workers of a process, one for each device, and the queue of blocks that they make.

Sampling needs no collectives. The parent claims a block, sends it to an idle worker, and the worker makes it, writes it
while it makes the next one, and reports. Workers stay for a whole sweep, with their model loaded. Any number of
workers, processes and hosts can share a set: they write the same bytes.

When a worker dies, or fails to make a block, `BlockQueue.replace` closes it and returns its blocks to the queue, and
`BlockQueue.hand_out` starts another worker. A block that fails twice ends the cell with the worker's own error, once
the other blocks in progress are complete. When the parent dies, its workers end by themselves (worker_process.py).
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait

import torch

from ditexp.cli.shortage import FEWER_WORKERS
from ditexp.run.blocks import SetSpec
from ditexp.run.pictures import draw_first
from ditexp.run.watch import Watch
from ditexp.run.worker_process import Advanced, Failed, Idle, MakeBlock, Written, describe_exit, serve
from ditexp.samples.claims import Claims
from ditexp.samples.store import SampleStore
from ditexp.terminal.units import plural

POLL = 1.0  # seconds between looks at what other processes have done
PRELOAD = ["ditexp.run.worker_process", "ditexp.run.fork_server"]


class BlockFailed(RuntimeError):
    """A worker's own error, in one line."""


@dataclass(frozen=True)
class Died:
    """In place of a message: the worker's process has ended."""

    error: str


class Worker:
    """The parent's end of a worker process.

    busy_with: the block that it makes or extracts features of, or None. held: the blocks that it makes or still writes,
    with how far each is.
    """

    def __init__(self, device: torch.device) -> None:
        # A fork server has imported torch once for all workers; unlike a plain fork, it allows CUDA.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        self.device = device
        self.busy_with: int | None = None
        self.held: dict[int, Advanced] = {}
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, device), daemon=True)
        try:
            self.process.start()
        except (EOFError, ConnectionError):
            raise RuntimeError(
                f"no worker can be started on {device}, since the process that they are forked from has ended: most "
                f"likely too few processes (`ulimit -u`) or open files (`ulimit -n`) are allowed; {FEWER_WORKERS}"
            ) from None
        theirs.close()

    @property
    def is_active(self) -> bool:
        """Whether it has something to report."""
        return bool(self.held) or self.busy_with is not None

    def make(self, spec: SetSpec, block: int) -> None:
        self.busy_with, self.held[block] = block, Advanced(block, 0, 0)
        with suppress(OSError):  # the process has died, which `receive` reports
            self.connection.send(MakeBlock(spec, block))

    def receive(self) -> Advanced | Idle | Written | Failed | Died:
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return Died(f"its worker on {self.device} {describe_exit(self.process.exitcode)}")

    def close(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join()


class WorkerPool:
    """The workers of this process, at most one for each of `devices`, by the device's position in the list."""

    def __init__(self, devices: Sequence[torch.device]) -> None:
        self.devices = list(devices)
        self.workers: dict[int, Worker] = {}

    def worker(self, number: int) -> Worker:
        """The worker of a device, started if need be."""
        if number not in self.workers:
            self.workers[number] = Worker(self.devices[number])
        return self.workers[number]

    def idle(self) -> list[int]:
        """The devices on which nothing is being made."""
        busy = {number for number, worker in self.workers.items() if worker.busy_with is not None}
        return [number for number in range(len(self.devices)) if number not in busy]

    def active(self) -> dict[int, Connection]:
        """The connections of the workers that have something to report."""
        return {number: worker.connection for number, worker in self.workers.items() if worker.is_active}

    def held(self) -> dict[int, Advanced]:
        """The blocks that the workers make or still write, with how far each is."""
        return {block: how_far for worker in self.workers.values() for block, how_far in worker.held.items()}

    def close(self) -> None:
        for number in list(self.workers):
            self.workers.pop(number).close()


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
                self.watch.preview(lambda path: draw_first(self.store, block, path))
            case Failed(block, error, is_final):
                return self.replace(number, blamed=[block], error=error, is_final=is_final)
            case Died(error):
                return self.replace(number, blamed=sorted(worker.held), error=error, is_final=False)
        return None

    def replace(self, number: int, *, blamed: Iterable[int], error: str, is_final: bool) -> BlockFailed | None:
        """Close a worker that died or failed, so that others make its blocks; CUDA does not recover from most errors.

        blamed: the blocks that may have caused it. Returns an error if one of them is given up.
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
                return BlockFailed(f"block {block} (samples {samples[0]} to {samples[-1]}): {error}")
        return None


_pool: WorkerPool | None = None


def pool_of(devices: Sequence[torch.device]) -> WorkerPool:
    """This process's workers on these devices; workers of other devices are closed."""
    global _pool
    if _pool is None or _pool.devices != list(devices):
        if _pool:
            _pool.close()
        _pool = WorkerPool(devices)
    return _pool


def claim_name(block: int) -> str:
    return f"{block:06d}"
