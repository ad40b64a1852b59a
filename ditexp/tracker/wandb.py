"""Weights & Biases as a view of our results: a run for each cell and one for each report.

Names that stay the same, for panels and queries:
    config   the cell's settings by their own names (`solver`, `steps`, ...); `study`, `sample_id`,
             `num_samples`, `command`, `protocol`, `provenance`; the whole Hydra config under `config`
    summary  `<feature network>/<metric>` (`inception/fid`, `digits/recall`); `nfe`, `forwards`,
             `seconds_per_image`, `images_per_second`, `peak_memory_mb`; `error` of a failed cell
    media    `samples` of a cell, `film` where its task makes one; `table`, `fid_vs_forwards`, `quality_vs_cost`,
             `side_by_side` of a report

W&B never fails a run: whatever goes wrong costs one warning, then offline runs, then silence.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ditexp.files import atomic, digest
from ditexp.report.columns import feature_of, is_finite
from ditexp.report.table import Table

log = logging.getLogger(__name__)

MODES = ("auto", "online", "offline")
INIT_TIMEOUT, FINISH_TIMEOUT = 20, 15  # seconds
TIME_LIMIT = INIT_TIMEOUT + FINISH_TIMEOUT + 10  # of everything together
TAGS = ("model", "solver", "schedule", "guidance", "task")

# What is left to try, for the whole process: each failure takes one away. A second offline attempt is worth
# making, since a new wandb service succeeds where the old one was killed.
_attempts = ["online", "offline", "offline"]


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

    def log_cell(self, result: dict) -> None:
        settings = result["settings"]

        def write(run) -> None:
            network = feature_of(result)
            metrics = {f"{network}/{name}": value for name, value in result.get("metrics", {}).items()}
            costs = {name: value for name, value in result.get("cost", {}).items() if name != "steps"}
            run.summary.update(metrics | costs | {"status": result["status"]})
            if "error" in result:
                run.summary["error"] = result["error"]
            grid = result.get("grid")
            log_pictures(run, {"samples": grid, "film": grid and Path(grid).with_suffix(".gif")})

        facts = ("study", "sample_id", "num_samples", "command", "protocol", "provenance", "config")
        self._log(
            write,
            id=result["id"],
            status=result["status"],
            name="-".join(str(settings[name]) for name in ("solver", "steps", "guidance") if settings.get(name)),
            group=result.get("study"),
            job_type="sample",
            tags=[f"{name}:{settings[name]}"[:64] for name in TAGS if name in settings],
            config=settings | {name: result[name] for name in facts if name in result},
        )

    def log_report(self, study: str, results: Sequence[dict], table: Table, paths: Mapping[str, Path | None]) -> None:
        def write(run) -> None:
            import wandb

            columns = table.columns
            rows = [list(row) for row in zip(*(column.values for column in columns))]
            run.log({"table": wandb.Table([column.name for column in columns], rows, allow_mixed_types=True)})
            forwards = table.column("forwards")
            if table.fid and forwards:
                points = [list(p) for p in zip(forwards.values, table.fid.values) if all(map(is_finite, p))]
                data = wandb.Table(["forwards", "fid"], points)
                title = f"{table.fid.header} against network evaluations per image"
                run.log({"fid_vs_forwards": wandb.plot.scatter(data, "forwards", "fid", title=title)})
            pictures = {"quality_vs_cost": "quality_vs_cost.png", "side_by_side": "samples.png"}
            log_pictures(run, {name: paths.get(file) for name, file in pictures.items()})

        cells = sorted((result["id"], result["status"]) for result in results)
        self._log(
            write,
            id="report-" + digest([study, cells]),
            status="done",
            name=f"report-{study}",
            group=study,
            job_type="report",
            tags=[],
            config={"study": study, "cells": [id for id, _ in cells]},
        )

    def close(self) -> None:
        """Say where the runs are and stop the wandb service."""
        if self._where:
            log.info(self._where)
        if "wandb" in sys.modules and _attempts:
            stop_service()  # left to the exit of the process, a service that died would print a traceback

    def _log(self, write: Callable, *, status: str, **run) -> None:
        """Write one run the best way that still works."""
        while _attempts:
            try:
                is_online = _attempts[0] == "online"
                return in_time(lambda: self._write_run(write, status=status, is_online=is_online, **run))  # noqa: B023
            except Exception as error:
                if len(_attempts) == 3:
                    reason = " ".join(str(error).split())[:200] or type(error).__name__
                    log.warning("W&B: going on offline or without it, no result is lost: %s", reason)
                if isinstance(error, TimeoutError):
                    _attempts.clear()  # it may hold its locks for ever: never touch it again
                else:
                    _attempts.pop(0)
                    stop_service()

    def _write_run(self, write: Callable, *, status: str, is_online: bool, id: str, **run) -> None:
        # By default wandb keeps caches, logs and staged files in the home directory. Its service prints pages
        # of messages where it cannot, so it is better to meet an unwritable folder here.
        for name in ("cache", "data"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            os.environ.setdefault(f"WANDB_{name.upper()}_DIR", str(self.folder / name))
        import wandb

        mode = self._resolve_mode(wandb) if is_online else "offline"
        if mode == "disabled":
            return
        marker = self.folder / "logged" / (self.entity or "default") / self.project / mode / f"{id}.{status}"
        if marker.exists():
            return
        settings = wandb.Settings(
            silent=True,
            console="off",
            init_timeout=INIT_TIMEOUT,
            finish_timeout=FINISH_TIMEOUT,
            finish_timeout_raises=True,
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
        )
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
                settings=settings,
                **run,
            )
            write(session)
            session.finish(exit_code=0 if status == "done" else 1)
        if mode == "offline":
            self._where = f"W&B runs are offline; upload them with: wandb sync {self.folder}/wandb/offline-run-*"
        else:
            self._where = f"W&B: {session.project_url}"

    def _resolve_mode(self, wandb) -> str:
        """online, offline or disabled, found out without asking anybody or anything on the network."""
        wanted = {} if self.mode == "auto" else {"mode": self.mode}
        mode = wandb.setup(wandb.Settings(silent=True, **wanted)).settings.mode
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            if self.mode == "online":
                raise RuntimeError("not logged in: run `wandb login`, or set tracker.mode=offline")
            mode = "offline"
        return mode


def in_time(function: Callable[[], None]) -> None:
    """Run what may hang: wandb 0.31 deadlocks on a lock of its own when its service dies while it starts.

    Raises what the function raises, or TimeoutError.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(TIME_LIMIT)
    if thread.is_alive():
        raise TimeoutError(f"W&B did not answer in {TIME_LIMIT} s")
    if errors:
        raise errors[0]


def stop_service() -> None:
    def teardown() -> None:
        import wandb

        wandb.teardown(exit_code=1)  # of runs that are still open: those that failed half-way

    with suppress(Exception, SystemExit):  # it exits with the code of a service that was killed
        in_time(teardown)


def log_pictures(run, paths: Mapping[str, str | Path | None]) -> None:
    """Of those that exist, a .gif as a film."""
    import wandb

    files = {name: Path(path) for name, path in paths.items() if path and Path(path).is_file()}
    if files:
        media = {".png": lambda path: wandb.Image(path), ".gif": lambda path: wandb.Video(path, format="gif")}
        run.log({name: media[file.suffix](str(file)) for name, file in files.items()})
