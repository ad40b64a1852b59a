"""Notices to the user, once a process each."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

_said: set[str] = set()
_silent: list[bool] = []


def notice(message: str) -> None:
    """Tell the user something once a process: a setting that cannot act, a fallback taken."""
    if message not in _said and not _silent:
        _said.add(message)
        logging.getLogger("ditexp").warning(in_line(message))


def in_line(text: str, most: int = 1000) -> str:
    """One line of at most `most` characters that a terminal shows as it is.

    Line ends, control and format characters and bytes that are no UTF-8 become escapes; a longer text loses its middle.
    """
    if not text.isprintable():
        hidden = ("C", "Zl", "Zp")
        text = "".join(
            char.encode("unicode_escape").decode() if unicodedata.category(char).startswith(hidden) else char
            for char in text
        )
    return text if len(text) <= most else f"{text[: (most - 5) // 2]} ... {text[-((most - 4) // 2) :]}"


@contextmanager
def without_notices() -> Iterator[None]:
    """For work that repeats what notices were given of."""
    _silent.append(True)
    try:
        yield
    finally:
        _silent.pop()
