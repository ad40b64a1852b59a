"""Writes the index of all reports, newest first."""

from __future__ import annotations

from pathlib import Path
from string import Template
from urllib.parse import quote

from ditexp.files.atomic import atomic
from ditexp.report.html.page import part, policy_hash
from ditexp.report.index.entry import read_entry
from ditexp.terminal.escape import for_html
from ditexp.terminal.units import date, plural

PARTS = Path(__file__).parent


def write_index(reports: Path) -> Path:
    """Write index.html on all reports in a folder, and return its path. A damaged report is listed as such."""
    folders = [path for path in reports.iterdir() if path.is_dir() and not path.name.startswith(".")]
    cards = sorted((card_of(folder) for folder in folders), reverse=True)
    css = part("theme.css") + (PARTS / "index.css").read_text(encoding="utf-8")
    template = Template((PARTS / "index.html").read_text(encoding="utf-8"))
    count = f"{plural(len(cards), 'report')} in {reports}"
    text = template.substitute(
        css=css, css_hash=policy_hash(css), count=for_html(count), cards="\n".join(card for _, card in cards)
    )
    path = reports / "index.html"
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def card_of(folder: Path) -> tuple[float, str]:
    """(When the report was written, its card in HTML)."""
    try:
        entry = read_entry(folder)
    except ValueError as error:
        written = modified(folder)
        facts = [date(written), str(error).replace(f"{folder}/", "")]
        return written, card(folder, title=folder.name, facts=facts, picture="", kind="damaged")
    cells = plural(entry.cells, "cell")
    cells += f", {entry.done} done" if entry.done < entry.cells else ""
    facts = [f"{date(entry.written)} · {cells}"]
    if entry.best:
        facts.append(f"{entry.metric} {entry.best}: {entry.best_cell}")
    return entry.written, card(folder, title=entry.title, facts=facts, picture=entry.picture, kind="whole")


def card(folder: Path, *, title: str, facts: list[str], picture: str, kind: str) -> str:
    is_safe = picture.startswith("data:image/webp;base64,")
    image = (
        f"<img src='{for_html(picture)}' alt='' width='144' height='96'>" if is_safe else "<span class='none'></span>"
    )
    lines = "".join(f"<p>{for_html(fact)}</p>" for fact in facts)
    page = "report.html" if (folder / "report.html").is_file() else ""
    link = quote(f"{folder.name}/{page}", errors="surrogateescape")
    name = "" if title == folder.name else f"<p class='folder'>{for_html(folder.name)}</p>"
    text = f"<h2>{for_html(title)}</h2>{lines}{name}"
    return f"<li class='{kind}'><a href='{for_html(link)}'>{image}<div>{text}</div></a></li>"


def modified(folder: Path) -> float:
    """When a folder was last changed, in seconds since 1970; 0 if it cannot be read."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
