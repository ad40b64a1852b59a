"""Escapes a user's text for every format that ditexp writes, so that it is never read as markup.

A user's text is any text that ditexp did not write: settings, paths, prompts, names of studies and classes, error
messages, published.yaml. Control characters, lone surrogates (from file names that are not UTF-8) and characters that
change the direction of a line become � in every format. matplotlib and rich have settings against markup, see
`report.plots.house_style` and `terminal.console.Terminal`. Messages show hidden characters as escapes instead, see
`terminal.notices.in_line`.
"""

from __future__ import annotations

import html
import re
import textwrap
import unicodedata

UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
# An underscore inside a word and an & that begins no entity are harmless; escaping them would spoil the raw text.
MARKDOWN = re.compile(r"[\\|*`<\[\]~$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
# What a spreadsheet reads as the start of a formula (OWASP, "CSV Injection"), and the apostrophe that prevents it.
FORMULA = re.compile(r"\s*['=+\-@＝＋－＠]|[\t\n]")
# LaTeX's fonts join two of these in a row: -- becomes a dash, '' a quotation mark.
LIGATURE = re.compile(r"(?<=[-,'`?!])(?=[-,'`])")
BREAK = "\0"  # keeps two such characters apart; no printable text contains it
LATEX = {char: f"\\{char}" for char in "&%$#_{}"}
LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", '"': r"\symbol{34}"}
LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", BREAK: "{}", "\ufffd": "?"}
LATEX |= {"[": "{[}", "*": "{*}"}  # after a \\, LaTeX would read them as its arguments
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
    """The text with � for each character that acts on a terminal or a page, or can't be written; line ends stay."""
    return text if text.isprintable() else UNPRINTABLE.sub("\ufffd", text)


def one_line(text: str) -> str:
    """The text for a table or a picture: every run of white space becomes one space."""
    return printable(" ".join(text.split()))


def for_picture(text: str, width: int, *, max_lines: int = 3) -> str:
    """At most `max_lines` lines of at most `width` characters (at least 10); a longer text loses its middle.

    A text that begins with an underscore gets a space before it: matplotlib leaves such texts out of legends.
    """
    text, width = one_line(text), max(10, width)
    lines = textwrap.wrap(text, width)
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], f"… {text[2 - width :]}"]
    return " " * text.startswith("_") + "\n".join(lines)


def for_html(text: str) -> str:
    """For the text of an element or a quoted attribute."""
    return html.escape(printable(text))


def for_markdown(text: str) -> str:
    """For a line of text or a cell of a table."""
    return MARKDOWN.sub(r"\\\g<0>", one_line(text))


def for_latex(text: str) -> str:
    """For a line of text or a cell of a tabular, for every LaTeX engine.

    A character that pdflatex lacks becomes `[U+4E2D]` there; XeLaTeX and LuaLaTeX, which define \\Umathcode, show it.
    """
    text = LIGATURE.sub(BREAK, unicodedata.normalize("NFC", one_line(text)))
    return NOT_IN_PDFLATEX.sub(by_engine, text.translate(LATEX_TABLE))


def by_engine(unknown: re.Match[str]) -> str:
    codes = " ".join(f"[U+{ord(char):04X}]" for char in unknown[0])
    return rf"\ifdefined\Umathcode {unknown[0]}\else {codes}\fi{{}}"


def for_csv(value: object) -> object:
    """Put an apostrophe before a text that a spreadsheet would read as a formula; return other values as they are.

    A text that begins with an apostrophe gets a second one. A program that removes one apostrophe gets every text back.
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
