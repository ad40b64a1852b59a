"""Results as a pandas DataFrame with a row for each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ditexp.report.tables.column import plain
from ditexp.report.tables.rows import spread_of_one
from ditexp.result import Result

if TYPE_CHECKING:
    import pandas

FACTS = ("id", "sample_id", "status", "error", "study", "sweep")
ORIGIN = ("time", "ditexp", "commit", "torch", "device")

Values = dict[str, Any]


def frame(results: Sequence[Result]) -> pandas.DataFrame:
    """A row for each result, in their order; what a result does not have is missing in its row.

    Columns, from left to right: id, sample_id, status, error, study, sweep; every setting by its name, such as solver,
    guidance.scale and steps; every cost per image, such as nfe and seconds_per_image; every metric as
    `<feature network>/<metric>`, followed by its standard deviation as `<feature network>/<metric>_sd`; the command
    that makes the cell alone; the time, versions and device of its scores.
    """
    import pandas

    parts = [(facts_of, column), (settings_of, column), (costs_of, numbers), (metrics_of, numbers), (origin_of, column)]
    columns = {}
    for values_of, series in parts:
        rows = [values_of(result) for result in results]
        for name in dict.fromkeys(name for row in rows for name in row):
            columns[name] = series([row.get(name) for row in rows])
    return pandas.DataFrame(columns or dict.fromkeys(FACTS, ()))


def facts_of(result: Result) -> Values:
    return {name: vars(result)[name] or None for name in FACTS}


def settings_of(result: Result) -> Values:
    return {"num_samples": result.requested_samples, **result.settings}


def costs_of(result: Result) -> Values:
    """Without the steps, which are among the settings."""
    costs = result.cost.numbers() if result.cost else {}
    return {name: value for name, value in costs.items() if name != "steps"}


def metrics_of(result: Result) -> Values:
    values: Values = {}
    for name, value in result.metrics.items():
        full_name = f"{result.network}/{name}"
        values |= {full_name: value, f"{full_name}_sd": spread_of_one([result], name)}
    return values


def origin_of(result: Result) -> Values:
    return {"command": result.cell_command or None} | {name: result.provenance.get(name) for name in ORIGIN}


def column(values: Sequence[Any]) -> pandas.Series:
    """Values of one type, so that a file can hold them: whole numbers, numbers, flags, or else texts."""
    import pandas

    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {int, float}:
        return pandas.Series(values, dtype="Int64" if kinds == {int} else "float64")
    if kinds == {bool}:
        return pandas.Series(values, dtype="boolean")
    texts = [value if value is None or isinstance(value, str) else plain(value) for value in values]
    return pandas.Series(texts, dtype="str")


def numbers(values: Sequence[float | None]) -> pandas.Series:
    import pandas

    return pandas.Series(values, dtype="float64")
