"""What files contain: their sha256, computed once and remembered while they stay as they are.

A file is taken for unchanged while its path, device, inode, size, mtime and ctime are. No program can set a ctime, so
two files of one name, size and date are told apart. Two kinds are never trusted for long:

- a file that was changed less than SETTLED ago is hashed again, since a second change within one tick of the file
  system's clock would leave no trace (git calls it racily clean);
- a file whose ctime is its mtime in whole seconds is hashed again in each process: file systems that keep no time of
  change (squashfs, FAT, most of FUSE) show the one for the other.

Hashes are kept in an SQLite file of the user's, since the same images serve many output folders: in $DITEXP_CACHE, by
default ~/.cache/ditexp. It is a cache: where it is locked, damaged, full or read-only, files are hashed again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ditexp.files.reading import opened, too_large
from ditexp.terminal.progress import progress_bar

SETTLED = 2 * 10**9  # ns: the tick of FAT's clock, the coarsest there is
ROWS = 2**21  # of the database, at most: about 250 MB
SLICE = 4096  # files hashed before their hashes are kept
GROUP = 32  # files that a thread takes at once, at most
CHUNK = 2**20  # bytes read at once
THREADS = 8  # which wait for the disk more than they compute
MANY, LARGE = 2000, 2**28  # files and bytes that take long enough for a progress bar
PARAMETERS = 500  # of one query; SQLite takes 999 or more
PATIENCE = 1.0  # seconds to wait for another process's lock


class Stamp(NamedTuple):
    """What the system tells of a file without reading it."""

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def has_ctime(self) -> bool:
        return self.ctime_ns != self.mtime_ns or self.ctime_ns % 10**9 != 0

    @property
    def key(self) -> bytes:
        return _key(*self)


def stamp(path: Path | str) -> Stamp:
    """Raises OSError where there is none, ValueError for what is no regular file, whose reader might wait for ever."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is no regular file: replace or remove it")
    return _stamp(path, found)


def files_below(folder: Path | str) -> list[Path]:
    """All regular files below a folder, sorted; links to folders are followed, once each."""
    files, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        found = os.stat(place)
        if (found.st_dev, found.st_ino) in seen:
            folders.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        folders.sort()  # of two links to one folder, it is always the same that counts
        files += [path for name in names if (path := Path(place, name)).is_file()]
    return sorted(files)


def stamps_below(folder: Path | str) -> list[Stamp]:
    return [stamp(file) for file in files_below(folder)]


def sha256(path: Path | str) -> str:
    """The sha256 of a file. Raises OSError or ValueError if it cannot be read."""
    return hashes([path])[0]


def digest(facts) -> str:
    """16 hexadecimal digits of the sha256 of JSON-able facts, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def sha256_now(path: Path | str) -> str:
    """The sha256 of a file, hashed anew whatever is remembered of it."""
    with opened(path, "a file") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashes(paths: Sequence[Path | str], *, title: str = "", most: int | None = None) -> list[str]:
    """The sha256 of each file, with a bar where it takes long.

    most: bytes that a file may have. Raises OSError or ValueError if one cannot be read, or has more.
    """
    stamps = [stamp(path) for path in paths]
    if large := next((file for file in stamps if most is not None and file.size > most), None):
        raise too_large(large.path, "a file of this kind", large.size, most)
    keys = [file.key for file in stamps]
    known = _recall(keys)
    new = [file for file, key in zip(stamps, keys) if key not in known]
    hashed = iter(_hash_all(new, title or Path(paths[0]).name) if new else ())
    return [known[key] if key in known else next(hashed) for key in keys]


@contextmanager
def unchanged(path: Path | str) -> Iterator[str]:
    """Gives the sha256 of a file that is read meanwhile. Raises ValueError if it changed before the end."""
    before = sha256(path)
    yield before
    require(path, before)


def require(path: Path | str, expected: str) -> None:
    """Raise ValueError unless the file has this sha256: for after it was read."""
    if sha256(path) != expected:
        raise changed(path)


class Changed(ValueError):
    """Something is no longer what was hashed."""


def changed(what: Path | str) -> Changed:
    return Changed(f"{what} was changed while it was in use: run again when nothing writes to it")


def remembered(facts: str, folder: Path | str, before: Sequence[Stamp], make: Callable[[], str]) -> str:
    """What `make` finds in a folder, known by `facts`; made again only where a file there has changed.

    before: `stamps_below` of the folder from before any of it was read.
    """
    lasting = bool(before) and all(map(is_settled, before))
    key = _key(facts, *(fact for file in before for fact in file))
    if lasting and (known := _recall([key])):
        return known[key]
    value = make()
    if lasting and stamps_below(folder) == before:
        _remember({key: value}, on_disk=all(file.has_ctime for file in before))
    return value


def found_once(facts: str, find: Callable[[], str]) -> str:
    """What `find` finds, which depends on nothing but `facts`, such as hashes of files; remembered on disk."""
    key = _key(facts)
    if not (known := _recall([key])):
        known = {key: find()}
        _remember(known, on_disk=True)
    return known[key]


def is_settled(file: Stamp) -> bool:
    """Whether any change from now on shows in the stamp. A date that was set to a day to come doesn't matter."""
    return file.ctime_ns < time.time_ns() - SETTLED


def _stamp(path: Path | str, found: os.stat_result) -> Stamp:
    place = os.fspath(path)
    if not os.path.isabs(place):
        place = os.path.abspath(place)
    return Stamp(place, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _key(*facts: object) -> bytes:
    return hashlib.sha256("\0".join(map(str, facts)).encode(errors="surrogateescape")).digest()[:16]


def _hash_all(files: Sequence[Stamp], title: str) -> list[str]:
    """Whatever is remembered of them; by several threads, since reading files is mostly waiting for a disk."""
    found, group = [], max(1, min(GROUP, len(files) // THREADS))
    with _bar(files, title) as advance, _threads(min(THREADS, len(files))) as each:

        def hash_group(first: int) -> list[tuple[Stamp, str, bool]]:
            return [
                _hash(file.path, advance) for file in files[first : min(first + group, first // SLICE * SLICE + SLICE)]
            ]

        for start in range(0, len(files), SLICE):
            groups = each(hash_group, range(start, min(start + SLICE, len(files)), group))
            part = list(itertools.chain.from_iterable(groups))
            found += [sha256 for _, sha256, _ in part]
            lasting = [(file, sha256) for file, sha256, is_lasting in part if is_lasting]
            for on_disk in (True, False):
                _remember({file.key: sha256 for file, sha256 in lasting if file.has_ctime is on_disk}, on_disk=on_disk)
    return found


def _hash(path: str, advance: Callable[[int, int], None]) -> tuple[Stamp, str, bool]:
    """A file's stamp and sha256, and whether the one tells of the other from now on."""
    found = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        before = _stamp(path, os.fstat(file.fileno()))
        lasting = is_settled(before)
        while chunk := file.read(CHUNK):
            found.update(chunk)
            advance(0, len(chunk))
        advance(1, 0)
        return before, found.hexdigest(), lasting and _stamp(path, os.fstat(file.fileno())) == before


@contextmanager
def _threads(count: int) -> Iterator[Callable]:
    """A `map` in several threads, which stops at once when it is left by an error."""
    if count == 1:
        yield map
        return
    pool = ThreadPoolExecutor(count)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _bar(files: Sequence[Stamp], title: str) -> Iterator[Callable[[int, int], None]]:
    """Gives what is to be called with the files and the bytes that are done; a worker's terminal is its parent's."""
    size = sum(file.size for file in files)
    if multiprocessing.parent_process() or (len(files) < MANY and size < LARGE):
        yield lambda done, read: None
    elif len(files) < MANY:
        with progress_bar(f"hashing {title}", total=size >> 20, unit="MB") as bar:
            yield lambda done, read: bar.advance(read / 2**20)
    else:
        with progress_bar(f"hashing {title}", total=len(files), unit="files") as bar:
            yield lambda done, read: bar.advance(done)


# What is remembered, by the key of a stamp: in this process, and in the database.
_known: dict[bytes, str] = {}


def _recall(keys: Sequence[bytes]) -> dict[bytes, str]:
    absent = [key for key in keys if key not in _known]
    if absent:

        def look(database: sqlite3.Connection) -> dict[bytes, str]:
            rows = []
            for start in range(0, len(absent), PARAMETERS):
                some = absent[start : start + PARAMETERS]
                marks = ", ".join("?" * len(some))
                rows += database.execute(f"SELECT key, value, checksum FROM hashes WHERE key IN ({marks})", some)
            # Where a bit has rotten, the checksum differs, and the file is hashed again.
            return {key: value for key, value, checksum in rows if checksum == _key(key, value)}

        _known.update(_Database.use(look) or {})
    return {key: _known[key] for key in keys if key in _known}


def _remember(found: dict[bytes, str], *, on_disk: bool) -> None:
    _known.update(found)
    if on_disk and found:
        rows = [(key, value, _key(key, value)) for key, value in found.items()]

        def keep(database: sqlite3.Connection) -> None:
            database.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", rows)
            database.execute("DELETE FROM hashes WHERE rowid <= (SELECT max(rowid) FROM hashes) - ?", [ROWS])

        _Database.use(keep)


class _Database:
    """The hashes of all the user's processes. A connection lasts for one call, so that none is inherited by a fork."""

    is_off = False  # once it has failed this process

    @classmethod
    def use(cls, function: Callable):
        """What the function makes of a connection, in one transaction; None where there is no database to be had."""
        if cls.is_off:
            return None
        path = None
        try:
            path = cls.path()
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.touch()  # SQLite would let only its owner write it, whatever the umask
            with closing(sqlite3.connect(path, timeout=PATIENCE)) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS hashes (key BLOB UNIQUE, value TEXT, checksum BLOB)")
                return function(database)
        except (OSError, RuntimeError, sqlite3.Error) as error:
            cls.is_off = True
            if type(error) is sqlite3.DatabaseError:  # damaged; for the next process, since others may be using it
                for name in (path, f"{path}-journal"):
                    with suppress(OSError):
                        os.unlink(name)
            return None

    @staticmethod
    def path() -> Path:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "ditexp"
        return Path(os.environ.get("DITEXP_CACHE") or cache).expanduser() / "hashes.sqlite"
