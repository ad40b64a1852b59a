"""A progress bar that a terminal and a notebook show alike."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from tqdm import tqdm

from ditexp.progress import Progress
from ditexp.terminal.progress import Bar

BAR_AFTER = 5.0  # seconds: shorter work shows none
TICK = 0.5
FORMAT = "{desc}{n_fmt} of {total_fmt}, {elapsed}, {remaining} left"


class State(NamedTuple):
    """done: of total units; a total of 0 is not known. text: what is done."""

    done: float
    total: float
    text: str


def of_cell(progress: Progress) -> State:
    done = progress.images + progress.images_in_progress
    return State(done, progress.total_images, ", ".join(filter(None, (progress.phase, progress.note))))


def of_bar(bar: Bar) -> State:
    return State(bar.done, bar.total, bar.description)


@contextmanager
def progress_shown(state: Callable[[], State], *, wanted: bool) -> Generator[None]:
    """Show how far the body is, from a thread beside it. wanted: False shows nothing."""
    ended = threading.Event()

    def show() -> None:
        if ended.wait(BAR_AFTER):
            return
        done, total, text = state()
        # Nothing that only shows may fail the work.
        with suppress(Exception), tqdm(desc=text, total=total or None, bar_format=FORMAT, leave=False) as bar:
            while not ended.wait(TICK):
                done, total, text = state()
                bar.n, bar.total = round(done), total or None
                bar.set_description(text)

    ticker = threading.Thread(target=show, daemon=True)
    if wanted:
        ticker.start()
    try:
        yield
    finally:
        ended.set()
        if wanted:
            ticker.join()
