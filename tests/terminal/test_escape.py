"""No text of a user is markup in what ditexp writes and shows."""

from __future__ import annotations

import csv
import io
import logging
import math
import shutil
import subprocess
import warnings
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from markdown_it import MarkdownIt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text as FigureText
from rich.table import Table as RichTable
from rich.text import Text

from ditexp.outputs import Outputs
from ditexp.report.grids import draw
from ditexp.report.html.page import html_page
from ditexp.report.plots.along_t import error_along_t
from ditexp.report.plots.quality import quality_vs_cost
from ditexp.report.plots.style import save
from ditexp.report.tables.column import Column
from ditexp.report.tables.printing import print_table
from ditexp.report.tables.table import Table
from ditexp.samples.card import write_card
from ditexp.samples.commands import list_sets
from ditexp.samples.store import SampleStore
from ditexp.terminal.console import PlainFormatter, Terminal, print_line
from ditexp.terminal.escape import for_csv, for_latex, for_markdown, for_picture, one_line
from ditexp.terminal.progress import progress_bar
from ditexp.values import Sheet
from tests.helpers.results import failed, sampled, table_of

NASTY = {
    "mathematics": r"/data/$a_b$/c$^{$ \frac{1",
    "underscore": "_hidden_",
    "latex": r"[1] * \input{/etc/passwd} 50% & #1 ~ ^ {x --help '' \" <<a>> ?` !`",
    "markdown": "a|b *c* `d` [e](http://f) ~~g~~ &lt; \\ _h_",
    "html": "</script></style><img src=x onerror='document.title=1'>\"&amp;<!--",
    "rich": "[red]x[/] [/nope] :smile: [link=http://x]y[/link]",
    "formula": "=cmd|' /C calc'!A0",
    "terminal": "a\x1b]0;title\x07\x9b31m\x00\r\x08b",
    "lines": "one\ntwo\r\nthree\u2028four\n\nfive\tsix",
    "direction": "abc\u202egpj.exe\u2066",
    "surrogate": "name\udcff",
    "foreign": "中文 ☃ 😀 é Ł naïve е́ עברית",
    "long": "/very/long/folder" * 60,
    "template": "{0} {x.__class__} %s $title",
}
TEXTS = list(NASTY.values())


def nasty_table() -> Table:
    """Each text is a solver, a path and an error; three more names, of a reference, a column and a study."""
    results = []
    for number, text in enumerate(TEXTS):
        result = sampled(solver=text, steps=5 + number, fid=1.5 + number)
        result["settings"]["data.path"] = text
        result["protocol"]["reference"]["name"] = text
        results += [result, failed(solver=f"{text}!", error=text)]
    return table_of(results)


TABLE = nasty_table()


def shown(texts) -> list[str]:
    return [one_line(text) for text in texts]


def test_every_text_is_one_printable_line():
    for text in shown([*TEXTS, TABLE.labels[0]]):
        assert text.replace("\u0301", "").isprintable() and text == one_line(text)
        text.encode()
    assert one_line("a\x1b\n b\udcff") == "a� b�" and one_line(NASTY["foreign"]) == NASTY["foreign"]


class TextOfHtml(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags, self.cells, self.in_cell = set(), [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell &= tag not in ("td", "th")

    def handle_data(self, data):
        if self.in_cell:
            self.cells[-1] += data


def test_markdown_shows_the_text_itself():
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    page = TextOfHtml(parser.render(TABLE.markdown()))
    assert page.tags <= {"table", "thead", "tbody", "tr", "th", "td", "strong", "p", "sub", "br"}
    cells = [" ".join(text.split()) for text in page.cells]
    assert all(cells.count(text) >= 2 for text in shown(TEXTS)), set(shown(TEXTS)) - set(cells)
    assert r"\$a\_b\$"[:2] in for_markdown("$x$")  # mathematics on GitHub


def test_csv_gives_every_text_back_and_holds_no_formula():
    rows = list(csv.reader(io.StringIO(TABLE.csv())))
    for cell_ in (value for row in rows for value in row):
        assert not cell_.lstrip().startswith(tuple("=+-@\t\r")) or math.isfinite(float(cell_))
    texts = {value[1:] if value.startswith("'") else value for row in rows for value in row}
    assert {text for text in TEXTS if text.isprintable()} <= texts
    for text in ("=1", "+1-1", "-x", "@x", " =1", "\t1", "＝1", "'quoted"):
        assert for_csv(text) == f"'{text}"
    for value in (-1.5, "-1.5", "+2e-3", -3, None, True, "x=1", math.nan):
        assert for_csv(value) is value


def test_the_page_shows_the_text_itself():
    page = TextOfHtml(html_page(TABLE, title=NASTY["html"], command=NASTY["html"], study=TABLE))
    cells = [" ".join(text.split()) for text in page.cells]
    assert "img" not in page.tags and all(cells.count(text) >= 3 for text in shown(TEXTS))


def test_a_terminal_shows_the_text_itself(capsys):
    file = io.StringIO()
    terminal = Terminal(file=file, width=20_000, force_terminal=True, color_system=None)
    print_table(terminal, TABLE, file="table.csv")
    plain = RichTable(*TEXTS, title=NASTY["rich"])  # as plans and lists of sets have it: texts that are no Text
    plain.add_row(*TEXTS)
    terminal.print(plain)
    assert all(file.getvalue().count(one_line(NASTY[name])) >= 4 for name in ("rich", "html", "template"))
    for text in TEXTS:
        terminal.print(text)
        print_line(Text("failed", "red"), " ", text)
    lines = [" ".join(line.split()) for line in [*file.getvalue().splitlines(), *capsys.readouterr().err.splitlines()]]
    assert not any("\x1b" in line or "\x07" in line for line in lines)
    for text in shown(TEXTS):
        assert sum(text in line for line in lines) >= 4 or "five" in text
    record = logging.LogRecord("x", logging.INFO, "", 0, NASTY["terminal"], None, None)
    assert "\x1b" not in PlainFormatter().format(record)


def test_a_progress_bar_shows_the_text_itself(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(
        "ditexp.terminal.console.Terminal", lambda **_: Terminal(file=file, width=5000, force_terminal=True)
    )
    for text in TEXTS:
        with progress_bar(text, total=2) as bar:
            bar.advance(1, note=text)
        assert file.getvalue().count(one_line(text)) >= 2
    assert "\x1b]0;" not in file.getvalue()


def test_pictures_show_the_text_itself():
    """No label is mathematics, hidden, cut off by the window, or worth a warning."""
    along_t = {"trajectory": {"error_along_t": [[0, 0], [0.5, 0.001], [1, 0.2]]}}
    chosen = [NASTY[name] for name in ("mathematics", "underscore", "html", "foreign", "long")]
    table = Table.of([replace(row.first, details=along_t) for row in TABLE.rows if row.settings["solver"] in chosen])
    figure, along = quality_vs_cost(table, table.fid), error_along_t(table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for drawn in (figure, along):
            drawn.dpi = 50  # a quarter of the time
            save(drawn, io.BytesIO())
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    whole = {"".join(label.split()) for label in labels}
    for row in range(len(table.rows)):
        if "very/long" not in table.labels[row]:
            assert "".join(table.labels[row].split()) in whole
    texts = [text for drawn in (figure, along) for text in drawn.findobj(FigureText)]
    assert not any(text.get_parse_math() for text in texts if "$" in text.get_text())
    assert max(len(line) for label in labels for line in label.split("\n")) < 140
    renderer = FigureCanvasAgg(figure).get_renderer()
    latin = [text for text in figure.legends[0].texts if "中" not in text.get_text()]  # else a glyph is missing, again
    assert max(text.get_window_extent(renderer).x1 for text in latin) <= figure.bbox.x1


def test_a_label_keeps_start_and_end():
    assert for_picture("_x", 40) == " _x" and for_picture("", 40) == ""
    lines = for_picture(NASTY["long"], 40).split("\n")
    assert len(lines) == 3 and max(map(len, lines)) <= 40
    assert lines[0].startswith("/very/long") and lines[2].startswith("…") and lines[2].endswith("long/folder")


@pytest.mark.parametrize("text", TEXTS, ids=list(NASTY))
def test_sheets_have_any_caption(text):
    images = torch.zeros(1, 1, 1, 8, 8, dtype=torch.uint8)
    assert draw(Sheet(images, columns=[text], rows=[text])).width > 40


def test_latex_holds_no_command_of_a_user():
    assert for_latex(NASTY["latex"]) == (
        r"{[}1] {*} \textbackslash{}input\{/etc/passwd\} 50\% \& \#1 \textasciitilde{} \textasciicircum{} \{x -{}-help "
        r"'{}' \textbackslash{}\symbol{34} \textless{}\textless{}a\textgreater{}\textgreater{} ?{}` !{}`"
    )
    assert for_latex("é 中\n\n½") == (
        r"é \ifdefined\Umathcode 中\else [U+4E2D]\fi{} \ifdefined\Umathcode ½\else [U+00BD]\fi{}"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("encoding", ["T1", "OT1"])
def test_latex_compiles_whatever_the_texts(tmp_path, encoding):
    every = "".join(map(chr, [*range(0x20, 0x180), *range(0x2010, 0x2030), 0x2212, 0x221E, 0x2248, 0xFFFD]))
    table = Table([], [Column("x", every, "setting", ("*", "[1cm]", every))], [every])
    preamble = rf"\documentclass{{article}}\usepackage[{encoding}]{{fontenc}}\usepackage{{booktabs}}"
    body = f"{table.latex()}\n\n{TABLE.latex()}"
    (tmp_path / "tables.tex").write_text(rf"{preamble}\begin{{document}}{body}\end{{document}}", encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert "Missing character" not in (tmp_path / "tables.log").read_text(errors="replace")


@pytest.mark.parametrize("text", TEXTS, ids=list(NASTY))
def test_the_card_of_a_set_shows_the_text_itself(text, tmp_path):
    identity = {"block_size": 1, "image_shape": [1, 1, 1], "data": {"class": "x.Folder", "path": text}}
    store = SampleStore(tmp_path, identity=identity, num_samples=1)
    store.begin(command=text, provenance={"time": "2026-01-01"})
    write_card(store.folder)
    html = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .render((store.folder / "README.md").read_text(encoding="utf-8"))
    )
    page = TextOfHtml(html)
    assert page.tags <= {"h1", "h2", "table", "thead", "tbody", "tr", "th", "td", "p", "pre", "code"}
    assert f"Folder, path {one_line(text)}" in [" ".join(data.split()) for data in page.cells]


def test_the_list_of_sets_shows_the_command_itself(tmp_path, capsys):
    command = f"ditexp run 'study={NASTY['rich']}' {NASTY['terminal']}"
    store = SampleStore(tmp_path / "samples", identity={"block_size": 1, "image_shape": [1, 1, 1]}, num_samples=1)
    store.begin(command=command, provenance={"time": "2026-01-01"})
    list_sets(Outputs(tmp_path), verbose=True)
    listed = "".join(capsys.readouterr().out.split())
    assert "".join(NASTY["rich"].split()) in listed and "\x1b" not in listed
