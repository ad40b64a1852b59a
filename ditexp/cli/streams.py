"""Standard output and error of a command: a reader that leaves early, as `| head` does, does not end the command."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@contextmanager
def without_readers() -> Generator[None]:
    """Within, output that nobody reads (any more: `| head`; at all: `>&-`) is discarded without an error."""
    for number in (0, 1, 2):
        occupy(number)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = lasting(sys.stdout), lasting(sys.stderr)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def occupy(number: int) -> None:
    """Open a standard stream that is closed. Otherwise the next file gets its number, and with it what is printed."""
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)


def lasting(stream: TextIO | None) -> TextIO:
    """A stream to the same file descriptor that survives a closed pipe; one without a descriptor stays as it is."""
    if stream is None:
        return open(os.devnull, "w")
    try:
        number = stream.fileno()
    except OSError:
        return stream
    stream.flush()
    buffered = io.BufferedWriter(Pipe(number, "w", closefd=False))
    # Characters that the encoding lacks are shown as escapes, as on stderr, instead of raising an error.
    return io.TextIOWrapper(buffered, stream.encoding, "backslashreplace", line_buffering=bool(stream.line_buffering))


class Pipe(io.FileIO):
    """A file that discards what is written once its reader has left."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes
