"""Weights & Biases as a view of our results: a run for each cell and one for each report.

docs/wandb.md lists the names of everything that is logged; they stay the same, for panels and queries.

W&B never fails a run: whatever goes wrong costs one warning, then offline runs, then silence.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ditexp.files import atomic, digest
from ditexp.report.table import Table
from ditexp.tracker import service
from ditexp.tracker.views import show_cell, show_report
from ditexp.tracker.workspace import can_save_workspace, save_workspace

log = logging.getLogger(__name__)

MODES = ("auto", "online", "offline")
TAGS = ("model", "solver", "schedule", "guidance", "task")
FACTS = ("study", "sample_id", "num_samples", "command", "protocol", "provenance", "config")


class WandbTracker:
    """Logs to W&B under `entity`/`project`; everything local lies under `folder`.

    mode: online, offline, or auto: what WANDB_MODE or W&B's settings say, and offline if nobody is logged in.
    Raises ValueError for another mode.
    """

    def __init__(
        self,
        *,
        project: str = "ditexp",
        entity: str | None = None,
        mode: str = "auto",
        folder: str | Path = "outputs/wandb",
    ):
        if mode not in MODES:
            raise ValueError(f"unknown W&B mode '{mode}'; choices: {', '.join(MODES)}")
        self.project = project
        self.entity = entity
        self.mode = mode
        self.folder = Path(folder).absolute()
        self._where = ""  # where the latest run can be seen
        self._online_entity = ""  # who owns it, if it is online

    def log_cell(self, result: dict) -> None:
        settings = result["settings"]
        self._log(
            lambda run: show_cell(run, result),
            id=result["id"],
            status=result["status"],
            name="-".join(str(settings[name]) for name in ("solver", "steps", "guidance") if settings.get(name)),
            group=result.get("study"),
            job_type="sample",
            tags=[f"{name}:{settings[name]}"[:64] for name in TAGS if name in settings],
            config=settings | {name: result[name] for name in FACTS if name in result},
        )

    def log_report(self, study: str, results: Sequence[dict], table: Table, paths: Mapping[str, Path | None]) -> None:
        cells = sorted((result["id"], result["status"]) for result in results)
        self._log(
            lambda run: show_report(run, results, table, paths),
            id="report-" + digest([study, cells]),
            status="done",
            name=f"report-{study}",
            group=study,
            job_type="report",
            tags=[],
            config={"study": study, "cells": [id for id, _ in cells]},
        )
        if self._online_entity and service.works() and can_save_workspace():
            self._save_workspace(table)

    def close(self) -> None:
        """Say where the runs are and stop the wandb service."""
        if self._where:
            log.info(self._where)
        if "wandb" in sys.modules and service.works():
            service.stop_service()  # left to the exit of the process, a service that died would print a traceback

    def _log(self, show: Callable, *, status: str, **run) -> None:
        service.survive(lambda is_online: self._write_run(show, status=status, is_online=is_online, **run))

    def _write_run(self, show: Callable, *, status: str, is_online: bool, id: str, **run) -> None:
        # By default wandb keeps caches, logs and staged files in the home directory. Its service prints pages
        # of messages where it cannot, so it is better to meet an unwritable folder here.
        for name in ("cache", "data"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            os.environ.setdefault(f"WANDB_{name.upper()}_DIR", str(self.folder / name))
        import wandb

        mode = self._resolve_mode(wandb) if is_online else "offline"
        if mode == "disabled":
            return
        marker = self._marker(mode, f"{id}.{status}")
        if marker.exists():
            return
        # The marker is opened first: in a folder that cannot be written wandb would turn to /tmp unasked.
        with atomic(marker) as part:
            part.touch()
            # Not a `with` block: it would print the traceback of whatever goes wrong inside.
            session = wandb.init(
                id=id,
                project=self.project,
                entity=self.entity,
                dir=self.folder,
                mode=mode,
                resume="allow",
                reinit="create_new",
                settings=service.settings_of_run(),
                **run,
            )
            show(session)
            session.finish(exit_code=0 if status == "done" else 1)
        if mode == "offline":
            self._online_entity = ""
            self._where = f"W&B runs are offline; upload them with: wandb sync {self.folder}/wandb/offline-run-*"
        else:
            self._online_entity = session.entity
            self._where = f"W&B: {session.project_url}"

    def _save_workspace(self, table: Table) -> None:
        """Once for each project, so that what a person has made of it since stays."""

        def save() -> None:
            log.info("W&B: saved a workspace: %s", save_workspace(self._online_entity, self.project, table))

        marker = self._marker("online", "workspace")
        try:
            if not marker.exists():
                service.in_time(save, 4 * service.REQUEST_TIMEOUT)
                marker.touch()
        except Exception as error:
            log.warning("W&B: the workspace was not saved, the next report tries again: %s", service.reason_of(error))

    def _marker(self, mode: str, name: str) -> Path:
        """A file that tells that something was logged."""
        return self.folder / "logged" / (self.entity or "default") / self.project / mode / name

    def _resolve_mode(self, wandb) -> str:
        """online, offline or disabled, found out without asking anybody or anything on the network."""
        wanted = {} if self.mode == "auto" else {"mode": self.mode}
        mode = wandb.setup(service.settings_of_process(**wanted)).settings.mode
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            if self.mode == "online":
                raise RuntimeError("not logged in: run `wandb login`, or set tracker.mode=offline")
            mode = "offline"
        return mode
