"""The caption below a table: how the numbers were measured, and what the marks mean."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from ditexp.report.tables.column import TIE, UNKNOWN, Column
from ditexp.report.tables.comparability import comparable_facts, marks_by_key
from ditexp.report.tables.rows import MANY_SEEDS, Row
from ditexp.terminal.units import plural

FRECHET = ("fid", "sfid")  # biased by the number of samples


def caption(done: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """Protocol, feature network, reference and number of samples, then the meaning of each mark in the columns."""
    facts = [comparable_facts(row.first) for row in done]
    sentences = []
    names = {"protocol": "Protocol", "feature network": "Features", "reference": "Reference"}
    for name, header in (names | {"number of samples": "Samples per cell"}).items():
        if values := dict.fromkeys(each[name] for each in facts if name in each):
            sentences.append(f"{header}: {' / '.join(values)}.")
    lines = [" ".join(sentences)] if sentences else []
    return [
        *lines,
        *notes_on_conventions(done),
        *notes_on_caches(done),
        *notes_on_marks(done, facts),
        *notes_on_spread(done, columns),
        *notes_on_ties(columns),
        *notes_on_bias(done, columns),
        *notes_on_unknown(columns),
    ]


def warnings(done: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """The lines of the caption that say which numbers to distrust."""
    facts = [comparable_facts(row.first) for row in done]
    return [*notes_on_marks(done, facts), *notes_on_bias(done, columns)]


def notes_on_conventions(done: Sequence[Row]) -> list[str]:
    """Whose conventions the cells follow, and where they depart from them."""
    lines = []
    for preset in dict.fromkeys(row.settings.get("compat") for row in done):
        rows = [row for row in done if row.settings.get("compat") == preset]
        counts = Counter(departure for row in rows for departure in row.first.departures)
        if preset is not None:
            found = [
                line if count == len(rows) else f"{line} in {count} of {len(rows)} cells"
                for line, count in counts.items()
            ]
            lines.append(f"Conventions of compat={preset}; departures: {'; '.join(found) or 'none'}.")
    return lines


def notes_on_caches(done: Sequence[Row]) -> list[str]:
    if all(row.settings.get("cache") in (None, "none") for row in done):
        return []
    return [
        "Forwards are fractional: the work of evaluations that reuse outputs of a cache is counted by floating-point "
        "operations."
    ]


def notes_on_marks(done: Sequence[Row], facts: Sequence[dict[str, str]]) -> list[str]:
    marks = marks_by_key(done)
    usual = next((each for each in facts if not marks[json.dumps(each)]), {})
    lines = []
    for key, mark in marks.items():
        if mark:
            found = json.loads(key)
            differ = [name for name in {**usual, **found} if found.get(name) != usual.get(name)]
            what = "; ".join(f"{name} {found.get(name, 'none')}" for name in differ)
            lines.append(f"{mark} not comparable with the others: {what}.")
    return lines


def notes_on_spread(done: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    if not any(column.spread for column in columns):
        return []
    few = [row for row in done if len(row.members) < MANY_SEEDS]
    counts = {len(noise.halves) for row in few for noise in row.first.deviations.values()}
    ways = [f"from {' or '.join(map(str, sorted(counts)))} random halves of a cell's samples"] if counts else []
    ways += [f"from the seeds of a row with {MANY_SEEDS} or more"] if len(few) < len(done) else []
    return [
        f"±: standard deviation expected between sample sets, estimated {' or '.join(ways)}; error from the reference "
        "images is not included."
    ]


def notes_on_ties(columns: Sequence[Column]) -> list[str]:
    if not any(column.ties or column.worse for column in columns if column.kind == "metric"):
        return []
    return [
        f"{TIE.strip()}: statistically tied with the best, which is bold. No mark: worse than the best (95 % "
        "confidence for the whole column; paired, since samples start from the same noise; for these reference "
        "images)."
    ]


def notes_on_bias(done: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """A line for each metric of which a half or more is bias in some cells."""
    counts = {
        column.header: sum(is_mostly_bias(row, column.metric) for row in done)
        for column in columns
        if column.kind == "metric" and column.metric in FRECHET
    }
    return [
        f"{header}: in {count} of {plural(len(done), 'cell')}, at least half of the value is bias from the small "
        "number of samples; the ± there is up to twice too large."
        for header, count in counts.items()
        if count
    ]


def notes_on_unknown(columns: Sequence[Column]) -> list[str]:
    if not any(column.unknown for column in columns):
        return []
    return [
        f"{UNKNOWN.strip()}: unknown whether tied with the best or worse, because the error was not estimated: "
        "resamples=0, a score without values for single samples, or a result of an earlier version (run its "
        "command again; no new samples are needed)."
    ]


def is_mostly_bias(row: Row, name: str) -> bool:
    """Whether at least half of a metric is bias that shrinks as 1 / number of samples.

    Halves have twice the bias of the whole set: if half of the value is bias, the mean over halves is 1.5 times as
    large.
    """
    known = [member for member in row.members if name in member.deviations]
    of_halves = sum(member.deviations[name].mean for member in known)
    return bool(known) and of_halves >= 1.5 * sum(member.metrics[name] for member in known)
