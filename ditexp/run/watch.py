"""A cell while it runs: takes what its parts report, and gives it to all that show it.

The queue of blocks reports samples, progress bars report what else is done; once a second the terminal, the log and the
tracker get a `Progress`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

from ditexp.progress import Pace, Phase, Progress
from ditexp.result import Result
from ditexp.terminal.notices import in_line, notice
from ditexp.terminal.progress import Bar, shown_by

TICK = 1.0  # seconds between two values of Progress
JOIN = 5.0  # seconds to wait for a viewer that hangs


class Viewer(Protocol):
    """Shows cells that run. A tracker is one; see `ditexp.tracker.Tracker` for the methods."""

    def begin_cell(self, cell: Result) -> None: ...

    def log_progress(self, cell: Result, progress: Progress) -> None: ...

    def log_preview(self, cell: Result, picture: Path) -> None: ...


class Watch:
    """Watches one cell, as a context: `with Watch(viewers) as watch: job.run(cell, ..., watch=watch)`.

    folder: where the picture of the first samples is drawn; None: nowhere. has_preview: whether none is to be drawn.
    """

    def __init__(self, viewers: Sequence[Viewer] = (), *, folder: Path | None = None) -> None:
        self.folder, self.has_preview = folder, folder is None
        self._viewers = viewers
        self._cell: Result | None = None
        self._started, self._bar, self._pace = time.monotonic(), Bar(""), Pace()
        self._phase: Phase = "preparing"
        self._images, self._in_progress, self._total, self._forwards, self._failed = 0, 0.0, 0, 0.0, 0
        self._lock, self._ended = threading.RLock(), threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._bars = shown_by(self._showing)
        self._bars.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._ticker.is_alive():
            self._ticker.join(JOIN)
        self._bars.__exit__(None, None, None)

    def begin(self, cell: Result, *, images: int, total: int) -> None:
        """Work on the cell begins. images: in the whole blocks that are there already, of this total."""
        self._cell, self._total, self._images = cell, total, images
        for viewer in self._viewers:
            self._give(viewer.begin_cell, cell)
        self._ticker.start()

    def phase(self, phase: Phase) -> None:
        self._phase = phase
        self._show()

    def sampled(self, *, images: int, in_progress: float, forwards: float, failed: int) -> None:
        """How far the samples are, see `Progress`."""
        if forwards or images > self._images:  # before, the network is loaded
            self._pace.add(time.monotonic(), images + in_progress)
        self._images, self._in_progress, self._forwards, self._failed = images, in_progress, forwards, failed

    def note(self, text: str) -> None:
        """What the phase does at the moment."""
        self._bar = Bar(text)

    def preview(self, draw: Callable[[Path], None]) -> None:
        """Draw and show the first samples. draw: is given the path of the picture."""
        self.has_preview = True
        if self.folder is not None and self._cell is not None and self._give(draw, self.folder / "preview.png"):
            for viewer in self._viewers:
                self._give(viewer.log_preview, self._cell, self.folder / "preview.png")

    @property
    def progress(self) -> Progress:
        done, rate = self._images + self._in_progress, self._pace.rate if self._phase == "sampling" else None
        return Progress(
            phase=self._phase,
            seconds=time.monotonic() - self._started,
            images=self._images,
            images_in_progress=self._in_progress,
            total_images=self._total,
            forwards=self._forwards,
            images_per_second=rate,
            seconds_left=(self._total - done) / rate if rate else None,
            failed_blocks=self._failed,
            note=str(self._bar),
        )

    def _tick(self) -> None:
        while not self._ended.wait(TICK):
            self._show()

    def _show(self) -> None:
        if self._cell is not None:
            with self._lock:  # or a thread that was stopped here would give an older state after a newer one
                progress = self.progress
                for viewer in self._viewers:
                    self._give(viewer.log_progress, self._cell, progress)

    def _give(self, method: Callable[..., None], *arguments: Any) -> bool:
        """Whether it succeeded: nothing that only shows a cell may fail it."""
        try:
            with self._lock:
                method(*arguments)
        except Exception as error:
            notice(f"progress is not shown everywhere ({type(error).__name__}: {in_line(str(error), 100)})")
            return False
        return True

    @contextmanager
    def _showing(self, bar: Bar) -> Generator[None]:
        """Show work of a known amount as the phase's note."""
        self._bar, before = bar, self._bar
        try:
            yield
        finally:
            self._bar = before
