"""Remembers hashes: in this process, and in an SQLite file that all of the user's processes share.

The file lies in $DITEXP_CACHE, by default ~/.cache/ditexp, since many output folders use the same images. It is only a
cache: where it is locked, damaged, full or read-only, files are hashed again.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

MAX_ROWS = 2**21  # of the database: about 250 MB
MAX_PARAMETERS = 500  # of one query; SQLite allows 999 or more
PATIENCE = 1.0  # seconds to wait for another process's lock


def key_of(*facts: object) -> bytes:
    """The key that a hash is remembered by: 16 bytes that depend on the facts and their order."""
    return hashlib.sha256("\0".join(map(str, facts)).encode(errors="surrogateescape")).digest()[:16]


class HashCache:
    """is_off: whether the database has failed in this process, which then uses its own memory alone."""

    def __init__(self) -> None:
        self.is_off = False
        self._known: dict[bytes, str] = {}

    def recall(self, keys: Sequence[bytes]) -> dict[bytes, str]:
        """What is remembered, by its key; keys without a value are left out."""
        if absent := [key for key in keys if key not in self._known]:
            self._known.update(self._use(lambda database: select(database, absent)) or {})
        return {key: self._known[key] for key in keys if key in self._known}

    def remember(self, found: Mapping[bytes, str], *, on_disk: bool) -> None:
        """on_disk: for other processes too."""
        self._known.update(found)
        if on_disk and found:
            self._use(lambda database: insert(database, found))

    def _use(self, function: Callable[[sqlite3.Connection], T]) -> T | None:
        """Call the function with a connection, in one transaction; None if there is no database.

        A connection lasts for one call, so that no fork inherits it.
        """
        if self.is_off:
            return None
        path = None
        try:
            path = database_path()
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.touch()  # SQLite would let only its owner write it, whatever the umask
            with closing(sqlite3.connect(path, timeout=PATIENCE)) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS hashes (key BLOB UNIQUE, value TEXT, checksum BLOB)")
                return function(database)
        except (OSError, RuntimeError, sqlite3.Error) as error:
            self.is_off = True
            if path and type(error) is sqlite3.DatabaseError:  # damaged: the next process makes a new one
                for name in (path, f"{path}-journal"):
                    with suppress(OSError):
                        os.unlink(name)
            return None


def database_path() -> Path:
    """Raises RuntimeError where the user has no home."""
    return cache_folder() / "hashes.sqlite"


def cache_folder() -> Path:
    """What all of the user's processes share. Raises RuntimeError where the user has no home."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "ditexp"
    return Path(os.environ.get("DITEXP_CACHE") or cache).expanduser()


def select(database: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, str]:
    rows = []
    for start in range(0, len(keys), MAX_PARAMETERS):
        some = keys[start : start + MAX_PARAMETERS]
        marks = ", ".join("?" * len(some))
        rows += database.execute(f"SELECT key, value, checksum FROM hashes WHERE key IN ({marks})", some)
    # A row that was silently corrupted has another checksum, and its file is hashed again.
    return {key: value for key, value, checksum in rows if checksum == key_of(key, value)}


def insert(database: sqlite3.Connection, found: Mapping[bytes, str]) -> None:
    rows = [(key, value, key_of(key, value)) for key, value in found.items()]
    database.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", rows)
    database.execute("DELETE FROM hashes WHERE rowid <= (SELECT max(rowid) FROM hashes) - ?", [MAX_ROWS])


CACHE = HashCache()  # of this process
