"""Points at which a command waits or dies by itself, so that a test meets it there, however fast the machine is.

The functions without an underscore give patches for `commands.start`.
"""

from __future__ import annotations

import os
import pkgutil
import signal
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import Any

FOREVER = 600  # seconds: a test that fails leaves no process for longer


def apply(patches: dict[str, Any]) -> None:
    """Set values by names as ditexp.samples.claims.EXPIRY."""
    for name, value in patches.items():
        of, _, attribute = name.rpartition(".")
        setattr(pkgutil.resolve_name(of), attribute, value)


def as_it_writes(part: str, *, in_place_of: Path | None = None) -> dict[str, Any]:
    """The command writes a file with this part in its name, and is never done: the temporary file stays.

    in_place_of: a file that has to be there, so that the command writes its first version.
    """
    return {"ditexp.files.atomic._sync": partial(_sync_forever, part, in_place_of)}


def with_blocks(samples: Path, count: int, *, files: str = "0*.json", until: Path | None = None) -> dict[str, Any]:
    """The command waits once so many blocks are there, until a file is; its workers complete those that they hold.

    files: of blocks. Two workers hold four blocks at most, and may have been given two more.
    """
    return {"ditexp.run.block_queue.wait": partial(_wait_with_blocks, samples, count, files, until)}


def until_another_claims(samples: Path) -> dict[str, Any]:
    """The command, of one worker, makes its first block and no other until another command has claimed one, too."""
    return {"ditexp.run.block_queue.wait": partial(_wait_for_claims, samples)}


def with_idle_workers() -> dict[str, Any]:
    """The command claims blocks that its workers never make."""
    return {"ditexp.run.workers.serve": _serve_nothing}


def with_dying_workers(name: str, times: int, marks: Path) -> dict[str, Any]:
    """The first workers to call a function die by SIGKILL. marks: a folder for a file for each death."""
    return {"ditexp.run.workers.serve": partial(_serve_dying, name, times, marks)}


def blocks_in(samples: Path, files: str = "0*.json") -> list[Path]:
    return list(samples.rglob(files))


def wait_for(condition: Callable[[], Any], command: Any) -> None:
    """Until a condition holds that a command leads to, which must not end before. command: of `commands.start`."""
    while not condition():
        assert command.process.is_alive(), command.output
        time.sleep(0.005)


def _sync_forever(part: str, in_place_of: Path | None, path: Path) -> None:
    if part in path.name and (in_place_of is None or in_place_of.exists()):
        time.sleep(FOREVER)


def _wait_with_blocks(samples: Path, count: int, files: str, until: Path | None, *arguments, **options) -> list:
    if len(blocks_in(samples, files)) >= count:
        _pause(lambda: until is not None and until.exists())
    return connection.wait(*arguments, **options)


def _wait_for_claims(samples: Path, *arguments, **options) -> list:
    """A claim is released after its block is there, so nothing that is claimed or there ever seems to be neither."""
    _pause(lambda: len({path.stem for files in ("0*.claim", "0*.json") for path in blocks_in(samples, files)}) > 1)
    return connection.wait(*arguments, **options)


def _pause(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + FOREVER
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


def _serve_nothing(link: connection.Connection, device: object) -> None:
    try:
        while True:
            link.recv()
    except EOFError:  # the parent is gone
        pass


def _serve_dying(name: str, times: int, marks: Path, *arguments) -> None:
    from ditexp.run.worker_process import serve

    original = pkgutil.resolve_name(name)

    def dying(*given, **options):
        for number in range(times):
            try:
                (marks / str(number)).touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*given, **options)

    apply({name: dying})
    serve(*arguments)
