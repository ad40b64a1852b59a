"""Notices are given once a process, in one line that shows every character."""

from __future__ import annotations

from ditexp.terminal.escape import one_line
from ditexp.terminal.notices import in_line, notice, without_notices


def test_a_notice_is_given_once(caplog, forget_notices):
    notice("a")
    notice("a")
    notice("b")
    assert caplog.messages == ["a", "b"]
    forget_notices()
    notice("a")
    assert caplog.messages == ["a", "b", "a"]


def test_repeated_work_gives_no_notices(caplog):
    with without_notices():
        with without_notices():
            notice("a")
        notice("a")
    assert not caplog.messages
    notice("a")
    assert caplog.messages == ["a"]


def test_a_message_shows_hidden_characters_and_a_table_does_not():
    name = "a\nb\x1b\u202e\udcff"
    assert in_line(name) == r"a\nb\x1b\u202e\udcff"
    assert one_line(name) == "a b\ufffd\ufffd\ufffd"
    assert in_line("x" * 2000, 20) == "x" * 7 + " ... " + "x" * 8
