"""Which results are comparable: the facts that must be equal, and marks for the results in which they are not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from ditexp.report.tables.rows import Row
from ditexp.result import ReferenceRecord, Result

MARKS = "†‡§¶"


def comparable_facts(result: Result) -> dict[str, str]:
    """By name, as text, what must be equal for two results' metrics to be comparable."""
    facts: dict[str, object] = {}
    if measured := result.measurement:
        facts["protocol"] = ", ".join([measured.protocol, *measured.changed])
        if measured.feature:
            facts["feature network"] = measured.network
            facts["weights"] = json.dumps({name: fact for name, fact in measured.feature.items() if name != "name"})
        if measured.reference:
            facts["reference"] = describe_reference(measured.reference)
            facts["reference's contents"] = measured.reference.fingerprint
    facts["number of samples"] = result.num_samples
    return {name: str(fact) for name, fact in facts.items() if fact not in (None, "")}


def describe_reference(reference: ReferenceRecord) -> str:
    count = f"{reference.count:,} images" if reference.count else "statistics, image count unknown"
    return f"{reference.name} ({count})"


def comparable_key(result: Result) -> str:
    """Equal for results whose metrics are comparable."""
    return json.dumps(comparable_facts(result))


def marks_by_key(rows: Sequence[Row]) -> dict[str, str]:
    """A mark for each `comparable_key` of these rows; empty for the one that most rows have."""
    counts = Counter(comparable_key(row.first) for row in rows if row.is_done)
    keys = [key for key, _ in counts.most_common()]
    return {key: MARKS[(i - 1) % len(MARKS)] * ((i - 1) // len(MARKS) + 1) if i else "" for i, key in enumerate(keys)}
