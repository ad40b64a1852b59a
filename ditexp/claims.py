"""Who makes which block of a sample set that several processes or hosts share, so that none is made twice.

A claim is a file <name>.claim that holds its owner's name: created exclusively, touched every HEARTBEAT seconds,
removed when the work is done. It is void once its owner, a process of this host, no longer runs, or once the file has
not changed for EXPIRY seconds. That is timed by the watcher's own stopwatch, so that neither hosts whose clocks differ
nor a clock set back matter. Claims only save work: two processes that make the same block write the same bytes, each
atomically.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from ditexp.files import is_running, this_process

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
        if path.exists():
            if not self.is_void(name):
                return False
            path.unlink(missing_ok=True)
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

    def owner(self, name: str) -> str | None:
        """The process that holds `name`, or None."""
        with suppress(FileNotFoundError):
            return self._path(name).read_text()
        return None

    def is_void(self, name: str) -> bool:
        """Whether a claim's owner is gone; another host's takes EXPIRY seconds of watching to tell."""
        try:
            look = (self.owner(name), self._path(name).stat().st_mtime_ns)
        except FileNotFoundError:
            return True
        owner = look[0] or (name if "~" in name else None)  # a process claims its own name, too
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
                self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.claim"

    def _heartbeat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            for name in list(self._held):
                with suppress(OSError):
                    os.utime(self._path(name))
