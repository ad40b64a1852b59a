"""A worker's side of the pipe: the process that makes blocks for as long as its parent lives, and what it reports.

The messages in both directions are values: `MakeBlock` from the parent, the others from the worker.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from ditexp.cli.shortage import ENDINGS, NO_THREADS, is_out_of_memory, less_memory, shortage
from ditexp.run.blocks import Block, BlockMaker, SetSpec
from ditexp.run.memory import of_sampling
from ditexp.run.underway import Underway

PULSE = 0.4  # seconds between two reports of how far a block is


@dataclass(frozen=True)
class MakeBlock:
    """To a worker: make a block of this set."""

    spec: SetSpec
    block: int


@dataclass(frozen=True)
class Advanced:
    """From a worker: how far a block is.

    images: that are sampled, where a batch that is half done counts half. forwards: network evaluations so far.
    """

    block: int
    images: float
    forwards: float


@dataclass(frozen=True)
class Idle:
    """From a worker: it can make another block; it may still be writing the last one."""


@dataclass(frozen=True)
class Written:
    """From a worker: a block is complete on disk. forwards: network evaluations that it took."""

    block: int
    forwards: float


@dataclass(frozen=True)
class Failed:
    """From a worker: a block could not be made or written.

    error: one line. is_final: whether another attempt would fail in the same way. trace: the traceback. lacks_memory:
    whether a smaller batch may succeed.
    """

    block: int
    error: str
    is_final: bool
    trace: str = ""
    lacks_memory: bool = False


@dataclass(frozen=True)
class Said:
    """From a worker: a message of its logging, or a warning. name: of the logger."""

    name: str
    text: str


Message = Advanced | Idle | Written | Failed | Said


class ParentLink:
    """The worker's end of the pipe. The process ends when the other end closes, that is, when the parent is gone."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._sending = connection, threading.Lock()
        self._inbox: queue.SimpleQueue[MakeBlock] = queue.SimpleQueue()

    def start(self) -> None:
        """Raises RuntimeError if no thread can be started."""
        threading.Thread(target=self._listen, daemon=True).start()

    def receive(self) -> MakeBlock:
        return self._inbox.get()

    def send(self, message: Message) -> None:
        with self._sending, suppress(OSError):  # the parent is gone, which `_listen` notices
            self._connection.send(message)

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                self._inbox.put(self._connection.recv())
        os._exit(1)


class ToParent(logging.Handler):
    """Sends what is logged to the parent, which shows what it has not said itself."""

    def __init__(self, link: ParentLink) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        self._link.send(Said(record.name, self.format(record)))


class Pulse(threading.Thread):
    """Reports how far a block is, a few times a second. current: its number, and how far its batch is."""

    def __init__(self, link: ParentLink) -> None:
        super().__init__(daemon=True)
        self.current: tuple[int, Underway] | None = None
        self._link = link

    def run(self) -> None:
        sent: Advanced | None = None
        while True:
            time.sleep(PULSE)
            with suppress(Exception):  # the sampler meets it, too, and reports it
                if (current := self.current) and (report := Advanced(current[0], *current[1].how_far())) != sent:
                    self._link.send(report)
                    sent = report
                current = None  # it keeps the sampler in memory


def serve(connection: Connection, device: torch.device) -> None:
    """The main loop of a worker: make the blocks that the parent sends, and write each while making the next."""
    settle_process(device)
    link, writer = ParentLink(connection), ThreadPoolExecutor(1)
    pulse = Pulse(link)
    logging.getLogger().addHandler(ToParent(link))
    logging.captureWarnings(True)
    try:
        link.start()
        pulse.start()
        writing = writer.submit(int)  # starts its thread now
    except RuntimeError:
        os._exit(NO_THREADS)
    spec: SetSpec | None = None
    maker: BlockMaker | None = None
    while True:
        order = link.receive()
        if order.spec != spec:
            spec, maker = order.spec, None  # frees the last set's memory before the next one loads
        try:
            maker = maker or order.spec.block_maker(device)
            pulse.current = order.block, maker.underway
            try:
                block = maker.make(order.block)
            finally:
                pulse.current = None
        except Exception as error:
            writing.result()
            link.send(failure(order.block, error, of_sampling(spec.config, device.type)))
            continue
        writing.result()  # at most two blocks are in memory
        writing = writer.submit(write, maker, block, link)
        maker.extract(block)
        link.send(Idle())


def settle_process(device: torch.device) -> None:
    """Leave signals to the parent, and the cores to the other workers."""
    sys.excepthook = sys.__excepthook__
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C and batch systems signal every process: the parent decides
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)


def write(maker: BlockMaker, block: Block, link: ParentLink) -> None:
    try:
        maker.write(block)
    except Exception as error:
        link.send(failure(block.number, error))
    else:
        link.send(Written(block.number, block.cost.network_rows))


def failure(block: int, error: Exception, settings: Mapping[str, Any] | None = None) -> Failed:
    trace = "".join(traceback.format_exception(error))
    return Failed(block, *describe_error(error, settings), trace, is_out_of_memory(error))


def describe_error(error: Exception, settings: Mapping[str, Any] | None = None) -> tuple[str, bool]:
    """An error in one line, and whether another attempt would fail in the same way. settings: see `shortage`."""
    if os.environ.get("DITEXP_DEBUG") == "1":
        traceback.print_exception(error)
    if short := shortage(error, settings):
        return short, False
    text = " ".join(str(error).split())
    is_plain = isinstance(error, ValueError | ArithmeticError | RuntimeError | OSError) and text
    return text if is_plain else f"{type(error).__name__}: {text}", isinstance(error, ValueError | ArithmeticError)


def describe_exit(code: int | None, settings: Mapping[str, Any] | None = None) -> str:
    """How a process ended, by its exit code, and what that most likely means. settings: see `shortage`."""
    if code is None:
        return "has not ended"
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    if code == -signal.SIGKILL and (remedy := less_memory(settings)):
        return f"{how}: most likely the machine is out of memory; {remedy}"
    return f"{how}: {ENDINGS[code]}" if code in ENDINGS else how
