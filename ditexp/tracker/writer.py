"""Writes runs to W&B, or to files for it, once per place.

A run is not written again to a place that has it, according to our records (`ditexp.tracker.memory`) or to W&B.
"""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditexp.tracker import service
from ditexp.tracker.destination import Destination, Mode
from ditexp.tracker.memory import Record, opened

if TYPE_CHECKING:
    import wandb

Show = Callable[[Any], None]  # fills in a run of wandb

log = logging.getLogger(__name__)

# HTTP statuses of W&B's answers. Others from 400 to 499 concern one run.
DELETED = (409, 410)  # the run was deleted there
OF_THE_SERVER = (401, 407, 408, 425, 429)  # the login is wrong, or the server is too busy
REMEDIES = {
    400: "W&B does not accept one of its values",
    403: "W&B does not allow writing it: unlock it there, or check tracker.entity and tracker.project",
    404: "W&B does not know its entity or project: check tracker.entity and tracker.project",
    413: "it is too large for W&B",
}


class Writer:
    """folder: for our records. before: records of earlier versions, by mode."""

    def __init__(self, folder: Path, before: Path) -> None:
        self.folder = folder
        self.before = before
        self._has_deleted = False

    def record(self, name: str) -> AbstractContextManager[Record | None]:
        """See `ditexp.tracker.memory.opened`."""
        return opened(self.folder / f"{name}.jsonl")

    def begin(
        self, where: Destination, *, id: str, name: str, is_online: bool, watched: int | None, **run: Any
    ) -> wandb.Run:
        """Begin a run, or continue it. Raises service.Refused or wandb's errors.

        W&B never accepts the id of a deleted run again: the id becomes `<id>-2`, and so on.
        """
        if not is_online:
            settings = service.settings_of_run(init_timeout=service.limits.init, watched=watched)
            return begin(where, mode="offline", settings=settings, id=id, name=name, **run)
        for new in (id, *(f"{id}-{number}" for number in range(2, 6))):
            if session := self._begin_unless_deleted(where, id=new, name=name, watched=watched, **run):
                if new != id:
                    log.info(
                        "W&B: run %s was deleted there, and its id cannot be used again: %s is now run %s",
                        id,
                        name,
                        new,
                    )
                return session
        raise service.Refused(f"runs {id} to {new} were all deleted there")

    def online(
        self, show: Show, where: Destination, record: Record, session: wandb.Run | None, *, status: str, **run: Any
    ) -> tuple[str, bool]:
        """(The entity that has the run, whether the run was sent now). Raises service.Refused or wandb's errors.

        session: of a run that has begun. run: the arguments of `begin`.
        """
        known = where.entity or self.entity_of(where)
        if known and not session and record.find(**where.place(known)):
            return known, False
        is_live, session = session is not None, session or self.begin(where, is_online=True, **run)
        entity = where.entity or session.entity
        is_there = not is_live and (
            bool(record.find(**where.place(entity))) or self._has_arrived(session, where, record, run["id"], status)
        )
        finish(session, None if is_there else show, status)
        service.accepted()
        if entity != known:
            self._note("accounts", server=where.server, account=where.account, entity=entity)
        if is_there and (self.before / "online" / "workspace").exists():
            self._note("workspace", **where.place(entity))
        record.add(**where.place(entity), run=session.id)
        return entity, not is_there

    def offline(
        self, show: Show, where: Destination, record: Record, session: wandb.Run | None, *, status: str, **run: Any
    ) -> tuple[str, Path | None]:
        """(The entity, the folder of offline runs that has this run; None if the run is online)."""
        entity = where.entity or self.entity_of(where)
        if entity and not session and record.find(**where.place(entity)):
            return entity, None
        folders = None if session else self._offline_folders(where, record, run["id"], status)
        if not folders:
            session = session or self.begin(where, is_online=False, **run)
            finish(session, show, status)
            folders = [Path(session.settings.sync_dir)]
            record.add(server="", entity=where.entity, project=where.project, folder=folders[0].name)
        return entity, folders[0].parent

    def entity_of(self, where: Destination) -> str:
        """The default entity of the account, or of the last one if nobody is logged in; empty if it is not recorded."""
        facts = {"account": where.account} if where.account else {}
        with self.record("accounts") as accounts:
            known = accounts.find(server=where.server, **facts) if accounts else None
        return known["entity"] if known else ""

    def _note(self, name: str, **facts: str) -> None:
        with self.record(name) as record:
            if record and record.find() != facts:
                record.add(**facts)

    def _offline_folders(self, where: Destination, record: Record, id: str, status: str) -> list[Path] | None:
        """The offline folders of a run that are still there; None if none was ever written."""
        known = record.find(server="", entity=where.entity, project=where.project)
        if not known and not (self.before / "offline" / f"{id}.{status}").exists():
            return None
        name = glob.escape(known["folder"]) if known else f"offline-run-*-{glob.escape(id)}"
        return sorted(where.folder.glob(f"*wandb/{name}"))

    def _has_arrived(self, session: wandb.Run, where: Destination, record: Record, id: str, status: str) -> bool:
        """Whether W&B already has all of a run that begins again.

        Only runs that an earlier version or `wandb sync` has sent count: of others, W&B may have a part.
        """
        folders = self._offline_folders(where, record, id, status)
        is_synced = folders is not None and all(any(folder.glob("*.wandb.synced")) for folder in folders)
        was_sent = is_synced or (self.before / "online" / f"{id}.{status}").exists()
        return was_sent and session.resumed and session.summary.get("status", status) == status

    def _begin_unless_deleted(
        self, where: Destination, *, id: str, watched: int | None, **run: Any
    ) -> wandb.Run | None:
        import wandb

        limits = service.limits
        limit = min(limits.probe, limits.init) if self._has_deleted else limits.init  # wandb retries for deleted ones
        try:
            settings = service.settings_of_run(init_timeout=limit, watched=watched)
            return begin(where, mode="online", settings=settings, id=id, **run)
        except wandb.Error as error:
            status = status_of(error, where.folder, id)
            if status in DELETED:
                self._has_deleted = True
                return None
            if is_of_run(status):
                said = f"{status}: {service.summary_of(error)}" if status else service.summary_of(error)
                raise service.Refused(f"{REMEDIES.get(status, 'W&B refuses it')} ({said})") from None
            raise


def begin(where: Destination, *, mode: Mode, settings: wandb.Settings, **run: Any) -> wandb.Run:
    """Begin a run, or continue it, by wandb. In a `with` block, it would print the tracebacks of errors inside."""
    import wandb

    return wandb.init(
        project=where.project,
        entity=where.entity or None,
        dir=where.folder,
        mode=mode,
        resume="allow",
        reinit="create_new",
        settings=settings,
        **run,
    )


def finish(session: wandb.Run, show: Show | None, status: str) -> None:
    """Fill in a run with `show`, and end it. Raises service.Refused if W&B did not accept all of it."""
    try:
        if show:
            show(session)
    except (ValueError, TypeError, KeyError) as error:  # W&B does not accept a value
        session.finish(exit_code=1)
        raise service.Refused(f"{type(error).__name__}: {error}") from error
    session.finish(exit_code=0 if status == "done" else 1)
    if lost := service.given_up(Path(session.settings.sync_dir)):
        failure = service.Refused if is_of_run(status_in(lost)) else ConnectionError
        raise failure(f"W&B did not accept all of it ({lost})")


def is_of_run(status: int | None) -> bool:
    """Whether an answer of W&B is about one run, not about the server."""
    return status == 0 or (status is not None and 400 <= status < 500 and status not in OF_THE_SERVER)


def status_of(error: Exception, folder: Path, id: str) -> int | None:
    """The status in an error with which wandb failed to begin a run, or else in the log of its service."""
    if (status := status_in(str(error))) is not None:
        return status
    runs = sorted(folder.glob(f"*wandb/run-*-{glob.escape(id)}"), key=lambda run: run.stat().st_mtime)
    found = [entry["status"] for run in runs[-1:] for entry in service.errors_of(run) if "status" in entry]
    return found[-1] if found else None


def status_in(text: str) -> int | None:
    """The HTTP status in a message of wandb; 0 for an error of GraphQL; None if there was no answer."""
    if "previously created and deleted" in text:
        return DELETED[0]
    if found := re.search(r"(?:HTTP|error|status:|upload:) (\d{3})\b", text):
        return int(found[1])
    return 0 if re.search(r"\binput: ", text) else None
