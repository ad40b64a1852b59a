"""Files that are complete or absent, and the hashes that name and verify them."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; when the body ends well, sync it and rename it to `path`.

    The name holds host and process, so that writers never share one and `sweep` can tell which are abandoned.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
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


def sweep(folder: Path) -> None:
    """Remove temporary files that processes of this host left behind when they were killed."""
    host = socket.gethostname()
    for temporary in folder.glob(f".*.{host}.*.tmp"):
        if not process_exists(int(temporary.name.split(".")[-2])):
            temporary.unlink(missing_ok=True)


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def digest(facts) -> str:
    """16 hexadecimal digits of the sha256 of JSON-able facts, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
