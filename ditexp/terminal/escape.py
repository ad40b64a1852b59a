"""A user's text in each language that ditexp writes. In none of them is it markup.

A user's text is whatever ditexp didn't write: settings, paths, prompts, names of studies and classes, messages of
errors, published.yaml. Control characters, lone surrogates (of file names that are not UTF-8) and characters that turn
the direction of a line become � everywhere. What else matplotlib and rich need are settings of their own
(`report.plots.house_style`, `terminal.Terminal`).
"""

from __future__ import annotations

import html
import re
import textwrap
import unicodedata

UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
# An underscore inside a word is harmless, as is an & that begins no entity; escaping these would spoil the raw text.
MARKDOWN = re.compile(r"[\\|*`<\[\]~$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
# What spreadsheets take for the start of a formula (OWASP, "CSV Injection"), and the mark against it itself.
FORMULA = re.compile(r"\s*['=+\-@＝＋－＠]|[\t\n]")
# Two of these in a row make another character in LaTeX's fonts: -- a dash, '' a quotation mark.
LIGATURE = re.compile(r"(?<=[-,'`?!])(?=[-,'`])")
BREAK = "\0"  # between two such characters; no printable text has it
LATEX = {char: f"\\{char}" for char in "&%$#_{}"}
LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", '"': r"\symbol{34}"}
LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", BREAK: "{}", "\ufffd": "?"}
LATEX |= {"[": "{[}", "*": "{*}"}  # else arguments of a \\ before them
LATEX |= {"†": r"\textdagger{}", "‡": r"\textdaggerdbl{}", "§": r"\S{}", "¶": r"\P{}", "±": r"$\pm$", "×": r"$\times$"}
LATEX |= {"∞": r"$_\infty$", "≈": r"$\approx$", "−": "$-$", "·": r"$\cdot$", "…": r"\ldots{}"}
LATEX |= {"–": r"\textendash{}", "—": r"\textemdash{}", "’": "'", "‘": "`"}
LATEX |= {"“": r"\textquotedblleft{}", "”": r"\textquotedblright{}"}
LATEX_TABLE = str.maketrans(LATEX)
ACCENTS = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c"
LATIN = "ÆØßæøŒœŁł¡¿" + "".join(
    char for char in map(chr, range(0xC0, 0x180)) if unicodedata.normalize("NFD", char)[1:] in tuple(ACCENTS)
)
NOT_IN_PDFLATEX = re.compile(f"[^\x00-\x7f{re.escape(LATIN + ''.join(LATEX))}]+")


def printable(text: str) -> str:
    """The text with � for each character that acts on a terminal or a page, or can't be written; may have lines."""
    return UNPRINTABLE.sub("\ufffd", text)


def one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def for_picture(text: str, width: int, *, max_lines: int = 3) -> str:
    """Lines of at most `width` characters, 10 at least; of a longer text, such as a path, the start and the end.

    A space is before an underscore at the start, since matplotlib's legends leave out what begins with one.
    """
    text, width = one_line(text), max(10, width)
    lines = textwrap.wrap(text, width)
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], f"… {text[2 - width :]}"]
    return " " * text.startswith("_") + "\n".join(lines)


def for_html(text: str) -> str:
    """As text or as a quoted attribute."""
    return html.escape(printable(text))


def for_markdown(text: str) -> str:
    """A line of text, or a cell of a table."""
    return MARKDOWN.sub(r"\\\g<0>", one_line(text))


def for_latex(text: str) -> str:
    """A line of text, or a cell of a tabular, for every engine.

    What pdflatex has no character for is `[U+4E2D]` there; XeLaTeX and LuaLaTeX, which define \\Umathcode, show it.
    """
    text = LIGATURE.sub(BREAK, unicodedata.normalize("NFC", one_line(text)))
    return NOT_IN_PDFLATEX.sub(by_engine, text.translate(LATEX_TABLE))


def by_engine(unknown: re.Match) -> str:
    codes = " ".join(f"[U+{ord(char):04X}]" for char in unknown[0])
    return rf"\ifdefined\Umathcode {unknown[0]}\else {codes}\fi{{}}"


def for_csv(value: object) -> object:
    """A text that a spreadsheet would take for a formula with an apostrophe before it; all else as it is.

    A text that begins with an apostrophe has a second one, so that a program gets every text back by taking one off.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if FORMULA.match(text) and not is_number(text) else text


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()
