from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests import commands

# One thread a process: two torch processes of two threads each on two cores are several times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def logging_as_before():
    """A command run in this process leaves a handler on the stream of its own test, which is closed by the next."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def ditexp(tmp_path) -> Callable[..., commands.Command]:
    """ditexp("-m", "solver=euler") runs the main command with its outputs in tmp_path, without W&B."""

    def run(*arguments: str, module: str = "ditexp.run", **options) -> commands.Command:
        flags = [argument for argument in arguments if argument.startswith("-")]
        rest = [argument for argument in arguments if not argument.startswith("-")]
        defaults = [f"outputs={tmp_path / 'outputs'}", "tracker=none"] if module == "ditexp.run" else []
        log = commands.unused_name(tmp_path / "logs")
        return commands.start(log, module, *flags, *defaults, *rest, **options).wait()

    return run


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything below a folder that must not differ between two runs: blocks, not manifests with their times."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.npz"))}
