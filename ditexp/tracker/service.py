"""W&B's service and server, which may be unreachable, die or hang: nothing of it reaches the caller.

wandb tries for hours by itself. Here each step has a limit, and the first that fails ends what is online: what comes
after is written offline, in files that `wandb sync` uploads. What W&B refuses of one run is that run's alone.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

# Seconds: to begin a run, for a request beside it, and to upload what a finished run has left.
INIT_TIMEOUT, REQUEST_TIMEOUT, FINISH_TIMEOUT = 20, 5, 30
TIME_LIMIT = INIT_TIMEOUT + FINISH_TIMEOUT + 20  # of everything together
KILL_TIMEOUT = 5
WANDB_THREADS = ("NetStatThr", "ChkStopThr", "IntMsgThr")

# What is left to try, for the whole process: each failure takes one away. A second offline attempt is worth
# making, since a new wandb service succeeds where the old one was killed.
_attempts = ["online", "offline", "offline"]

# Runs that W&B refused one after another. After this many it is taken to refuse all.
_refused: list[str] = []
REFUSALS = 5

# How wandb's service logs what it has given up to upload.
GIVEN_UP = (
    "filestream: fatal error",
    "file transfer: upload",
    "runfiles: CreateRunFiles returned error",
    "sender: failed to log artifact",
)


class Stuck(Exception):
    """W&B keeps the thread that it was called from for ever."""


class Refused(Exception):
    """W&B doesn't take this run, or a part of it; others may be welcome."""


@functools.cache
def silence_threads() -> None:
    """Keep the tracebacks of wandb's own threads from the terminal: they ask a service that we have stopped."""
    tell = threading.excepthook

    def hook(arguments) -> None:
        if arguments.thread is None or arguments.thread.name not in WANDB_THREADS:
            tell(arguments)

    threading.excepthook = hook


def works() -> bool:
    return bool(_attempts)


def survive(write: Callable[[bool], None], name: str) -> None:
    """Call write(is_online) the best way that still works; the first failure of the process costs one warning.

    name: the run's, for the warning that it costs if it alone is refused.
    """
    silence_threads()
    while _attempts:
        is_online = _attempts[0] == "online"
        try:
            in_time(lambda: write(is_online), TIME_LIMIT)  # noqa: B023
            return _refused.clear()
        except Refused as error:
            return keep(write, name, error, is_online=is_online)
        except Exception as error:
            if len(_attempts) == 3:
                log.warning("W&B: going on offline or without it, no result is lost: %s", reason_of(error))
            if isinstance(error, Stuck):
                _attempts.clear()  # it may hold its locks: never touch it again
            else:
                _attempts.pop(0)
                stop_service()


def keep(write: Callable[[bool], None], name: str, reason: Refused, *, is_online: bool) -> None:
    """Write a run that W&B refuses offline, and say so; too many one after another end what is online."""
    if not is_online:
        return log.warning("W&B: %s was not written offline: %s", name, reason_of(reason))
    log.warning("W&B: %s stays offline, and the same command tries it again: %s", name, reason_of(reason))
    stop_service()  # to it the run has begun, and cannot begin again
    try:
        in_time(lambda: write(False), TIME_LIMIT)
    except Exception as error:
        log.warning("W&B: %s was not written offline either: %s", name, reason_of(error))
    _refused.append(name)
    if len(_refused) >= REFUSALS:
        _attempts.pop(0)
        log.warning("W&B: going on offline, %d runs were refused one after another", len(_refused))


def reason_of(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def in_time(function: Callable[[], None], limit: float) -> None:
    """Run what may hang, and kill W&B's service if it does, which ends the wait for it.

    Raises what the function raises; TimeoutError after `limit` seconds; Stuck if it doesn't end even then: wandb 0.31
    deadlocks on a lock of its own when its service dies while it starts.
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
        for pid in service_processes():
            os.kill(pid, signal.SIGKILL)
        thread.join(KILL_TIMEOUT)
        raise (Stuck if thread.is_alive() else TimeoutError)(f"W&B did not answer in {limit:g} s")
    if errors:
        raise errors[0]


def service_processes() -> list[int]:
    """The wandb-core processes that this process started, on systems with /proc."""
    children = [pid for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()]
    return [int(pid) for pid in children if "wandb-core" in Path(f"/proc/{pid}/comm").read_text()]


def stop_service() -> None:
    def teardown() -> None:
        import wandb

        wandb.teardown(exit_code=1)  # of runs that are still open: those that failed half-way

    with suppress(Exception, SystemExit):  # it exits with the code of a service that was killed
        in_time(teardown, FINISH_TIMEOUT + 10)


def settings_of_process(**more):
    """What wandb asks beside a run, such as an artifact's type, holds us up, so that it shall give up soon."""
    import wandb

    limits = {"x_graphql_timeout_seconds": REQUEST_TIMEOUT, "x_graphql_retry_max": 1}
    return wandb.Settings(silent=True, x_graphql_retry_wait_max_seconds=1, **limits, **more)


def errors_of(folder: Path) -> Iterator[dict]:
    """What wandb's service has logged as errors in a run's folder: {"msg", "status" (of HTTP, if it is one), ...}."""
    with suppress(OSError), open(folder / "logs" / "debug-internal.log", errors="replace") as file:
        for line in file:
            if '"level":"ERROR' in line:
                with suppress(ValueError):
                    yield json.loads(line)


def given_up(folder: Path) -> str:
    """The first thing of a run that wandb could not upload, about which it says nothing else, or ""."""
    found = (message for entry in errors_of(folder) if (message := entry.get("msg", "")).startswith(GIVEN_UP))
    return " ".join(next(found, "").split())[:150]


def settings_of_run(init_timeout: float):
    """A run's own requests are tried as often as there is time for: wandb says nothing of one that it gave up."""
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        finish_timeout=FINISH_TIMEOUT,
        finish_timeout_raises=True,
        x_graphql_timeout_seconds=FINISH_TIMEOUT,
        x_graphql_retry_max=100,
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        init_timeout=init_timeout,
    )
