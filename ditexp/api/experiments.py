"""A cell as `ditexp run` would build it: with its ids, and what runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ditexp.api.progress import of_cell, progress_shown
from ditexp.api.turns import TURNS
from ditexp.cli.composing import settled
from ditexp.cli.system import settle_temporary_folder
from ditexp.result import Result
from ditexp.run import job
from ditexp.run.cell import Cell, build
from ditexp.run.checking import refuse_sweep
from ditexp.run.configuration import AUTO
from ditexp.run.departures import departures_of
from ditexp.run.plan import disk_needed
from ditexp.run.settings import command_of, settings_of
from ditexp.run.watch import Watch


@dataclass(frozen=True, eq=False, repr=False)
class Experiment:
    """One cell, checked and not yet run. `compose` makes it.

    cell: all its components. settings: what tells it from others, flat. command: what makes it on the command line.
    departures: the settings that are not those of its preset, compat=...
    """

    cell: Cell
    settings: dict[str, Any]
    command: str
    departures: list[str]

    @property
    def id(self) -> str:
        """Of the result: it covers the sample set and how it is scored."""
        return self.cell.id

    @property
    def sample_id(self) -> str:
        """Of the sample set: it covers all that changes a pixel."""
        return self.cell.store.id

    @property
    def config(self) -> dict[str, Any]:
        """The whole configuration, resolved."""
        return self.cell.config

    def result(self) -> Result | None:
        """The result on disk, if the cell has been run."""
        return self.cell.result()

    def run(self, *, progress: bool = True) -> Result:
        """Sample and score what is missing, as the command does, and return the result.

        It writes the sample set and the result, but no run folder, no report and nothing to a tracker. progress: a bar,
        if it takes long. Raises ValueError if the disk has no room, and whatever ends the sampling.
        """
        with TURNS:
            settle_temporary_folder()
            disk_needed([self.cell])
            with Watch() as watch, progress_shown(lambda: of_cell(watch.progress), wanted=progress):
                return job.run(
                    self.cell,
                    settings=self.settings,
                    command=self.command,
                    departures=self.departures,
                    watch=watch,
                )

    def __repr__(self) -> str:
        return f"<ditexp experiment {self.id}: {self.command}>"


def compose(overrides: Sequence[str] = (), *, config_dir: str | Path | None = None) -> Experiment:
    """The cell that `ditexp run` would make of these overrides, such as ["solver=heun", "steps=20"], checked alike.

    config_dir: a folder of further configurations, as of the flag --config-dir. Raises ValueError with a line for each
    mistake.
    """
    if isinstance(overrides, str):
        raise ValueError(f"compose({overrides!r}): give a list of overrides, as [{overrides!r}]")
    folder = None if config_dir is None else Path(config_dir)
    with TURNS, settled("config", overrides, config_dir=folder) as (cfg, hydra_cfg):
        refuse_sweep(hydra_cfg)
        cell = build(cfg, measure=True)
        settings = settings_of(cell.config, hydra_cfg)  # with the steps that a budget of evaluations allows
        departures = departures_of(cell.config, settings, hydra_cfg.runtime.choices)
        return Experiment(
            cell,
            settings,
            command_of(hydra_cfg, batch_size=cell.batch_size if cfg.batch_size == AUTO else None),
            departures,
        )
