"""Notices to the user, each once a process."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Generator
from contextlib import contextmanager


class Notices:
    """The notices that a process has given. A worker has none of its own: its parent has given them already."""

    def __init__(self) -> None:
        self._given: set[str] = set()
        self._is_silent = False

    def give(self, message: str) -> None:
        """Tell the user something once a process, such as a setting without effect or a fallback."""
        if message not in self._given and not self._is_silent:
            self._given.add(message)
            logging.getLogger("ditexp").warning(in_line(message))

    @contextmanager
    def silenced(self) -> Generator[None]:
        """Give no notices in the body, which repeats work that has given them already."""
        before, self._is_silent = self._is_silent, True
        try:
            yield
        finally:
            self._is_silent = before

    def reset(self) -> None:
        """Forget what was given, as a new process does."""
        self._given.clear()


NOTICES = Notices()
notice, without_notices = NOTICES.give, NOTICES.silenced


def in_line(text: str, most: int = 1000) -> str:
    """A message as one line of at most `most` characters, with every hidden character as an escape.

    A name with a line end in it shows as `a\\nb`, so that the user can find what the message names; `escape.one_line`,
    for tables and pictures, makes that a space. A longer text loses its middle.
    """
    if not text.isprintable():
        hidden = ("C", "Zl", "Zp")
        text = "".join(
            char.encode("unicode_escape").decode() if unicodedata.category(char).startswith(hidden) else char
            for char in text
        )
    return text if len(text) <= most else f"{text[: (most - 5) // 2]} ... {text[-((most - 4) // 2) :]}"
