"""Workers over blocks: a process for each device, kept over a whole sweep with its model loaded.

Sampling needs no collectives. The parent claims a block, gives it to an idle worker, which makes it, writes it while
it makes the next one, and reports. A worker that dies is replaced and its block given out again; a block that fails
twice ends the cell with the worker's own error, once the others have finished theirs. A worker whose parent is gone
ends by itself. Any number of workers, processes and hosts on one set write the same bytes.
"""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait

import torch

from ditexp.cli.shortage import ENDINGS, FEWER_WORKERS, NO_THREADS, shortage
from ditexp.samples.claims import Claims
from ditexp.samples.store import SampleStore
from ditexp.terminal.progress import Bar

POLL = 1.0  # seconds between looks at what other processes have done

# What makes blocks in a worker: from its device, a function from a block and a progress callback (images done) to
# the call that writes the block, and one to make meanwhile. A functools.partial of a module's function, to be sent.
MakerOf = functools.partial[Callable[[int, Callable[[int], None]], tuple[Callable[[], None], Callable[[], None]]]]


class BlockFailed(RuntimeError):
    """A worker's own error, in one line."""


class Worker:
    """The parent's end of a worker process.

    busy_with: the block it makes or judges, or None. held: blocks it makes or writes yet, with the images done of each.
    """

    def __init__(self, device: torch.device, preload: str):
        # A fork server has imported torch once for all workers; unlike a plain fork, it allows CUDA.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([preload, "ditexp.run.fork_server"])
        self.device = device
        self.job: MakerOf | None = None
        self.busy_with: int | None = None
        self.held: dict[int, int] = {}
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

    def give(self, job: MakerOf, block: int) -> None:
        self.busy_with, self.held[block] = block, 0
        with suppress(OSError):  # it has died, which `receive` will tell
            if self.job is not job:
                self.job = job
                self.connection.send(("job", job))
            self.connection.send(("block", block))

    def receive(self) -> tuple:
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return "died", None, f"its worker on {self.device} {ending(self.process.exitcode)}", False

    def close(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join()


class Crew:
    """The workers of this process, one for each device, each started when there is a block for it."""

    def __init__(self, devices: Sequence[torch.device]):
        self.devices = list(devices)
        self.workers: dict[int, Worker] = {}

    def close(self) -> None:
        for number in list(self.workers):
            self.workers.pop(number).close()


@dataclass
class Assignment:
    """The blocks of one set that a crew is to make, those excepted that other processes make meanwhile."""

    crew: Crew
    store: SampleStore
    claims: Claims
    bar: Bar
    make: MakerOf
    left: set[int]
    failures: Counter = field(default_factory=Counter)

    def carry_out(self) -> None:
        """Return once all blocks are there.

        Raises BlockFailed when one failed twice, or could only fail again; the others that were begun are finished.
        """
        failed, looked = None, time.monotonic()
        try:
            while self.left or self.working():
                if not failed:
                    self.hand_out()
                busy = self.working()
                if failed and not busy:
                    raise failed
                if not busy:
                    self.bar.note(f"waiting for {len(self.left)} blocks that other processes make")
                    time.sleep(POLL)
                for connection in wait(list(busy), timeout=POLL) if busy else ():
                    failed = self.listen_to(busy[connection]) or failed
                if time.monotonic() - looked > POLL:
                    self.look_around()
                    looked = time.monotonic()
        except BaseException:
            self.crew.close()
            raise

    def working(self) -> dict[Connection, int]:
        """The workers that will say something, by what they say it through."""
        workers = self.crew.workers.items()
        return {worker.connection: number for number, worker in workers if worker.held or worker.busy_with is not None}

    def hand_out(self) -> None:
        """Give each idle worker a block that nobody else has claimed."""
        for number, device in enumerate(self.crew.devices):
            worker = self.crew.workers.get(number)
            if worker and worker.busy_with is not None:
                continue
            block = self.claim()
            if block is None:
                return
            if worker is None:
                worker = self.crew.workers[number] = Worker(device, preload=self.make.func.__module__)
            worker.give(self.make, block)

    def claim(self) -> int | None:
        for block in sorted(self.left - self.held()):
            if self.claims.take(f"{block:06d}"):
                if self.store.manifest(block) is None:
                    return block
                self.claims.release(f"{block:06d}")  # made by another process since we looked
        return None

    def held(self) -> set[int]:
        return set().union(*(worker.held for worker in self.crew.workers.values()))

    def look_around(self) -> None:
        """Take note of what other processes have made."""
        for block in self.left - self.held():
            if self.store.manifest(block) is not None:
                self.left.discard(block)
                self.bar.advance(self.store.block_size)

    def listen_to(self, number: int) -> BlockFailed | None:
        """Take in what a worker says; an error that ends the cell is returned."""
        worker = self.crew.workers[number]
        what, block, *said = worker.receive()
        if what == "advanced":
            worker.held[block] += said[0]
            self.bar.advance(said[0])
        elif what == "idle":
            worker.busy_with = None
        elif what == "written":
            del worker.held[block]
            self.left.discard(block)
            self.claims.release(f"{block:06d}")
        else:
            culprits = sorted(worker.held) if what == "died" else [block]
            self.dismiss(number)
            self.failures.update(culprits)
            reason, can_only_recur = said
            for culprit in culprits:
                if can_only_recur or self.failures[culprit] > 1:
                    samples = self.store.indices(culprit)
                    return BlockFailed(f"block {culprit} (samples {samples[0]} to {samples[-1]}): {reason}")
        return None

    def dismiss(self, number: int) -> None:
        """Let a worker go that failed (CUDA does not recover from most errors); others take up what it held."""
        worker = self.crew.workers.pop(number)
        worker.close()
        for block, images in worker.held.items():
            self.claims.release(f"{block:06d}")
            self.bar.advance(-images)


_crew: Crew | None = None


def crew_of(devices: Sequence[torch.device]) -> Crew:
    """This process's workers on these devices; those of other devices are let go."""
    global _crew
    if _crew is None or _crew.devices != list(devices):
        if _crew:
            _crew.close()
        _crew = Crew(devices)
    return _crew


def serve(connection: Connection, device: torch.device) -> None:
    """A worker's life: make the blocks that the parent sends, one after another, each written beside the next."""
    sys.excepthook = sys.__excepthook__
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C and batch systems reach us all: the parent decides
    logging.getLogger("ditexp").disabled = True  # the parent has given every notice already
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    tasks, talking = queue.SimpleQueue(), threading.Lock()

    def listen() -> None:
        with suppress(EOFError, OSError):
            while True:
                tasks.put(connection.recv())
        os._exit(1)  # the parent is gone

    def say(*message) -> None:
        with talking, suppress(OSError):  # without a parent there is nobody to tell
            connection.send(message)

    def save(write: Callable[[], None], block: int) -> None:
        try:
            write()
        except Exception as error:
            say("failed", block, *told(error))
        else:
            say("written", block)

    job, make_block, writer = None, None, ThreadPoolExecutor(1)
    try:
        threading.Thread(target=listen, daemon=True).start()
        writing = writer.submit(int)
    except RuntimeError:
        os._exit(NO_THREADS)
    while True:
        what, given = tasks.get()
        if what == "job":
            job, make_block = given, None  # the last job's memory is free before the next is built
            continue
        try:
            make_block = make_block or job(device)
            write, meanwhile = make_block(given, functools.partial(say, "advanced", given))
        except Exception as error:
            writing.result()
            say("failed", given, *told(error))
            continue
        writing.result()  # no more than two blocks are in memory
        writing = writer.submit(save, write, given)
        meanwhile()
        say("idle", given)


def ending(code: int) -> str:
    """How a process ended, by its exit code, and what that most likely means."""
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"{how}: {ENDINGS[code]}" if code in ENDINGS else how


def told(error: Exception) -> tuple[str, bool]:
    """An error in one line, and whether another try could only end the same."""
    if os.environ.get("DITEXP_DEBUG") == "1":
        traceback.print_exception(error)
    if short := shortage(error):
        return short, False
    text = " ".join(str(error).split())
    is_plain = isinstance(error, ValueError | ArithmeticError | RuntimeError | OSError) and text
    return text if is_plain else f"{type(error).__name__}: {text}", isinstance(error, ValueError | ArithmeticError)
