"""The results of a sweep as one table, as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from ditexp.report.tables.column import Column, is_finite, plain
from ditexp.report.tables.columns import cost_columns, metric_columns, rank, setting_columns
from ditexp.report.tables.footnotes import caption
from ditexp.report.tables.rows import Row, merge_seeds
from ditexp.result import Result
from ditexp.terminal.escape import for_csv, for_latex, for_markdown, one_line
from ditexp.terminal.units import plural

T = TypeVar("T")


@dataclass(frozen=True)
class Table:
    """rows: from best to worst. columns: with a value for each row. caption: lines below the table."""

    rows: list[Row]
    columns: list[Column]
    caption: list[str]

    @classmethod
    def of(cls, results: Sequence[Result]) -> Table:
        """A row for each cell with all its seeds, best first and failed ones last."""
        if not results:
            return cls([], [], [])
        rows = merge_seeds(results)
        done = [row for row in rows if row.is_done]
        metrics = list(dict.fromkeys((row.first.network, name) for row in done for name in row.metrics))
        metrics.sort(key=lambda metric: metric[1] != "fid")
        rows.sort(key=lambda row: rank(row, metrics))
        columns = [*setting_columns(rows), *cost_columns(rows), *metric_columns(rows, metrics)]
        if len(done) < len(rows):
            running = {"running": "running"}
            errors = tuple(row.first.error or running.get(row.first.status) for row in rows)
            columns.append(Column("error", "error", "error", errors))
        return cls(rows, columns, caption(done, columns))

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    def metric(self, name: str) -> Column | None:
        """The column of a metric, for the first feature network that has it."""
        return next((column for column in self.columns if column.name.endswith(f"/{name}")), None)

    @property
    def fid(self) -> Column | None:
        return self.metric("fid")

    @cached_property
    def steps(self) -> tuple[float | None, ...]:
        """Of each row; None for an adaptive solver."""
        column = self.column("steps")
        return column.values if column else (None,) * len(self.rows)

    @cached_property
    def labels(self) -> list[str]:
        """Of each row, the settings that set it apart, without its number of steps, as in `heun, weight 1.5`."""
        settings = [column for column in self.columns if column.kind == "setting"]
        return [
            ", ".join(
                plain(value) if isinstance(value, str) else one_line(f"{column.header} {plain(value)}")
                for column, value in zip(settings, values)
                if value is not None
            )
            for values in zip(*(column.values for column in settings))
        ]

    def name(self, row: int) -> str:
        """The label with the number of steps, as in `heun, weight 1.5 with 20 steps`."""
        steps = self.steps[row]
        return f"{self.labels[row]} with {plural(steps, 'step')}" if is_finite(steps) else self.labels[row]

    def markdown(self) -> str:
        headers = [for_markdown(column.header) for column in self.columns]
        rows = [headers, *self.body(escape=for_markdown, bold="**{}**".format)]
        widths = [max(3, *(len(text) for text in texts)) for texts in zip(*rows)]
        sides = [">" if column.is_number else "<" for column in self.columns]
        lines = [[f"{text:{side}{width}}" for text, side, width in zip(row, sides, widths)] for row in rows]
        rule = ["-" * (w - 1) + ":" if side == ">" else "-" * w for side, w in zip(sides, widths)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
        notes = "<br>\n".join(f"<sub>{for_markdown(line)}</sub>" for line in self.caption)
        return f"{table}\n\n{notes}\n"

    def csv(self) -> str:
        """Numbers in full: reading them gives the same floats. For texts see `escape.for_csv`."""
        columns = [(column.name, column.values) for column in self.columns]
        for column in self.columns:
            if column.spread:
                after = [name for name, _ in columns].index(column.name) + 1
                columns.insert(after, (f"{column.name}_sd", column.spread))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(for_csv(name) for name, _ in columns)
        writer.writerows(zip(*(map(for_csv, values) for _, values in columns)))
        return text.getvalue()

    def latex(self) -> str:
        """A booktabs tabular with the caption in small print below."""
        aligned = "".join("r" if column.is_number else "l" for column in self.columns)
        headers = [for_latex(column.header) for column in self.columns]
        rows = self.body(escape=for_latex, bold=r"\textbf{{{}}}".format)
        lines = [" & ".join(row) + r" \\" for row in [headers, *rows]]
        notes = [rf"\par\smallskip{{\footnotesize {for_latex(line)}}}" for line in self.caption]
        table = [
            rf"\begin{{tabular}}{{{aligned}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
        ]
        return "\n".join(["% needs \\usepackage{booktabs}", *table, r"\end{tabular}", *notes, ""])

    def body(self, *, escape: Callable[[str], T], bold: Callable[[T], T]) -> list[tuple[T, ...]]:
        """The texts of each row, escaped; those of the best values also pass through `bold`."""
        columns = []
        for column in self.columns:
            best = column.best
            texts = [escape(text) for text in column.texts]
            columns.append([bold(text) if row in best else text for row, text in enumerate(texts)])
        return list(zip(*columns))
