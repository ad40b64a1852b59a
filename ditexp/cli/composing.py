"""Composes configurations outside Hydra's own runs: beside a running command's own, or from Python."""

from __future__ import annotations

import copy
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.version import VersionBase
from omegaconf import DictConfig, open_dict, read_write

from ditexp.checks import ConfigError
from ditexp.cli.arguments import check_files
from ditexp.cli.command import register_with_hydra
from ditexp.cli.errors import describe
from ditexp.cli.nodes import plain
from ditexp.cli.overrides import check, with_home
from ditexp.cli.packaged import packaged
from ditexp.cli.paths import with_options
from ditexp.cli.settings import settle

OWN = (GlobalHydra, HydraConfig, JobRuntime, VersionBase)  # of Hydra's singletons; others register what is imported
LOCK = threading.RLock()  # Hydra has one configuration a process


def composed(config_name: str, overrides: Sequence[str]) -> tuple[dict[str, Any], Mapping[str, str | None]]:
    """(The configuration of these overrides, as it is written; the option that each group has in it).

    It is found where the running command finds its own. Raises Hydra's errors.
    """
    cfg = compose(config_name, list(overrides), return_hydra_config=True)
    choices: dict[str, str | None] = dict(cfg.hydra.runtime.choices)
    return {key: value for key, value in plain(cfg).items() if key != "hydra"}, choices


@contextmanager
def settled(
    config_name: str, overrides: Sequence[str], *, config_dir: Path | None = None
) -> Generator[tuple[DictConfig, DictConfig]]:
    """(The configuration that a command would make of these overrides, checked as it does; Hydra's own part).

    For Python: within, Hydra works as in that command; afterwards it is as it was before. config_name: of the command's
    file in conf/. config_dir: as of the flag --config-dir. Raises ConfigError, one line for each mistake; also in place
    of the errors of the body that a command would print.
    """
    try:
        with LOCK, own_hydra(config_dir):
            given = [with_home(override) for override in overrides]
            if config_dir:
                check_files(config_dir, given)
            given = with_options(given, config_name, own=config_dir)
            check(given, config_name, is_sweep=False, shows=False)
            whole = compose(config_name, given, return_hydra_config=True)
            HydraConfig.instance().set_config(whole)
            cfg = copy.deepcopy(whole)
            with read_write(cfg), open_dict(cfg):
                del cfg["hydra"]
            settle(cfg, whole.hydra, config_name)
            yield cfg, whole.hydra
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError("\n".join(describe(error))) from error


@contextmanager
def own_hydra(config_dir: Path | None) -> Generator[None]:
    """Within, Hydra's global state is that of one of ditexp's commands, apart from anybody else's."""
    before = Singleton._instances
    Singleton._instances = {kind: one for kind, one in before.items() if kind not in OWN}
    try:
        version.setbase("1.3")
        register_with_hydra()
        places = create_config_search_path(str(packaged("conf")))
        if config_dir:  # as Hydra does for its flag
            place = f"file://{config_dir.expanduser().absolute()}"
            places.prepend(provider="command-line", path=place, anchor=SearchPathQuery(provider="schema"))
        Hydra.create_main_hydra2(task_name="ditexp", config_search_path=places)
        yield
    finally:
        before.update({kind: one for kind, one in Singleton._instances.items() if kind not in OWN})
        Singleton._instances = before
