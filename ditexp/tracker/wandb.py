"""Weights & Biases as a view of our results: a run for each cell and one for each report.

docs/wandb.md lists the names of everything that is logged; they stay the same, for panels and queries.

W&B never fails a run: whatever goes wrong costs one warning, then offline runs, then silence.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ditexp.files.content import digest
from ditexp.report.table import Table
from ditexp.tracker import destination, service
from ditexp.tracker.destination import OF_ONE_RUN, Destination, is_set
from ditexp.tracker.views import show_cell, show_report
from ditexp.tracker.workspace import can_save_workspace, save_workspace
from ditexp.tracker.writer import Writer

log = logging.getLogger(__name__)

MODES = ("auto", "online", "offline")
TAGS = ("model", "solver", "schedule", "guidance", "task")
FACTS = ("study", "sample_id", "num_samples", "command", "protocol", "provenance", "config")
LONGEST_TAG, LONGEST_GROUP = 64, 128  # characters that W&B takes


class WandbTracker:
    """Logs to W&B under `entity`/`project`; everything local lies under `folder`.

    project, entity: None for those of W&B's variables and settings files, or else "ditexp" and the account's own.
    mode: online, offline, or auto: what WANDB_MODE or W&B's settings say, and offline if nobody is logged in.
    Raises ValueError for another mode.
    """

    def __init__(
        self,
        *,
        project: str | None = None,
        entity: str | None = None,
        mode: str = "auto",
        folder: str | Path = "outputs/wandb",
    ):
        if mode not in MODES:
            raise ValueError(f"unknown W&B mode '{mode}'; choices: {', '.join(MODES)}")
        self.project = None if project is None else str(project)
        self.entity = None if entity is None else str(entity)
        self.mode = mode
        self.folder = Path(folder).absolute()
        logged = self.folder / "logged"
        self._writer = Writer(logged, logged / (self.entity or "default") / (self.project or "ditexp"))
        self._amounts: dict[str, Counter] = {}  # of cells and reports: sent, there already, with another process
        self._urls: list[str] = []  # where they are, if they are online
        self._offline: Path | None = None  # where they are, if some are not
        self._latest: dict[str, str] = {}  # the place of the latest run, if it is online
        self._has_warned = False

    def check(self) -> None:
        try:
            service.in_time(self._say_where, service.TIME_LIMIT)
        except ValueError:
            raise
        except Exception as error:
            log.debug("W&B: %s", error)  # the first run meets it again, and says so

    def log_cell(self, result: dict) -> None:
        settings = result["settings"]
        self._log(
            lambda run: show_cell(run, result),
            what="cell",
            id=result["id"],
            status=result["status"],
            name="-".join(str(settings[name]) for name in ("solver", "steps", "guidance") if settings.get(name)),
            group=result.get("study"),
            job_type="sample",
            tags=[f"{name}:{settings[name]}"[:LONGEST_TAG] for name in TAGS if name in settings],
            config=settings | {name: result[name] for name in FACTS if name in result},
        )

    def log_report(self, study: str, results: Sequence[dict], table: Table, paths: Mapping[str, Path | None]) -> None:
        cells = sorted((result["id"], result["status"]) for result in results)
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
        """Say where the runs are and stop the wandb service."""
        for line in self._account():
            tell(line)
        if "wandb" in sys.modules and service.works():
            service.stop_service()  # left to the exit of the process, a service that died would print a traceback

    def _account(self) -> list[str]:
        """What was sent where, and what was not."""
        amounts = {how: in_words(amount) for how, amount in self._amounts.items()}
        where, lines = " and ".join(dict.fromkeys(self._urls)), []
        if "sent" in amounts:
            before = f"; there before: {amounts['there']}" if "there" in amounts else ""
            lines.append(f"W&B: {where} (sent: {amounts['sent']}{before})")
        elif "there" in amounts:
            lines.append(f"W&B: already on {where}: {amounts['there']}")
        if "busy" in amounts:
            lines.append(f"W&B: another process logs {amounts['busy']}")
        if self._offline:
            lines.append(f"W&B runs are offline; upload them with: wandb sync {self._offline}/offline-run-*")
        return lines

    def _say_where(self) -> None:
        """Raises ValueError as `destination.find` does."""
        where = self._find()
        service.stop_service()  # which has nothing to do for long, and which what starts from here would inherit
        if unused := [name for name in OF_ONE_RUN if os.environ.get(name)]:
            log.warning("W&B: not used, since each cell is a run with an id of its own: %s", ", ".join(unused))
        if where.mode == "disabled":
            tell("W&B: nothing is logged, as W&B's variables or settings say")
        elif where.problem and not self._has_warned:
            tell(f"W&B: {where.problem}, so runs are written offline; `wandb login` changes that")

    def _find(self) -> Destination:
        # By default wandb keeps caches, logs and staged files in the home directory. Its service prints pages
        # of messages where it cannot, so it is better to meet an unwritable folder here.
        for name in ("cache", "data"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            os.environ.setdefault(f"WANDB_{name.upper()}_DIR", str(self.folder / name))
        where = destination.find(project=self.project, entity=self.entity, mode=self.mode, folder=self.folder)
        if where.problem and not self._has_warned and (self.mode == "online" or "key" in where.problem):
            self._has_warned = True
            remedy = "run `wandb login`, set WANDB_API_KEY, or choose tracker.mode=offline"
            log.warning("W&B: %s, so runs are written offline: %s", where.problem, remedy)
        return where

    def _log(self, show: Callable, *, what: str, id: str, name: str, **run) -> None:
        if not re.fullmatch(r"[\w.=-]{1,64}", id):  # a failed cell's has the name of its folder in it
            id = digest(id)
        service.survive(
            lambda is_online: self._write_run(show, what=what, is_online=is_online, id=id, name=name, **run),
            f"{what} {name} (run {id})",
        )

    def _write_run(self, show: Callable, *, what: str, is_online: bool, group: str, tags: list[str], **run) -> None:
        where = self._find()
        if where.mode == "disabled":
            return
        where.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(where.folder, os.W_OK):  # where wandb would turn to /tmp without a word
            raise PermissionError(f"{where.folder} cannot be written")
        run["group"] = (where.group or group or "")[:LONGEST_GROUP] or None
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
        """Once for each project, so that what a person has made of it since stays."""

        def save() -> None:
            url = save_workspace(self._latest["entity"], self._latest["project"], table)
            tell(f"W&B: saved a workspace: {url}")

        try:
            with self._writer.record("workspace") as record:
                if record and not record.find(**self._latest):
                    service.in_time(save, 4 * service.REQUEST_TIMEOUT)
                    record.add(**self._latest)
        except Exception as error:
            log.warning("W&B: the workspace was not saved, the next report tries again: %s", service.reason_of(error))


def tell(line: str) -> None:
    if not is_set("WANDB_SILENT"):
        log.info(line)


def in_words(amount: Counter) -> str:
    """Such as: 4 cells and a report."""
    cells, reports = amount["cell"], amount["report"]
    words = [f"{cells} cell{'s' if cells > 1 else ''}"] if cells else []
    return " and ".join([*words, *(["the report"] if reports == 1 else [f"{reports} reports"] if reports else [])])
