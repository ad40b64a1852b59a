"""What a composed configuration must be before any work: every key is read by something, and every value is final."""

from __future__ import annotations

import os
from collections.abc import Mapping

from omegaconf import DictConfig, read_write

from ditexp.checks import ConfigError
from ditexp.cli.environment import read_environment, set_too_late, unresolved
from ditexp.cli.keys import wrong_keys
from ditexp.cli.nodes import settings_of
from ditexp.cli.packaged import known_keys
from ditexp.cli.value_types import wrong_names, wrong_types
from ditexp.terminal.notices import notice

SETTLED = "settled"  # one of OmegaConf's flags, which copies and pickles of a configuration keep


def settle(
    cfg: DictConfig, hydra_cfg: DictConfig, command: str, *, environment: Mapping[str, str] = os.environ
) -> None:
    """Read the environment into a composed configuration, and refuse settings that nothing reads or that act too late.

    After it, what was checked is what runs, in any process and at any later time: a job of a sweep, whose launcher has
    settled all cells, does not do so again. cfg: with or without Hydra's own
    part. command: the name of its file in conf/. environment: as it was before Hydra changed it. Raises ConfigError,
    one line for each mistake.
    """
    if cfg._get_flag(SETTLED):
        return
    with read_write(cfg):
        mistakes = list(read_environment(settings_of(cfg)))
        settings = settings_of(cfg)  # with what was read
        mistakes = mistakes or list(unresolved(settings))
        if not mistakes:
            mistakes = [*wrong_names(cfg, known_keys(command)), *wrong_types(settings)]
    mistakes += set_too_late(hydra_cfg, environment)
    if hydra_cfg.job.chdir:
        notice("hydra.job.chdir=true has no effect: relative paths start in the folder where the command is typed")
    raw = {str(setting.key): setting.raw for setting in settings if len(setting.path) == 1 and setting.key != "hydra"}
    mistakes += wrong_keys(raw, hydra_cfg, command)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    cfg._set_flag(SETTLED, True)
