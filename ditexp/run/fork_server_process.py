"""Imported first in the process that workers are forked from: Ctrl-C is for its parent alone.

If it runs out of processes, open files or memory, it ends, and its parent reports that in one line. A traceback before
that line would only confuse.
"""

from __future__ import annotations

import os
import signal
import sys
from types import TracebackType


def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if not isinstance(error, OSError | MemoryError | AssertionError) or os.environ.get("DITEXP_DEBUG") == "1":
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = hook
signal.signal(signal.SIGINT, signal.SIG_IGN)
