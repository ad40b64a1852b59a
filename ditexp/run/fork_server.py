"""Imported in the process that workers are forked from.

Where that lacks processes, files or memory it ends, and its parent tells so in a line: no traceback need be before it.
"""

from __future__ import annotations

import os
import sys


def hook(kind: type[BaseException], error: BaseException, traceback) -> None:
    if not isinstance(error, OSError | MemoryError | AssertionError) or os.environ.get("DITEXP_DEBUG") == "1":
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = hook
