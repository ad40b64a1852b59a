"""Every key of a composed configuration must be known, or read by another value; no key of a command may be missing."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import re
from collections.abc import Iterator
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from ditexp.cli.nodes import OF_HYDRA, Keys, dotted, items, leaves_of, plain, select
from ditexp.cli.origin import origin, texts_of_files
from ditexp.cli.overrides import choose
from ditexp.cli.packaged import known_keys
from ditexp.cli.signatures import arguments_of

# The key in ${key}, ${key.${other}} and ${oc.select:key,default}.
REFERENCE = re.compile(r"\$\{\s*(?:oc\.(?:select|dict\.keys|dict\.values)\s*:\s*)?([.\w\[\]-]+)(?=\s*[},$])")

MANY = 12  # keys that are too many for one line beside the one that is most likely meant
# What other projects call a setting: the key here, and what to write.
ELSEWHERE = {
    **dict.fromkeys(("cfg", "cfg_scale", "guidance_scale", "w"), ("guidance", "guidance=cfg guidance.scale=...")),
    **dict.fromkeys(("sampler", "method", "sampling_method"), ("solver", "solver=...")),
    **dict.fromkeys(("nfe", "nfes"), ("forwards", "forwards=...")),
    **dict.fromkeys(("ckpt", "checkpoint", "weights", "pretrained"), ("model", "model=<file>")),
    **dict.fromkeys(("num_fid_samples", "num_images", "n_samples"), ("num_samples", "num_samples=...")),
    **dict.fromkeys(("num_sampling_steps", "num_inference_steps"), ("steps", "steps=...")),
    **dict.fromkeys(("out", "output", "output_dir", "sample_dir", "results"), ("outputs", "outputs=...")),
}


def wrong_keys(raw: dict[str, Any], hydra_cfg: DictConfig, command: str) -> Iterator[str]:
    """Yield a mistake for each key that is missing, or that nothing reads.

    raw: the configuration without Hydra's part, interpolations as they are written. command: the name of its file in
    conf/.
    """
    raw_hydra = plain(hydra_cfg)
    yield from missing(raw, command)
    for path, known in unknown_in_hydra(hydra_cfg, raw_hydra, ("hydra",)):
        if "/".join(map(str, path)) not in hydra_cfg.runtime.choices:  # hydra/env is a group without a schema
            yield unknown_key(dotted(path), known, origin(path, hydra_cfg))
    for path, known in wrong_arguments(raw | {"hydra": raw_hydra}):
        yield unknown_key(dotted(path), known, origin(path, hydra_cfg))
    yield from unread(raw, raw_hydra, hydra_cfg, command)


def missing(raw: dict[str, Any], command: str) -> Iterator[str]:
    """Yield a mistake for each setting that was removed, and each group that holds no component."""
    for key, known in known_keys(command).items():
        is_group = isinstance(known, dict) and key != "hydra"
        value = raw.get(key)
        if key not in raw:
            if key not in ("hydra", "metric"):  # without metrics, there is no key of that name
                remedy = choose(key) if is_group else f"leave ~{key} out"
                yield f"{key} is missing (~{key} removes it): {remedy}"
        elif key == "metric" and isinstance(value, dict) and "_target_" in value:
            yield "metric: a metric needs a name: write `mine:` and below it, indented, `_target_: ...`"
        elif not is_group or (value is None and key in known and known[key] is None):
            continue
        elif value is None:
            yield f"{key} is null: {choose(key)}"
        elif not isinstance(value, dict):
            if not str(value).startswith("${"):
                choice = f"choose {key}={value} on the command line, or in a file "
                choice += f"`defaults: [override /{key}: {value}]`"
                yield f"{key}: {value} stands where the settings of an option belong: {choice}"
        elif "_target_" in known and "_target_" not in value:
            yield f"{key} has no _target_, which names the class of these settings: {choose(key)}"


def unknown_in_hydra(node: DictConfig, raw: dict[str, Any], path: Keys) -> Iterator[tuple[Keys, list[str]]]:
    """Keys that were added by force where Hydra has a schema, each with the keys of the schema.

    raw: the node as dictionaries and lists.
    """
    kind = OmegaConf.get_type(node)
    known = [field.name for field in dataclasses.fields(kind)] if kind and dataclasses.is_dataclass(kind) else None
    for key, value in raw.items():
        if known and key not in known:
            yield (*path, key), known
        elif isinstance(value, dict):
            yield from unknown_in_hydra(node[key], value, (*path, key))


def wrong_arguments(raw: dict[str, Any] | list[Any], path: Keys = ()) -> Iterator[tuple[Keys, list[str]]]:
    """Keys of components that their classes do not accept, each with those that they do."""
    accepted = parameters(raw["_target_"]) if isinstance(raw, dict) and "_target_" in raw else None
    for key, value in items(raw):
        if accepted is not None and key not in accepted and key not in OF_HYDRA:
            yield (*path, key), accepted
        elif isinstance(value, dict | list):
            yield from wrong_arguments(value, (*path, key))


@functools.cache
def parameters(target: str) -> list[str] | None:
    """The names of a class's or function's arguments; None if it accepts any, or cannot be imported."""
    if (known := arguments_of(target)) is not None:
        return list(known)
    try:
        found = inspect.signature(get_object(target)).parameters.values()
    except Exception:  # whatever a user's module raises when it is imported; building the component says more
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in found):
        return None
    return [parameter.name for parameter in found]


def unread(raw: dict[str, Any], raw_hydra: dict[str, Any], hydra_cfg: DictConfig, command: str) -> Iterator[str]:
    """Yield a mistake for each unknown key that no other value refers to."""
    strangers = dict(unknown(raw, known_keys(command)))
    leaves = {(*path, *rest) for path in strangers for rest, _ in leaves_of(select(raw, path))}
    if not leaves:
        return
    everything = [*leaves_of(raw), *leaves_of(raw_hydra, ("hydra",)), *leaves_of(texts_of_files(hydra_cfg), ("", ""))]
    while True:  # a key that is read makes its own references count
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


def unknown(raw: dict[str, Any], known: dict[str, Any], path: Keys = ()) -> Iterator[tuple[Keys, list[str]]]:
    """Keys that are not known, each with those that are. Within a group, a component may have any name."""
    for key, value in raw.items():
        is_component = isinstance(value, dict) and "_target_" in value
        if key not in known:
            if not (path and is_component):
                yield (*path, key), [str(other) for other in known if other not in ("_target_", "hydra")]
        elif isinstance(value, dict) and isinstance(known[key], dict) and not is_component:
            yield from unknown(value, known[key], (*path, key))


def referred_to(path: Keys, value: object) -> Iterator[Keys]:
    """The keys, from the root, that the interpolations of a value at `path` name."""
    for reference in REFERENCE.findall(value) if isinstance(value, str) else ():
        relative = len(reference) - len(reference.lstrip("."))
        keys = re.findall(r"[^.\[\]]+", reference)
        if keys:
            yield (*path[: len(path) - relative], *keys) if relative else tuple(keys)


def unknown_key(path: str, known: list[str], where: str = "") -> str:
    """where: " in <file>", or nothing."""
    parent, _, key = path.rpartition(".")
    if not parent and (meant := ELSEWHERE.get(key.replace("-", "_").lower())) and meant[0] in known:
        return f"unknown key '{path}'{where}; it is called {meant[1]} here"
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {f'{parent}.' if parent else ''}{close[0]}?" if close else ""
    settings = ", ".join(known) or f"no settings here: choose another {parent}=..."
    listed = "--help lists all" if hint and len(known) > MANY else f"{parent or 'the config'} has {settings}"
    return f"unknown key '{path}'{where}{hint}; {listed}"
