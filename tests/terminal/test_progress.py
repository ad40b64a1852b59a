"""Rows that fit any width, durations and counts in words, and rates."""

from __future__ import annotations

import io

import pytest

from ditexp.progress import Pace
from ditexp.terminal import console, progress
from ditexp.terminal.console import Terminal, print_line
from ditexp.terminal.progress import progress_bar, shown_by
from ditexp.terminal.row import Part, Row
from ditexp.terminal.units import duration, plural

PARTS = [Part("1,280 of 50,176 images", 1), Part("2 h 3 min left", 2), Part("12.3 images/s", 3)]


def lines_of(row: Row, width: int) -> list[str]:
    file = io.StringIO()
    Terminal(file=file, width=width).print(row)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [30, 40, 56, 70, 120])
def test_a_row_is_one_line_of_whole_parts_and_keeps_what_matters(width):
    (line,) = lines_of(Row(PARTS, share=0.3), width)
    shown = [part.text for part in PARTS if part.text in line]
    words = "".join(char for char in line if char not in "━╸╺ ")
    assert len(line) < width
    assert words == "".join("".join(shown).split())  # nothing is cut
    ranks = [part.rank for part in PARTS if part.text in line]
    assert ranks == list(range(1, len(ranks) + 1))
    assert len(ranks) == {30: 1, 40: 1, 56: 2, 70: 3, 120: 3}[width] and ("━" in line) == (width > 30)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.6, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (86400 * 3 + 3600 * 4, "3 d 4 h")],
)
def test_a_duration_has_two_units(seconds, words):
    assert duration(seconds) == words


def test_counts_have_the_right_number():
    assert [plural(n, "cell") for n in (0, 1, 2, 1200)] == ["0 cells", "1 cell", "2 cells", "1,200 cells"]
    assert plural(2, "has", "have") == "2 have"


def test_a_rate_is_of_the_last_minute_and_begins_anew_after_a_loss():
    pace = Pace()
    pace.add(0, 0)
    pace.add(1, 100)
    assert pace.rate is None  # a second says nothing
    for second in range(2, 300):
        pace.add(second, 100 + second)
    assert pace.rate == pytest.approx(1, rel=0.02)
    pace.add(1000, 399 + 70)  # a change that took longer than the window
    assert pace.rate == pytest.approx(70 / 701, rel=0.1)
    pace.add(1001, 50)
    assert pace.rate is None


@pytest.mark.parametrize(("is_terminal", "count"), [(True, 3), (False, 1)])
def test_a_line_on_a_terminal_breaks_at_spaces_and_elsewhere_not_at_all(monkeypatch, is_terminal, count):
    file = io.StringIO()
    monkeypatch.setattr(console, "Terminal", lambda **_: Terminal(file=file, width=80, force_terminal=is_terminal))
    print_line(" ".join(["seventeen-letters"] * 10))
    lines = file.getvalue().splitlines()
    assert len(lines) == count and set(" ".join(lines).split()) == {"seventeen-letters"}


def test_bars_are_shown_where_a_body_says():
    seen = []

    def shown(bar):
        seen.append(bar)
        return progress.on_terminal(bar)

    with shown_by(shown), progress_bar("features", total=20) as bar:
        bar.advance(5, note="of the reference")
    with progress_bar("others", total=1):
        pass
    assert [str(bar) for bar in seen] == ["features, 5 of 20 images, of the reference"]
