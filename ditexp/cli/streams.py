"""Standard output and error of a command, which must outlive whoever reads them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def without_readers() -> Iterator[None]:
    """Within, what nobody reads any more (`| head`), or ever could (`>&-`), is no error: it goes nowhere."""
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
    """Open a standard stream that is closed, or the next file would get its number, and what is printed."""
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)


def lasting(stream: TextIO | None) -> TextIO:
    """A stream to the same place that takes a closed pipe for an open one; one without a place stays as it is."""
    if stream is None:
        return open(os.devnull, "w")
    try:
        number = stream.fileno()
    except OSError:
        return stream
    stream.flush()
    buffered = io.BufferedWriter(Pipe(number, "w", closefd=False))
    # What its encoding doesn't have is shown as numbers, as on stderr, in place of an error.
    return io.TextIOWrapper(buffered, stream.encoding, "backslashreplace", line_buffering=stream.line_buffering)


class Pipe(io.FileIO):
    """A file that goes nowhere once its reader has left."""

    def write(self, data) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)
