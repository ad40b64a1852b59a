"""What can be reported: the sweeps, runs and studies below an outputs folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ditexp.cli.overrides import quoted
from ditexp.outputs import Outputs
from ditexp.report.reading import read_undamaged
from ditexp.report.titles import DEFAULT_STUDY, swept
from ditexp.report.writing import from_here
from ditexp.result import Result
from ditexp.terminal.console import Terminal
from ditexp.terminal.units import date, plural

MAX_LISTED = 20


@dataclass(frozen=True)
class Reportable:
    """A sweep, a run or a study. command: makes its report. changed: in seconds since 1970."""

    command: str
    changed: float
    results: Sequence[Result]

    @property
    def text(self) -> str:
        return f"{date(self.changed)}  {plural(len(self.results), 'cell'):>9}  {swept(self.results)}"


def reportable(outputs: Outputs) -> tuple[list[Reportable], list[Reportable]]:
    """(Sweeps and runs, studies), each newest first; without those that have no cell that can be read."""
    runs = []
    studies: dict[str, list[tuple[float, Result]]] = {}
    for folder in outputs.runs.iterdir() if outputs.runs.is_dir() else ():
        files = [file for file in (folder / "cell.json", *folder.glob("*/cell.json")) if file.is_file()]
        changed = max((file.stat().st_mtime for file in files), default=0.0)
        if results := read_undamaged(sorted(files)):
            runs.append(Reportable(command_for("results", str(from_here(folder))), changed, results))
        for result in results:
            studies.setdefault(result.study, []).append((changed, result))
    named = []
    for study, found in studies.items():
        if study not in ("", DEFAULT_STUDY):
            results = {result.id: result for _, result in found}
            changed = max(each for each, _ in found)
            named.append(Reportable(command_for("study", study), changed, list(results.values())))
    newest = [sorted(each, key=lambda one: -one.changed) for each in (runs, named)]
    return newest[0], newest[1]


def command_for(key: str, value: str) -> str:
    """The command that writes a report. key: results, with a folder as value, or study."""
    is_plain = re.fullmatch(r"[\w./~@:+-]+", value)
    return shlex.join(["ditexp", "report", f"{key}={value if is_plain else quoted(value)}"])


def show_reportable(terminal: Terminal, outputs: Outputs) -> None:
    """List what can be reported, with the command. Raises ValueError if there is nothing."""
    runs, studies = reportable(outputs)
    if not runs:
        raise ValueError(
            f"{outputs.runs} has no results of cells: run some with `ditexp run`, or give outputs=<their folder>"
        )
    for heading, found in (("Sweeps and runs", runs), ("Studies", studies)):
        if found:
            terminal.print(f"{heading}, newest first:")
        for each in found[:MAX_LISTED]:
            terminal.print(each.text, soft_wrap=True)
            terminal.print(f"    {each.command}", soft_wrap=True)
        if more := len(found[MAX_LISTED:]):
            terminal.print(f"and {more} older ones")
