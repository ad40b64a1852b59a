"""Reads the results that a report is made from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from ditexp.cli.packaged import published_file
from ditexp.outputs import Outputs
from ditexp.result import Result, read_result
from ditexp.terminal.notices import notice


def read_results(folder: Path) -> list[Result]:
    """The results of a sweep (`*/cell.json`) or of a single run (`cell.json`). Raises ValueError if there are none."""
    files = [folder / "cell.json"] if (folder / "cell.json").is_file() else sorted(folder.glob("*/cell.json"))
    if not files:
        raise ValueError(f"{folder} has neither cell.json nor */cell.json: give the folder of a run or a sweep")
    if not (found := read_undamaged(files)):
        raise ValueError(f"{folder} has no result that can be read: run its command again")
    return found


def study_results(outputs: Outputs, study: str) -> list[Result]:
    """The newest result of each cell that was run under the study's name, newest last.

    A failure is left out if the same cell was done later.
    """
    files = [*outputs.runs.glob("*/cell.json"), *outputs.runs.glob("*/*/cell.json")]
    files.sort(key=lambda file: file.stat().st_mtime if file.exists() else 0)  # a sweep may be removing it
    found = [result for result in read_undamaged(files) if result.study == study]
    newest = {*{json.dumps(result.settings, sort_keys=True): result.id for result in found}.values()}
    return list({result.id: result for result in found if result.id in newest}.values())


def published_of(study: str, results: Sequence[Result]) -> Path | None:
    """The published numbers of a study: of --config-dir or the package, or else where its newest cell found them.

    results: newest last. Warns if they were somewhere and are gone.
    """
    remembered = [result.published for result in results if result.published]
    if (found := published_file(study)) or not remembered:
        return found
    if remembered[-1].is_file():
        return remembered[-1]
    notice(f"{remembered[-1]}, the published numbers of study={study}, is gone: give the folder by --config-dir")
    return None


def read_undamaged(files: Iterable[Path]) -> list[Result]:
    """The results in these files, with a warning for each that is damaged."""
    found = []
    for file in files:
        try:
            found.append(read_result(file))
        except FileNotFoundError:
            pass  # removed meanwhile
        except ValueError as error:
            notice(f"{error}: it is left out; its cell's command writes it again")
    return found
