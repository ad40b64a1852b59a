"""The workers of a process, one for each device.

Sampling needs no collectives. The parent claims a block, sends it to an idle worker, and the worker makes it, writes it
while it makes the next one, and reports (block_queue.py). Workers stay for a whole sweep, with their model loaded. Any
number of workers, processes and hosts can share a set: they write the same bytes. When the parent dies, its workers end
by themselves (worker_process.py).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from ditexp.cli.shortage import FEWER_WORKERS
from ditexp.run import fork_server
from ditexp.run.blocks import SetSpec
from ditexp.run.memory import of_sampling
from ditexp.run.worker_process import Advanced, MakeBlock, Message, describe_exit, serve


@dataclass(frozen=True)
class Died:
    """In place of a message: the worker's process has ended."""

    error: str


class Worker:
    """The parent's end of a worker process.

    busy_with: the block that it makes or extracts features of, or None. held: the blocks that it makes or still writes,
    with how far each is. settings: of the last set, see `of_sampling`.
    """

    def __init__(self, device: torch.device) -> None:
        fork_server.start()
        context = multiprocessing.get_context("forkserver")
        self.device = device
        self.busy_with: int | None = None
        self.held: dict[int, Advanced] = {}
        self.settings: dict[str, Any] = {}
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, device), daemon=True)
        try:
            with fork_server.without_main():
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
        self.settings = of_sampling(spec.config, self.device.type)
        with suppress(OSError):  # the process has died, which `receive` reports
            self.connection.send(MakeBlock(spec, block))

    def receive(self) -> Message | Died:
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return Died(f"its worker on {self.device} {describe_exit(self.process.exitcode, self.settings)}")

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


_pool: WorkerPool | None = None


def pool_of(devices: Sequence[torch.device]) -> WorkerPool:
    """This process's workers on these devices; workers of other devices are closed."""
    global _pool
    if _pool is None or _pool.devices != list(devices):
        if _pool:
            _pool.close()
        _pool = WorkerPool(devices)
    return _pool
