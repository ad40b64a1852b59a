"""The index of all reports, and the list of what can be reported."""

import io
import json
import os
import re

import pytest
from PIL import Image

from ditexp.outputs import Outputs
from ditexp.report.index.entry import FILE, entry_of
from ditexp.report.index.page import write_index
from ditexp.report.listing import MAX_LISTED, show_reportable
from ditexp.report.tables.table import Table
from ditexp.terminal.console import Terminal
from tests.helpers.results import cell, leave, results_of, six_cells, table_of

HOSTILE = "<script>alert(1)</script>'\u202e"


def entry(folder, **facts):
    folder.mkdir(parents=True)
    known = {"title": folder.name, "written": 1e9, "cells": 4, "done": 4, "metric": "FID", "best": "2.1 ± 0.3"}
    (folder / FILE).write_text(json.dumps(known | {"best_cell": "heun with 20 steps"} | facts))


def cards(reports):
    text = write_index(reports).read_text()
    return [" ".join(re.sub("<[^>]*>", " ", card).split()) for card in re.findall("<li.*?</li>", text, re.DOTALL)]


def test_reports_are_listed_newest_first_with_what_was_swept_and_the_best_value(tmp_path):
    entry(tmp_path / "a", written=1e9, title="solver × steps (3 × 3)")
    entry(tmp_path / "b b", written=1.2e9, done=3)
    (tmp_path / "index.html").write_text("old")
    first, second = cards(tmp_path)
    assert first.startswith("b b 2008-01-10") and "4 cells, 3 done" in first
    assert second.startswith("solver × steps (3 × 3) 2001-09-0") and second.endswith(" a")
    assert "4 cells FID 2.1 ± 0.3: heun with 20 steps" in second
    assert "href='b%20b/'" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("content", ["{", "[]", '{"title": 3}', None, '{"title": "x", "written": 1e300}', "\0" * 9])
def test_a_damaged_report_is_listed(tmp_path, content):
    entry(tmp_path / "whole")
    (tmp_path / "broken").mkdir()
    if content is not None:
        (tmp_path / "broken" / FILE).write_text(content)
    found = cards(tmp_path)
    assert len(found) == 2 and sum(each.startswith("broken") and FILE in each for each in found) == 1


def test_no_text_is_read_as_html(tmp_path):
    entry(tmp_path / "a", title=HOSTILE, best_cell=HOSTILE, metric=HOSTILE, picture=f"javascript:{HOSTILE}")
    entry(tmp_path / "b", picture=f"data:image/webp;base64,'{HOSTILE}")
    text = write_index(tmp_path).read_text()
    tags = {tag.lower() for tag in re.findall(r"<(\w+)", text)}
    assert tags.isdisjoint({"script", "iframe", "object", "svg"}) and "onerror" not in text
    assert "javascript:" not in text and "\u202e" not in text and text.count("&lt;script&gt;") == 4


def test_an_entry_has_the_best_cell_and_its_picture(tmp_path):
    table = Table.of(results_of(six_cells(tmp_path)))
    found = entry_of(table, title="x", figure=None)
    assert (found.cells, found.done, found.metric, found.best) == (6, 5, "FID", "2.40")
    assert found.best_cell == "heun with 10 steps" and found.picture.startswith("data:image/webp;base64,")
    assert len(found.picture) < 20_000
    Image.new("RGB", (40, 900)).save(tmp_path / "figure.png")
    assert entry_of(table_of([cell()]), title="x", figure=tmp_path / "figure.png").picture
    assert not entry_of(table_of([cell()]), title="x", figure=tmp_path / "missing.png").picture


def test_what_can_be_reported_is_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outputs = Outputs("outputs")
    for i in range(MAX_LISTED + 2):
        leave([cell(study="mine" if i else "default"), cell(steps=50, study="mine")], outputs.runs / f"sweep {i:02}")
        for file in outputs.runs.glob(f"sweep {i:02}/*/cell.json"):
            os.utime(file, (1e9 + i * 86400,) * 2)
    terminal = Terminal(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    show_reportable(terminal, outputs)
    lines = terminal.file.getvalue().splitlines()
    assert lines[1].endswith("2 cells  mine: steps 20, 50") and lines[2].endswith(
        "report 'results='\"'\"'outputs/runs/sweep 21'\"'\"''"
    )
    assert lines[2 * MAX_LISTED + 1] == "and 2 older ones"
    assert lines[-1].endswith("ditexp report study=mine") and f"{2 * MAX_LISTED + 3} cells" in lines[-2]
    with pytest.raises(ValueError, match="has no results of cells: run some with `ditexp run`"):
        show_reportable(terminal, Outputs("nothing"))
