"""What every command does: read its arguments, check its configuration, end with one-line errors and an exit code."""

from __future__ import annotations

import functools
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, cast

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ditexp import bundled
from ditexp.checks import ConfigError
from ditexp.cli import arguments
from ditexp.cli.errors import describe, is_wrong_input
from ditexp.cli.packaged import PACKAGE, packaged, study_file
from ditexp.cli.settings import settle
from ditexp.cli.streams import without_readers
from ditexp.cli.system import require_utf_8, search_for_garbage_less_often, settle_temporary_folder
from ditexp.files.reading import UnfitFile, read_yaml
from ditexp.terminal.console import print_line
from ditexp.terminal.notices import notice

PLUGINS = str(PACKAGE / "_plugins")
# A job on a cluster may have them already: it takes over those of the process that submitted it.
OmegaConf.register_new_resolver("bundled", bundled, replace=True)
OmegaConf.register_new_resolver("study_file", study_file, replace=True)
OmegaConf.register_new_resolver(
    "process", lambda: f"{socket.gethostname()}-{os.getpid()}", use_cache=True, replace=True
)

Main = Callable[[DictConfig], None]
KEPT = "all finished work is kept, and the same command continues from there"


def command(
    config_name: str,
    *,
    finish: Callable[[], None] | None = None,
    stopped: Callable[[str], None] = lambda how: print_line(f"ditexp: {how}; {KEPT}"),
) -> Callable[[Main], Callable[[], None]]:
    """Make `function(cfg)` a command on conf/<config_name>.yaml.

    Its exit codes: 0, 2 for a wrong configuration, 1 for a failure, 130 and 143 when it is interrupted or terminated.
    finish: called once after all of Hydra's jobs. stopped: called if it is interrupted or terminated, which is its
    argument, to say what is kept.
    """

    def decorate(function: Main) -> Callable[[], None]:
        @without_readers()
        def main() -> None:
            search_for_garbage_less_often()
            register_with_hydra()
            try:
                require_utf_8()
                typed = arguments.read(sys.argv[1:], config_name=config_name)
            except ConfigError as error:
                exit_with(2, error)
            sys.argv[1:] = typed.arguments
            signal.signal(signal.SIGINT, stop)
            signal.signal(signal.SIGTERM, stop)
            try:
                errors = run(function, config_name, finish=None if typed.shows else finish)
            except KeyboardInterrupt as interrupt:
                number = signal.SIGTERM if interrupt.args == (signal.SIGTERM,) else signal.SIGINT
                how = "terminated" if number == signal.SIGTERM else "interrupted"
                try:
                    stopped(how)
                except Exception:
                    print_line(f"ditexp: {how}; {KEPT}")
                sys.exit(128 + number)
            if errors:
                exit_with(2 if is_wrong_input(errors[0]) else 1, *errors)

        return main

    return decorate


def run(function: Main, config_name: str, *, finish: Callable[[], None] | None) -> list[Exception]:
    """Run Hydra's jobs and then `finish`; returns the errors of both.

    What fails before the first job, such as composing the configuration, ends the command.
    """
    errors: list[Exception] = []
    environment = dict(os.environ)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise instead of printing pages and exiting with 1
    job = guarded(function, config_name, environment, errors)
    try:
        settle_temporary_folder()
        hydra.main(version_base="1.3", config_path=str(packaged("conf")), config_name=config_name)(job)()
    except Exception as error:
        exit_with(2, error)  # composing the configuration, or making the run's folder
    try:
        if finish and not errors:
            finish()
    except Exception as error:
        errors.append(error)
    return errors


def guarded(function: Main, config_name: str, environment: Mapping[str, str], errors: list[Exception]) -> Main:
    """A job of Hydra's: settle the configuration and call `function`; errors are kept, or Hydra would print its own."""

    @functools.wraps(function)
    def job(cfg: DictConfig) -> None:
        hydra_cfg = cast(DictConfig, HydraConfig.get())  # which Hydra declares as the schema of this node
        os.chdir(hydra_cfg.runtime.cwd)  # where Hydra, a cluster or a kept process may have left
        try:
            settle_temporary_folder()  # a cluster's job has its own
            settle(cfg, hydra_cfg, config_name, environment=environment)
            function(cfg)
        except Exception as error:
            errors.append(error)

    return job


def stop(number: int, _: object) -> NoReturn:
    """End a run that Ctrl-C, `kill` or a batch system stops, tidily. A second signal ends it at once."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, end_at_once)
    raise KeyboardInterrupt(number)


def end_at_once(number: int, _: object) -> NoReturn:
    if sys.stderr.isatty():
        os.write(2, b"\x1b[?25h\n")  # a live display may have hidden the cursor
    os._exit(128 + number)


def exit_with(code: int, *errors: Exception | str) -> NoReturn:
    """End the command with the lines of all errors, each line once."""
    if os.environ.get("DITEXP_DEBUG") == "1" and isinstance(errors[0], Exception):
        raise errors[0]
    for line in dict.fromkeys(line for error in errors for line in describe(error)):
        print_line(f"ditexp: {line}")
    sys.exit(code)


def register_with_hydra() -> None:
    """Let Hydra find our launchers, and each experiments/<study>/sweep.yaml as the option experiment=<study>.

    A process reads the files once: that takes as long as composing a configuration.
    """
    if PLUGINS not in sys.path:  # Hydra finds plugins only in a namespace package called hydra_plugins
        sys.path.append(PLUGINS)
    for path in packaged("experiments").glob("*/sweep.yaml"):
        date = path.stat().st_mtime_ns
        if _registered.get(path.parent.name) == (path, date):
            continue
        try:
            node = read_yaml(path, "the sweep.yaml of a study", remedy="it is left out")
        except UnfitFile as error:
            notice(str(error))
            continue
        study = {"group": "experiment", "name": path.parent.name, "node": node}
        ConfigStore.instance().store(**study, package="_global_", provider="ditexp")
        _registered[path.parent.name] = (path, date)


_registered: dict[str, tuple[Path, int]] = {}  # by the study's name, the file that Hydra has, and its date
