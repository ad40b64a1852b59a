"""What a configuration that Hydra composed says about its cell: its settings, title, folder and command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ditexp.cli.components import instantiate
from ditexp.cli.nodes import plain, resolve
from ditexp.result import SETTING_GROUPS, SETTING_VALUES


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """A configuration as plain JSON-able values, without Hydra's own part."""
    return {str(key): resolve(value) for key, value in cfg.items() if key != "hydra"}


def settings_of(config: Mapping[str, Any], hydra_cfg: DictConfig) -> dict[str, Any]:
    """The choices that tell cells apart, flat: {"solver": "heun", "guidance.weight": 2.0, "steps": 50, ...}.

    config: `resolved`.
    """
    from ditexp.run.components import COMPONENTS  # imports torch

    settings = {group: hydra_cfg.runtime.choices[group] for group in SETTING_GROUPS}
    if (preset := hydra_cfg.runtime.choices.get("compat")) not in (None, "none"):
        settings["compat"] = preset
    settings |= {name: config[name] for name in SETTING_VALUES}
    solver = instantiate(DictConfig(config["solver"]))
    if solver.adaptive or "steps" not in config["schedule"]:
        settings["steps"] = None  # it has no effect
    for group in COMPONENTS:
        settings |= flat(config[group] or {}, group)
    return settings


def flat(node: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The settings of a component and of its parts, by their full names."""
    settings = {}
    for key, value in node.items():
        if isinstance(value, dict):
            settings |= flat(value, f"{path}.{key}")
        elif key not in ("_target_", "steps") and value is not None:
            settings[f"{path}.{key}"] = value if isinstance(value, str | int | float) else str(value)
    return settings


def title_of(settings: Mapping[str, Any]) -> str:
    """The solver and its number of steps, if it has one."""
    return f"{settings['solver']} {settings['steps'] or ''}".strip()


def command_of(hydra_cfg: DictConfig, *, batch_size: int | None = None) -> str:
    """The command that makes this cell alone. batch_size: the number of batch_size=auto, which differs by machine."""
    sources = [source.path for source in hydra_cfg.runtime.config_sources if source.provider == "command-line"]
    folders = [word for path in sources for word in ("--config-dir", path)]
    overrides = overrides_of(hydra_cfg)
    if batch_size is not None:
        overrides = [*(one for one in overrides if not one.startswith("batch_size=")), f"batch_size={batch_size}"]
    return shlex.join(["ditexp", "run", *folders, *overrides])


def sweep_of(hydra_cfg: DictConfig) -> str:
    """The name of the folder in outputs/runs of this run or sweep."""
    is_run = hydra_cfg.mode is not None and hydra_cfg.mode.name == "RUN"
    folder = hydra_cfg.runtime.output_dir if is_run else hydra_cfg.sweep.dir
    return Path(folder).name


def overrides_of(hydra_cfg: DictConfig) -> list[str]:
    """The overrides of a cell as they are written: a ${...} in one refers to the cell's settings, not to Hydra's."""
    return [str(override) for override in plain(hydra_cfg.overrides)["task"]]


def folder_of(cfg: DictConfig) -> Path:
    """The folder of a sweep's cell, for its cell.json. cfg: with Hydra's own part."""
    return Path(cfg.hydra.sweep.dir) / str(cfg.hydra.sweep.subdir)


def without_hydra(cfg: DictConfig) -> DictConfig:
    """Without Hydra's own part."""
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
