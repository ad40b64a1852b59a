"""Claims: which process makes which block of a sample set that several processes or hosts share.

A claim is a file <name>.claim that holds its owner's name. The owner creates it exclusively, touches it every HEARTBEAT
seconds, and removes it when the work is done. A claim is void if its owner is a process of this host that has ended, if
it names no process (it is damaged), or if the file has not changed for EXPIRY seconds. The watcher measures that time
with its own stopwatch, so clocks that differ or are set back don't matter. Claims only save work: two processes that
make the same block write the same bytes, each atomically.

A whole folder has two kinds of claims. Every process that writes or reads it claims its own name there (`keep`). A
process that wants to remove the folder claims REMOVAL and then checks whether others keep it. Each makes its own claim
before it looks for the other's, so at least one of two sees both and gives way: a removal gives up, others wait.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from ditexp.files.atomic import make_way
from ditexp.files.process import PROCESS, is_running, this_process
from ditexp.files.reading import NoRegularFile, open_regular
from ditexp.terminal.notices import notice

REMOVAL = "removal"
POLL = 0.2  # seconds between checks whether a removal has ended
MAX_BYTES = 1000  # of a process's name
HEARTBEAT, EXPIRY = 10.0, 90.0  # seconds; an NFS client may show a file's times with a delay of up to 60 s


class Claims:
    """This process's claims in one folder: a context that keeps them alive, and releases them at its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.me = this_process()
        self._held: set[str] = set()
        self._seen: dict[str, tuple[tuple, float]] = {}  # of others' claims: state, and since when
        self._ended = threading.Event()

    def __enter__(self) -> Claims:
        threading.Thread(target=self._heartbeat, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        for name in list(self._held):
            self.release(name)

    def take(self, name: str) -> bool:
        """Claim `name` if it is free or its owner is gone. Whether it is ours now."""
        path = self._path(name)
        if os.path.lexists(path):
            if not self.is_void(name):
                return False
            self._remove(name)
        self._held.add(name)  # before the file exists, since Ctrl-C may come between any two steps
        try:
            with open(path, "xb", buffering=0) as file:  # killed before the write: an empty claim
                file.write(self.me.encode())
        except FileExistsError:
            self._held.discard(name)
            return False
        except OSError:  # a full disk: an empty claim would keep all others waiting
            path.unlink(missing_ok=True)
            self._held.discard(name)
            raise
        return True

    def release(self, name: str) -> None:
        if self.owner(name) in (self.me, ""):  # unless another took it over; empty: we were interrupted in `take`
            self._path(name).unlink(missing_ok=True)
        self._held.discard(name)

    def keep(self) -> None:
        """Keep the folder from being removed as long as these claims last; waits for a removal that has begun.

        Raises FileNotFoundError if the folder is gone.
        """
        while True:
            self.take(self.me)
            while not self.is_void(REMOVAL):
                time.sleep(POLL)
            if self._path(self.me).exists():
                self._remove(REMOVAL)  # a killed process's
                return

    def others(self) -> list[str]:
        """Claims that others hold, as far as can be known without waiting."""
        return [name for name in self.names() if name not in self._held and not self.is_void(name)]

    def owner(self, name: str) -> str | None:
        """The content of a claim: its owner's name, or anything else if it is damaged; None without a claim."""
        try:
            with open_regular(self._path(name)) as file:
                return file.read(MAX_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return None
        except NoRegularFile as error:
            return str(error)

    def is_void(self, name: str) -> bool:
        """Whether a claim's owner is gone; for another host's claim, that takes EXPIRY seconds of watching."""
        try:
            look = (self.owner(name), self._path(name).stat().st_mtime_ns)
        except FileNotFoundError:
            return True
        owner = name if PROCESS.fullmatch(name) else look[0]  # a process also claims its own name
        if owner and not PROCESS.fullmatch(owner):
            notice(f"{self._path(name)} is damaged and counts as void")
            return True
        if owner and is_running(owner) is False:
            return True
        if name not in self._seen or self._seen[name][0] != look:
            self._seen[name] = (look, time.monotonic())
        return time.monotonic() - self._seen[name][1] > EXPIRY

    def names(self) -> list[str]:
        """All claims in the folder, including void ones."""
        return sorted(path.stem for path in self.folder.glob("*.claim"))

    def remove_void(self) -> None:
        """Remove the claims of killed processes, as far as can be known without waiting."""
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
def kept(folder: Path) -> Generator[None]:
    """For readers: keep a folder from being removed while the body runs, if claims can be written there."""
    with Claims(folder) as claims:
        with suppress(OSError):
            claims.remove_void()
            claims.keep()
        yield
