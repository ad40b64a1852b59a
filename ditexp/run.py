"""Sample and score: python -m ditexp.run [-m] solver=euler,heun,rk4 steps=20,50,100 (see conf/config.yaml)."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ditexp import sweep
from ditexp.cli import ConfigError, command


@command("config", finish=sweep.finish)
def main(cfg: DictConfig) -> None:
    hydra_cfg = HydraConfig.get()
    if hydra_cfg.mode == RunMode.RUN:  # a sweep's launcher has done this for all cells
        cell = {" ".join(hydra_cfg.overrides.task) or "defaults": cfg}
        launcher = hydra_cfg.runtime.choices["hydra/launcher"]
        if launcher == "plan":
            return sweep.plan(cell)
        if launcher != "local":
            raise ConfigError(f"hydra/launcher={launcher} acts on a sweep: add -m")
        sweep.check(cell)
    sweep.run_cell(cfg, hydra_cfg)


if __name__ == "__main__":
    main()
