"""The process beside a run, which alone imports wandb: python -m ditexp.tracker.beside, started by `tracker.wandb`.

Its standard input brings pickled messages: (Options, Limits, process id, command), then (method, arguments ...).
When it ends without ("close",), the run was killed. Its standard output has a line of JSON for each reply.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import threading
from queue import SimpleQueue
from typing import Any, BinaryIO, TextIO

from ditexp.tracker import service
from ditexp.tracker.runs import WandbRuns

GONE = ("gone",)


class Replies(logging.Handler):
    """Sends lines of the log, and other replies, to the process that samples."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(logging.INFO)
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        self.say("log", record.levelno, record.getMessage())

    def say(self, *reply: Any) -> None:
        try:
            self._stream.write(f"{json.dumps(reply)}\n")
            self._stream.flush()
        except OSError:  # nobody listens any more
            pass


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # with which wandb would end us when its user presses Stop
    replies = Replies(os.fdopen(os.dup(1), "w"))
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)  # wandb's own prints
    logger = logging.getLogger("ditexp")
    logger.addHandler(replies)
    logger.setLevel(logging.INFO)
    source = os.fdopen(os.dup(0), "rb")
    os.dup2(nowhere, 0)  # for the processes that wandb starts
    options, service.limits, watched, os.environ["WANDB_PROGRAM"] = pickle.load(source)
    messages: SimpleQueue[tuple] = SimpleQueue()
    threading.Thread(target=receive, args=(source, messages), daemon=True).start()
    follow(messages, WandbRuns(options, watched=watched), replies)
    leave()


def receive(source: BinaryIO, messages: SimpleQueue[tuple]) -> None:
    """Pass messages on till there are no more; some time later, end this process whatever it does."""
    try:
        while True:
            messages.put(pickle.load(source))
    except (EOFError, pickle.UnpicklingError, OSError):
        messages.put(GONE)
    timer = threading.Timer(service.limits.total, leave)
    timer.daemon = True
    timer.start()


def follow(messages: SimpleQueue[tuple], runs: WandbRuns, replies: Replies) -> None:
    """Do what the messages say, up to the last one."""
    for message in iter(messages.get, GONE):
        try:
            match message:
                case ("check",):
                    replies.say("checked", mistake(runs))
                    os.nice(5)  # from now on, sampling comes first
                case ("begin_cell", cell):
                    runs.begin_cell(cell)
                case ("log_progress", cell, progress):
                    runs.log_progress(cell, progress)
                case ("log_preview", cell, picture):
                    runs.log_preview(cell, picture)
                case ("log_cell", result):
                    runs.log_cell(result)
                case ("log_report", study, results, table, paths):
                    runs.log_report(study, results, table, paths)
                case ("close",):
                    runs.close()
                    return replies.say("closed")
        except Exception as error:
            logging.getLogger(__name__).warning("W&B: this is not shown: %s", service.summary_of(error))
    runs.abandon()


def mistake(runs: WandbRuns) -> str:
    """What is wrong with the tracker's settings; empty if they are right."""
    try:
        runs.check()
    except ValueError as error:
        return str(error)
    return ""


def leave() -> None:
    """End this process without wandb's own end, which may wait for a server."""
    service.kill_service()
    os._exit(0)


if __name__ == "__main__":
    main()
