"""What every command shares: the folder of configs, one-line errors with exit codes, and instantiation."""

from __future__ import annotations

import difflib
import functools
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ditexp.checks import ConfigError
from ditexp.cli import arguments
from ditexp.cli.settings import NUMBERS, PACKAGE, options_of, packaged, settle, types_of, unknown_key
from ditexp.cli.shortage import shortage
from ditexp.cli.streams import without_readers
from ditexp.cli.system import require_utf_8, settle_temporary_folder
from ditexp.files.reading import UnfitFile, read_yaml
from ditexp.terminal.notices import in_line, notice

PLUGINS = str(PACKAGE / "_plugins")
OmegaConf.register_new_resolver("process", lambda: f"{socket.gethostname()}-{os.getpid()}", use_cache=True)


MAX_INT = 2**63 - 1  # numpy makes floats of larger seeds, so that two of them may be one
MOST = {  # of what would take memory, files or time without end
    "num_samples": 10**8,
    "batch_size": 2**20,
    "forwards": 10**5,
    "resamples": 10**5,
    "trajectories": 10**5,
    "candidates": 1000,
    "workers": 1024,
    "steps": 10**9,
    "save_every": 10**9,
    "warmup": 10**9,
}


class CellsFailed(RuntimeError):
    """Some cells failed; each has been reported already."""


def published_file(study: str) -> Path | None:
    """The published numbers that a study is held beside, if it has any."""
    path = packaged("experiments") / str(study) / "published.yaml"
    return path if is_name(str(study)) and os.path.isfile(path) else None  # Path.is_file raises for a long name


def is_name(text: str) -> bool:
    """Whether it can name one thing in a folder, and is no path."""
    return text not in ("", ".", "..") and Path(text).name == text


def command(config_name: str, *, finish: Callable[[], None] | None = None) -> Callable:
    """Make `function(cfg)` a command on conf/<config_name>.yaml that ends with 0, 2 (configuration) or 1 (failure).

    finish: called once after all of Hydra's jobs.
    """

    def decorate(function: Callable[[DictConfig], None]) -> Callable[[], None]:
        @without_readers()
        def main() -> None:
            register_with_hydra()
            try:
                require_utf_8()
                about = sys.modules[function.__module__].__doc__
                typed = arguments.read(sys.argv[1:], config_name=config_name, about=about)
            except ConfigError as error:
                exit_with(2, error)
            sys.argv[1:] = typed.arguments
            signal.signal(signal.SIGTERM, terminate)
            environment = dict(os.environ)
            os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise instead of printing pages and exiting with 1
            errors: list[Exception] = []

            @functools.wraps(function)
            def guarded(cfg: DictConfig) -> None:
                hydra_cfg = HydraConfig.get()
                os.chdir(hydra_cfg.runtime.cwd)  # where Hydra, a cluster or a kept process may have left
                try:
                    settle_temporary_folder()  # of a cluster's job
                    settle(cfg, hydra_cfg, config_name, environment=environment)
                    function(cfg)
                except Exception as error:
                    errors.append(error)  # kept from Hydra, which would print a line of its own

            try:
                try:
                    settle_temporary_folder()
                    conf = str(packaged("conf"))
                    hydra.main(version_base="1.3", config_path=conf, config_name=config_name)(guarded)()
                except Exception as error:
                    exit_with(2, error)  # composing the configuration, or making the run's folder
                try:
                    if finish and not typed.shows and not errors:
                        finish()
                except Exception as error:
                    errors.append(error)
            except KeyboardInterrupt as stopped:
                how, code = (str(stopped), 143) if stopped.args else ("interrupted", 130)
                exit_with(code, f"{how}; everything finished is kept, and the same command goes on from there")
            if errors:
                exit_with(2 if is_wrong_input(errors[0]) else 1, *errors)

        return main

    return decorate


def terminate(*signal_and_frame) -> None:
    """What kill and batch systems send ends a run as tidily as Ctrl-C does."""
    raise KeyboardInterrupt("terminated")


def register_with_hydra() -> None:
    """Our launchers, and each experiments/<study>/sweep.yaml as the option experiment=<study>."""
    if PLUGINS not in sys.path:  # Hydra finds plugins only in a namespace package called hydra_plugins
        sys.path.append(PLUGINS)
    for path in packaged("experiments").glob("*/sweep.yaml"):
        try:
            node = read_yaml(path, "the sweep.yaml of a study", remedy="it is left out")
        except UnfitFile as error:
            notice(str(error))
            continue
        study = {"group": "experiment", "name": path.parent.name, "node": node}
        ConfigStore.instance().store(**study, package="_global_", provider="ditexp")


def is_wrong_input(error: Exception) -> bool:
    return isinstance(error, ValueError | HydraException | OmegaConfBaseException) and not shortage(error)


def exit_with(code: int, *errors: Exception | str) -> None:
    """End the command with every error's lines, each once."""
    if os.environ.get("DITEXP_DEBUG") == "1" and isinstance(errors[0], Exception):
        raise errors[0]
    for line in dict.fromkeys(line for error in errors for line in describe(error)):
        print(f"ditexp: {line}", file=sys.stderr)
    sys.exit(code)


def describe(error: Exception | str) -> list[str]:
    """What to tell the user: one line a mistake, which a terminal shows as it is."""
    return [in_line(line) for line in lines_of(error)]


def lines_of(error: Exception | str) -> list[str]:
    text = str(error)
    if isinstance(error, ConfigError):
        return text.split("\n")
    if match := re.search(r"Could not override '([^']+)'", text):
        groups = [path.name for path in packaged("conf").iterdir() if path.is_dir()]
        if match[1] in groups:
            return [f"{match[1]} is no setting of this command: leave it out"]
        return [unknown_key(match[1], keys_beside(error) or ([] if "." in match[1] else sorted(groups)))]
    if match := re.search(r"(\S+) appears more than once in the final defaults list", text):
        return [f"{match[1]} has an option already: leave the plus out to choose another"]
    choices = r"Could not find '([^']+)'\s*Available options in '[^']+':\n(.*?)\n(?:Config search|$)"
    if match := re.search(choices, text, re.DOTALL):
        where = f" in {file[1]}.yaml" if (file := re.match(r"In '([^']+/[^']+)': ", text)) else ""
        return [unknown_option(match[1], options_of(match[1].rpartition("/")[0]) or match[2].split(), where)]
    if match := re.search(r"Could not load '([^']+)'", text):  # one of a list of options
        group = packaged("conf") / Path(match[1]).parent
        return [unknown_option(match[1], sorted(path.stem for path in group.glob("*.yaml")))]
    if match := re.search(r"You must specify '(\S+)'.*Available options:\n(.*)", text, re.DOTALL):
        return [f"{match[1]} has no default: choose {match[1]}={', '.join(match[2].split())}"]
    if match := re.search(r"Missing mandatory value: (\S+)", text):
        return [f"{match[1]} has no default: give {match[1]}=..."]
    if match := re.search(r"Could not delete (?:from config\. )?'([^']+)'", text):
        return [f"~{match[1]}: there is no such setting to remove: leave it out"]
    if isinstance(error, KeyError) and re.search(r"env_copy", str(sys.argv)):
        return [f"hydra.job.env_copy: the environment has no {text}: export it, or leave it out"]
    if match := re.search(r"An item is already at '([^']+)'", text):
        return [f"+{match[1]}: {match[1]} is there already: leave the plus out to change it"]
    if match := re.search(r"Multiple values for (\S+)\. To override .*: (\S+)'", text):
        return [f"+{match[1]}={match[2]}: {match[1]} has an option already: leave the plus out to choose another"]
    if text.startswith("Config group override must be a string or a list"):
        return ["a group takes the name of an option, not null: leave it out, or choose one; metric=[] is none"]
    if match := re.search(r"Error merging override (.+)", text):
        return [f"{match[1]}: {str(error.__cause__ or error).splitlines()[0]}"]
    if match := re.search(r"Interpolation key '(\S+)' not found\s*full_key: (\S+)", text):
        return [f"{match[2]} takes the value of {match[1]}, which is not there: give {match[1]}=..., or {match[2]}=..."]
    if match := re.search(r"full_key: (\S+)", text):
        first, second, *_ = text.splitlines()
        return [f"{match[1]}: {second if first.endswith(':') else first}"]
    if isinstance(error, YAMLError):
        return [f"{' '.join(text.split())}: mend this file"]
    if isinstance(error, BaseException) and (short := shortage(error)):
        return [short]
    if isinstance(error, OSError) and error.filename:
        return [f"{error.filename}: {error.strerror}; choose another path{by_setting(str(error.filename))}"]
    line = " ".join(text.split())
    is_ours = isinstance(error, ValueError | RuntimeError | OSError | HydraException | str) and line
    return [line if is_ours else f"{type(error).__name__}: {in_line(line, 150)}"]


def by_setting(path: str) -> str:
    """The setting that led to a path: one that was typed, or outputs, below which everything lies if not."""
    typed = [argument.partition("=") for argument in sys.argv[1:] if "=" in argument]
    place = Path(path).absolute()
    keys = [key for key, _, value in typed if value and place.is_relative_to(Path(value.strip("'\"")).absolute())]
    if keys or place.is_relative_to(Path("outputs").absolute()):
        return f", by {keys[-1] if keys else 'outputs'}=..."
    return ""


def keys_beside(error: BaseException | None) -> list[str]:
    """The keys that a mistyped one could have been, read from the node that OmegaConf's error refers to."""
    while error is not None:
        if (node := getattr(error, "parent_node", None)) is not None:
            return [str(key) for key in node if key not in ("_target_", "hydra")]
        error = error.__cause__
    return []


def unknown_option(path: str, options: list[str], where: str = "") -> str:
    """where: " in <file>", or nothing."""
    group, _, name = path.rpartition("/")
    close = difflib.get_close_matches(name, options, n=1)
    hint = f"; did you mean {group}={close[0]}?" if close else ""
    return f"unknown {group} '{name}'{where}{hint}; choices: {', '.join(options)}"


def not_whole_numbers(cfg: DictConfig, **least: int) -> list[str]:
    """A mistake for each key whose value is no whole number, or below the least or above the most it may be."""
    mistakes = []
    for key, smallest in least.items():
        value, most = cfg[key], MOST.get(key, MAX_INT)
        if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
            without = ", without quotes" if isinstance(value, str) and value.isdecimal() else ""
            mistakes.append(f"{key}={value}: give a whole number of at least {smallest}{without}")
        elif value > most:
            mistakes.append(f"{key}={value}: give a whole number of at most {most:,}")
    return mistakes


def instantiate(node: DictConfig, **overrides):
    """Build the component a config node describes; errors of its constructor come out as they were raised."""
    try:
        return hydra.utils.instantiate(node, **overrides)
    except hydra.errors.InstantiationException as error:
        if isinstance(error.__cause__, ValueError | OSError):
            raise error.__cause__ from None
        where = OmegaConf.select(node, "_target_", default="component")
        reason = " ".join(str(error.__cause__ or error).split("\nfull_key: ")[0].split())
        texts = [key for key, kind in types_of(where).items() if kind in NUMBERS and isinstance(node.get(key), str)]
        if texts and isinstance(error.__cause__, TypeError):
            reason = f"{', '.join(f'{key}={node[key]}' for key in texts)}: give a number"
        if match := re.search(r"missing \d+ required .*argument.*: (.+)", reason):
            reason = f"it needs {match[1]}, which the configuration doesn't give"
        raise ValueError(f"{where}: {reason}") from error
