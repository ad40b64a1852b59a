"""Names of processes, unique over hosts and time, which mark the files of each."""

from __future__ import annotations

import functools
import os
import re
import socket
from contextlib import suppress

PROCESS = re.compile(r"([^\0\n]+~[0-9]{1,20})~([0-9]{1,10})~([0-9]{1,20})")  # host, number, start: see `this_process`


@functools.cache
def host() -> str:
    """This machine's name; a container with process numbers of its own counts as another machine."""
    with suppress(OSError):
        return f"{socket.gethostname()}~{os.stat('/proc/self/ns/pid').st_ino}"
    return f"{socket.gethostname()}~0"


def this_process() -> str:
    """A name that no other process has or ever had, on any host."""
    return f"{host()}~{os.getpid()}~{start_of(os.getpid())}"


def is_running(process: str) -> bool | None:
    """Whether the process of this name still runs; None for a process of another host, which can't be known here."""
    match = PROCESS.fullmatch(process)
    return start_of(int(match[2])) == match[3] if match and match[1] == host() else None


def start_of(pid: int) -> str | None:
    """When a process of this host started (kernel ticks), unlike a later one of its number. None: it ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            state, *fields = file.read().rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    except (FileNotFoundError, ProcessLookupError):
        if os.path.exists("/proc/self/stat"):
            return None
    try:  # without /proc, only the number is known
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "0"
