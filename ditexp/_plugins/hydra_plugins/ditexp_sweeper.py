"""Hydra's sweep over all combinations of values, where a setting goes to the options that have it."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ProductSweeper(BasicSweeper):
    """The basic sweeper, but guidance=none,cfg guidance.scale=1.5 is a sweep although none has no scale."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from ditexp.cli.sweep_loader import for_sweeps

        super().setup(hydra_context=for_sweeps(hydra_context), task_function=task_function, config=config)

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        from ditexp.cli.sweeping import fitting

        assert self.hydra_context and self.config
        load, config = self.hydra_context.config_loader.load_sweep_config, self.config
        return fitting(super().get_job_batch(), lambda overrides: load(config, overrides))

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """`get_job_batch` has composed each."""


# Hydra's own sweeper of this name would be the schema of conf/hydra/sweeper/basic.yaml, which is chosen by default, so
# that a study can choose another: what config.yaml itself overrides, no study can.
ConfigStore.instance().repo["hydra"]["sweeper"].pop("basic.yaml", None)
