"""Building what a configuration node describes."""

from __future__ import annotations

import re
from typing import Any

from hydra import utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from ditexp.cli.value_types import NUMBERS, types_of


def instantiate(node: DictConfig, **overrides: object) -> Any:
    """Build the component that a node describes; the ValueErrors and OSErrors of its constructor come out unchanged.

    Raises ValueError, with the reason in one line, for whatever else fails.
    """
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
