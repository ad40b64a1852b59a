"""Two Hydra launchers: `local` checks every cell of a sweep before the first one starts; `plan` only checks."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from omegaconf import DictConfig


class LocalLauncher(BasicLauncher):
    """One cell after another in this process, after all have been checked."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from ditexp import sweep

        sweep.check(self.compose(job_overrides))
        return super().launch(job_overrides, initial_job_idx)

    def compose(self, job_overrides: Sequence[Sequence[str]]) -> dict[str, DictConfig]:
        """Every cell's config under a name: the overrides that not all cells have."""
        load = self.hydra_context.config_loader.load_sweep_config
        common = set.intersection(*map(set, job_overrides)) if len(job_overrides) > 1 else set()
        return {
            " ".join(override for override in overrides if override not in common): load(self.config, list(overrides))
            for overrides in job_overrides
        }


class PlanLauncher(LocalLauncher):
    """Print what every cell would cost, what is cached and what is wrong; run nothing."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from ditexp import sweep

        sweep.plan(self.compose(job_overrides))
        return []


for name, launcher in (("local", "LocalLauncher"), ("plan", "PlanLauncher")):
    target = {"_target_": f"hydra_plugins.ditexp_launchers.{launcher}"}
    ConfigStore.instance().store(group="hydra/launcher", name=name, node=target, provider="ditexp")
