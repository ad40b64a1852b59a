"""The terminal: it shows texts as they are, and stays whole whatever they hold."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.text import Text

from ditexp.terminal.escape import printable


class Terminal(Console):
    """A rich console without markup, emoji codes and control characters. What has a style is given as a Text."""

    def __init__(self, **options):
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options) -> Text:
        return super().render_str(printable(text), **options)


class PlainFormatter(logging.Formatter):
    """Log messages as lines on the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def print_line(*parts: str | Text) -> None:
    """A line on stderr; a Text may have a colour."""
    Terminal(stderr=True).print(*parts, sep="", soft_wrap=True)


def wide_terminal() -> Terminal:
    """stdout at the terminal's own width; in a file or a pipe, wide enough that no table is squeezed."""
    return Terminal() if Terminal().is_terminal else Terminal(width=240)
