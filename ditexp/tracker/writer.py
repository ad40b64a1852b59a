"""Writes runs to W&B or to files for it, each once to each place.

A run that is at a place already, by our own memory (`ditexp.tracker.memory`) or by what W&B answers, is left alone.
"""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from ditexp.tracker import service
from ditexp.tracker.destination import Destination
from ditexp.tracker.memory import Record, opened

log = logging.getLogger(__name__)

DELETED = (409, 410)  # what W&B answers for the id of a run that was deleted there
OF_THE_SERVER = (401, 407, 408, 425, 429)  # it doesn't know us or has too much to do; the others below 500 are of a run
PROBE_TIMEOUT = 8  # seconds: to begin a run where others were deleted, for which wandb asks again and again
REMEDIES = {
    400: "W&B doesn't take a value of it",
    403: "W&B lets nobody write it: unlock it there, or check tracker.entity and tracker.project",
    404: "W&B doesn't know its entity or project: check tracker.entity and tracker.project",
    413: "it is too large for W&B",
}


class Writer:
    """folder: where it remembers what is where. before: what earlier versions left, by mode and for no server."""

    def __init__(self, folder: Path, before: Path):
        self.folder = folder
        self.before = before
        self._has_deleted = False

    def record(self, name: str) -> AbstractContextManager[Record | None]:
        return opened(self.folder / f"{name}.jsonl")

    def online(
        self, show: Callable, where: Destination, record: Record, *, id: str, status: str, **run
    ) -> tuple[str, bool]:
        """(the entity that has the run, whether it was sent now). Raises service.Refused, or as wandb does."""
        known = where.entity or self.entity_of(where)
        if known and record.find(**where.place(known)):
            return known, False
        session = self._begin(where, id=id, **run)
        entity = where.entity or session.entity
        is_there = bool(record.find(**where.place(entity))) or self._has_arrived(session, where, record, id, status)
        finish(session, None if is_there else show, status)
        if entity != known:
            self._note("accounts", server=where.server, account=where.account, entity=entity)
        if is_there and (self.before / "online" / "workspace").exists():
            self._note("workspace", **where.place(entity))
        record.add(**where.place(entity), run=session.id)
        return entity, not is_there

    def offline(
        self, show: Callable, where: Destination, record: Record, *, id: str, status: str, **run
    ) -> tuple[str, Path | None]:
        """(the entity, the folder of offline runs that has the run, or None if it is known to be online)."""
        entity = where.entity or self.entity_of(where)
        if entity and record.find(**where.place(entity)):
            return entity, None
        folders = self._offline_folders(where, record, id, status)
        if not folders:
            session = begin(where, mode="offline", limit=service.INIT_TIMEOUT, id=id, **run)
            finish(session, show, status)
            folders = [Path(session.settings.sync_dir)]
            record.add(server="", entity=where.entity, project=where.project, folder=folders[0].name)
        return entity, folders[0].parent

    def entity_of(self, where: Destination) -> str:
        """The default entity of an account, as W&B last said, or ""; of the latest account if nobody is logged in."""
        facts = {"account": where.account} if where.account else {}
        with self.record("accounts") as accounts:
            known = accounts and accounts.find(server=where.server, **facts)
        return known["entity"] if known else ""

    def _note(self, name: str, **facts) -> None:
        with self.record(name) as record:
            if record and record.find() != facts:
                record.add(**facts)

    def _offline_folders(self, where: Destination, record: Record, id: str, status: str) -> list[Path] | None:
        """Those that were written of a run, without what was removed since; None if there were none."""
        known = record.find(server="", entity=where.entity, project=where.project)
        if not known and not (self.before / "offline" / f"{id}.{status}").exists():
            return None
        name = glob.escape(known["folder"]) if known else f"offline-run-*-{glob.escape(id)}"
        return sorted(where.folder.glob(f"*wandb/{name}"))

    def _has_arrived(self, session, where: Destination, record: Record, id: str, status: str) -> bool:
        """Whether W&B had all of a run before it was begun again.

        It is asked only about a run that an earlier version or `wandb sync` has sent: of others, which end half-way,
        it may have a part.
        """
        folders = self._offline_folders(where, record, id, status)
        is_synced = folders is not None and all(any(folder.glob("*.wandb.synced")) for folder in folders)
        was_sent = is_synced or (self.before / "online" / f"{id}.{status}").exists()
        return was_sent and session.resumed and session.summary.get("status", status) == status

    def _begin(self, where: Destination, *, id: str, name: str, **run):
        """wandb's run. W&B takes the id of a deleted run never again: the run then has `<id>-2`, and so on."""
        for new in (id, *(f"{id}-{number}" for number in range(2, 6))):
            if session := self._begin_unless_deleted(where, id=new, name=name, **run):
                if new != id:
                    log.info("W&B: run %s was deleted there, which ends its id: %s is now run %s", id, name, new)
                return session
        raise service.Refused(f"runs {id} to {new} were all deleted there")

    def _begin_unless_deleted(self, where: Destination, *, id: str, **run):
        import wandb

        limit = min(PROBE_TIMEOUT, service.INIT_TIMEOUT) if self._has_deleted else service.INIT_TIMEOUT
        try:
            return begin(where, mode="online", limit=limit, id=id, **run)
        except wandb.Error as error:
            status = status_of(error, where.folder, id)
            if status in DELETED:
                self._has_deleted = True
                return None
            if is_of_run(status):
                said = f"{status}: {service.reason_of(error)}" if status else service.reason_of(error)
                raise service.Refused(f"{REMEDIES.get(status, 'W&B refuses it')} ({said})") from None
            raise


def begin(where: Destination, *, mode: str, limit: float, **run):
    """A run of wandb's, new or going on. Not for a `with` block: it would print the traceback of what fails inside."""
    import wandb

    return wandb.init(
        project=where.project,
        entity=where.entity or None,
        dir=where.folder,
        mode=mode,
        resume="allow",
        reinit="create_new",
        settings=service.settings_of_run(init_timeout=limit),
        **run,
    )


def finish(session, show: Callable | None, status: str) -> None:
    """Show what there is to show in a run, and end it. Raises service.Refused if W&B did not take all of it."""
    try:
        if show:
            show(session)
    except (ValueError, TypeError, KeyError) as error:  # of what is shown
        session.finish(exit_code=1)
        raise service.Refused(f"{type(error).__name__}: {error}") from error
    session.finish(exit_code=0 if status == "done" else 1)
    if lost := service.given_up(Path(session.settings.sync_dir)):
        failure = service.Refused if is_of_run(status_in(lost)) else ConnectionError
        raise failure(f"W&B did not take all of it ({lost})")


def is_of_run(status: int | None) -> bool:
    """Whether W&B's answer is about one run; others from 400 on, and none at all, are about the server."""
    return status == 0 or (status is not None and 400 <= status < 500 and status not in OF_THE_SERVER)


def status_of(error: Exception, folder: Path, id: str) -> int | None:
    """`status_in` of the error with which wandb did not begin a run, or of what its service logged of the run."""
    if (status := status_in(str(error))) is not None:
        return status
    runs = sorted(folder.glob(f"*wandb/run-*-{glob.escape(id)}"), key=lambda run: run.stat().st_mtime)
    found = [entry["status"] for run in runs[-1:] for entry in service.errors_of(run) if "status" in entry]
    return found[-1] if found else None


def status_in(text: str) -> int | None:
    """The HTTP status of a server's answer, as wandb words it; 0: one of GraphQL's errors; None: no answer."""
    if "previously created and deleted" in text:
        return DELETED[0]
    if found := re.search(r"(?:HTTP|error|status:|upload:) (\d{3})\b", text):
        return int(found[1])
    return 0 if re.search(r"\binput: ", text) else None
