"""Configurations of a cell as the command composes them."""

from __future__ import annotations

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from ditexp.cli.packaged import packaged


def composed(*overrides: str) -> DictConfig:
    """Of 16 samples in one batch, without metrics, unless given."""
    with initialize_config_dir(str(packaged("conf")), version_base="1.3"):
        return compose("config", overrides=["num_samples=16", "batch_size=16", "metric=[]", *overrides])
