"""The results on disk as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ditexp.outputs import Outputs
from ditexp.report.frame import frame
from ditexp.report.reading import read_results, read_undamaged, study_results

if TYPE_CHECKING:
    import pandas


def results(folder: str | Path = "outputs", *, study: str | None = None) -> pandas.DataFrame:
    """The results in a folder, a row each: ids, all settings, costs per image, metrics and standard deviations.

    folder: of outputs, for every cell that is done; or of a sweep or run in outputs/runs, for its cells, also failed
    ones. study: only the cells of this study, the newest of each. Columns are as in a report's files: settings by their
    names, metrics as `<feature network>/<metric>` and `<feature network>/<metric>_sd`.

    Raises ValueError if the folder does not exist, or is neither of these.
    """
    path = Path(folder).expanduser()
    outputs = Outputs(path)
    if study is not None:
        return frame(study_results(outputs, study))
    if not outputs.results.is_dir():
        return frame(read_results(path))
    return frame(read_undamaged(outputs.cell_results()))
