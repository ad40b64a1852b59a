"""Write the tables of docs/performance.md from benchmarks/results: python -m docs.make_performance, or make docs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("performance.md")
RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
BEGIN, END = "<!-- {}: from benchmarks/results -->\n", "<!-- end -->\n"
NOTHING = "Nothing has been measured yet.\n"
Rows = list[Sequence[str]]


def sampling(record: Mapping[str, Any]) -> str:
    """Each case: the noise, what ditexp adds to a bare loop, and each other way over ditexp."""
    rows: Rows = []
    for case, ways in record["cases"].items():
        first = next(iter(ways))
        again = ways[f"{first}, again"]["clock_ratio"]
        others = [
            f"{name} {way['clock_ratio']:.2f}"
            for name, way in ways.items()
            if name not in (first, f"{first}, again", "bare loop")
        ]
        bare = ways.get("bare loop")
        added = "" if bare is None else f"{100 * (1 / bare['clock_ratio'] - 1):+.1f} %"
        rows.append((case, f"{100 * (again - 1):+.1f} %", added, ", ".join(others)))
    heads = ("case", "the same again", "over a bare loop", "seconds of others over ditexp's")
    return table(heads, rows)


def profile(record: Mapping[str, Any]) -> str:
    rows: Rows = []
    for cell in ("digits", "latents"):
        for part in ("blocks", "scoring"):
            found = record[cell][part]
            rows.append(
                (f"{cell}, {part}", f"{found['processor_seconds']:.1f}")
                + tuple(f"{100 * share:.1f} %" for share in found["shares"].values())
            )
    return table(("cell", "processor s", *record["digits"]["blocks"]["shares"]), rows)


def gpu(record: Mapping[str, Any]) -> str:
    """The rows of one part, with the columns that its rows have."""
    names = ("what", "size", "batch", "way", "precision", "compile", "cache", "images_per_second", "share_of_matmul")
    names += (
        "error",
        "preparation_seconds",
        "share_without_a_kernel",
        "share_of_evaluation",
        "seconds",
        "skipped",
        "failed",
    )
    columns = [name for name in names if any(name in row for row in record["rows"])]
    rows: Rows = [tuple(shown(row.get(name)) for name in columns) for row in record["rows"]]
    return table([name.replace("_", " ") for name in columns], rows)


def shown(value: object) -> str:
    """A number, a word or true and false; nothing for lists of single runs."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.3g}" if isinstance(value, float) else str(value) if isinstance(value, int | str) else ""


GPU = ("throughput", "peers", "precision", "compile", "cache", "evaluation", "gaps")


def table(heads: Sequence[str], rows: Rows) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def measured(name: str, table_of: Callable[[Mapping[str, Any]], str]) -> str | None:
    """The table of a file of results, with the machine and the commit; None if there is no such file."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return None
    record = json.loads(path.read_text())
    facts = record["provenance"]
    where = f"{facts['device']}, {facts['threads']} thread(s), torch {facts['torch']}, commit {facts['commit'][:7]}"
    return f"{table_of(record)}\n`{record['command']}`: {where}.\n"


def on_gpu() -> str | None:
    tables = {part: measured(f"gpu_{part}", gpu) for part in GPU}
    return "\n".join(f"### {part}\n\n{found}" for part, found in tables.items() if found) or None


def page() -> str:
    text = PAGE.read_text(encoding="utf-8")
    sections = {
        "sampling": measured("sampling", sampling),
        "profile_cell": measured("profile_cell", profile),
        "gpu": on_gpu(),
    }
    for name, section in sections.items():
        begin = BEGIN.format(name)
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}{section or NOTHING}{END}{rest.partition(END)[2]}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
