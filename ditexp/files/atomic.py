"""Files that are complete or absent, the hashes that name and verify them, and whose they are."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ditexp.files.process import host, is_running, this_process
from ditexp.terminal.notices import notice


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder, for a file or a folder; when the body ends well, rename it to `path`.

    A file is synced before. Its permissions are left as the body's open() made them, by the umask or the folder's
    default ACL; where it replaces a file of the same owner, it takes on that one's. (Those of another owner's file
    could shut out that owner, now that the file is ours.)

    The temporary name tells the process, so that writers never share one, and killed ones are known: what they left in
    the folder is removed when a process first writes there. Raises OSError that names `path`, also for a `path` that is
    there already and no regular file.
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
    """A file was begun, and is not to be kept."""


def _prepare(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # as root, even /dev/null could be replaced
        what = errno.EISDIR if path.is_dir() else errno.EINVAL
        raise OSError(what, "it is a folder" if path.is_dir() else "it is no regular file", str(path))
    folder = path.parent.absolute()
    if folder not in _tidied:
        _tidied.add(folder)
        remove_abandoned(folder)


_tidied: set[Path] = set()  # folders that this process has tidied: to list one takes long where it holds many files


def _take_on_permissions(new: Path, old: Path) -> None:
    with suppress(OSError):  # it is new, or of a file system without permissions
        found = old.stat()
        if found.st_uid == os.geteuid():
            new.chmod(stat.S_IMODE(found.st_mode))


def _sync(path: Path) -> None:
    """Have a file, or a folder's list of files, written to the disk; a folder, where that is possible."""
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
    """Rename what lies where a file of ditexp's own is to be written and is none, such as a folder."""
    if path.exists() and not path.is_file():
        aside = path.with_name(f"{path.name}.aside-{time.time_ns()}")
        path.rename(aside)
        notice(f"{path} was no file: it is {aside.name} now")


def remove_abandoned(folder: Path) -> None:
    """Remove what this host's processes that were killed while they wrote have left; what cannot be removed stays."""
    for temporary in abandoned(folder):
        _remove(temporary)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def abandoned(folder: Path, *, deep: bool = False) -> Iterator[Path]:
    """Temporary files and folders of this host's processes that are gone; deep: in folders below, too."""
    process = re.compile(rf"\.({re.escape(host())}~\d+~\d+)\.tmp")
    for temporary in folder.glob(f"{'**/' if deep else ''}.*.{host()}~*.tmp*"):  # libraries add endings of their own
        found = process.search(temporary.name)
        if found and is_running(found[1]) is False:
            yield temporary


def free_space(path: Path) -> int:
    """Bytes free on the disk that will hold a path, which need not be there yet."""
    path = Path(path).absolute()
    return shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists())).free
