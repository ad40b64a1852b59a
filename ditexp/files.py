"""Files that are complete or absent, the hashes that name and verify them, and whose they are."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ditexp.core import notice

PROCESS = re.compile(r"([^\0\n]+~[0-9]{1,20})~([0-9]{1,10})~([0-9]{1,20})")  # host, number, start: see `this_process`


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; when the body ends well, sync it and rename it to `path`.

    Its name tells the process, so that writers never share one and `remove_abandoned` knows which are abandoned.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{this_process()}.tmp")
    try:
        yield temporary
        temporary.chmod(0o644)  # safetensors lets only their owner read what it writes
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    descriptor = os.open(path.parent, os.O_RDONLY)  # the rename itself must survive a power cut
    os.fsync(descriptor)
    os.close(descriptor)


def make_way(path: Path) -> None:
    """Rename what lies where a file of ditexp's own is to be written and is none, such as a folder."""
    if path.exists() and not path.is_file():
        aside = path.with_name(f"{path.name}.aside-{time.time_ns()}")
        path.rename(aside)
        notice(f"{path} was no file: it is {aside.name} now")


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of this host's processes that were killed while they wrote."""
    for temporary in abandoned(folder):
        temporary.unlink(missing_ok=True)


def abandoned(folder: Path, *, deep: bool = False) -> Iterator[Path]:
    """Temporary files and folders of this host's processes that are gone; deep: in folders below, too."""
    for temporary in folder.glob(f"{'**/' if deep else ''}.*.{host()}~*.tmp"):
        process = temporary.name.removesuffix(".tmp")
        if is_running(process[process.rindex(f".{host()}~") + 1 :]) is False:
            yield temporary


@functools.cache
def host() -> str:
    """This machine; containers that number their processes by themselves count as machines of their own."""
    with suppress(OSError):
        return f"{socket.gethostname()}~{os.stat('/proc/self/ns/pid').st_ino}"
    return f"{socket.gethostname()}~0"


def this_process() -> str:
    """A name that no other process has or had, on any host."""
    return f"{host()}~{os.getpid()}~{start_of(os.getpid())}"


def is_running(process: str) -> bool | None:
    """Whether a process, by its name, still runs; None for another host's, which nobody can tell from here."""
    match = PROCESS.fullmatch(process)
    return start_of(int(match[2])) == match[3] if match and match[1] == host() else None


def start_of(pid: int) -> str | None:
    """When a process of this host was started (kernel ticks), which tells it from a later one of the same number."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            state, *fields = file.read().rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    except (FileNotFoundError, ProcessLookupError):
        if os.path.exists("/proc/self/stat"):
            return None
    try:  # no /proc on this system: the number alone has to do
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "0"


def free_space(path: Path) -> int:
    """Bytes free on the disk that will hold a path, which need not be there yet."""
    path = Path(path).absolute()
    return shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists())).free


def digest(facts) -> str:
    """16 hexadecimal digits of the sha256 of JSON-able facts, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
