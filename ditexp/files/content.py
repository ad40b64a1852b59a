"""What files contain: their sha256, computed once and remembered as long as the files do not change.

A file counts as unchanged while its path, device, inode, size, mtime and ctime are the same. No program can set a
ctime, so this tells two files of the same name, size and date apart. Two kinds of files are hashed again:

- a file that changed less than SETTLED ago, at every call: a second change within one tick of the file system's clock
  would leave no trace (git calls such a file racily clean);
- a file whose ctime equals its mtime in whole seconds, in each process: file systems that keep no time of change
  (squashfs, FAT, most of FUSE) show the mtime for it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ditexp.files import hash_cache
from ditexp.files.hash_cache import key_of
from ditexp.files.reading import too_large
from ditexp.files.stamps import Stamp, stamp, stamps_below
from ditexp.terminal.progress import progress_bar

SLICE = 4096  # files that are hashed before their hashes are kept
GROUP = 32  # the most files that a thread hashes in one go
CHUNK = 2**20  # bytes read at once
THREADS = 8  # they wait for the disk more than they compute
MANY, LARGE = 2000, 2**28  # files and bytes that need a progress bar


def digest(facts: Any) -> str:
    """16 hexadecimal digits of the sha256 of JSON-able facts; the order of their keys doesn't matter."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def sha256(path: Path | str) -> str:
    """The sha256 of a file. Raises OSError or ValueError if it cannot be read."""
    return hashes([path])[0]


def hashes(paths: Sequence[Path | str], *, title: str = "", most: int | None = None) -> list[str]:
    """The sha256 of each file, with a progress bar if that takes long.

    most: the most bytes that a file may have. Raises OSError or ValueError if a file cannot be read or has more.
    """
    stamps = [stamp(path) for path in paths]
    if most is not None and (large := next((file for file in stamps if file.size > most), None)):
        raise too_large(large.path, "a file of this kind", large.size, most)
    keys = [key_of(*file) for file in stamps]
    known = hash_cache.CACHE.recall(keys)
    new = [file for file, key in zip(stamps, keys) if key not in known]
    hashed = iter(_hash_all(new, title or Path(paths[0]).name) if new else ())
    return [known[key] if key in known else next(hashed) for key in keys]


@contextmanager
def unchanged(path: Path | str) -> Generator[str]:
    """Gives the sha256 of a file that the body reads. Raises ValueError if the file changed before the body's end."""
    before = sha256(path)
    yield before
    require(path, before)


def require(path: Path | str, expected: str) -> None:
    """Raise ValueError unless the file has this sha256; for a file that has just been read."""
    if sha256(path) != expected:
        raise changed(path)


class Changed(ValueError):
    """Something is no longer what was hashed."""


def changed(what: Path | str) -> Changed:
    return Changed(f"{what} was changed while it was in use: run again when nothing writes to it")


def remembered(facts: str, folder: Path | str, before: Sequence[Stamp], make: Callable[[], str]) -> str:
    """The value that `make` computes from a folder, known by `facts`; computed again only if a file there has changed.

    before: `stamps_below` of the folder, from before any of it was read.
    """
    cache = hash_cache.CACHE
    is_lasting = bool(before) and all(file.is_settled for file in before)
    key = key_of(facts, *(fact for file in before for fact in file))
    if is_lasting and (known := cache.recall([key])):
        return known[key]
    value = make()
    if is_lasting and stamps_below(folder) == before:
        cache.remember({key: value}, on_disk=all(file.has_ctime for file in before))
    return value


def found_once(facts: str, find: Callable[[], str]) -> str:
    """The value that `find` computes from nothing but `facts`, such as hashes of files; remembered on disk."""
    key = key_of(facts)
    if not (known := hash_cache.CACHE.recall([key])):
        known = {key: find()}
        hash_cache.CACHE.remember(known, on_disk=True)
    return known[key]


def _hash_all(files: Sequence[Stamp], title: str) -> list[str]:
    """Hash files, whatever is remembered of them, in several threads: reading files is mostly waiting for a disk."""
    found, group = [], max(1, min(GROUP, len(files) // THREADS))
    with _bar(files, title) as advance, _threads(min(THREADS, len(files))) as each:

        def hash_group(first: int) -> list[tuple[Stamp, str, bool]]:
            last = min(first + group, first // SLICE * SLICE + SLICE)
            return [_hash(file.path, advance) for file in files[first:last]]

        for start in range(0, len(files), SLICE):
            groups = each(hash_group, range(start, min(start + SLICE, len(files)), group))
            part = list(itertools.chain.from_iterable(groups))
            found += [sha256 for _, sha256, _ in part]
            lasting = [(file, sha256) for file, sha256, is_lasting in part if is_lasting]
            for on_disk in (True, False):
                kept = {key_of(*file): sha256 for file, sha256 in lasting if file.has_ctime is on_disk}
                hash_cache.CACHE.remember(kept, on_disk=on_disk)
    return found


def _hash(path: str, advance: Callable[[int, int], None]) -> tuple[Stamp, str, bool]:
    """A file's stamp and sha256, and whether the stamp stands for the sha256 from now on."""
    found = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        before = stamp(path, file.fileno())
        is_settled = before.is_settled
        while chunk := file.read(CHUNK):
            found.update(chunk)
            advance(0, len(chunk))
        advance(1, 0)
        return before, found.hexdigest(), is_settled and stamp(path, file.fileno()) == before


@contextmanager
def _threads(count: int) -> Generator[Callable[..., Iterable[Any]]]:
    """A `map` in several threads; an error in the body stops them at once."""
    if count == 1:
        yield map
        return
    pool = ThreadPoolExecutor(count)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _bar(files: Sequence[Stamp], title: str) -> Generator[Callable[[int, int], None]]:
    """Gives a function to call with the numbers of files and bytes that are done."""
    size = sum(file.size for file in files)
    if multiprocessing.parent_process() or (len(files) < MANY and size < LARGE):
        yield lambda done, read: None
    elif len(files) < MANY:
        with progress_bar(f"hashing {title}", total=size >> 20, unit="MB") as bar:
            yield lambda done, read: bar.advance(read / 2**20)
    else:
        with progress_bar(f"hashing {title}", total=len(files), unit="files") as bar:
            yield lambda done, read: bar.advance(done)
