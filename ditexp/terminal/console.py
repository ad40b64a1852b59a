"""The terminal: shows a text as it is; no text can change the terminal's state."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from ditexp.terminal.escape import printable

# For the log of a run alone: its file's handler is in conf/config.yaml.
LOG_FILE = logging.getLogger("log_file")
LOG_FILE.addHandler(logging.NullHandler())
LOG_FILE.propagate = False


class Terminal(Console):
    """A rich console that ignores markup and emoji codes and hides control characters; a Text may have a style."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


class PlainFormatter(logging.Formatter):
    """Makes log messages safe to show on the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class Stderr(logging.Handler):
    """Prints log messages on stderr, above what is shown there live."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            show(self.format(record))
        except Exception:
            self.handleError(record)


def print_line(*parts: str | Text) -> None:
    """Print one line on stderr, and write it to the run's log; a Text may have a colour."""
    show(*parts)
    LOG_FILE.info("".join(map(str, parts)))


def print_command(text: str) -> None:
    """Print a line that can be copied: the terminal alone breaks it."""
    show("  ", text, soft_wrap=True)
    LOG_FILE.info(text)


def show(*parts: str | Text, soft_wrap: bool = False) -> None:
    """A line on stderr: on a terminal wrapped at spaces, else as it is."""
    console = _live or Terminal(stderr=True)
    console.print(*parts, sep="", soft_wrap=soft_wrap or not console.is_terminal)


_live: Terminal | None = None


@contextmanager
def live(render: Callable[[], RenderableType]) -> Generator[None]:
    """Show on stderr what `render` gives, several times a second, below the lines that are printed meanwhile.

    It is gone at the end. Without a terminal it is not shown, nor in workers, which share their parent's terminal.
    """
    global _live
    console = Terminal(stderr=True)
    if _live or not console.is_terminal or multiprocessing.parent_process():
        yield
        return
    _live = console
    try:
        with Live(get_renderable=render, console=console, transient=True, refresh_per_second=4, redirect_stderr=False):
            yield
    finally:
        _live = None


def wide_terminal() -> Terminal:
    """stdout at the terminal's own width; 240 columns in a file or a pipe, so that no table is squeezed."""
    return Terminal() if Terminal().is_terminal else Terminal(width=240)
