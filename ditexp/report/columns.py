"""What a table of results shows: the settings in which cells differ, what they cost, how good they are."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from ditexp.report.seeds import compared_with_best
from ditexp.terminal.escape import one_line

# How each number is headed, and which of its values is the best.
COSTS: dict[str, tuple[str, Callable | None]] = {
    "steps": ("steps", None),
    "nfe": ("NFE", None),
    "forwards": ("forwards", None),
    "seconds_per_image": ("s/image", min),
    "images_per_second": ("images/s", max),
    "peak_memory_mb": ("peak MB", min),
}
METRICS: dict[str, tuple[str, Callable | None]] = {
    "fid": ("FID", min),
    "sfid": ("sFID", min),
    "fid_infinity": ("FID∞", min),
    "kid": ("KID", min),
    "kid_std": ("KID between subsets", None),
    "inception_score": ("IS", max),
    "inception_score_std": ("IS between parts", None),
    "precision": ("Precision", max),
    "recall": ("Recall", max),
    "label_accuracy": ("label accuracy", max),
    "density": ("Density", max),
    "coverage": ("Coverage", max),
    "trajectory_rmse": ("RMSE to exact", min),
    "trajectory_order": ("order", None),
    "round_trip_rmse": ("round trip", min),
    # of tasks
    "path_ratio": ("path / straight", min),
    "known_error": ("known error", min),
    "agreement": ("agreement", max),
    "reconstruction_rmse": ("reconstruction", min),
    "change_rmse": ("change", None),
    "target_share": ("target class", max),
}
# No feature network is behind these.
OF_PIXELS = (
    "trajectory_rmse",
    "trajectory_order",
    "round_trip_rmse",
    "path_ratio",
    "known_error",
    "reconstruction_rmse",
    "change_rmse",
)
MISSING = "–"
TIE, UNKNOWN = " ≈", " ?"
MARKS = "†‡§¶"


@dataclass(frozen=True)
class Column:
    """A value for each row, None where a row has none.

    name: for programs: a setting or a cost by its own name, a metric as `<feature network>/<metric>`.
    header: for readers. kind: setting, cost, metric or error. goal: min or max if one value is the best.
    spread: standard deviation of each value, None where unknown; or nothing. ties: rows that are statistically tied
    with the best; unknown: rows for which that is unknown. marks: behind each value, what tells that it was taken by
    another protocol than the others; or nothing.
    decimals: of every value; None: as many as the smallest one needs.
    """

    name: str
    header: str
    kind: str
    values: tuple
    goal: Callable | None = None
    spread: tuple = ()
    ties: frozenset[int] = frozenset()
    unknown: frozenset[int] = frozenset()
    marks: tuple[str, ...] = ()
    decimals: int | None = None

    @property
    def is_number(self) -> bool:
        present = [value for value in self.values if value is not None]
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in present)

    @cached_property
    def best(self) -> set[int]:
        """The rows that hold the best value: all of them on a tie, none where nothing is compared."""
        if self.goal is None:
            return set()
        finite = {row: value for row, value in enumerate(self.values) if is_finite(value)}
        if len(finite) < 2:
            return set()
        best = self.goal(finite.values())
        return {row for row, value in finite.items() if value == best}

    def mark(self, row: int) -> str:
        """What is known of the row's difference from the best: a tie, nothing, or neither."""
        return TIE if row in self.ties else UNKNOWN if row in self.unknown else ""

    @property
    def worse(self) -> set[int]:
        """The rows that are worse than the best beyond noise."""
        finite = {row for row, value in enumerate(self.values) if is_finite(value)}
        return finite - self.best - self.ties - self.unknown if self.best else set()

    @cached_property
    def texts(self) -> list[str]:
        if self.kind in ("setting", "error"):
            return ["" if value is None and self.kind == "error" else plain(value) for value in self.values]
        sizes = [abs(value) for value in self.values if is_finite(value) and value]
        # As many decimals as give the smallest number three significant digits, and the largest deviation two, so that
        # the points align.
        is_whole = not sizes or (self.kind == "cost" and all(size == int(size) for size in sizes))
        decimals = 0 if is_whole else min(max(2 - math.floor(math.log10(min(sizes))), 0), 6)
        if deviations := [value for value in self.spread if is_finite(value) and value]:
            decimals = max(decimals, min(1 - math.floor(math.log10(max(deviations))), 6))
        decimals = decimals if self.decimals is None else self.decimals
        texts = [MISSING if value is None else f"{value:.{decimals}f}" for value in self.values]
        spreads = [f" ± {value:.{decimals}f}" if is_finite(value) else "" for value in self.spread]
        ties = [self.mark(row) for row in range(len(texts))]
        for more in filter(None, (spreads, ties, self.marks)):
            texts = [text + addition for text, addition in zip(texts, more)]
        return texts


def setting_columns(rows: list[dict]) -> list[Column]:
    """The solver, then every setting but steps in which rows differ; a component's, if those with the same one do."""
    settings = []
    for row in rows:
        count = row.get("num_samples", row.get("config", {}).get("num_samples"))
        settings.append({"num_samples": count, **row["settings"]})
    names = dict.fromkeys(name for setting in settings for name in setting if name not in ("solver", "steps"))
    varied = [name for name in names if varies(name, settings)]
    return [
        Column(name, name, "setting", tuple(setting.get(name) for setting in settings)) for name in ("solver", *varied)
    ]


def varies(name: str, settings: list[dict]) -> bool:
    """Whether it tells rows apart: solver.order doesn't, where each solver has one of its own."""
    values: dict[str | None, set] = {}
    for setting in settings:
        group = setting.get(name.partition(".")[0]) if "." in name else None
        values.setdefault(group, set()).add(plain(setting.get(name)))
    return any(len(found) > 1 for found in values.values())


def cost_columns(rows: list[dict]) -> list[Column]:
    seeds = tuple(len(row["members"]) for row in rows)
    columns = [Column("seeds", "seeds", "cost", seeds)] if max(seeds) > 1 else []
    for name, (header, goal) in COSTS.items():
        values = tuple(row.get("cost", {}).get(name) for row in rows)
        if name == "steps":  # a failed cell cost nothing known, but it was asked for so many steps
            values = tuple(row.get("cost", row["settings"]).get(name) for row in rows)
        if name == "steps" or any(value is not None for value in values):
            columns.append(Column(name, header, "cost", values, goal))
    return columns


def metric_columns(rows: list[dict], metrics: list[tuple[str, str]]) -> list[Column]:
    """A column for each (feature network, metric): numbers from two networks never share one."""
    columns, marks = [], protocol_marks(rows)
    for number, (network, name) in enumerate(metrics):
        header, goal = METRICS.get(name, (name, None))
        header = heading(network, name, header)
        values = tuple(metric_of(row, network, name) for row in rows)
        column_marks = ["" if value is None else marks[protocol_key(row)] for row, value in zip(rows, values)]
        measured = {protocol_key(row) for row, value in zip(rows, values) if value is not None}
        spread = tuple(None if value is None else row["spread"].get(name) for row, value in zip(rows, values))
        column = Column(
            f"{network}/{name}",
            header,
            "metric",
            values,
            goal if len(measured) == 1 else None,
            spread if any(value is not None for value in spread) else (),
            marks=tuple(column_marks) if len(measured) > 1 else (),
        )
        columns.append(with_ties(column, rows, name))
        if number == 0 and goal and any("extremes" in row for row in rows):
            several = [value is not None and "extremes" in row for row, value in zip(rows, values)]
            best = tuple(row["extremes"][name][goal is max] if s else None for row, s in zip(rows, several))
            columns.append(Column(f"{network}/{name}_best_seed", f"{header}, best seed", "metric", best))
    return columns


def with_ties(column: Column, rows: list[dict], name: str) -> Column:
    """The rows that are tied with the best, and those for which that is unknown."""
    if not column.best:
        return column
    measured = [row for row, value in enumerate(column.values) if is_finite(value)]
    worse = compared_with_best([rows[row] for row in measured], measured.index(min(column.best)), name)
    others = [(row, found) for row, found in zip(measured, worse) if row not in column.best]
    ties, unknown = (frozenset(row for row, found in others if found is each) for each in (False, None))
    return dataclasses.replace(column, ties=ties, unknown=unknown)


def heading(network: str, name: str, header: str) -> str:
    if (network, name) == ("dinov2", "fid"):
        return "FD-DINOv2"
    return header if network == "inception" or name in OF_PIXELS else f"{header} ({network})"


def protocol_of(result: dict) -> dict[str, str]:
    """What must be equal for metrics to be comparable, in words."""
    protocol = result.get("protocol") or {}
    feature, reference = protocol.get("feature"), protocol.get("reference")
    facts = {
        "protocol": ", ".join([protocol.get("protocol") or "", *protocol.get("changed", [])]),
        "feature network": feature and feature["name"],
        "weights": feature and json.dumps({key: value for key, value in feature.items() if key != "name"}),
        "reference": reference and reference_in_words(reference),
        "reference's contents": reference and reference.get("fingerprint"),
        "number of samples": result.get("num_samples"),
    }
    return {name: str(fact) for name, fact in facts.items() if fact not in (None, "")}


def reference_in_words(reference: dict) -> str:
    """Of a result's reference: its name and count, which is 0 where a file of statistics doesn't tell it."""
    count = f"{reference['count']:,} images" if reference["count"] else "statistics, image count unknown"
    return f"{reference['name']} ({count})"


def protocol_key(result: dict) -> str:
    return json.dumps(protocol_of(result))


def protocol_marks(rows: list[dict]) -> dict[str, str]:
    """The mark of each protocol of these rows: nothing for the one that most cells have."""
    counts = Counter(protocol_key(row) for row in rows if row["status"] == "done")
    keys = [key for key, _ in counts.most_common()]
    return {key: MARKS[(i - 1) % len(MARKS)] * ((i - 1) // len(MARKS) + 1) if i else "" for i, key in enumerate(keys)}


def feature_of(result: dict) -> str:
    return ((result.get("protocol") or {}).get("feature") or {}).get("name", "unknown")


def metric_of(result: dict, network: str, name: str) -> float | None:
    return result["metrics"].get(name) if result["status"] == "done" and feature_of(result) == network else None


def rank(result: dict, metrics: list[tuple[str, str]]) -> tuple[int, float]:
    """Sorts by the first metric, best first; then cells without a number, then failed ones."""
    if result["status"] != "done":
        return (2, 0.0)
    value = metric_of(result, *metrics[0]) if metrics else None
    if not is_finite(value):
        return (1, 0.0)
    is_better_high = METRICS.get(metrics[0][1], ("", None))[1] is max
    return (0, -value if is_better_high else value)


def is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def plain(value) -> str:
    """A setting as one line of text, as Hydra would take it."""
    if value is None:
        return MISSING
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    return json.dumps(value)
