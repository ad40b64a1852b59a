"""Components as the configs in conf/ describe them."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from ditexp.cli.components import instantiate
from tests.helpers.paths import CONF


def options(group: str) -> list[str]:
    """The names that a group of configs offers."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def component(group: str, name: str, **values: Any) -> Any:
    """A component by the name of its config, with other values where they are given."""
    return instantiate(OmegaConf.merge({group: node(group, name)}, {group: values})[group])


def classes(group: str) -> list[str]:
    """The options that name a class, and not only other settings of another option."""
    return [name for name in options(group) if "_target_" in OmegaConf.load(CONF / group / f"{name}.yaml")]


def node(group: str, name: str) -> DictConfig:
    """A file of configs with the nested choices of its defaults, as Hydra composes it."""
    loaded = OmegaConf.load(CONF / group / f"{name}.yaml")
    for entry in loaded.pop("defaults", ()):
        if isinstance(entry, str) and entry != "_self_":  # an option of the same group, which this one changes
            loaded = OmegaConf.merge(node(group, entry), loaded)
        elif entry != "_self_":
            ((choice, option),) = entry.items()
            inner, _, key = choice.removeprefix("/").partition("@")
            loaded[key] = node(inner, option)
    return loaded


# Schedules that are made of steps and reach t = 1; the SDE's is no grid to measure orders on, since its last step never
# gets shorter.
STEPPED = [
    name
    for name in options("schedule")
    if "steps" in OmegaConf.load(CONF / "schedule" / f"{name}.yaml")
    and name not in ("optimized", "pipeline", "compat_rae")
]
# Settings with which a solver runs on any model: DDPM's own variance is learned, and few models predict it.
ON_ANY_MODEL = {"ddpm": {"variance": "fixed_small"}}


def solver_for_any_model(name: str) -> Any:
    """A solver by the name of its config, such that it runs on any model."""
    return component("solver", name, **ON_ANY_MODEL.get(name, {}))


# Solvers of models of one time, which is all of them but the one that jumps with a model of two.
ONE_TIME = [name for name in options("solver") if name != "flow_map"]
SOLVER_CLASSES = [name for name in classes("solver") if name in ONE_TIME]
SOLVERS = [solver_for_any_model(name) for name in SOLVER_CLASSES]
