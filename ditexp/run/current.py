"""The run or sweep of this process: Hydra returns nothing to the caller, but calls `Cells`.

Hydra does so before it composes the cells, so this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ditexp.cli.packed import Packed
from ditexp.run.forecast import Forecast

if TYPE_CHECKING:
    from ditexp.run.cell import Cell


@dataclass
class Sweep:
    """cells: each cell's configuration, with Hydra's own part, by the folder of its cell.json. cfg: the sweep's own.

    numbers: of the cells, from 1, by their folders. common: the overrides that all of them have. forecast: of the time
    that the cells need. running: the cell that is being made.
    """

    cfg: DictConfig = field(default_factory=lambda: DictConfig({}))
    folder: Path = Path()
    cells: Packed[Path] = field(default_factory=Packed)
    numbers: dict[Path, int] = field(default_factory=dict)
    common: frozenset[str] | None = None
    forecast: Forecast = field(default_factory=Forecast)
    running: Cell | None = None

    def add(self, cells: Packed[Path], overrides: Sequence[Sequence[str]]) -> None:
        """Add cells that are about to run. overrides: those of each."""
        self.cells.update(cells)
        self.numbers = {folder: number for number, folder in enumerate(self.cells, 1)}
        known = [] if self.common is None else [self.common]
        self.common = frozenset.intersection(*known, *map(frozenset, overrides))


current = Sweep()


class Cells(Callback):
    """Fills in `current`."""

    def on_run_end(self, config: DictConfig, **_: Any) -> None:
        current.cfg, current.folder = config, Path(config.hydra.run.dir)
        current.cells = Packed()
        current.cells.add(current.folder, config)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        current.cells, current.numbers, current.common = Packed(), {}, None
        current.folder, current.forecast = Path(config.hydra.sweep.dir), Forecast()

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        current.cfg, current.folder = config, Path(config.hydra.sweep.dir)
