"""Hydra launchers, which run the cells of a sweep.

local: in this process, one after another. plan: none of them; it prints what they would cost. Those of
`ditexp_submission` inherit from the local one. All check every cell before the first one starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hydra.core.utils import JobReturn, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

if TYPE_CHECKING:
    from ditexp.cli.packed import Packed

FOLDER = ("hydra.sweep.dir", "hydra.sweep.subdir")  # the keys of a cell's folder


class LocalLauncher(Launcher):
    """Runs one cell after another in this process, with the configurations that were checked.

    runs_here: whether cells run in this process. Then the process of its workers starts early, and the time left of the
    sweep is shown, for which the evaluations of all cells are counted first. only_plans: whether it runs no cell.
    """

    runs_here: ClassVar[bool] = True
    only_plans: ClassVar[bool] = False

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """What Hydra calls before `launch`. config: the sweep's."""
        from ditexp.cli.sweep_loader import for_sweeps

        self.hydra_context = for_sweeps(hydra_context)  # the sweeper's own, where that has done so
        self.task_function, self.config = task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        cells = self.checked(job_overrides, initial_job_idx)
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        returns = []
        for folder, cfg in cells.items():
            job = run_job(self.task_function, cfg, *FOLDER, self.hydra_context)
            job.working_dir = str(folder)  # where a sweeper finds the cell's result
            job.cfg = job.hydra_cfg = None  # two copies of the configuration, of every cell
            returns.append(job)
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return returns

    def checked(self, job_overrides: Sequence[Sequence[str]], first: int) -> Packed[Path]:
        """The configuration of every cell, checked and ready to run, by its folder. first: the number of the first."""
        from ditexp.run import fork_server
        from ditexp.run.checking import check

        cells, folders = self.compose(job_overrides, first)
        if self.runs_here:
            fork_server.start()
        built = check(cells)
        from ditexp.run import sweep  # imports torch: what is wrong above is said before
        from ditexp.run.departures import notice_departures

        notice_departures((cfg, cfg.hydra) for cfg in cells.values())
        by_folder = cells.under(folders)
        sweep.expect(by_folder, job_overrides, built if self.runs_here else [])
        return by_folder

    def compose(self, job_overrides: Sequence[Sequence[str]], first: int) -> tuple[Packed[str], list[Path]]:
        """(The configuration of every cell, settled, with its number and folder; these folders, in their order).

        The configurations are found by a name, which is the cell's own overrides, without those that all cells share.
        """
        from ditexp.checks import ConfigError
        from ditexp.run.checking import settle_all

        if "cells" not in self.config.hydra.callbacks:
            name = self.config.hydra.runtime.choices["hydra/launcher"]
            raise ConfigError(f"hydra/launcher={name} works only with ditexp run")
        if not job_overrides:
            raise ConfigError("the sweep has no cells, because a key has no values: give it one, such as steps=10")
        common = set.intersection(*map(set, job_overrides)) if len(job_overrides) > 1 else set()
        named = {
            " ".join(override for override in overrides if override not in common): list(overrides)
            for overrides in job_overrides
        }
        return settle_all(self.composed(named, first), only_plans=self.only_plans)

    def composed(self, named: dict[str, list[str]], first: int) -> Iterator[tuple[str, DictConfig]]:
        """The name and the configuration of each cell. named: the overrides of each, by its name."""
        load, sweep_dir = self.hydra_context.config_loader.load_sweep_config, Path(self.config.hydra.sweep.dir)
        folder = str(sweep_dir.absolute())  # jobs would resolve ${now:} and ${process:} differently
        for number, (name, overrides) in enumerate(named.items(), first):
            cfg = load(self.config, overrides)
            with open_dict(cfg):
                cfg.hydra.sweep.dir, cfg.hydra.job.num, cfg.hydra.job.id = folder, number, str(number)
            yield name, cfg


class PlanLauncher(LocalLauncher):
    """Prints what every cell would cost, what is cached and what is wrong; runs nothing."""

    only_plans = True

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        cells, _ = self.compose(job_overrides, initial_job_idx)
        from ditexp.run import sweep  # imports torch: what is wrong above is said before
        from ditexp.run.departures import notice_departures

        sweep.plan(cells)
        notice_departures((cfg, cfg.hydra) for cfg in cells.values())
        return []
