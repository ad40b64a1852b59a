"""Calls W&B's service and server, which may be unreachable, die or hang, in the process beside a run.

Wandb itself retries for hours. Here each step has a time limit. If the server fails, all later runs are written
offline, to files that `wandb sync` uploads. If W&B refuses one run, others are not affected.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)


TRANSMIT = 5  # seconds between two uploads of what is new in a run


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds. init: to begin a run. probe: the same, after W&B has refused the id of a deleted run. request: for other
    requests. finish: to upload the rest of a run that is finished. run: for all steps of a run together. kill: for
    wandb to notice that its service is gone. crashed: to upload what is left when the sampling process is gone, which
    wandb does every TRANSMIT seconds. total: for the process beside, from then on.
    """

    init: float = 20
    probe: float = 8
    request: float = 5
    finish: float = 30
    run: float = 70
    kill: float = 5
    crashed: float = 12
    total: float = 600


limits = Limits()

# The attempts that remain for this process; each failure removes the first. Offline is tried twice, because a new wandb
# service may succeed after the old one was killed.
_attempts = ["online", "offline", "offline"]

# Runs that W&B refused in a row. After MAX_REFUSALS, no more are sent to it.
_refused: list[str] = []
MAX_REFUSALS = 5

# How messages in the log of wandb's service begin when it has given up an upload.
GIVEN_UP = (
    "filestream: fatal error",
    "file transfer: upload",
    "runfiles: CreateRunFiles returned error",
    "sender: failed to log artifact",
)


class Stuck(Exception):
    """W&B does not return, even after its service was killed."""


class Refused(Exception):
    """W&B does not accept this run, or a part of it; it may accept others."""


def works() -> bool:
    """Whether anything can still be written, online or offline."""
    return bool(_attempts)


def survive(write: Callable[[bool], None], name: str) -> None:
    """Call write(is_online), online or offline, whichever still works; warns only once per process.

    name: of the run, for a warning if W&B refuses this run.
    """
    while _attempts:
        is_online = _attempts[0] == "online"
        try:
            in_time(lambda: write(is_online), limits.run)  # noqa: B023
            return
        except Refused as error:
            write_refused(write, name, error, is_online=is_online)
            return
        except Exception as error:
            if len(_attempts) == 3:
                log.warning("W&B: continuing offline or without it, no result is lost: %s", summary_of(error))
            if isinstance(error, Stuck):
                _attempts.clear()  # it may hold locks, so it is never called again
            else:
                _attempts.pop(0)
                stop_service()


def write_refused(write: Callable[[bool], None], name: str, reason: Refused, *, is_online: bool) -> None:
    """Write a refused run offline, with a warning. After too many in a row, all later runs are written offline."""
    if not is_online:
        log.warning("W&B: %s was not written offline: %s", name, summary_of(reason))
        return
    log.warning("W&B: %s stays offline, and the same command tries it again: %s", name, summary_of(reason))
    stop_service()  # the run has begun there, and cannot begin again
    try:
        in_time(lambda: write(False), limits.run)
    except Exception as error:
        log.warning("W&B: %s was not written offline either: %s", name, summary_of(error))
    _refused.append(name)
    if len(_refused) >= MAX_REFUSALS:
        _attempts.pop(0)
        log.warning("W&B: continuing offline, since %d runs in a row were refused", len(_refused))


def accepted() -> None:
    """Note that W&B has accepted a run."""
    _refused.clear()


def summary_of(error: Exception) -> str:
    """The error's message in one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def in_time(function: Callable[[], None], limit: float) -> None:
    """Call a function that may hang; after `limit` seconds, kill W&B's service, which usually makes it return.

    Raises the function's errors, TimeoutError after the limit, or Stuck if it does not return even then: wandb 0.31
    deadlocks if its service dies during start-up.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit)
    if thread.is_alive():
        kill_service()
        thread.join(limits.kill)
        raise (Stuck if thread.is_alive() else TimeoutError)(f"W&B did not answer in {limit:g} s")
    if errors:
        raise errors[0]


def service_processes() -> list[int]:
    """The wandb-core processes that this process started, on systems with /proc."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if is_service_of(path, os.getpid())]


def is_service_of(process: Path, parent: int) -> bool:
    """Asks each process for its parent: the parent's own list of children misses those whose thread is just ending."""
    try:
        name, _, rest = (process / "stat").read_text().rpartition(")")  # 123 (wandb-core) S 45 ...
    except OSError:  # it has ended
        return False
    return "wandb-core" in name and int(rest.split()[1]) == parent


def kill_service() -> None:
    for pid in service_processes():
        os.kill(pid, signal.SIGKILL)


def stop_service() -> None:
    """Stop wandb's service, if it runs."""

    def teardown() -> None:
        import wandb

        wandb.teardown(exit_code=1)  # for runs that are still open, which have failed

    with suppress(Exception, SystemExit):  # wandb exits with the code of a service that was killed
        in_time(teardown, limits.finish + 10)


def settings_of_process(**more: Any) -> wandb.Settings:
    """For requests that belong to no run, such as for an artifact's type: they block, so they give up early."""
    import wandb

    return wandb.Settings(
        silent=True,
        x_graphql_timeout_seconds=limits.request,
        x_graphql_retry_max=1,
        x_graphql_retry_wait_max_seconds=1,
        **more,
    )


def settings_of_run(*, init_timeout: float, watched: int | None) -> wandb.Settings:
    """For a run's own requests, which are tried until the time is up: wandb does not report those that it gives up.

    watched: the process whose use of the machine W&B shows, with all that it has started; None for nothing of it.
    """
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        finish_timeout=limits.finish,
        finish_timeout_raises=True,
        x_graphql_timeout_seconds=limits.finish,
        x_graphql_retry_max=100,
        x_file_stream_transmit_interval=TRANSMIT,
        x_transaction_log_flush_interval=5,
        x_disable_stats=watched is None,
        x_stats_pid=watched or os.getpid(),
        x_stats_track_process_tree=True,
        init_timeout=init_timeout,
    )


def errors_of(folder: Path) -> Iterator[dict[str, Any]]:
    """The errors in the log of a run's folder: {"msg", "status" (of HTTP, if it is an answer), ...}."""
    with suppress(OSError), open(folder / "logs" / "debug-internal.log", errors="replace") as file:
        for line in file:
            if '"level":"ERROR' in line:
                with suppress(ValueError):
                    yield json.loads(line)


def given_up(folder: Path) -> str:
    """The log message of the first failed upload of a run; empty if all succeeded. Wandb reports it nowhere else."""
    found = (message for entry in errors_of(folder) if (message := entry.get("msg", "")).startswith(GIVEN_UP))
    return " ".join(next(found, "").split())[:150]
