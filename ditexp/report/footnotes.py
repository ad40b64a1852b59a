"""What stands below a table: whose protocol the numbers follow, and what the marks beside them mean."""

from __future__ import annotations

import json

from ditexp.report.columns import TIE, UNKNOWN, Column, protocol_marks, protocol_of
from ditexp.report.seeds import MANY, noise_of

FRECHET = ("fid", "sfid")  # biased by the number of samples


def caption(done: list[dict], columns: list[Column]) -> list[str]:
    """Protocol, feature network, reference and number of samples; what each mark in the columns stands for."""
    protocols = [protocol_of(result) for result in done]
    sentences = []
    names = {"protocol": "Protocol", "feature network": "Features", "reference": "Reference"}
    for name, header in (names | {"number of samples": "Samples per cell"}).items():
        if values := dict.fromkeys(protocol[name] for protocol in protocols if name in protocol):
            sentences.append(f"{header}: {' / '.join(values)}.")
    lines = [" ".join(sentences)] if sentences else []
    marks = protocol_marks(done)
    usual = next((protocol for protocol in protocols if not marks[json.dumps(protocol)]), {})
    for key, mark in marks.items():
        if mark:
            facts = json.loads(key)
            differ = [name for name in {**usual, **facts} if facts.get(name) != usual.get(name)]
            what = "; ".join(f"{name} {facts.get(name, 'none')}" for name in differ)
            lines.append(f"{mark} not comparable with the others: {what}.")
    return lines + notes_on_noise(done, columns)


def notes_on_noise(done: list[dict], columns: list[Column]) -> list[str]:
    """What ±, ≈ and ? in the columns stand for."""
    lines = []
    if any(column.spread for column in columns):
        few = [row for row in done if len(row["members"]) < MANY]
        found = [noise for row in few for name in row["metrics"] if (noise := noise_of(row, name))]
        numbers = " or ".join(map(str, sorted({len(noise["halves"]) for noise in found})))
        ways = [f"estimated from {numbers} random halves of a cell's samples"] if found else []
        ways += [f"between the seeds of a row that has {MANY} or more"] if len(few) < len(done) else []
        lines.append(
            f"±: standard deviation expected between sample sets, {' or '.join(ways)}; error from the reference images "
            "is not included."
        )
    metrics = [column for column in columns if column.kind == "metric"]
    if any(column.ties or column.worse for column in metrics):
        lines.append(
            f"{TIE.strip()}: statistically tied with the best, which is bold. Neither: worse, with 95 % confidence in "
            "all such cells of a column together (paired by the noise that samples start from; with respect to these "
            "reference images)."
        )
    for column in metrics:
        name = column.name.rpartition("/")[2]
        if name in FRECHET and (count := sum(is_mostly_bias(row, name) for row in done)):
            lines.append(
                f"{column.header}: in {count} of {len(done)} cells half of the value or more is bias from the number "
                "of samples; their ± is up to twice too wide."
            )
    if any(column.unknown for column in columns):
        lines.append(
            f"{UNKNOWN.strip()}: unknown whether it is worse than the best or tied with it: resamples=0, a score that "
            "single samples have no values of, or a result of an earlier version (run its command again: no sample is "
            "made anew)."
        )
    return lines


def is_mostly_bias(row: dict, name: str) -> bool:
    """Whether half of a metric or more is its bias, which is inverse to the number of samples."""
    found = [(noise["mean"], member["metrics"][name]) for member in row["members"] if (noise := noise_of(member, name))]
    return bool(found) and sum(mean for mean, _ in found) >= 1.5 * sum(value for _, value in found)
