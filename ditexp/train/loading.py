"""Errors of the processes that load training images, in one plain line."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ditexp.cli.shortage import SHARED_MEMORY, chain


def plain_errors(batches: Iterable[Any], *, workers: int) -> Iterator[Any]:
    """A loader's batches; an error of its processes becomes one plain line, or names what the machine ran out of."""
    try:
        yield from batches
    except (ValueError, RuntimeError, OSError) as error:
        if workers and (short := shortage_of_loading(error, workers)):
            raise short from None
        if "DataLoader worker process" not in str(error):
            raise
        kind = ValueError if isinstance(error, ValueError) else RuntimeError
        raise kind(str(error).strip().splitlines()[-1].removeprefix(f"{kind.__name__}: ")) from error


def shortage_of_loading(error: Exception, workers: int) -> Exception | None:
    """What loading processes ran out of, by the text of torch's error; None if the text names nothing."""
    text = "\n".join(map(str, chain(error)))
    if re.search("Bus error|shared memory|No space left on device", text):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), SHARED_MEMORY)
    if "Too many open files" in text or "items of ancdata" in text:
        return OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    if "killed by signal: Killed" in text:
        return RuntimeError(
            "a process that loads images was killed by SIGKILL: most likely the machine is out of memory; choose fewer "
            f"than workers={workers}, or a smaller batch_size"
        )
    return None
