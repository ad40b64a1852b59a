"""The process that workers are forked from. It imports torch once for all of them; unlike a plain fork, it allows CUDA.

It is started before this process imports torch itself, so that both do so at the same time.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from types import ModuleType

PRELOAD = ["ditexp.run.fork_server_process", "ditexp.run.worker_process"]


def start() -> None:
    """Start it, if it does not run, without waiting. If that fails, starting a worker fails, too, and says so."""
    forkserver.set_forkserver_preload(PRELOAD)
    with suppress(OSError), without_main():
        forkserver.ensure_running()


@contextmanager
def without_main() -> Generator[None]:
    """Processes that start here do not import the script that runs, which would run it again in each of them."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
