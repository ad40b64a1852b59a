"""Run ditexp's commands in processes of their own, forked from one that has imported torch already."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import time
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

from ditexp.run import fork_server
from tests.helpers import holds

context = multiprocessing.get_context("forkserver")
# What commands import late is slow too: an optimizer takes torch._dynamo, a report matplotlib. The list is also that of
# runs in the tests' own process, since whichever starts the server first decides what it has imported.
fork_server.PRELOAD[:] = [
    *("ditexp.run.sweep", "ditexp.run.worker_process", "ditexp.train.training", "ditexp.evaluate.scoring"),
    *("ditexp.optimize.finding", "torch._dynamo", "matplotlib.figure", "pandas", "scipy.stats"),
    "tests.helpers.registered",
]
DIFFUSERS = "diffusers.models.autoencoders.autoencoder_kl"  # five seconds, which many slow tests need
context.set_forkserver_preload(fork_server.PRELOAD)


@dataclass
class Command:
    process: multiprocessing.Process
    log: Path

    def wait(self) -> Command:
        self.process.join()
        return self

    @property
    def code(self) -> int:
        return self.process.exitcode

    @property
    def output(self) -> str:
        """stdout and stderr together."""
        return self.log.read_text()

    @property
    def complaints(self) -> list[str]:
        return [line.removeprefix("ditexp: ") for line in self.output.splitlines() if line.startswith("ditexp: ")]


def start(
    log: Path,
    module: str,
    *arguments: str,
    environment: dict | None = None,
    patches: dict | None = None,
    folder: Path | None = None,
) -> Command:
    """Begin `python -m <module> <arguments>` in `folder`; patches: see `holds.apply`."""
    given = (log, module, arguments, environment or {}, patches or {}, folder or Path.cwd())
    process = context.Process(target=run_module, args=given)
    process.start()
    return Command(process, log)


def run_module(log: Path, module: str, arguments: list[str], environment: dict, patches: dict, folder: Path) -> None:
    os.setpgid(0, 0)
    # A command's workers are forked from the server that it was forked from: a server of its own would have to
    # import torch again, several seconds a command. (tests/test_faults.py has commands that are not so favoured.)
    forkserver.ensure_running = forkserver._forkserver.ensure_running = lambda: None
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update({"WANDB_ERROR_REPORTING": "false", "COLUMNS": "200", **environment})
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    holds.apply(patches)
    sys.argv = [f"{module}.py", *arguments]
    importlib.import_module(f"{module}.__main__").main()


def unused_name(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{time.monotonic_ns()}.log"
    log.touch()
    return log
