"""Shows runs on TensorBoard, while they run: `tensorboard --logdir outputs/tensorboard`.

Each cell is a folder of event files. They are written here, without a server, so there is no process beside.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ditexp.progress import Progress
from ditexp.report.picture_files import is_picture, read_picture
from ditexp.report.tables.table import Table
from ditexp.result import Result
from ditexp.tracker import naming
from ditexp.tracker.rows import is_due, row_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)


@dataclass
class Live:
    writer: SummaryWriter
    latest: Progress | None = None


class TensorBoardTracker:
    """Writes event files to `folder`, a folder for each cell, named by what it chooses and its id."""

    def __init__(self, *, folder: str | Path = "outputs/tensorboard") -> None:
        self.folder = Path(folder).absolute()
        self._live: dict[str, Live] = {}

    def check(self) -> None:
        if find_spec("tensorboard") is None:
            raise ValueError(
                "tracker=tensorboard: the package tensorboard is missing; pip install 'ditexp[tensorboard]', or choose "
                "tracker=none"
            )
        log.info("TensorBoard: tensorboard --logdir %s", self.folder)

    def begin_cell(self, cell: Result) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = self.folder / f"{naming.name_of(cell, None).replace('/', '-')}-{naming.run_id(cell.id)}"
        self._live[cell.id] = Live(SummaryWriter(str(folder), flush_secs=10))

    def log_progress(self, cell: Result, progress: Progress) -> None:
        live = self._live.get(cell.id)
        if live and is_due(progress, live.latest):
            live.latest = progress
            for name, value in row_of(progress).items():
                if not isinstance(value, str):
                    live.writer.add_scalar(name, value, global_step=round(progress.seconds))

    def log_preview(self, cell: Result, picture: Path) -> None:
        if live := self._live.get(cell.id):
            add_picture(live.writer, "preview", picture)

    def log_cell(self, result: Result) -> None:
        if result.id not in self._live:
            self.begin_cell(result)
        writer = self._live.pop(result.id).writer
        for name, picture in (("samples", result.grid), ("trajectory", result.trajectory_picture)):
            if picture:
                add_picture(writer, name, picture)
        costs = result.cost.numbers() if result.cost else {}
        scores = {f"{result.network}/{name}": value for name, value in result.metrics.items()}
        numbers = {name: value for name, value in {**scores, **costs}.items() if value is not None and name != "steps"}
        settings = {name: value for name, value in result.settings.items() if value is not None}
        writer.add_hparams(settings | {"status": result.status}, numbers, run_name=".")
        writer.close()

    def log_report(self, study: str, results: Sequence[Result], table: Table, paths: Mapping[str, Path | None]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self.folder / naming.of_report(study, results, None)["name"])) as writer:
            writer.add_text("table", table.markdown())
            for name, picture in paths.items():
                if picture and picture.suffix == ".png":
                    add_picture(writer, name.removesuffix(".png"), picture)

    def close(self) -> None:
        for live in self._live.values():
            live.writer.close()
        self._live.clear()


def add_picture(writer: SummaryWriter, name: str, picture: Path) -> None:
    if is_picture(picture) and (image := read_picture(picture)):
        writer.add_image(name, np.asarray(image), dataformats="HWC")
