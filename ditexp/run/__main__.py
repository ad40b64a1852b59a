"""Sample and score: ditexp run [-m] solver=euler,heun,rk4 steps=20,50,100 (see conf/config.yaml)."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import DictConfig

from ditexp.checks import ConfigError
from ditexp.cli.command import command
from ditexp.cli.packaged import options_of
from ditexp.run.stopping import stopped

# Launchers that inherit from it check all cells before the first one runs. Hydra's plugin path leads to it.
LOCAL = "hydra_plugins.ditexp_launchers.LocalLauncher"


def finish() -> None:
    from ditexp.run import sweep

    sweep.finish()


@command("config", finish=finish, stopped=stopped)
def main(cfg: DictConfig) -> None:
    # Here, and not above, since they import torch: mistakes that Hydra finds are answered before.
    from ditexp.run import sweep
    from ditexp.run.checking import check, refuse_sweep
    from ditexp.run.departures import notice_departures
    from ditexp.run.settings import overrides_of

    hydra_cfg = DictConfig(HydraConfig.get())
    launcher = hydra_cfg.runtime.choices["hydra/launcher"]
    if hydra_cfg.mode == RunMode.RUN:  # a sweep's launcher has done this for all cells
        refuse_sweep(hydra_cfg)
        cell = {" ".join(overrides_of(hydra_cfg)) or "defaults": cfg}
        if launcher == "plan":
            sweep.plan(cell)
            return notice_departures([(cfg, hydra_cfg)])
        if launcher != "local":
            raise ConfigError(f"hydra/launcher={launcher} needs a sweep: add -m")
        check(cell)
        notice_departures([(cfg, hydra_cfg)])
    elif not issubclass(get_class(hydra_cfg.launcher._target_), get_class(LOCAL)):
        choices = ", ".join(options_of("hydra/launcher"))
        raise ConfigError(f"hydra/launcher={launcher} does not check cells before it runs them: choose {choices}")
    sweep.run_cell(cfg, hydra_cfg)


if __name__ == "__main__":
    main()
