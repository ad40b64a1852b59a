"""Building what a configuration node describes."""

from __future__ import annotations

import functools
import re
from typing import Any

from hydra import utils
from hydra.errors import InstantiationException
from omegaconf import MISSING, DictConfig, OmegaConf

from ditexp.cli.nodes import OF_HYDRA, resolve
from ditexp.cli.value_types import NUMBERS, types_of

PLAIN = (bool, int, float, str, type(None))


def instantiate(node: DictConfig, **overrides: object) -> Any:
    """Build the component that a node describes; the ValueErrors and OSErrors of its constructor come out unchanged.

    Raises ValueError, with the reason in one line, for whatever else fails.
    """
    if not overrides and (arguments := simple_arguments(node)) is not None:
        try:
            return own_class(node["_target_"])(**arguments)
        except (ValueError, OSError):
            raise
        except Exception:
            pass  # Hydra finds the reason
    try:
        return utils.instantiate(node, **overrides)
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError | OSError):
            raise error.__cause__ from None
        where = str(OmegaConf.select(node, "_target_", default="component"))
        reason = " ".join(str(error.__cause__ or error).split("\nfull_key: ")[0].split())
        texts = [key for key, kind in types_of(where).items() if kind in NUMBERS and isinstance(node.get(key), str)]
        if texts and isinstance(error.__cause__, TypeError):
            reason = f"{', '.join(f'{key}={node[key]}' for key in texts)}: give a number"
        if match := re.search(r"missing \d+ required .*argument.*: (.+)", reason):
            reason = f"it needs {match[1]}, which the configuration does not give"
        raise ValueError(f"{where}: {reason}") from error


def simple_arguments(node: DictConfig) -> dict[str, Any] | None:
    """The arguments of a class of ditexp's where all are plain values; None: Hydra builds it, ten times as slowly."""
    arguments = resolve(node)
    target = arguments.pop("_target_", None) if isinstance(arguments, dict) else None
    if not isinstance(target, str) or not target.startswith("ditexp.") or not OF_HYDRA.isdisjoint(arguments):
        return None
    is_simple = all(isinstance(value, PLAIN) and value != MISSING for value in arguments.values())
    return arguments if is_simple else None


@functools.cache
def own_class(target: str) -> Any:
    return utils.get_object(target)
