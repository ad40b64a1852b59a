"""What the user is told when something is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def refused(words: Iterable[str]) -> Iterator[None]:
    """What runs within raises a ValueError whose message is one line with all of these words."""
    with pytest.raises(ValueError) as error:
        yield
    message = str(error.value)
    assert "\n" not in message, message
    assert all(word in message for word in words), message
