"""Sample and score: ditexp run [-m] solver=euler,heun,rk4 steps=20,50,100 (see conf/config.yaml)."""

from __future__ import annotations

from collections.abc import Mapping

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import DictConfig

from ditexp.checks import ConfigError
from ditexp.cli.command import command
from ditexp.cli.packaged import options_of
from ditexp.run import fork_server
from ditexp.run.checking import check, refuse_missing_weights, refuse_sweep, refuse_wrong_values
from ditexp.run.settings import overrides_of
from ditexp.run.stopping import stopped

# Launchers that inherit from it check all cells before the first one runs. Hydra's plugin path leads to it.
LOCAL = "hydra_plugins.ditexp_launchers.LocalLauncher"


def finish() -> None:
    from ditexp.run import sweep

    sweep.finish()


@command("config", finish=finish, stopped=stopped)
def main(cfg: DictConfig) -> None:
    hydra_cfg = DictConfig(HydraConfig.get())
    launcher = hydra_cfg.runtime.choices["hydra/launcher"]
    is_sweep = hydra_cfg.mode != RunMode.RUN  # then the launcher has checked all cells
    if is_sweep and not issubclass(get_class(hydra_cfg.launcher._target_), get_class(LOCAL)):
        choices = ", ".join(options_of("hydra/launcher"))
        raise ConfigError(f"hydra/launcher={launcher} does not check cells before it runs them: choose {choices}")
    if not is_sweep:
        refuse_sweep(hydra_cfg)
        if launcher not in ("local", "plan"):
            raise ConfigError(f"hydra/launcher={launcher} needs a sweep: add -m")
        cell = {" ".join(overrides_of(hydra_cfg)) or "defaults": cfg}
        if launcher == "plan":
            return plan(cell, hydra_cfg)
        refuse_wrong_values(cfg)
        refuse_missing_weights(cfg)
        fork_server.start()
        check(cell)
    from ditexp.run import sweep  # imports torch: what is wrong above is said before
    from ditexp.run.departures import notice_departures

    if not is_sweep:
        notice_departures([(cfg, hydra_cfg)])
    sweep.run_cell(cfg, hydra_cfg)


def plan(cell: Mapping[str, DictConfig], hydra_cfg: DictConfig) -> None:
    """cell: its configuration, by its name."""
    from ditexp.run import sweep
    from ditexp.run.departures import notice_departures

    sweep.plan(cell)
    notice_departures((cfg, hydra_cfg) for cfg in cell.values())


if __name__ == "__main__":
    main()
