"""Tables and reports on the terminal, at several widths."""

import io
import re

import pytest

from ditexp.report.recommend import recommend
from ditexp.report.tables.printing import print_table
from ditexp.report.writing import Report, show
from ditexp.terminal.console import Terminal
from tests.helpers.results import cell, failed, sampled, table_of

LONG = "guided with a weak model of the same family and half of the training steps"


def cells():
    results = [
        sampled(solver=solver, steps=steps, fid=float(steps)) for solver in ("euler", "heun") for steps in (5, 9)
    ]
    for result in results:
        result["settings"]["guidance"] = LONG if result["settings"]["solver"] == "heun" else "none"
        result["cost"]["peak_memory_mb"] = 512.0
    return results


def lines_of(table, width, *, is_terminal=True):
    terminal = Terminal(width=width, file=io.StringIO(), force_terminal=is_terminal, color_system=None)
    print_table(terminal, table, file="table.csv")
    return terminal.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("width", "missing"),
    [
        (46, "NFE · forwards · s/image · images/s · peak MB · IS · Precision · Recall"),
        (80, "NFE · s/image · images/s · peak MB · Precision · Recall"),
        (120, "NFE · images/s"),
        (240, ""),
    ],
)
def test_columns_without_room_are_named_and_no_number_is_cut(width, missing):
    table = table_of(cells())
    text = "\n".join(lines := lines_of(table, width))
    assert max(map(len, lines)) <= width
    left_out = re.findall(r"Left out here: (.*) \(see table.csv\).", " ".join(map(str.strip, lines)))
    names = [name for each in left_out for name in each.split(" · ")]
    assert left_out == [missing] * bool(missing)
    for column in table.columns:
        if column.header not in names and column.is_number:
            assert all(number in text for number in column.texts), column.header
    assert all(re.search(rf"(?<!\w){word}(?!\w)", text) for word in LONG.split())  # no word is broken


def test_a_file_has_every_column():
    results = cells()
    for result in results:
        result["metrics"] |= {f"a_metric_with_a_long_name_{i}": 1.0 for i in range(9)}
    table = table_of(results)
    header = " ".join(lines_of(table, 240, is_terminal=False)[1:3])
    assert all(word in header for column in table.columns for word in column.header.split()) and len(header) > 480


def test_errors_without_room_stand_below_the_table():
    results = [cell(), *(failed(steps=steps, error="not finite at step 3 of the solver") for steps in range(30, 37))]
    text = "\n".join(lines_of(table_of(results), 80))
    assert text.count("not finite at step 3 of the solver") == 5 and "euler with 30 steps: not finite" in text
    assert "2 more errors: see table.csv." in text and "error" not in text.partition("Left out")[2].partition("(")[0]
    assert "errors" not in "\n".join(lines_of(table_of(results), 240))


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_end_of_a_report(is_terminal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = [sampled(steps=steps, fid=fid) for steps, fid in ((5, 8.0), (10, 4.0), (20, 3.9))]
    paths = {name: tmp_path / "reports" / name for name in ("table.csv", "report.html")}
    table = table_of(results)
    report = Report("steps 5, 10, 20", table, tmp_path / "reports", paths, recommend(table, {}), None)
    terminal = Terminal(width=80, file=io.StringIO(), force_terminal=is_terminal, color_system=None)
    show(report, terminal)
    lines = terminal.file.getvalue().splitlines()
    assert lines[0] == "steps 5, 10, 20"
    if is_terminal:
        assert lines[-1] == "report: reports/report.html" and max(map(len, lines)) <= 80
        assert sum(line.startswith("  cheaper: ") for line in lines) == 2
    else:
        assert lines[-2:] == [str(path) for path in paths.values()] and report.advice[0].text in lines
