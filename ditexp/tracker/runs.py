"""W&B's runs: one for each cell and for each report. Only the process beside a run (`ditexp.tracker.beside`) uses it.

docs/wandb.md lists the names of everything that is logged; panels and queries can rely on them.

If W&B fails, ditexp warns once, then writes runs offline, then goes on without W&B.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditexp.progress import Progress
from ditexp.report.tables.table import Table
from ditexp.result import Result
from ditexp.tracker import destination, naming, service
from ditexp.tracker.destination import OF_ONE_RUN, Destination, Options, is_set
from ditexp.tracker.rows import row_of
from ditexp.tracker.tally import Tally
from ditexp.tracker.views import define_metrics, show_cell, show_preview, show_report
from ditexp.tracker.workspace import can_save_workspace, save_workspace
from ditexp.tracker.writer import Show, Writer

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

KILLED = 255  # the exit code with which W&B shows a run as killed
SECONDS_BETWEEN_ADDRESSES = 60


@dataclass
class Live:
    """A cell that runs. session: None if W&B failed. rows: what it was sent, to write it again elsewhere.

    lock: keeps other processes from showing it. is_ours: whether we have the lock.
    """

    session: wandb.Run | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    lock: ExitStack = field(default_factory=ExitStack)
    is_ours: bool = False


class WandbRuns:
    """A tracker whose methods wait for W&B, a bounded time. watched: the process id of the run that is tracked."""

    def __init__(self, options: Options, *, watched: int | None = None) -> None:
        self._options = options
        self._watched = watched
        logged = options.folder / "logged"
        self._writer = Writer(logged, logged / (options.entity or "default") / (options.project or "ditexp"))
        self._live: dict[str, Live] = {}  # by the cell's id
        self._tally = Tally()
        self._latest: dict[str, str] = {}  # the project of the latest run, if it is online
        self._has_warned = False
        self._next_address = 0.0

    def check(self) -> None:
        try:
            service.in_time(self._print_destination, service.limits.run)
        except ValueError:
            raise
        except Exception as error:
            log.debug("W&B: %s", error)  # the first run meets it again, and warns

    def begin_cell(self, cell: Result) -> None:
        live = self._live[cell.id] = Live()
        run = naming.of_cell(cell, self._options.name)
        service.survive(lambda is_online: self._begin(live, is_online=is_online, **run), in_words_of("cell", run))

    def log_progress(self, cell: Result, progress: Progress) -> None:
        if live := self._live.get(cell.id):
            row = row_of(progress)
            live.rows.append(row)
            self._try(live, lambda session: session.log(row))

    def log_preview(self, cell: Result, picture: Path) -> None:
        if live := self._live.get(cell.id):
            self._try(live, lambda session: show_preview(session, cell, picture))

    def log_cell(self, result: Result) -> None:
        live = self._live.pop(result.id, None)

        def show(run: Any) -> None:
            if live and run is not live.session:
                define_metrics(run)
                for row in live.rows:
                    run.log(row)
            show_cell(run, result)

        self._log(show, live, what="cell", status=result.status, **naming.of_cell(result, self._options.name))
        if live:
            live.lock.close()

    def log_report(self, study: str, results: Sequence[Result], table: Table, paths: Mapping[str, Path | None]) -> None:
        run = naming.of_report(study, results, self._options.name)
        self._log(lambda run: show_report(run, results, table, paths), None, what="report", status="done", **run)
        if self._latest and service.works() and can_save_workspace():
            self._save_workspace(table)

    def close(self) -> None:
        """End the runs of cells that were interrupted, print where runs are, and stop wandb's service."""
        for live in self._live.values():
            self._try(live, lambda session: session.summary.update({"status": "interrupted"}))
            end(live, exit_code=KILLED)
        self._live.clear()
        for line in self._tally.lines():
            log_unless_silent(line)
        if service.works():
            service.stop_service()

    def abandon(self) -> None:
        """Leave runs to crash whose process is gone: W&B shows it once no heartbeat arrives."""
        for live in self._live.values():
            self._try(live, lambda session: session.summary.update({"status": "crashed"}))
            if live.session and live.session.offline:
                end(live, exit_code=KILLED)
        if self._live:
            time.sleep(service.limits.crashed)

    def _begin(self, live: Live, *, is_online: bool, tags: list[str], **run: Any) -> None:
        where = self._find()
        if where.mode == "disabled":
            return
        require_writable(where.folder)
        if not live.is_ours:
            live.is_ours = live.lock.enter_context(self._writer.record(f"{run['id']}.running")) is not None
        if not live.is_ours:  # another process shows it
            return
        run |= of_place(where, run["group"], tags)
        is_online = is_online and where.mode == "online"
        live.session = self._writer.begin(where, is_online=is_online, watched=self._watched, **run)
        define_metrics(live.session)
        live.session.summary["status"] = "running"
        if is_online and time.monotonic() >= self._next_address:
            self._next_address = time.monotonic() + SECONDS_BETWEEN_ADDRESSES
            log_unless_silent(f"W&B: {run['name']} is live: {live.session.url}")

    def _try(self, live: Live, show: Show) -> None:
        """Show a part of a cell that runs; a failure is met again, with a warning, when the cell ends."""
        if live.session:
            session = live.session
            with suppress(Exception):
                service.in_time(lambda: show(session), service.limits.init)

    def _print_destination(self) -> None:
        """Raises ValueError as `destination.find` does."""
        where = self._find()
        if unused := [name for name in OF_ONE_RUN if os.environ.get(name)]:
            log.warning("W&B: ignored, since each cell is a run with its own id: %s", ", ".join(unused))
        if where.mode == "disabled":
            log_unless_silent("W&B: nothing is logged, because W&B's variables or settings disable it")
        elif where.problem and not self._has_warned:
            log_unless_silent(f"W&B: {where.problem}, so runs are written offline; to change that, run `wandb login`")

    def _find(self) -> Destination:
        where = destination.find(self._options)
        if where.problem and not self._has_warned and (self._options.mode == "online" or "key" in where.problem):
            self._has_warned = True
            remedy = "run `wandb login`, set WANDB_API_KEY, or choose tracker.mode=offline"
            log.warning("W&B: %s, so runs are written offline: %s", where.problem, remedy)
        return where

    def _log(self, show: Show, live: Live | None, *, what: str, **run: Any) -> None:
        service.survive(
            lambda is_online: self._write_run(show, live, what=what, is_online=is_online, **run),
            in_words_of(what, run),
        )

    def _write_run(
        self, show: Show, live: Live | None, *, what: str, is_online: bool, group: str, tags: list[str], **run: Any
    ) -> None:
        """what: "cell" or "report". run: the other arguments of `Writer.online` and `Writer.offline`."""
        where = self._find()
        if where.mode == "disabled":
            return
        require_writable(where.folder)
        run |= of_place(where, group, tags)
        begun = live.session if live else None
        is_online = is_online and where.mode == "online" and not (begun and begun.offline)
        session = begun if begun and begun.offline != is_online else None  # a failed one is of no use
        with self._writer.record(f"{run['id']}.{run['status']}") as record:
            how, entity = "busy", ""
            if record and is_online:
                entity, is_new = self._writer.online(show, where, record, session, watched=None, **run)
                how, self._latest = "sent" if is_new else "there", where.place(entity)
            elif record:
                entity, folder = self._writer.offline(show, where, record, session, watched=None, **run)
                how, self._latest = "offline" if folder else "there", {}
                self._tally.offline = folder or self._tally.offline
        self._tally.add(what, how, where.url(entity) if how in ("sent", "there") else "")

    def _save_workspace(self, table: Table) -> None:
        """Once per project, so that a user's later changes stay."""

        def save() -> None:
            url = save_workspace(self._latest["entity"], self._latest["project"], table)
            log_unless_silent(f"W&B: saved a workspace: {url}")

        try:
            with self._writer.record("workspace") as record:
                if record and not record.find(**self._latest):
                    service.in_time(save, service.limits.run)
                    record.add(**self._latest)
        except Exception as error:
            log.warning("W&B: the workspace was not saved, the next report tries again: %s", service.summary_of(error))


def end(live: Live, *, exit_code: int) -> None:
    """End a run that has no result."""
    session = live.session
    if session:
        with suppress(Exception):
            service.in_time(lambda: session.finish(exit_code=exit_code), service.limits.finish)
    live.lock.close()


def require_writable(folder: Path) -> None:
    """Raises PermissionError, where wandb would silently use /tmp, or another OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} cannot be written")


def of_place(where: Destination, group: str, tags: list[str]) -> dict[str, Any]:
    """The group and tags of a run, of which W&B's variables have a part."""
    return {
        "group": (where.group or group)[: naming.MAX_NAME] or None,
        "tags": list(dict.fromkeys([*tags, *where.tags])),
    }


def in_words_of(what: str, run: Mapping[str, Any]) -> str:
    return f"{what} {run['name']} (run {run['id']})"


def log_unless_silent(line: str) -> None:
    if not is_set("WANDB_SILENT"):
        log.info(line)
