"""Composes the cells of a sweep: Hydra once for each combination of options, and then each cell's own values."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


@dataclass(frozen=True)
class Parsed:
    """is_value: whether the override sets a value, as opposed to choosing an option, by Hydra's own distinction."""

    override: Override
    is_value: bool


class SweepLoader(ConfigLoaderImpl):
    """Hydra's loader for a sweep's cells, which composes a combination of options once, however many cells have it.

    Hydra too first composes the options, and then sets the values in their order; the values do not decide which
    files are read. Files that change while the sweep is composed are therefore read as they were.
    """

    def __init__(self, loader: ConfigLoaderImpl) -> None:
        self.config_search_path, self.repository = loader.config_search_path, loader.repository
        self._composed: dict[tuple[str, ...], bytes] = {}
        self._parsed: dict[str, Parsed] = {}
        self._files: dict[tuple[str, ...], dict[str, ConfigResult | None]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_composed": {}, "_parsed": {}, "_files": {}}  # a job on a cluster needs none

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        given = [self._parse(text) for text in sweep_overrides]
        if any(each.override.is_hydra_override() or each.override.is_sweep_override() for each in given):
            return super().load_sweep_config(master_config, sweep_overrides)
        options = [text for text, each in zip(sweep_overrides, given) if not each.is_value]
        cfg = self._with_options(master_config, options)
        try:
            self._apply_overrides_to_config([each.override for each in given if each.is_value], cfg)
        except OmegaConfBaseException as error:  # as in Hydra's load_configuration
            raise ConfigCompositionException().with_traceback(sys.exc_info()[2]) from error
        write_down([each.override for each in given], cfg)
        OmegaConf.copy_cache(from_config=master_config, to_config=cfg)
        return cfg

    def _parse(self, text: str) -> Parsed:
        if text not in self._parsed:
            (override,) = OverridesParser.create().parse_overrides([text])
            is_group = self.repository.group_exists(override.key_or_group)
            self._parsed[text] = Parsed(override, is_value=isinstance(override.value(), dict) or not is_group)
        return self._parsed[text]

    def _with_options(self, master_config: DictConfig, options: list[str]) -> DictConfig:
        """The configuration of a combination of options, by Hydra."""
        of_hydra = [str(text) for text in master_config.hydra.overrides.hydra]
        name = master_config.hydra.job.config_name
        key = (str(name), *of_hydra, *options)
        if key not in self._composed:
            self._composed[key] = pickle.dumps(self.load_configuration(name, [*of_hydra, *options], RunMode.RUN))
        return pickle.loads(self._composed[key])

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        """Hydra's repository for one composition, with the files that others with the same search path have read."""
        parsed, repository = super()._parse_overrides_and_create_caching_repo(config_name, overrides)
        places = tuple(text for text in overrides if "hydra.searchpath" in text)
        repository.cache = self._files.setdefault(places, repository.cache)
        return parsed, repository


def write_down(overrides: Sequence[Override], cfg: DictConfig) -> None:
    """Name a cell's overrides in Hydra's part of its configuration, as Hydra does."""
    typed, job = cfg.hydra.overrides.task, cfg.hydra.job
    while typed:
        typed.pop()
    for override in overrides:
        typed.append(override.input_line)
    job.override_dirname = get_overrides_dirname(list(overrides), **job.config.override_dirname)


def for_sweeps(context: HydraContext) -> HydraContext:
    """Hydra's context with a loader that is quick for many cells."""
    loader = context.config_loader
    if isinstance(loader, ConfigLoaderImpl) and not isinstance(loader, SweepLoader):
        return HydraContext(config_loader=SweepLoader(loader), callbacks=context.callbacks)
    return context
