"""Writes files that are complete or absent, and removes what killed processes left."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ditexp.files.process import host, is_running, this_process
from ditexp.terminal.notices import notice


@contextmanager
def atomic(path: Path) -> Generator[Path]:
    """Give a temporary path in the same folder, for a file or a folder; rename it to `path` if the body succeeds.

    A file is synced first. It keeps the permissions that the body's open() gave it, by the umask or the folder's
    default ACL; if it replaces a file of the same owner, it gets that file's permissions. (Those of another owner's
    file could lock that owner out, now that the file is ours.)

    The temporary name contains the process's name, so that no two writers share one. What killed writers left in the
    folder is removed when a process first writes there. Raises OSError that names `path`, also if `path` exists and is
    no regular file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{this_process()}.tmp")
    try:
        _prepare(path)
        yield temporary
        if not temporary.is_dir():
            _take_on_permissions(temporary, path)
            _sync(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        _remove(temporary)
        if isinstance(error, OSError) and error.errno and str(error.filename or temporary).startswith(str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    _sync(path.parent)  # the rename itself must survive a power cut


def check_writable(path: Path) -> None:
    """Raise OSError, before any work, where `atomic` could not write `path`."""
    with suppress(_Enough), atomic(path) as temporary:
        temporary.touch()
        raise _Enough


class _Enough(Exception):
    """Ends the writing of a file that need not be kept."""


def _prepare(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # as root, even /dev/null could be replaced
        what = errno.EISDIR if path.is_dir() else errno.EINVAL
        raise OSError(what, "it is a folder" if path.is_dir() else "it is no regular file", str(path))
    folder = path.parent.absolute()
    if folder not in _tidied:
        _tidied.add(folder)
        remove_abandoned(folder)


_tidied: set[Path] = set()  # folders that this process has tidied; listing one with many files is slow


def _take_on_permissions(new: Path, old: Path) -> None:
    with suppress(OSError):  # `old` does not exist, or the file system has no permissions
        found = old.stat()
        if found.st_uid == os.geteuid():
            new.chmod(stat.S_IMODE(found.st_mode))


def _sync(path: Path) -> None:
    """Write a file, or a folder's list of files where possible, through to the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:  # a folder that may be written but not read, or a file system that syncs no folders
        if not path.is_dir() or error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL):
            raise


def make_way(path: Path) -> None:
    """Move aside whatever lies at the path of one of ditexp's own files and is no file, such as a folder."""
    if path.exists() and not path.is_file():
        move_aside(path, "was no file")


def move_aside(path: Path, why: str) -> None:
    """Rename a file or folder to `<name>.aside-<time>`, with a notice."""
    aside = path.with_name(f"{path.name}.aside-{time.time_ns()}")
    path.rename(aside)
    notice(f"{path} {why}: it is {aside.name} now")


def remove_abandoned(folder: Path) -> None:
    """Remove what killed writers of this host left in a folder; what cannot be removed stays."""
    for temporary in abandoned(folder):
        _remove(temporary)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def abandoned(folder: Path, *, deep: bool = False) -> Iterator[Path]:
    """Temporary files and folders of this host's processes that have ended; deep: also in folders below."""
    process = re.compile(rf"\.({re.escape(host())}~\d+~\d+)\.tmp")
    for temporary in folder.glob(f"{'**/' if deep else ''}.*.{host()}~*.tmp*"):  # libraries add suffixes
        found = process.search(temporary.name)
        if found and is_running(found[1]) is False:
            yield temporary


def free_space(path: Path) -> int:
    """Free bytes on the disk that will hold a path; the path need not exist."""
    path = Path(path).absolute()
    return shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists())).free
