"""The report at the end of a run or sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.text import Text

from ditexp.outputs import Outputs
from ditexp.report.index.page import write_index
from ditexp.report.listing import command_for
from ditexp.report.reading import published_of
from ditexp.report.writing import Report, short_reason, show, write_report
from ditexp.result import Result
from ditexp.run.outcome import tracker_of
from ditexp.terminal.console import print_line


def report_on(results: Sequence[Result], cfg: DictConfig, folder: Path) -> None:
    """Write, print and track the report. A failure does not fail the sweep: it is printed with a command to try again.

    folder: of the run or sweep, with the cells' results.
    """
    report, failures = written(results, cfg, Outputs(cfg.outputs).reports / folder.name)
    if report:
        show(report)
    if all(result.cached for result in results):
        print("every cell was already done: nothing was sampled")
    tracker = tracker_of(cfg)
    try:
        if report:
            tracker.log_report(cfg.study, results, report.table, report.paths)
        tracker.close()
    except Exception as error:
        failures.append(f"the report was not tracked: {short_reason(error)}")
    for line in failures:
        print_line(Text("warning", "yellow"), f" {line}")
    if failures:
        print_line(f"no result is lost; to write the report again: {command_for('results', str(folder))}")


def written(results: Sequence[Result], cfg: DictConfig, out: Path) -> tuple[Report | None, list[str]]:
    """(The report, or None if there is none; a line for each part that failed)."""
    try:
        report = write_report(results, out, published=published_of(cfg.study, results))
    except Exception as error:
        return None, [f"{out} has no report: {short_reason(error)}"]
    failures = list(report.failed)
    try:
        write_index(out.parent)
    except Exception as error:
        failures.append(f"{out.parent}/index.html was not written: {short_reason(error)}")
    return report, failures
