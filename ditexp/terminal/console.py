"""The terminal: shows a text as it is; no text can change the terminal's state."""

from __future__ import annotations

import logging
from typing import Any

from rich.console import Console
from rich.text import Text

from ditexp.terminal.escape import printable


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


def print_line(*parts: str | Text) -> None:
    """Print one line on stderr; a Text may have a colour."""
    Terminal(stderr=True).print(*parts, sep="", soft_wrap=True)


def wide_terminal() -> Terminal:
    """stdout at the terminal's own width; 240 columns in a file or a pipe, so that no table is squeezed."""
    return Terminal() if Terminal().is_terminal else Terminal(width=240)
