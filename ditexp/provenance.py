"""What made a result: the command, the code, the machine."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ditexp

if TYPE_CHECKING:
    import torch


def provenance() -> dict[str, Any]:
    """{"command": str, "provenance": facts}, JSON-able."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    facts = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **code_version(), **machine(device)}
    return {"command": command(), "provenance": facts}


def command() -> str:
    """The command line of this process or, in a job on a cluster, of the process that submitted it."""
    return os.environ.get("DITEXP_COMMAND") or shlex.join([*program(), *sys.argv[1:]])


def program() -> list[str]:
    """The words before the arguments: ditexp run, python -m ditexp run, python -m ditexp.run, or python script.py."""
    module = vars(sys.modules["__main__"]).get("__spec__")  # of `python -m`
    started = ["python", "-m", module.name.removesuffix(".__main__")] if module else []
    if sys.argv[0].startswith("ditexp "):  # by `ditexp.__main__`, which has taken the subcommand off the arguments
        return [*started, *sys.argv[0].split()[1 if started else 0 :]]
    return started or ["python", *sys.argv[:1]]


def machine(device: torch.device) -> dict[str, Any]:
    """Host, device, and the versions that decide the last bits of a float."""
    import torch

    facts: dict[str, Any] = {
        "host": platform.node(),
        "device": device_name(device),
        "python": platform.python_version(),
    }
    facts |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    if device.type == "cuda":
        facts |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return facts


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    with suppress(OSError, StopIteration), open("/proc/cpuinfo") as file:
        model = next(line for line in file if line.startswith("model name"))
        return f"{model.partition(':')[2].strip()} ({os.cpu_count()} cores)"
    return platform.processor() or platform.machine()


@functools.cache
def code_version() -> dict[str, Any]:
    """ditexp's version and, in a git checkout, the commit and whether files differ from it."""

    def git(*args: str) -> str:
        folder = Path(__file__).resolve().parents[1]
        return subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    version: dict[str, Any] = {"ditexp": ditexp.__version__}
    try:
        if Path(git("rev-parse", "--show-toplevel")) == Path(__file__).resolve().parents[1]:
            version |= {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        pass  # no checkout, or no git
    return version
