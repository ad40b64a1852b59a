"""Composes another configuration while a command runs with its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra import compose

from ditexp.cli.nodes import plain


def composed(config_name: str, overrides: Sequence[str]) -> tuple[dict[str, Any], Mapping[str, str | None]]:
    """(The configuration of these overrides, as it is written; the option that each group has in it).

    It is found where the running command finds its own. Raises Hydra's errors.
    """
    cfg = compose(config_name, list(overrides), return_hydra_config=True)
    choices: dict[str, str | None] = dict(cfg.hydra.runtime.choices)
    return {key: value for key, value in plain(cfg).items() if key != "hydra"}, choices
