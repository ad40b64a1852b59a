"""Shows runs on Weights & Biases, while they run: docs/wandb.md.

The process that samples never imports wandb and never waits for it: it gives what there is to show to a process beside
it, `ditexp.tracker.beside`, and prints what that one has to say.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import ditexp
from ditexp.progress import Progress
from ditexp.provenance import command
from ditexp.report.tables.table import Table
from ditexp.result import Result
from ditexp.tracker import service
from ditexp.tracker.destination import Options
from ditexp.tracker.rows import is_due

log = logging.getLogger(__name__)

MODES = ("auto", "online", "offline")
CHECK_SECONDS = 30  # for the answer about settings, before any work
MIN_WAIT, MAX_WAIT, WAIT_SHARE = 3, 30, 0.02  # seconds for uploads at the end, and their share of the command's time


class WandbTracker:
    """Logs to `entity`/`project` on W&B. All local files are in `folder`.

    project, entity: None for W&B's variables and settings files, or else "ditexp" and the account's default entity.
    mode: online, offline, or auto, which means WANDB_MODE or W&B's settings, and offline if nobody is logged in.
    name: how the names of runs begin. group: of all runs; None for the study or the sweep. tags: of all runs, in
    addition to their own. notes: of all runs. Raises ValueError for another mode.
    """

    def __init__(
        self,
        *,
        project: str | None = None,
        entity: str | None = None,
        mode: str = "auto",
        folder: str | Path = "outputs/wandb",
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        notes: str | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"unknown W&B mode '{mode}'; choices: {', '.join(MODES)}")
        if isinstance(tags, str):
            raise ValueError(f"tracker.tags={tags}: give a list, as in tracker.tags=[{tags}]")
        texts = {"project": project, "entity": entity, "name": name, "group": group, "notes": notes}
        given = {key: str(text) for key, text in texts.items() if text is not None}
        self.options = Options(mode=mode, folder=Path(folder).absolute(), tags=tuple(map(str, tags)), **given)
        self._beside: Beside | None = None
        self._shown: dict[str, Progress] = {}  # the latest row of each cell

    def begin(self) -> None:
        self._send("check")

    def check(self) -> None:
        if self._beside is None:
            self.begin()
        beside = self._beside
        if beside and beside.is_checked.wait(CHECK_SECONDS) and beside.mistake:
            self.close()
            raise ValueError(beside.mistake)

    def begin_cell(self, cell: Result) -> None:
        self._send("begin_cell", cell)

    def log_progress(self, cell: Result, progress: Progress) -> None:
        if is_due(progress, self._shown.get(cell.id)):
            self._shown[cell.id] = progress
            self._send("log_progress", cell, progress)

    def log_preview(self, cell: Result, picture: Path) -> None:
        self._send("log_preview", cell, picture)

    def log_cell(self, result: Result) -> None:
        self._shown.pop(result.id, None)
        self._send("log_cell", result)

    def log_report(self, study: str, results: Sequence[Result], table: Table, paths: Mapping[str, Path | None]) -> None:
        self._send("log_report", study, list(results), table, dict(paths))

    def close(self) -> None:
        """Wait a short time for uploads; the process beside does the rest, and ends by itself."""
        beside, self._beside = self._beside, None
        if beside:
            beside.close()

    def _send(self, *message: Any) -> Beside | None:
        try:
            self._beside = self._beside or Beside(self.options)
            self._beside.send(pickle.dumps(message))
        except Exception as error:
            log.warning("W&B: this is not shown: %s", service.summary_of(error))
        return self._beside


class Beside:
    """The process beside, and two threads: one gives it messages, the other prints what it says.

    is_checked: whether it has checked the options. mistake: in them; empty if there is none.
    """

    def __init__(self, options: Options) -> None:
        package = str(Path(ditexp.__file__).parents[1])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ditexp.tracker.beside"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for us alone
        )
        self._began, self._owner, self._folder = time.monotonic(), os.getpid(), options.folder
        self._messages: SimpleQueue[bytes | None] = SimpleQueue()
        self._is_closed = False
        self.is_checked, self.mistake = threading.Event(), ""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        threading.Thread(target=self._write, daemon=True).start()
        self.send(pickle.dumps((options, service.limits, os.getpid(), command())))
        atexit.register(self.close)  # after Ctrl-C, for example

    def send(self, message: bytes) -> None:
        """Without waiting."""
        self._messages.put(message)

    def close(self) -> None:
        if self._is_closed or os.getpid() != self._owner:  # a fork's copy is not ours
            return
        self._is_closed = True
        atexit.unregister(self.close)
        self._messages.put(pickle.dumps(("close",)))
        self._messages.put(None)
        self._listener.join(min(max(MIN_WAIT, WAIT_SHARE * (time.monotonic() - self._began)), MAX_WAIT))
        if self._listener.is_alive():
            log.info(
                "W&B: process %d goes on uploading, for %g minutes at most; runs are in %s/wandb, for `wandb sync`",
                self._process.pid,
                service.limits.total / 60,
                self._folder,
            )

    def _write(self) -> None:
        pipe = self._process.stdin
        assert pipe
        try:
            for message in iter(self._messages.get, None):
                pipe.write(message)
                pipe.flush()
            pipe.close()
        except OSError:  # it has ended, which the other thread says
            pass

    def _listen(self) -> None:
        """Lines are ["log", level, text], ["checked", mistake] or ["closed"]."""
        assert self._process.stdout
        says = []
        for line in self._process.stdout:
            what, *says = json.loads(line)
            if what == "log":
                log.log(*says)
            elif what == "checked":
                self.mistake = says[0]
                self.is_checked.set()
            elif what == "closed":
                self._process.wait()
                return
        self.is_checked.set()
        code = self._process.wait()
        log.warning("W&B: the process beside ended with code %d; the same command sends what is missing", code)
