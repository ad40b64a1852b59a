"""Hydra's sweep over all combinations of values, where a setting goes to the options that have it."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class ProductSweeper(BasicSweeper):
    """The basic sweeper, but guidance=none,cfg guidance.scale=1.5 is a sweep although none has no scale."""

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        from ditexp.cli.sweeping import fitting

        assert self.hydra_context and self.config
        load, config = self.hydra_context.config_loader.load_sweep_config, self.config
        return fitting(super().get_job_batch(), lambda overrides: load(config, overrides))

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """`get_job_batch` has composed each."""
