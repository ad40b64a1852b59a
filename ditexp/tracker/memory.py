"""What has been logged where, so that a command that runs again logs only what W&B lacks.

`<run id>.<status>.jsonl` has a line for each place that has the run: {"server", "entity", "project", "run"}, or
"folder" in place of "run" for files on this disk, whose server is "". Lines are only ever added; one that was cut
counts for nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


class Record:
    """The lines of an open file."""

    def __init__(self, file: TextIO):
        self._file = file
        file.seek(0)
        self._lines = list(readable(file))

    def find(self, **facts) -> dict | None:
        """The latest line with these facts."""
        found = [line for line in self._lines if line.items() >= facts.items()]
        return found[-1] if found else None

    def add(self, **facts) -> None:
        self._lines.append(facts)
        self._file.write(f"\n{json.dumps(facts)}\n")  # the line before may have been cut
        self._file.flush()
        os.fsync(self._file.fileno())


def readable(lines: Iterator[str]) -> Iterator[dict]:
    for line in lines:
        try:
            facts = json.loads(line)
        except ValueError:
            continue
        if isinstance(facts, dict):
            yield facts


@contextmanager
def opened(path: Path) -> Iterator[Record | None]:
    """The record at `path`, for this process alone until the end of the block; None if another one has it.

    Raises OSError where it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the process ends, however it ends
        except BlockingIOError:
            yield None
            return
        except OSError:
            pass  # a file system without locks: two processes at once may log a run twice
        yield Record(file)
