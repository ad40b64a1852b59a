"""Who makes which block of a sample set that several processes or hosts share, so that none is made twice.

A claim is a file <name>.claim that holds its owner's name: created exclusively, touched every HEARTBEAT seconds,
removed when the work is done. It is void once its owner, a process of this host, no longer runs, or once the file has
not changed for EXPIRY seconds. That is timed by the watcher's own stopwatch, so that neither hosts whose clocks differ
nor a clock set back matter. A claim that names no process, since it is damaged, is void too. Claims only save work: two
processes that make the same block write the same bytes, each atomically.

A whole folder has two kinds of claims. Every process that works on it or reads it claims its own name there (`keep`);
one that is about to remove it claims REMOVAL, and then looks whether others keep it. Each makes its own claim before it
looks for the other's, so that at least one of two sees both, and gives way: a removal ends at once, others wait.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ditexp.files.atomic import make_way
from ditexp.files.process import PROCESS, is_running, this_process
from ditexp.terminal.notices import notice

REMOVAL = "removal"
POLL = 0.2  # seconds between looks at whether a folder is still about to be removed
LONGEST = 1000  # characters of a process's name
HEARTBEAT, EXPIRY = 10.0, 90.0  # seconds; an NFS client may show a file's times as they were up to 60 s ago


class Claims:
    """This process's claims in one folder; a context in which they are kept alive, and at whose end released."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.me = this_process()
        self._held: set[str] = set()
        self._seen: dict[str, tuple[tuple, float]] = {}  # what each claim of others looked like, and since when
        self._ended = threading.Event()

    def __enter__(self) -> Claims:
        threading.Thread(target=self._heartbeat, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._ended.set()
        for name in list(self._held):
            self.release(name)

    def take(self, name: str) -> bool:
        """Whether `name` is now ours: it was free, or its owner is gone."""
        path = self._path(name)
        if os.path.lexists(path):
            if not self.is_void(name):
                return False
            self._remove(name)
        self._held.add(name)  # before the file is there: Ctrl-C may come between any two steps
        try:
            with open(path, "xb", buffering=0) as file:  # who is killed before it is written leaves an empty claim
                file.write(self.me.encode())
        except FileExistsError:
            self._held.discard(name)
            return False
        except OSError:  # a full disk: an empty claim would keep everybody waiting
            path.unlink(missing_ok=True)
            self._held.discard(name)
            raise
        return True

    def release(self, name: str) -> None:
        if self.owner(name) in (self.me, ""):  # unless others took us for gone; empty: interrupted as we took it
            self._path(name).unlink(missing_ok=True)
        self._held.discard(name)

    def keep(self) -> None:
        """Keep the folder from being removed as long as these claims last; waits while a removal is under way.

        Raises FileNotFoundError where the folder is gone.
        """
        while True:
            self.take(self.me)
            while not self.is_void(REMOVAL):
                time.sleep(POLL)
            if self._path(self.me).exists():
                self._remove(REMOVAL)  # of a killed process
                return

    def others(self) -> list[str]:
        """Claims that others hold, as far as can be told at once."""
        return [name for name in self.names() if name not in self._held and not self.is_void(name)]

    def owner(self, name: str) -> str | None:
        """What a claim holds, which is its owner's name, or is damaged; None without a claim."""
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_NONBLOCK)  # a pipe would keep us waiting
        except FileNotFoundError:
            return None
        try:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            return os.read(descriptor, LONGEST).decode(errors="replace") if is_file else "no file"
        finally:
            os.close(descriptor)

    def is_void(self, name: str) -> bool:
        """Whether a claim's owner is gone; another host's takes EXPIRY seconds of watching to tell."""
        try:
            look = (self.owner(name), self._path(name).stat().st_mtime_ns)
        except FileNotFoundError:
            return True
        owner = name if PROCESS.fullmatch(name) else look[0]  # a process claims its own name, too
        if owner and not PROCESS.fullmatch(owner):
            notice(f"{self._path(name)} is damaged, so nobody holds it")
            return True
        if owner and is_running(owner) is False:
            return True
        if name not in self._seen or self._seen[name][0] != look:
            self._seen[name] = (look, time.monotonic())
        return time.monotonic() - self._seen[name][1] > EXPIRY

    def names(self) -> list[str]:
        """All claims in the folder, void ones too."""
        return sorted(path.stem for path in self.folder.glob("*.claim"))

    def remove_void(self) -> None:
        """Clear what killed processes left, as far as can be told at once."""
        for name in self.names():
            if self.is_void(name):
                self._remove(name)

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):  # another process was faster
            make_way(self._path(name))
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.claim"

    def _heartbeat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            for name in list(self._held):
                with suppress(OSError):
                    os.utime(self._path(name))


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """For readers: keep a folder from being removed while the body runs, where claims can be written there."""
    with Claims(folder) as claims:
        with suppress(OSError):
            claims.remove_void()
            claims.keep()
        yield
