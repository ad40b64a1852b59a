"""What a composed configuration must be before any work: every key is read by something, and every value is settled."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import os
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf, read_write
from omegaconf.errors import InterpolationResolutionError, InterpolationToMissingValueError, OmegaConfBaseException

from ditexp.checks import ConfigError
from ditexp.terminal.notices import notice

PACKAGE = Path(__file__).resolve().parents[1]
OF_HYDRA = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")  # keys of any component
FROM_ENVIRONMENT = re.compile(r"\$\{oc\.env:[^{}]*\}")
# The key in ${key}, ${key.${other}} and ${oc.select:key,default}.
REFERENCE = re.compile(r"\$\{\s*(?:oc\.(?:select|dict\.keys|dict\.values)\s*:\s*)?([.\w\[\]-]+)(?=\s*[},$])")

YAML_FILES = ("*.yaml", "*/*.yaml", "*/*/*.yaml")  # in a folder of configurations
TEXTS, NUMBERS = (str, Path, str | Path, Path | str), (int, float, int | None, float | None, int | float)

Keys = tuple[str | int, ...]


def packaged(name: str) -> Path:
    """The folder `name` beside the package (a checkout) or inside it (a wheel)."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def settle(
    cfg: DictConfig, hydra_cfg: DictConfig, command: str, *, environment: Mapping[str, str] = os.environ
) -> None:
    """Read the environment into a composed configuration, and refuse settings that nothing reads or that act too late.

    What is checked afterwards is then what runs, in whatever process and however much later. cfg: with or without
    Hydra's own part. command: the name of its file in conf/. environment: as it was before Hydra changed it. Raises
    ConfigError, a line for each mistake.
    """
    with read_write(cfg):
        mistakes = list(read_environment(cfg)) or list(unresolved(cfg))
        if not mistakes:
            mistakes = [*without_text(cfg, known_keys(command)), *wrong_types(cfg)]
    late = {name: value for name, value in hydra_cfg.job.env_set.items() if environment.get(name) != value}
    for name, value in late.items():
        mistakes.append(
            f"hydra.job.env_set.{name}={value} acts after the settings are checked: set it in the shell, "
            f"{name}={value} python -m ..."
        )
    if hydra_cfg.job.chdir:
        notice("hydra.job.chdir=true has no effect: relative paths are of the folder in which the command was typed")
    raw = {key: value for key, value in OmegaConf.to_container(cfg).items() if key != "hydra"}
    raw_hydra = OmegaConf.to_container(hydra_cfg)
    mistakes += not_there(raw, command)
    for path, known in unknown_in_hydra(hydra_cfg, ("hydra",)):
        if "/".join(map(str, path)) not in hydra_cfg.runtime.choices:  # hydra/env is a group without a schema
            mistakes.append(unknown_key(dotted(path), known, origin(path, hydra_cfg)))
    for path, known in wrong_arguments(raw | {"hydra": raw_hydra}):
        mistakes.append(unknown_key(dotted(path), known, origin(path, hydra_cfg)))
    mistakes += unread(raw, raw_hydra, hydra_cfg, command)
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def read_environment(node: DictConfig | ListConfig, path: Keys = ()) -> Iterator[str]:
    """Put what variables hold now in the place of ${oc.env:...}; give a mistake for each that can't be read.

    A setting that is one variable alone is taken as if its text had been typed: 512 is a number.
    """
    raw = OmegaConf.to_container(node)
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        if (*path, key) in (("hydra", "overrides"), ("hydra", "job", "override_dirname")):
            continue  # what was typed, which stands elsewhere
        if isinstance(value, dict | list):
            yield from read_environment(node[key], (*path, key))
        elif isinstance(value, str) and value.startswith("~/"):  # in a file; what was typed has been read already
            node[key] = os.path.expanduser(value)
        elif isinstance(value, str) and "oc.env" in value:
            try:
                node[key] = as_typed(node, key, value) if FROM_ENVIRONMENT.fullmatch(value) else node[key]
            except InterpolationResolutionError as error:
                reason = str(error).splitlines()[0].rpartition("raised while resolving interpolation: ")[2]
                yield (
                    f"{dotted((*path, key))}={value}: {reason}; export it, or give a value for where it is not set, "
                    "as in ${oc.env:N,512}"
                )


def unresolved(cfg: DictConfig) -> Iterator[str]:
    """A mistake for each ${...} that leads nowhere, but not for what only refers to such a one."""
    wrong = dict(errors_of(cfg))
    for name, (value, reason) in wrong.items():
        reference = match[1] if (match := re.fullmatch(r"\$\{([\w.]+)\}", value)) else None
        if reference in wrong and reference != name:
            continue
        if match := re.fullmatch(r"Interpolation key '(\S+)' not found", reason):
            other = match[1]
            yield f"{name} takes the value of {other}, which is not there: give {other}=..., or {name}=..."
        else:
            yield f"{name}={value}: {reason}; give it a value"


def errors_of(node: DictConfig | ListConfig, path: Keys = ()) -> Iterator[tuple[str, tuple[str, str]]]:
    """The values that can't be resolved, each with the reason; one that refers to a missing value counts as missing."""
    raw = OmegaConf.to_container(node)
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        if isinstance(value, dict | list):
            if (*path, key) != ("hydra",):
                yield from errors_of(node[key], (*path, key))
        elif isinstance(value, str) and "${" in value:
            try:
                node[key]
            except InterpolationToMissingValueError:
                pass
            except OmegaConfBaseException as error:
                yield dotted((*path, key)), (value, str(error).splitlines()[0])


def as_typed(node: DictConfig | ListConfig, key: str | int, value: str):
    text = node[key]
    try:
        return OmegaConf.create({"value": "${oc.decode:${text}}", "text": text}).value
    except InterpolationResolutionError:  # the text is no value of Hydra's grammar
        return text


def without_text(cfg: DictConfig, known: dict) -> Iterator[str]:
    """Make whole numbers the texts that names and paths are; give a mistake for each that is something else."""
    for key in ("outputs", "study", "images", "out", "folder"):
        if key in known and key in cfg and (cfg[key] is not None or known[key] is not None):
            yield from as_text(cfg, key, key)


def as_text(node: DictConfig, key: str, name: str) -> Iterator[str]:
    value = node[key]
    if isinstance(value, int) and not isinstance(value, bool):
        node[key] = str(value)
    elif value is None or value == "":
        yield f"{name}={'null' if value is None else repr(value)}: give a name or a path"
    elif not isinstance(value, str):
        yield f"{name}={value} is no text; one that looks like a number takes two kinds of quotes: \"{name}='1.5'\""


def wrong_types(node: DictConfig | ListConfig, path: Keys = ()) -> Iterator[str]:
    """Settings of components that are no text where one belongs, or a text where a number does."""
    raw = OmegaConf.to_container(node)
    types = types_of(raw["_target_"]) if isinstance(raw, dict) and isinstance(raw.get("_target_"), str) else {}
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        name = dotted((*path, key))
        if isinstance(value, dict | list) and types.get(key) not in TEXTS:
            yield from wrong_types(node[key], (*path, key))
        elif key not in types or OmegaConf.is_missing(node, key):
            continue
        elif types[key] in TEXTS:
            yield from as_text(node, key, name)
        elif types[key] in NUMBERS and isinstance(node[key], str) and re.fullmatch(r"[-+.\deE_]*\d", node[key]):
            typed = reference[1] if (reference := re.fullmatch(r"\$\{([\w.]+)\}", value)) else name
            yield f"{typed}='{node[key]}' is a text: give a number, without quotes"


@functools.cache
def types_of(target: str) -> dict[str, object]:
    """The annotations of a class's or function's arguments, as far as they can be found."""
    try:
        found = get_object(target)
        return typing.get_type_hints(found.__init__ if inspect.isclass(found) else found)
    except Exception:  # whatever a user's module raises when it is imported, or names that it only imports for checks
        return {}


@functools.cache
def known_keys(command: str) -> dict:
    """The keys of a command: each one's default, or of a group what its options hold.

    Of groups without a default, such as preset, the options belong to no key.
    """
    keys = OmegaConf.to_container(OmegaConf.load(packaged("conf") / f"{command}.yaml"))
    for entry in keys.pop("defaults"):
        for group, option in entry.items() if isinstance(entry, dict) else ():
            if option is not None and not group.startswith("override "):
                keys[group] = keys_of_group(group)
    return keys


def keys_of_group(group: str) -> dict:
    """All that stands in its options; `_target_` is there if these are components."""
    options = [OmegaConf.load(file) for file in sorted((packaged("conf") / group).glob("*.yaml"))]
    keys = OmegaConf.to_container(OmegaConf.unsafe_merge(*options))
    keys.pop("defaults", None)
    return keys


def options_of(group: str) -> list[str]:
    return sorted(file.stem for file in (packaged("conf") / group).glob("*.yaml"))


def not_there(raw: dict, command: str) -> Iterator[str]:
    """A mistake for each setting that was removed, and each group that holds no component."""
    for key, known in known_keys(command).items():
        is_group = isinstance(known, dict) and key != "hydra"
        choices = f"choose {key}={', '.join(options_of(key))}" if is_group else f"leave ~{key} out"
        value = raw.get(key)
        if key not in raw:
            if key not in ("hydra", "metric"):  # without metrics there is none
                yield f"{key} is missing (~{key} removes it): {choices}"
        elif key == "metric" and isinstance(value, dict) and "_target_" in value:
            yield "metric: a metric stands under its name: write `mine:` and below it, indented, `_target_: ...`"
        elif not is_group or (value is None and key in known and known[key] is None):
            continue
        elif value is None:
            yield f"{key} is null: {choices}"
        elif not isinstance(value, dict):
            if not str(value).startswith("${"):
                choice = (
                    f"choose {key}={value} on the command line, or in a file `defaults: [override /{key}: {value}]`"
                )
                yield f"{key}: {value} stands where the settings of an option belong: {choice}"
        elif "_target_" in known and "_target_" not in value:
            yield f"{key} has no _target_, the class that its settings are of: {choices}"


def unknown_in_hydra(node: DictConfig, path: Keys) -> Iterator[tuple[Keys, list[str]]]:
    """Keys that were added by force to what Hydra gives a schema."""
    kind = OmegaConf.get_type(node)
    known = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else None
    for key, value in OmegaConf.to_container(node).items():
        if known and key not in known:
            yield (*path, key), known
        elif isinstance(value, dict):
            yield from unknown_in_hydra(node[key], (*path, key))


def wrong_arguments(raw, path: Keys = ()) -> Iterator[tuple[Keys, list[str]]]:
    """The keys of components that their classes don't take, with those that they do."""
    accepted = parameters(raw["_target_"]) if isinstance(raw, dict) and "_target_" in raw else None
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        if accepted is not None and key not in accepted and key not in OF_HYDRA:
            yield (*path, key), accepted
        elif isinstance(value, dict | list):
            yield from wrong_arguments(value, (*path, key))


@functools.cache
def parameters(target: str) -> list[str] | None:
    """The names of the arguments that a class or function takes; None if any, or where building it tells more."""
    try:
        found = inspect.signature(get_object(target)).parameters.values()
    except Exception:  # whatever a user's module raises when it is imported
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in found):
        return None
    return [parameter.name for parameter in found]


def unread(raw: dict, raw_hydra: dict, hydra_cfg: DictConfig, command: str) -> Iterator[str]:
    """A mistake for each unknown key that no other value refers to."""
    strangers = dict(unknown(raw, known_keys(command)))
    leaves = {(*path, *rest) for path in strangers for rest, _ in leaves_of(select(raw, path))}
    if not leaves:
        return
    everything = [*leaves_of(raw), *leaves_of(raw_hydra, ("hydra",)), *leaves_of(texts_of_files(hydra_cfg), ("", ""))]
    while True:
        references = [key for path, value in everything if path not in leaves for key in referred_to(path, value)]
        read = {path for path in leaves if any(path[: len(key)] == key[: len(path)] for key in references)}
        if not read:
            break
        leaves -= read
    for path, known in strangers.items():
        below = [rest for rest, _ in leaves_of(select(raw, path))]
        lost = [rest for rest in below if (*path, *rest) in leaves]
        if lost and len(path) == 1 and (option := hydra_cfg.runtime.choices.get(path[0])):
            lie = f"nothing reads its {', '.join(map(dotted, lost))}, which lie below the key {path[0]}"
            file = origin((*path, *lost[0]), hydra_cfg).removeprefix(" in ") or "its file"
            yield f"{path[0]}={option}: {lie}: begin {file} with the line `# @package _global_`"
        elif lost and lost == below:
            yield unknown_key(dotted(path), known, origin(path, hydra_cfg))
        else:
            for rest in lost:
                whole = (*path, *rest)
                siblings = [str(key) for key in select(raw, whole[:-1]) if key != whole[-1]]
                yield unknown_key(dotted(whole), siblings, origin(whole, hydra_cfg))


def unknown(raw: dict, known: dict, path: Keys = ()) -> Iterator[tuple[Keys, list[str]]]:
    """Keys that are not among the known ones, with these. Components within a group are known by any name."""
    for key, value in raw.items():
        is_component = isinstance(value, dict) and "_target_" in value
        if key not in known:
            if not (path and is_component):
                yield (*path, key), [str(other) for other in known if other not in ("_target_", "hydra")]
        elif isinstance(value, dict) and isinstance(known[key], dict) and not is_component:
            yield from unknown(value, known[key], (*path, key))


def leaves_of(raw, path: Keys = ()) -> Iterator[tuple[Keys, object]]:
    if not isinstance(raw, dict | list):
        yield path, raw
    else:
        for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
            yield from leaves_of(value, (*path, key))


def referred_to(path: Keys, value: object) -> Iterator[Keys]:
    """The keys that an interpolation at `path` names, from the root on."""
    for reference in REFERENCE.findall(value) if isinstance(value, str) else ():
        relative = len(reference) - len(reference.lstrip("."))
        keys = re.findall(r"[^.\[\]]+", reference)
        if keys:
            yield (*path[: len(path) - relative], *keys) if relative else tuple(keys)


def select(raw, path: Keys):
    for key in path:
        raw = raw[key]
    return raw


def dotted(path: Keys) -> str:
    return ".".join(map(str, path))


def texts_of_files(hydra_cfg: DictConfig) -> list[str]:
    """The user's configuration files: what one defines, another that is not chosen now may refer to."""
    return [
        file.read_text(encoding="utf-8", errors="replace")
        for folder in folders_of(hydra_cfg)
        if folder != packaged("conf")
        for pattern in YAML_FILES
        for file in folder.glob(pattern)
        if file.is_file()
    ]


def folders_of(hydra_cfg: DictConfig) -> list[Path]:
    return [Path(source.path) for source in hydra_cfg.runtime.config_sources if source.schema == "file"]


def origin(path: Keys, hydra_cfg: DictConfig) -> str:
    """ " in <file>" for a key that a configuration file brings; "" for one of the command line."""
    for file, package in files_of(hydra_cfg):
        if file.is_file() and path[: len(package)] == package:
            try:
                select(OmegaConf.to_container(OmegaConf.load(file)), path[len(package) :])
            except (KeyError, IndexError, TypeError):
                continue
            here = Path.cwd()
            return f" in {file.relative_to(here) if file.is_relative_to(here) else file}"
    return ""


def files_of(hydra_cfg: DictConfig) -> Iterator[tuple[Path, Keys]]:
    """The files that a configuration may be composed of, each with the keys under which its settings lie."""
    folders = folders_of(hydra_cfg)
    for folder in folders:
        yield folder / f"{hydra_cfg.job.config_name}.yaml", ()
    for choice, options in hydra_cfg.runtime.choices.items():
        group, _, package = choice.partition("@")
        if choice == "experiment" and options:
            yield packaged("experiments") / options / "sweep.yaml", ()
        for option in options if isinstance(options, list | ListConfig) else [options]:
            for file in (folder / group / f"{option}.yaml" for folder in folders):
                if file.is_file():
                    header = re.search(r"^#\s*@package\s+(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE)
                    where = package or (header[1] if header else "_group_")
                    keys = {"_global_": (), "_group_": tuple(group.split("/"))}
                    yield file, keys.get(where, tuple(where.split(".")))


def unknown_key(path: str, known: list[str], where: str = "") -> str:
    """where: " in <file>", or nothing."""
    parent, _, key = path.rpartition(".")
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {f'{parent}.' if parent else ''}{close[0]}?" if close else ""
    settings = ", ".join(known) or f"no settings here: choose another {parent}=..."
    return f"unknown key '{path}'{where}{hint}; {parent or 'the config'} has {settings}"
