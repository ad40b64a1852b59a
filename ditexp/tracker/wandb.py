"""Shows results on Weights & Biases: a run for each cell and for each report.

docs/wandb.md lists the names of everything that is logged; panels and queries can rely on them.

No failure of W&B fails a cell: ditexp warns once, then writes runs offline, then goes on without W&B.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ditexp.files.content import digest
from ditexp.progress import Progress
from ditexp.report.tables.table import Table
from ditexp.result import Result
from ditexp.tracker import destination, service
from ditexp.tracker.destination import OF_ONE_RUN, Destination, is_set
from ditexp.tracker.views import show_cell, show_report
from ditexp.tracker.workspace import can_save_workspace, save_workspace
from ditexp.tracker.writer import Show, Writer

log = logging.getLogger(__name__)

MODES = ("auto", "online", "offline")
TAGS = ("model", "solver", "schedule", "guidance", "task")
FACTS = ("study", "sample_id", "num_samples", "command", "protocol", "provenance", "config")  # keys of a result's JSON
MAX_TAG, MAX_GROUP = 64, 128  # characters that W&B accepts


class WandbTracker:
    """Logs to `entity`/`project` on W&B. All local files are in `folder`.

    project, entity: None for W&B's variables and settings files, or else "ditexp" and the account's default entity.
    mode: online, offline, or auto, which means WANDB_MODE or W&B's settings, and offline if nobody is logged in.
    Raises ValueError for another mode.
    """

    def __init__(
        self,
        *,
        project: str | None = None,
        entity: str | None = None,
        mode: str = "auto",
        folder: str | Path = "outputs/wandb",
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"unknown W&B mode '{mode}'; choices: {', '.join(MODES)}")
        self.project = None if project is None else str(project)
        self.entity = None if entity is None else str(entity)
        self.mode = mode
        self.folder = Path(folder).absolute()
        logged = self.folder / "logged"
        self._writer = Writer(logged, logged / (self.entity or "default") / (self.project or "ditexp"))
        self._amounts: dict[str, Counter[str]] = {}  # numbers of cells and reports, by how they were logged
        self._urls: list[str] = []  # of projects that have them online
        self._offline: Path | None = None  # the folder of offline runs
        self._latest: dict[str, str] = {}  # the project of the latest run, if it is online
        self._has_warned = False

    def check(self) -> None:
        try:
            service.in_time(self._print_destination, service.TIME_LIMIT)
        except ValueError:
            raise
        except Exception as error:
            log.debug("W&B: %s", error)  # the first run meets it again, and warns

    def begin_cell(self, cell: Result) -> None:
        pass

    def log_progress(self, cell: Result, progress: Progress) -> None:
        pass

    def log_preview(self, cell: Result, picture: Path) -> None:
        pass

    def log_cell(self, result: Result) -> None:
        settings, facts = result.settings, result.to_json()
        self._log(
            lambda run: show_cell(run, result),
            what="cell",
            id=result.id,
            status=result.status,
            name="-".join(str(settings[name]) for name in ("solver", "steps", "guidance") if settings.get(name)),
            group=result.study,
            job_type="sample",
            tags=[f"{name}:{settings[name]}"[:MAX_TAG] for name in TAGS if name in settings],
            config=settings | {name: facts[name] for name in FACTS if name in facts},
        )

    def log_report(self, study: str, results: Sequence[Result], table: Table, paths: Mapping[str, Path | None]) -> None:
        cells = sorted((result.id, result.status) for result in results)
        self._log(
            lambda run: show_report(run, results, table, paths),
            what="report",
            id="report-" + digest([study, cells]),
            status="done",
            name=f"report-{study}",
            group=study,
            job_type="report",
            tags=[],
            config={"study": study, "cells": [id for id, _ in cells]},
        )
        if self._latest and service.works() and can_save_workspace():
            self._save_workspace(table)

    def close(self) -> None:
        """Print where the runs are, and stop wandb's service."""
        for line in self._summary():
            log_unless_silent(line)
        if "wandb" in sys.modules and service.works():
            service.stop_service()  # at the exit of the process, a dead service would print a traceback

    def _summary(self) -> list[str]:
        """Lines on what was sent where, and what was not."""
        amounts = {how: in_words(amount) for how, amount in self._amounts.items()}
        where, lines = " and ".join(dict.fromkeys(self._urls)), []
        if "sent" in amounts:
            before = f"; already there: {amounts['there']}" if "there" in amounts else ""
            lines.append(f"W&B: {where} (sent: {amounts['sent']}{before})")
        elif "there" in amounts:
            lines.append(f"W&B: already on {where}: {amounts['there']}")
        if "busy" in amounts:
            lines.append(f"W&B: another process logs {amounts['busy']}")
        if self._offline:
            lines.append(f"W&B runs are offline; upload them with: wandb sync {self._offline}/offline-run-*")
        return lines

    def _print_destination(self) -> None:
        """Raises ValueError as `destination.find` does."""
        where = self._find()
        service.stop_service()  # it would be idle, and processes that start from here would inherit it
        if unused := [name for name in OF_ONE_RUN if os.environ.get(name)]:
            log.warning("W&B: ignored, since each cell is a run with its own id: %s", ", ".join(unused))
        if where.mode == "disabled":
            log_unless_silent("W&B: nothing is logged, because W&B's variables or settings disable it")
        elif where.problem and not self._has_warned:
            log_unless_silent(f"W&B: {where.problem}, so runs are written offline; to change that, run `wandb login`")

    def _find(self) -> Destination:
        # By default wandb has caches, logs and staged files in the home directory. If it cannot write there, its
        # service prints pages of messages.
        for name in ("cache", "data"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            os.environ.setdefault(f"WANDB_{name.upper()}_DIR", str(self.folder / name))
        where = destination.find(project=self.project, entity=self.entity, mode=self.mode, folder=self.folder)
        if where.problem and not self._has_warned and (self.mode == "online" or "key" in where.problem):
            self._has_warned = True
            remedy = "run `wandb login`, set WANDB_API_KEY, or choose tracker.mode=offline"
            log.warning("W&B: %s, so runs are written offline: %s", where.problem, remedy)
        return where

    def _log(self, show: Show, *, what: str, id: str, name: str, **run: Any) -> None:
        if not re.fullmatch(r"[\w.=-]{1,64}", id):  # the id of a failed cell may contain the name of its folder
            id = digest(id)
        service.survive(
            lambda is_online: self._write_run(show, what=what, is_online=is_online, id=id, name=name, **run),
            f"{what} {name} (run {id})",
        )

    def _write_run(self, show: Show, *, what: str, is_online: bool, group: str, tags: list[str], **run: Any) -> None:
        """what: "cell" or "report". run: the other arguments of `Writer.online` and `Writer.offline`."""
        where = self._find()
        if where.mode == "disabled":
            return
        where.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(where.folder, os.W_OK):  # wandb would silently use /tmp
            raise PermissionError(f"{where.folder} cannot be written")
        run["group"] = (where.group or group or "")[:MAX_GROUP] or None
        run["tags"] = list(dict.fromkeys([*tags, *where.tags]))
        with self._writer.record(f"{run['id']}.{run['status']}") as record:
            if record is None:
                how = "busy"
            elif is_online and where.mode == "online":
                entity, is_new = self._writer.online(show, where, record, **run)
                how, self._latest = "sent" if is_new else "there", where.place(entity)
            else:
                entity, folder = self._writer.offline(show, where, record, **run)
                how, self._latest = "offline" if folder else "there", {}
                self._offline = folder or self._offline
            if how in ("sent", "there"):
                self._urls.append(where.url(entity))
        self._amounts.setdefault(how, Counter())[what] += 1

    def _save_workspace(self, table: Table) -> None:
        """Once per project, so that a user's later changes stay."""

        def save() -> None:
            url = save_workspace(self._latest["entity"], self._latest["project"], table)
            log_unless_silent(f"W&B: saved a workspace: {url}")

        try:
            with self._writer.record("workspace") as record:
                if record and not record.find(**self._latest):
                    service.in_time(save, 4 * service.REQUEST_TIMEOUT)
                    record.add(**self._latest)
        except Exception as error:
            log.warning("W&B: the workspace was not saved, the next report tries again: %s", service.summary_of(error))


def log_unless_silent(line: str) -> None:
    if not is_set("WANDB_SILENT"):
        log.info(line)


def in_words(counts: Counter[str]) -> str:
    """For example "4 cells and the report"."""
    cells, reports = counts["cell"], counts["report"]
    words = [f"{cells} cell{'s' if cells > 1 else ''}"] if cells else []
    return " and ".join([*words, *(["the report"] if reports == 1 else [f"{reports} reports"] if reports else [])])
