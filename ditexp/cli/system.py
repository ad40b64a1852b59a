"""What every command needs from the system: text in UTF-8, a folder for temporary files, short paths for sockets.

And of Python: few searches for garbage.
"""

from __future__ import annotations

import atexit
import codecs
import gc
import locale
import multiprocessing.util
import os
import sys
import tempfile
from pathlib import Path

from ditexp.checks import ConfigError
from ditexp.terminal.notices import notice

MAX_SOCKET_PATH = 103  # bytes: 107 on Linux, 103 on macOS
NAMES = "/pymp-xxxxxxxx/listener-xxxxxxxx"  # what multiprocessing adds to the folder
SHORT = ("/tmp", "/var/tmp", "/dev/shm")
NEW_OBJECTS = 50_000  # between two searches for garbage; Python's own number is 700


def settle_temporary_folder() -> None:
    """Find a folder for temporary files, and one whose path is short enough for the sockets of workers.

    Where the folder that TMPDIR names cannot be used, a notice says which one is. Raises ConfigError if there is none.
    """
    given = os.environ.get("TMPDIR")
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:
        raise ConfigError("no folder for temporary files can be written: set TMPDIR=... to one that can") from None
    if given and os.path.abspath(given) != os.path.abspath(folder):
        notice(f"TMPDIR={given} is not a folder that can be written: temporary files go to {folder}")
        os.environ["TMPDIR"] = folder  # for the programs that this one starts
    if not leaves_room(folder):
        short = next((place for place in SHORT if Path(place).is_dir() and os.access(place, os.W_OK | os.X_OK)), None)
        if short is None:
            raise ConfigError(
                f"TMPDIR={folder} is too long for a socket's path: set it to a folder with a shorter path"
            )
        os.environ.setdefault("RAY_TMPDIR", short)
        try:
            tempfile.tempdir = short
            multiprocessing.util.get_temp_dir()  # it keeps what it makes now
        finally:
            tempfile.tempdir = folder


def require_utf_8() -> None:
    """Raise ConfigError where Python reads and writes files in another encoding, which cannot hold every report."""
    encoding = locale.getpreferredencoding(False)
    if codecs.lookup(encoding).name != "utf-8":
        raise ConfigError(f"this locale encodes text as {encoding}, not UTF-8: set PYTHONUTF8=1 in the shell")


def leaves_room(folder: str) -> bool:
    return len(os.fsencode(os.path.abspath(folder) + NAMES)) <= MAX_SOCKET_PATH


def search_for_garbage_less_often() -> None:
    """Have Python search less often for objects that refer to each other alone, and not at all when it ends.

    The searches took a third of the time of a sweep that is all there already: imports and composing make millions of
    objects that stay.
    """
    gc.set_threshold(NEW_OBJECTS)
    atexit.register(keep_all_objects)


def keep_all_objects() -> None:
    """Leave out the search at the end, unless torch's compiler was used: Triton reports what is left then as leaks."""
    if "triton" not in sys.modules:
        gc.freeze()
