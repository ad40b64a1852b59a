"""The HTML page of a report: its text, and in headless Chromium where that is installed."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ditexp.report.grids import draw as draw_sheet
from ditexp.report.grids import film, image_grid
from ditexp.report.html import embedding
from ditexp.report.html.embedding import Tiles, embed
from ditexp.report.html.page import LIBRARY, PARTS, html_page, parts
from ditexp.report.plots.style import PALETTE
from ditexp.report.tables.column import Column
from ditexp.report.tables.table import Table
from ditexp.values import Sheet
from tests.helpers.pages import LAPTOP, PHONE, data_of, opened, resize
from tests.helpers.results import cell, failed, sampled, six_cells, table_of

HOSTILE = "</script><img src=x onerror='document.title=1'>&<b>\x1b[31m\x00\udcff"


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_the_page_names_what_it_is_based_on():
    advice = ["Use heun at 10 steps."]
    text = html_page(table_of(six_cells()), title="Six cells", command="python -m x 'a=[b]'", recommendations=advice)
    words = ("<h1>Six cells</h1>", "6 cells", "500 samples each", *advice)
    assert all(word in text for word in (*words, "1 of 6 cells: failed.", "python -m x &#x27;a=[b]&#x27;"))
    assert "<dt>Features</dt><dd>inception</dd>" in text and "<dd>digits (1,797 images)</dd>" in text
    assert "$" not in re.sub(r"<script>.*?</script>", "", text, flags=re.S)  # nothing of the template is left


def test_numbers_are_the_tables_own():
    table = table_of(six_cells())
    data = data_of(html_page(table, title="x"))
    columns = {column["name"]: column for column in data["columns"]}
    assert columns["inception/fid"]["values"] == [v if v and math.isfinite(v) else None for v in table.fid.values]
    assert columns["inception/fid"]["texts"] == table.fid.texts and columns["inception/fid"]["goal"] == "min"
    assert columns["inception/inception_score"]["goal"] == "max"
    assert [row["label"] for row in data["rows"]] == [table.labels[row] for row in range(6)]


def test_a_cells_details_hold_its_configuration_protocol_and_command():
    table = table_of(six_cells())
    details = data_of(html_page(table, title="x"))["rows"][0]["details"]
    assert details["command"] == "ditexp run solver=heun steps=10"
    assert "_target_: ditexp.solver.Euler" in details["config"] and "count: 1797" in details["protocol"]
    assert ["FID", "2.4"] in details["scores"] and ["reference", "digits (1,797 images)"] in details["comparable"]
    assert ["cell", "heun10"] in details["made"] and ["forwards", "20"] in details["cost"]
    assert details["settings"] == [["solver", "heun"], ["steps", "10"], ["all else", "model digits"]]


def test_marks_and_their_meaning_are_in_the_page():
    clean = cell()["protocol"] | {"protocol": "clean_fid"}
    table = table_of([cell(), cell(steps=50), cell(steps=9, protocol=clean)])
    columns = [replace(column, spread=(0.25,) * 3) if column is table.fid else column for column in table.columns]
    text = html_page(replace(table, columns=columns), title="x")
    assert "1.00<span class='spread'> ± 0.25</span>†</td>" in text
    assert "† not comparable with the others: protocol clean_fid" in text


def test_metrics_come_before_costs_and_secondary_columns_last():
    results = [sampled(seed, fid=seed + steps, steps=steps) for seed in (0, 1) for steps in (5, 10)]
    for result in results:
        result["metrics"]["kid_std"] = 0.1
        result["cost"]["peak_memory_mb"] = 400.0
    text = html_page(table_of(results), title="x")
    names = [column["name"].removeprefix("inception/") for column in data_of(text)["columns"]]
    assert names[:6] == ["solver", "steps", "fid", "inception_score", "precision", "recall"]
    assert names[6:8] == ["forwards", "seconds_per_image"]
    assert set(names[8:]) == {"seeds", "fid_best_seed", "kid_std", "nfe", "images_per_second", "peak_memory_mb"}
    headers = [attributes for tag, attributes in Tags(text).found if tag == "th" and attributes["scope"] == "col"]
    assert ["secondary" in each["class"].split() for each in headers] == [False] * 8 + [True] * 6


def test_a_feature_network_that_all_share_is_named_once():
    table = table_of([cell(feature="digits"), cell(feature="digits", steps=5)])
    shared = html_page(table, title="x", recommendations=["Best: FID (digits) 1"])
    assert ">FID</button>" in shared and "Best: FID 1" in shared and "<dt>Features</dt><dd>digits</dd>" in shared
    mixed = html_page(table_of([cell(feature="digits"), cell()]), title="x")
    assert ">FID (digits)</button>" in mixed and ">FID</button>" in mixed


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_texts_have_contrast(theme):
    css = (PARTS / "theme.css").read_text()
    colors = {name: both[theme] for name, *both in re.findall(r"--([\w-]+): light-dark\((#\w+), (#\w+)\)", css)}
    for text in ("ink", "grey", "alarm", "accent"):
        for ground in ("page", "surface", "faint", "tint"):
            low, high = sorted(luminance(colors[name]) + 0.05 for name in (text, ground))
            assert high / low >= 4.5, f"{text} on {ground}: {high / low:.1f}"


def test_samples_are_found_in_grids_alone(tmp_path):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (34, 8, 8, 1), np.uint8)
    image_grid(images, columns=10).save(tmp_path / "samples.png")
    drawn = draw_sheet(
        Sheet(torch.from_numpy(images[:30]).permute(0, 3, 1, 2).unflatten(0, (3, 10)), rows=["a", "b", "c"])
    )
    drawn.save(tmp_path / "sheet.png")
    Image.fromarray(draw.integers(0, 256, (498, 498), np.uint8)).save(tmp_path / "noise.png")
    pictures = {path.stem: picture.tiles for path, picture in embed(tmp_path.iterdir()).items()}
    assert pictures == {"samples": Tiles(columns=10, gap=2), "sheet": None, "noise": None}


def test_films_keep_their_frames(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 96, 96), np.uint8)
    film(Sheet(torch.from_numpy(images)[None], moving=True), tmp_path / "film.gif")
    for budget in (10**6, 40_000):
        monkeypatch.setattr(embedding, "BUDGET", budget)
        (picture,) = embed([tmp_path / "film.gif"]).values()
        assert len(picture.uri) <= budget
        with Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2]))) as image:
            assert image.n_frames == 10  # forwards and back


def test_published_numbers_are_shown():
    columns = [("row", "SiT <XL>"), ("published", 2.15), ("here", "not run: no checkpoint")]
    study = Table([], [Column(name, name, "setting", (value,)) for name, value in columns], ["SiT: Ma et al."])
    text = html_page(table_of(six_cells()), title="x", study=study)
    assert re.search("<td class='text'[^>]*>SiT &lt;XL&gt;</td><td class='number'[^>]*>2.15</td>", text)
    assert "not run: no checkpoint</td>" in text and "<p>SiT: Ma et al.</p>" in text
    assert "Published" not in html_page(table_of(six_cells()), title="x")


def test_texts_of_users_never_become_html():
    results = [cell(), failed(error=HOSTILE)]
    results[0]["settings"]["model"] = HOSTILE
    results[0]["config"]["model"] = HOSTILE
    study = Table([], [Column(HOSTILE, HOSTILE, "setting", (HOSTILE,))], [HOSTILE])
    text = html_page(table_of(results), title=HOSTILE, command=HOSTILE, recommendations=[HOSTILE], study=study)
    assert all(tag != "img" and "onerror" not in attributes for tag, attributes in Tags(text).found)
    assert text.count("</script>") == 3 and not re.search("[\x00\x1b\udcff]", text)
    assert data_of(text)["rows"][0]["details"]["config"]
    text.encode()  # it can be written


def test_nothing_is_fetched_from_anywhere():
    text = html_page(table_of(six_cells()), title="x")
    links = [a[name] for _, a in Tags(text).found for name in ("src", "href", "action", "srcset") if name in a]
    text = text.replace(parts(LIBRARY), "")  # its addresses are names of XML and of itself
    assert links == [] and not re.search(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", text)


def policy_of(text: str) -> dict[str, list[str]]:
    (meta,) = [a for tag, a in Tags(text).found if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    return {words[0]: words[1:] for words in map(str.split, meta["content"].split(";"))}


def test_its_policy_allows_its_own_style_and_script_by_their_hashes():
    text = html_page(table_of(six_cells()), title=HOSTILE)
    policy = policy_of(text)
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert policy["img-src"] == ["data:"] and "unsafe" not in str(policy)
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        contents = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        digests = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
        assert policy[directive] == [f"'sha256-{digest}'" for digest in digests]
    assert not any(
        name == "style" or name.startswith("on") for _, attributes in Tags(text).found for name in attributes
    )


def test_a_page_without_any_number_or_cell_is_a_page():
    assert "not finite" in html_page(table_of([failed()]), title="x")
    bare = cell()
    bare["metrics"] = {}
    assert data_of(html_page(table_of([bare]), title="x"))["rows"][0]["pictures"] == {}


def test_pictures_that_are_gone_are_absent(tmp_path):
    results = six_cells(tmp_path)
    Path(results[0]["grid"]).unlink()
    Path(results[1]["grid"]).write_text("no picture")
    rows = data_of(html_page(table_of(results), title="x"))["rows"]
    assert sorted(len(row["pictures"]) for row in rows) == [0, 1, 1, 2, 2, 2]


def test_pictures_share_a_budget(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "BUDGET", 100_000)
    draw = np.random.default_rng(0)
    for name, size in (("small", 40), ("large", 300), ("larger", 1500)):
        Image.fromarray(draw.integers(0, 256, (size, size, 3), np.uint8)).save(tmp_path / f"{name}.png")
    pictures = embed(tmp_path.iterdir())
    small, large, larger = (pictures[tmp_path / f"{name}.png"] for name in ("small", "large", "larger"))
    assert sum(len(picture.uri) for picture in pictures.values()) <= 100_000
    assert small.hard and small.width == 40 and not large.hard
    assert larger.width == larger.height <= embedding.MAX_WIDTH


def test_colours_are_those_of_the_other_pictures():
    css = (PARTS / "theme.css").read_text()
    assert re.findall(r"--hue-\d: light-dark\((#\w+),", css) == PALETTE


def test_a_page_of_200_cells_is_below_15_mb_whatever_its_pictures():
    results = [cell(id=str(i), steps=i + 1, fid=1 + i) for i in range(200)]
    for result in results:
        result["config"] = {f"group{i}": {"_target_": "ditexp.solver.euler.Euler", "value": i} for i in range(50)}
        result["trajectory"] = {"error_along_t": [[t / 100, t / 7] for t in range(101)]}
    assert len(html_page(table_of(results), title="200 cells").encode()) + embedding.BUDGET < 15e6


# ---- in a browser


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    results = six_cells(folder)
    results[5]["error"] = HOSTILE
    for result in results:
        result["settings"]["model"] = "<img src=x onerror='document.title=1'>" if result["id"] == "heun5" else "digits"
    path = folder / "report.html"
    path.write_text(html_page(table_of(results), title="Six cells", command="python -m x"), encoding="utf-8")
    return path


with_both = pytest.mark.parametrize("tab", [LAPTOP, PHONE], ids=["laptop", "phone"], indirect=True)


def on_both(test):
    return pytest.mark.slow(with_both(test))


@pytest.fixture
def tab(browser, file, request):
    with opened(browser, file, **getattr(request, "param", LAPTOP)) as tab:
        yield tab


def solvers_and_steps(tab) -> list[str]:
    """The rows that are seen, in their order."""
    rows = tab.locator("#cells tbody tr:not(.details):visible")
    cells = "['.short', '[data-name=steps]'].map((cell) => row.querySelector(cell).textContent)"
    return rows.evaluate_all(f"all => all.map((row) => {cells}.join(' '))")


def points(tab) -> int:
    return tab.locator("#quality-plot .points > *").count()


@on_both
def test_it_is_rendered(tab):
    order = ["heun 10", "heun 5", "euler 10", "euler 5", "euler 20", "heun 20"]
    assert solvers_and_steps(tab) == order
    assert points(tab) == 4  # of one cell FID is nan, one failed
    assert tab.locator("#heat-map .values text").all_text_contents() == ["2.40", "3.60", "6.00", "10.00"]
    assert tab.locator("#heat-map .best rect").count() == 1
    assert tab.locator("#quality-plot .front").count() == 1
    assert tab.locator("#error-plot [aria-label=line] path").count() == 5
    assert tab.locator(".gallery canvas").count() == tab.locator(".gallery img").count() == 5
    assert tab.title() == "Six cells" and tab.locator("#cells img").count() == 0


@on_both
def test_it_never_scrolls_sideways(tab):
    tab.locator("#cell-0 .expand").click()
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.evaluate("document.querySelector('.cell').getBoundingClientRect().right <= innerWidth")


def test_sorting(tab):
    fid = tab.get_by_role("columnheader", name="FID")
    fid.get_by_role("button").click()
    assert fid.get_attribute("aria-sort") == "ascending"
    assert solvers_and_steps(tab)[:4] == ["heun 10", "heun 5", "euler 10", "euler 5"]
    fid.get_by_role("button").press("Enter")
    assert fid.get_attribute("aria-sort") == "descending"
    ascending = solvers_and_steps(tab)
    assert ascending[:4] == ["euler 5", "euler 10", "heun 5", "heun 10"]
    assert set(ascending[4:]) == {"euler 20", "heun 20"}  # what is missing stays last
    steps = tab.get_by_role("columnheader", name="steps")
    steps.get_by_role("button").click()
    assert fid.get_attribute("aria-sort") == "none"
    assert [row.split()[1] for row in solvers_and_steps(tab)] == ["5", "5", "10", "10", "20", "20"]  # as numbers
    for _ in range(2):
        steps.get_by_role("button").click()
    assert solvers_and_steps(tab)[0] == "heun 10"  # as it was


@on_both
def test_the_filter_acts_on_table_and_plots(tab):
    tab.locator(".chips").get_by_text("euler", exact=True).click()
    assert solvers_and_steps(tab) == ["euler 10", "euler 5", "euler 20"] and points(tab) == 2
    assert (
        tab.locator("#heat-map .places rect").count() == 2
        and tab.locator("#error-plot [aria-label=line] path").count() == 3
    )
    assert tab.locator("output").inner_text() == "3 of 6 cells"
    tab.locator(".chips").get_by_text("10", exact=True).click()
    assert solvers_and_steps(tab) == ["euler 10"] and points(tab) == 1
    tab.get_by_role("button", name="Show all").click()
    tab.locator("output", has_text="6 of 6 cells").wait_for()  # the page acts on it once the form is empty
    assert len(solvers_and_steps(tab)) == 6 and points(tab) == 4
    tab.get_by_role("searchbox").fill("HEUN 2.4")
    assert solvers_and_steps(tab) == ["heun 10"] and points(tab) == 1
    tab.get_by_role("searchbox").fill("nothing of the kind")
    assert solvers_and_steps(tab) == [] and points(tab) == 0


@on_both
def test_a_row_opens_to_all_that_is_known_of_it(tab):
    button = tab.locator("#cell-0 .expand")
    button.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    details = tab.locator(".details").inner_text()
    assert "heun10" in details and "_target_" not in details  # no raw dumps first
    for heading in ("Configuration", "Protocol"):
        tab.locator(".details summary", has_text=heading).click()
    details = tab.locator(".details").inner_text()
    for word in ("heun10", "ditexp run solver=heun steps=10", "_target_: ditexp.solver.Euler", "count: 1797"):
        assert word in details
    assert tab.locator(".details img").count() == 2
    tab.evaluate("document.querySelectorAll('#cells thead button')[1].click()")  # sorts; a phone has a list for it
    assert tab.evaluate("document.querySelector('.details').previousElementSibling.id") == "cell-0"  # it moves along
    button.press("Enter")
    assert tab.locator(".details").count() == 0
    tab.locator("#cell-5 .expand").click()
    assert "</script><img src=x onerror=" in tab.locator(".details").inner_text() and tab.title() == "Six cells"


@on_both
def test_it_is_as_wide_as_the_window(tab):
    for width in (390, 768, 1366, 2200):
        resize(tab, width)
        assert tab.evaluate("document.querySelector('main').clientWidth") > 0.9 * width
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_all_metrics_are_in_view(tab):
    for name in ("FID", "IS", "Recall", "s/image"):
        header = tab.locator("#cells thead").get_by_role("columnheader", name=name, exact=True)
        assert header.evaluate("header => header.getBoundingClientRect().right") <= 1366


def test_secondary_columns_are_folded_away_until_asked_for(tab):
    nfe = tab.get_by_role("columnheader", name="NFE")
    assert not nfe.is_visible()
    tab.locator("#more").press("Enter")
    assert nfe.is_visible() and tab.locator("#more").get_attribute("aria-expanded") == "true"
    again = tab.context.new_page()
    again.goto(tab.url)
    assert again.get_by_role("columnheader", name="NFE").is_visible()  # it remembers
    again.locator("#more").click()
    assert not again.get_by_role("columnheader", name="NFE").is_visible()


@pytest.mark.slow
@pytest.mark.parametrize("tab", [PHONE], indirect=True)
def test_on_a_phone_each_row_is_a_card_of_names_and_values(tab):
    assert not tab.locator("#cells thead").is_visible()
    assert tab.locator("#cell-0 th").inner_text() == "heun, digits with 10 steps"
    names = tab.locator("#cell-0 td[data-name]:visible").evaluate_all(
        "all => all.map(x => [x.dataset.name, getComputedStyle(x, '::before').content, x.clientWidth])"
    )
    assert [name for name, *_ in names] == ["FID", "IS", "Precision", "Recall", "forwards", "s/image"]
    assert all(shown == f'"{name}"' and width > 100 for name, shown, width in names)
    tab.locator(".sorting select").select_option(label="s/image")
    assert solvers_and_steps(tab)[:2] == ["heun 5", "euler 5"]
    tab.locator(".sorting select").select_option(label="rank")
    assert solvers_and_steps(tab)[0] == "heun 10"


@pytest.mark.slow
@pytest.mark.parametrize("tab", [PHONE], indirect=True)
def test_what_is_touched_is_large_enough(tab):
    tab.locator("#cell-0 .expand").click()
    targets = tab.locator("button, select, summary, input[type=search], label:has(input)").filter(visible=True)
    heights = targets.evaluate_all("all => all.map(x => [x.outerHTML.slice(0, 80), x.getBoundingClientRect().height])")
    assert len(heights) > 10 and [each for each in heights if each[1] < 44] == []


@on_both
def test_galleries_show_whole_rows_of_the_same_samples(tab):
    """As many as fit: fewer, but not smaller ones, in a narrow window."""
    seen = {}
    for width in (390, 1366):
        resize(tab, width)
        sizes = tab.locator(".gallery canvas").evaluate_all("all => all.map(x => [x.width, x.height, x.clientWidth])")
        (wide, high, shown) = sizes[0]
        assert all(size == sizes[0] for size in sizes) and (wide + 2) % 50 == (high + 2) % 50 == 0
        columns, rows = (wide + 2) // 50, (high + 2) // 50
        assert 30 < shown / columns < 80 and columns * rows <= 100
        seen[width] = columns * rows
        # The last sample that is shown, at its place among ten in a row of the cell's picture.
        i = columns * rows - 1
        x, y = i % columns * 50, i // columns * 50
        script = f"x => [...x.getContext('2d').getImageData({x}, {y}, 1, 1).data].slice(0, 1)"
        drawn = tab.locator(".gallery canvas[aria-label$=' 5 steps']").first.evaluate(script)
        assert drawn == [np.random.default_rng(5).integers(0, 256, (100, 8, 8, 1), np.uint8)[i, 0, 0, 0]]
    assert seen[1366] > 2 * seen[390]


@pytest.mark.slow
@pytest.mark.parametrize("tab", [PHONE], indirect=True)
def test_a_tap_zooms_all_samples_at_the_same_place(tab):
    tab.locator(".gallery canvas").first.tap(position={"x": 20, "y": 10})
    zooms = tab.locator(".gallery canvas").evaluate_all("all => all.map(x => getComputedStyle(x).transform)")
    assert set(zooms) == {"matrix(3, 0, 0, 3, 0, 0)"}
    tab.locator(".gallery canvas").first.tap()
    assert tab.locator(".gallery.pointed").count() == 0


@pytest.mark.slow
def test_without_javascript_it_is_a_plain_table(browser, file):
    context = browser.new_context(**LAPTOP, java_script_enabled=False)
    tab = context.new_page()
    tab.goto(file.as_uri())
    assert tab.locator("#cells tbody tr:visible").count() == 6
    assert tab.get_by_role("columnheader", name="NFE").is_visible()
    assert not tab.locator("form, button:not(th *), #pictures, .expand").filter(visible=True).count()
    context.close()


def test_pictures_are_chosen_in_the_table(tab):
    tab.locator("#cell-0").get_by_role("checkbox").uncheck()
    assert tab.locator(".gallery canvas").count() == 4
    tab.get_by_role("searchbox").fill("euler")
    tab.get_by_role("button", name="Show filtered cells").click()
    assert tab.locator(".gallery canvas").count() == 3
    tab.get_by_role("button", name="Show default cells").click()
    labels = tab.locator(".gallery canvas").evaluate_all("all => all.map(x => x.ariaLabel)")
    assert len(labels) == 5 and "Samples: euler, digits with 5 steps" in labels


@on_both
def test_light_and_dark(tab):
    def background() -> int:
        return int(re.search(r"\d+", tab.evaluate("getComputedStyle(document.body).backgroundColor"))[0])

    was_light = background() > 128
    assert was_light == tab.evaluate("matchMedia('(prefers-color-scheme: light)').matches")
    tab.get_by_role("button", name="Dark" if was_light else "Light").click()
    assert (background() > 128) != was_light
    tab.emulate_media(media="print")
    assert (
        background() > 128 and tab.locator("#heat-map .best rect").is_visible() and not tab.locator("form").is_visible()
    )


INJECTED = (
    "<script>document.title='script'</script>",
    "<img src=x onerror=\"document.title='handler'\">",
    "<svg onload=\"document.title='svg'\"></svg>",
    "<p id=styled style='color: rgb(1, 2, 3)'>x</p>",
    "<style>#plain { color: rgb(1, 2, 3) }</style><p id=plain>x</p>",
    "<base href='http://127.0.0.1:9/'><link rel=stylesheet href=x.css>",
    "<iframe srcdoc=\"<script>parent.document.title='frame'</script>\"></iframe>",
    "<a id=link href=\"javascript:document.title='link'\">x</a>",
)


def test_what_would_slip_into_the_page_is_stopped_by_its_policy(browser, file):
    """Were a text not escaped: neither scripts nor handlers run, no style acts, nothing is fetched."""
    injected = file.with_name("injected.html")
    injected.write_text(file.read_text(encoding="utf-8").replace("<main>", f"<main>{''.join(INJECTED)}"))
    context = browser.new_context(**LAPTOP)
    other, stopped, asked = context.new_page(), [], []
    other.on("console", lambda message: stopped.append(message.text))
    other.on("request", lambda request: asked.append(request.url))
    other.goto(injected.as_uri())
    other.wait_for_function("performance.getEntriesByName('ready').length")
    other.locator("#link").click()
    assert other.title() == "Six cells" and points(other) == 4
    colors = other.locator("#styled, #plain").evaluate_all("all => all.map(x => getComputedStyle(x).color)")
    assert len(colors) == 2 and "rgb(1, 2, 3)" not in colors
    assert [url for url in asked if url.startswith("http")] == []
    assert sum("Content Security Policy" in line for line in stopped) >= len(INJECTED) - 1
    context.close()


def test_headings_go_down_in_order(tab):
    tab.locator("#cell-0 .expand").click()
    levels = tab.locator("h1, h2, h3").evaluate_all("all => all.map(x => Number(x.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


def test_a_validator_finds_no_error(file):
    jar, java = os.environ.get("VNU_JAR"), shutil.which("java")
    if not (jar and java):
        pytest.skip("needs java, and VNU_JAR, the path of the Nu Html Checker's vnu.jar (npm pack vnu-jar)")
    done = subprocess.run([java, "-Xss16m", "-jar", jar, "--Werror", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
