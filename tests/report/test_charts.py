"""The charts of a report's page, in headless Chromium where that is installed."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from ditexp.report.html.page import LIBRARY, PARTS, html_page
from ditexp.report.plots.style import PALETTE, line_styles
from tests.helpers.pages import LAPTOP, PHONE, opened
from tests.helpers.results import cell, failed, sampled, table_of

FIDS = {  # by solver and steps, at guidance.scale 1 and 2
    ("euler", 5): (9.0, 8.0),
    ("euler", 20): (5.0, 6.0),
    ("heun", 5): (4.0, 7.0),
    ("heun", 20): (2.0, 3.0),
}


def scaled(result: dict, scale: float) -> dict:
    result["settings"]["guidance.scale"] = scale
    return result


def eight_cells() -> list[dict]:
    """Two solvers, two numbers of steps, two scales of guidance; IS is the best where FID is the worst."""
    results = [
        scaled(cell(solver=solver, steps=steps, fid=fid), scale)
        for (solver, steps), fids in FIDS.items()
        for scale, fid in zip((1.0, 2.0), fids)
    ]
    for result in results:
        result["metrics"]["inception_score"] = result["metrics"]["fid"]
    return results


def swept_scale() -> list[dict]:
    """Three solvers at 20 steps, six scales, three seeds; their names and numbers are long."""
    cells = itertools.product(("euler", "dpmpp_3m_long", "unipc"), (0.5, 1.0, 1.25, 1.5, 3.0, 10.0), range(3))
    return [scaled(sampled(seed, solver=solver, fid=1200.123 * scale + seed), scale) for solver, scale, seed in cells]


def written(results: Sequence[dict], path: Path) -> Path:
    path.write_text(html_page(table_of(results), title="Charts"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return written(eight_cells(), tmp_path_factory.mktemp("charts") / "report.html")


@pytest.fixture
def tab(browser, file):
    with opened(browser, file, **LAPTOP) as tab:
        yield tab


def choose(tab, **choices: str) -> None:
    """Choose the option of each menu, by its id, with _ for -."""
    for menu, option in choices.items():
        tab.locator(f"#{menu.replace('_', '-')}").select_option(label=option)


def points(tab, which: str = "") -> int:
    return tab.locator(f"#quality-plot .points > *{which}").count()


def caption(tab, chart: str) -> str:
    return tab.locator(f"figure:has(#{chart}) figcaption").inner_text()


def legend(tab) -> dict[str, str]:
    """The colours of the lines, by name."""
    entries = tab.locator("figure:has(#quality-plot) .legend li:has(.points)")
    color = "x.querySelector('.points > *').getAttribute('stroke')"
    return dict(entries.evaluate_all(f"all => all.map(x => [x.textContent, {color}])"))


def places(tab) -> dict[str, tuple[str, int]]:
    """Text and strength of colour of each place of the heat map, by what it is."""
    found = tab.locator("#heat-map .places rect").evaluate_all(
        "all => all.map(x => [x.ariaLabel, x.attributes.fill.value])"
    )
    named = [(*label.rsplit(": ", 1), int(re.search(r"(\d+)%", fill)[1])) for label, fill in found]
    return {name: (text, strength) for name, text, strength in named}


def test_the_library_is_the_published_one():
    table = dict(re.findall(r"^\| `([\w.]+)` .* `(\w{64})` \|$", (PARTS / "vendor/README.md").read_text(), re.M))
    assert [f"vendor/{name}" for name in table] == list(LIBRARY)
    assert table == {name: hashlib.sha256((PARTS / "vendor" / name).read_bytes()).hexdigest() for name in table}


def test_one_number_against_another(tab):
    assert caption(tab, "quality-plot") == "FID against network evaluations per image; labels: steps"
    table = table_of(eight_cells())
    styles = line_styles(table, range(8))
    assert legend(tab) == {label: f"var(--hue-{PALETTE.index(style.color)})" for label, style in styles.items()}
    assert list(legend(tab)) == list(dict.fromkeys(table.labels[:8]))  # best first
    assert points(tab) == 8 and points(tab, "[fill*=hue]") == 2  # heun at scale 1 is the Pareto front
    choose(tab, x_axis="guidance.scale")
    swatches = tab.locator("#cells .swatch").evaluate_all("all => all.map(x => x.style.getPropertyValue('--hue'))")
    assert set(swatches) == set(legend(tab).values())
    assert set(legend(tab)) == {"euler, 5 steps", "euler, 20 steps", "heun, 5 steps", "heun, 20 steps"}
    assert tab.locator("#quality-plot [aria-label=line] path:not(.front)").count() == 4
    assert points(tab) == 8 and points(tab, "[fill*=hue]") == 0  # no scale is better than another
    assert "FID (↓ better)" in tab.locator("#quality-plot").inner_text()
    choose(tab, y_axis="Precision", x_axis="IS")
    texts = tab.locator("#quality-plot").inner_text()
    assert "Precision (better ↑)" in texts and "IS (better →)" in texts
    assert set(legend(tab)) == set(styles)
    choose(tab, y_axis="seconds per image", x_axis="steps")
    assert "seconds per image (↓ cheaper)" in tab.locator("#quality-plot").inner_text()


def test_a_point_shows_its_cell_and_leads_to_its_row(tab):
    tab.locator("#quality-plot .points > [fill*=hue]").first.hover()
    words = ("heun", "guidance.scale", "forwards", "FID", "4.00")
    assert all(word in tab.locator("#tip").inner_text() for word in words)
    tab.mouse.down()
    tab.mouse.up()
    row = tab.locator("#cells tr.selected")
    assert "heun" in row.inner_text() and "4.00" in row.inner_text()
    assert tab.locator("#quality-plot .chosen circle").count() == tab.locator("#heat-map .chosen rect").count() == 1


def test_a_heat_map_of_two_settings(tab):
    assert caption(tab, "heat-map") == "FID by solver and steps: best over guidance.scale"
    best = places(tab)
    heads = tab.locator("#heat-map [aria-label='x-axis tick label'] text").all_text_contents()
    assert heads[-2:] == ["5", "20"]  # after those of the legend
    texts = {name: text for name, (text, _) in best.items()}
    assert texts == {f"solver {s}, steps {n}": f"{min(fids):.2f}" for (s, n), fids in FIDS.items()}
    assert best["solver heun, steps 20"][1] == 100 and best["solver euler, steps 5"][1] == 0
    choose(tab, map_mode="mean")
    assert caption(tab, "heat-map").endswith("mean over guidance.scale")
    assert places(tab)["solver euler, steps 5"][0] == "8.50"
    choose(tab, map_number="IS", map_down="guidance.scale", map_mode="best")
    assert caption(tab, "heat-map") == "IS by guidance.scale and steps: best over solver"
    assert places(tab)["guidance.scale 1, steps 5"] == ("9.00", 100)  # of IS, more is better
    tab.locator("#heat-map .places rect").first.press("Enter")
    assert tab.locator("#cells tr.selected").count() == 1


@pytest.mark.slow
def test_a_filter_acts_on_the_charts_and_keeps_colours(tab):
    before = legend(tab)
    tab.locator(".chips").get_by_text("heun", exact=True).click()
    assert points(tab) == 4 and len(places(tab)) == 2
    assert legend(tab) == {name: hue for name, hue in before.items() if name.startswith("heun")}
    tab.get_by_role("searchbox").fill("nothing of the kind")
    assert points(tab) == 0 and "No cell of the filter has these." in tab.locator("#quality-plot").inner_text()


OVERLAPS = """
all => all.flatMap((svg) => {
  const texts = [...svg.querySelectorAll("text")].filter((text) => text.textContent.trim());
  const boxes = texts.map((text) => text.getBoundingClientRect());
  const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
  const pairs = texts.flatMap((_, i) => texts.slice(0, i).map((_, j) => [i, j]));
  return pairs.filter(([i, j]) => overlap(boxes[i], boxes[j])).map((pair) => pair.map((i) => texts[i].textContent));
})
"""
ENDS = """
chart => {
  const numbers = (axis) => [...chart.querySelectorAll(`[aria-label="${axis}-axis tick label"] text`)];
  const middle = (box) => [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
  const at = (elements, k) => elements.map((element) => middle(element.getBoundingClientRect())[k]);
  return ["x", "y"].map((axis, k) => [at(numbers(axis), k), at([...chart.querySelectorAll(".points > *")], k)]);
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_ends_of_axes_have_numbers_and_no_texts_overlap(browser, tmp_path, options):
    with opened(browser, written(swept_scale(), tmp_path / "report.html"), **options) as tab:
        axes = [("FID", "guidance.scale"), ("FID", "network evaluations per image"), ("guidance.scale", "FID")]
        for (y, x), is_log in itertools.product(axes, (True, False)):
            choose(tab, y_axis=y, x_axis=x)
            for axis in ("x", "y"):
                tab.get_by_label(f"log {axis}").set_checked(is_log)
            assert points(tab) == 18
            assert tab.locator("#charts svg").evaluate_all(OVERLAPS) == []
            for numbers, centres in tab.locator("#quality-plot").evaluate(ENDS):
                assert min(numbers) - 3 < min(centres) and max(centres) < max(numbers) + 3
        assert tab.evaluate("document.documentElement.scrollWidth") <= tab.viewport_size["width"]


@pytest.mark.slow
def test_values_that_no_axis_has_are_left_out(browser, tmp_path):
    results = [cell(id=str(i), steps=i + 1, fid=fid) for i, fid in enumerate([math.inf, math.nan, 0.0, -0.5, 2.0])]
    results.append(cell(id="5", solver="dopri5"))
    results[-1]["cost"]["steps"] = results[-1]["settings"]["steps"] = None  # it is adaptive
    for result in results:
        result["metrics"]["change_rmse"] = 1.0  # no value of it is the best
        result["trajectory"] = {"error_along_t": [[0.0, 0.0]]}
    with opened(browser, written(results, tmp_path / "report.html"), **LAPTOP) as tab:
        assert points(tab) == 4
        tab.get_by_label("log y").click()
        assert points(tab) == 2
        choose(tab, y_axis="change", map_number="change")
        assert points(tab) == 6 and tab.locator("#heat-map .best rect").count() == 0
        assert tab.locator("#error-plot").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "results", [[cell()], [failed()], [cell(), cell(solver="heun")]], ids=["one", "failed", "no number varies"]
)
def test_few_cells_have_the_charts_that_they_can_have(browser, tmp_path, results):
    with opened(browser, written(results, tmp_path / "report.html"), **LAPTOP) as tab:
        assert points(tab) == len(table_of(results).metric("fid").finite if table_of(results).fid else {})
        assert tab.locator("#heat-map").count() == 0
