"""Stamps of files: what the system knows of a file without reading it, by which a changed file is recognised."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import NamedTuple

SETTLED = 2 * 10**9  # ns: the tick of FAT's clock, the coarsest there is


class Stamp(NamedTuple):
    """A file with the same stamp has the same content, once `is_settled`. No program can set a ctime."""

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def has_ctime(self) -> bool:
        """Whether the file system keeps a time of change; others (such as FAT) show the mtime for it."""
        return self.ctime_ns != self.mtime_ns or self.ctime_ns % 10**9 != 0

    @property
    def is_settled(self) -> bool:
        """Whether the stamp shows any change from now on. It doesn't matter if the mtime lies in the future."""
        return self.ctime_ns < time.time_ns() - SETTLED


def stamp(path: Path | str, descriptor: int | None = None) -> Stamp:
    """The stamp of a regular file. descriptor: of the file if it is open, or another may have taken its path.

    Raises OSError where there is none, ValueError for anything else, which a reader might wait for without end.
    """
    found = os.stat(path if descriptor is None else descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is no regular file: replace or remove it")
    place = os.fspath(path)
    if not os.path.isabs(place):
        place = os.path.abspath(place)
    return Stamp(place, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def files_below(folder: Path | str) -> list[Path]:
    """All regular files below a folder, sorted; links to folders are followed, once each."""
    files, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        found = os.stat(place)
        if (found.st_dev, found.st_ino) in seen:
            folders.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        folders.sort()  # of two links to one folder, the same one always counts
        files += [path for name in names if (path := Path(place, name)).is_file()]
    return sorted(files)


def stamps_below(folder: Path | str) -> list[Stamp]:
    return [stamp(file) for file in files_below(folder)]
