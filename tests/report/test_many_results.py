"""Reports of many cells: the work grows with the cells and no faster, and what is drawn is bounded."""

from __future__ import annotations

import cProfile
import io
import itertools
from collections.abc import Callable
from pathlib import Path

import matplotlib.figure  # noqa: F401  (its import is no work of a report)
import numpy as np
import pytest
import scipy.special  # noqa: F401

import ditexp
from ditexp.files.json_values import encode
from ditexp.outputs import Outputs
from ditexp.report.grids import image_grid
from ditexp.report.html.page import html_page
from ditexp.report.picture_files import MAX_PICTURED
from ditexp.report.plots import heat_map, quality
from ditexp.report.plots.style import MAX_LINES
from ditexp.report.reading import study_results
from ditexp.report.recommend import recommend
from ditexp.report.tables.printing import MAX_ROWS, print_table
from ditexp.report.tables.table import Table
from ditexp.report.writing import parts_of
from ditexp.result import Result
from ditexp.terminal.console import Terminal
from tests.helpers.pages import data_of
from tests.helpers.results import cell, leave, recorded, results_of

PACKAGE = str(Path(ditexp.__file__).parent)


def many(count: int) -> list[dict]:
    """Cells of their own rows: five numbers of steps for each weight."""
    results = [cell(id=str(i), steps=10 + i % 5, fid=1 + i % 7 + i / count) for i in range(count)]
    for i, result in enumerate(results):
        result["settings"]["weight"] = i // 5 / 10
        result["deviations"] = {"fid": recorded(*np.random.default_rng(i).normal(size=10))}
        result["trajectory"] = {"error_along_t": [[0, 0], [1, 1 / (i + 1)]]}
    return results


def calls_in(work: Callable[[], object]) -> int:
    """How many functions and generators of the package are called, or asked again."""
    profile = cProfile.Profile(builtins=False)
    profile.runcall(work)
    return sum(each.callcount for each in profile.getstats() if each.code.co_filename.startswith(PACKAGE))


def report_of(results: list[Result]) -> None:
    table = Table.of(results)
    advice = recommend(table, {"forwards": 30.0})
    for make in parts_of(table, advice, None, title="many", results=results).values():
        make()


def test_the_work_grows_no_faster_than_the_cells(tmp_path, monkeypatch):
    for module in (quality, heat_map):
        monkeypatch.setattr(module, "MAX_LINES", 6)
    report_of(results_of(many(8)))  # what is done once a process
    outputs, counts = Outputs(tmp_path), []
    for count in (40, 80, 160):  # beyond the bounds of figures
        leave([each | {"study": f"many{count}"} for each in many(count)], outputs.runs / str(count))
        counts.append(calls_in(lambda: report_of(study_results(outputs, f"many{count}"))))  # noqa: B023
    first, then = (after - before for before, after in itertools.pairwise(counts))
    assert then < 1.02 * 2 * first, counts


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.of(results_of(many(5 * MAX_LINES + 10)))


def test_figures_have_the_lines_that_a_reader_can_tell_apart(table):
    figure = quality.quality_vs_cost(table, table.fid)
    lines = {text.get_text() for text in figure.legends[0].get_texts()} - {"Pareto front (filled)"}
    assert len(lines) == MAX_LINES and table.labels[0] in lines
    assert f"{MAX_LINES} of {MAX_LINES + 2} lines" in figure.get_supxlabel()
    axes = heat_map.heat_map(table, table.fid).axes[0]
    assert len(axes.get_yticks()) == MAX_LINES
    assert f"the best {MAX_LINES} of {MAX_LINES + 2} lines" in " ".join(axes.get_title("left").split())


def test_a_printed_table_has_the_best_rows(table):
    terminal = Terminal(width=200, file=io.StringIO(), color_system=None)
    print_table(terminal, table, file="table.csv")
    text = terminal.file.getvalue()
    assert text.count("euler") == MAX_ROWS and f"{len(table.rows) - MAX_ROWS} more rows: see table.csv" in text


def test_a_page_has_the_pictures_of_the_best_rows(tmp_path):
    results = many(MAX_PICTURED + 1)
    image_grid(np.zeros((10, 8, 8, 1), np.uint8), columns=10).save(tmp_path / "grid.png")
    page = html_page(
        Table.of(results_of(each | {"grid": str(tmp_path / "grid.png")} for each in results)), title="many"
    )
    assert [bool(row["pictures"]) for row in data_of(page)["rows"]] == [True] * MAX_PICTURED + [False]
    assert f"Pictures: of the best {MAX_PICTURED} of {MAX_PICTURED + 1} cells." in page


def test_a_deviation_that_was_asked_for_is_not_written():
    (result,) = results_of(many(1))
    before = encode(result.deviations["fid"])
    assert result.deviations["fid"].sd > 0 and encode(result.deviations["fid"]) == before
