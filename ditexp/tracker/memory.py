"""What was logged where, so that a command that runs again logs only what W&B does not have yet.

`<run id>.<status>.jsonl` has a line for each place that has the run: {"server", "entity", "project", "run"} or, for
files on this disk, "folder" instead of "run" and an empty server. Lines are only appended; incomplete ones are ignored.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


class Record:
    """The lines of an open file."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        file.seek(0)
        self._lines = list(readable(file))

    def find(self, **facts: str) -> dict[str, Any] | None:
        """The latest line with these facts."""
        found = [line for line in self._lines if line.items() >= facts.items()]
        return found[-1] if found else None

    def add(self, **facts: str) -> None:
        self._lines.append(facts)
        self._file.write(f"\n{json.dumps(facts)}\n")  # the line before may be incomplete
        self._file.flush()
        os.fsync(self._file.fileno())


def readable(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            facts = json.loads(line)
        except ValueError:
            continue
        if isinstance(facts, dict):
            yield facts


@contextmanager
def opened(path: Path) -> Generator[Record | None]:
    """The record at `path`, locked until the end of the block; None if another process has locked it.

    Raises OSError if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the process ends, even if it is killed
        except BlockingIOError:
            yield None
            return
        except OSError:
            pass  # the file system has no locks: two processes at the same time may log a run twice
        yield Record(file)
