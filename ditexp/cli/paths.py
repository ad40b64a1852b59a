"""A path where a group's option is expected: reference=/data/imagenet is the option folder and its setting path."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from omegaconf import OmegaConf

from ditexp.checks import ConfigError
from ditexp.cli.overrides import parse, parses
from ditexp.cli.packaged import known_keys, options_of, packaged

SUFFIXES = (".npz", ".safetensors", ".pt", ".pth", ".ckpt", ".bin")
# The names that papers give to architectures: SiT-XL/2, DiT-B/4-256x256.
ARCHITECTURE = re.compile(r"(?i)(sit|dit|repa|lightningdit|jit|ddt|meanflow|imf|pmf)-(s|b|m|l|xl|h)(?=[-/_]\d|$)")


def of_model(path: Path) -> tuple[str, str]:
    if (path / "model_index.json").is_file():
        return "sd3", "path"
    if (path / "text_encoder").is_dir():
        return "text_dit", "folder"
    return "checkpoint", "checkpoint"


def of_reference(path: Path) -> tuple[str, str]:
    return {".npz": "npz", ".safetensors": "statistics"}.get(path.suffix, "folder"), "path"


# The option, and the setting of it that a path is, by group.
PLACES: Mapping[str, Callable[[Path], tuple[str, str]]] = {
    "model": of_model,
    "vae": lambda path: ("folder", "path"),
    "reference": of_reference,
    "data": lambda path: ("folder", "path"),
}


def with_options(
    overrides: Sequence[str], config_name: str, *, is_sweep: bool = False, own: Path | None = None
) -> list[str]:
    """The overrides with each path in place of an option written out, as reference=folder reference.path=...

    is_sweep: with -m; without it several paths stay as they are, for `check` to refuse. own: the user's folder of
    configurations. Raises ConfigError, one line for each mistake.
    """
    given = [override for text in overrides if (override := parsed(text))]
    found: list[str] = []
    mistakes: list[str] = []
    for text in overrides:
        group = text.partition("=")[0]
        override = parsed(text) if group in PLACES and group in known_keys(config_name) else None
        if override and (is_sweep or not override.is_sweep_override()):
            try:
                found += written_out(group, text, override, given, own)
            except ConfigError as error:
                mistakes.append(str(error))
        else:
            found.append(text)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return found


def parsed(text: str) -> Override | None:
    """None for what Hydra does not read, or that has no value; `ditexp.cli.overrides.check` says why."""
    return parse(text) if "=" in text and not text.endswith("=") and parses(text) else None


def written_out(group: str, text: str, override: Override, given: list[Override], own: Path | None) -> list[str]:
    values = texts_of(override)
    paths = [value for value in values if is_path(value, group, own)]
    if group == "model" and (named := [value for value in values if is_architecture(value)]):
        raise ConfigError(not_weights(named[0]))
    if not paths:
        return [text]
    places = {PLACES[group](Path(path)) for path in paths}
    if len(paths) < len(values) or len(places) > 1:
        raise ConfigError(
            f"{text}: a sweep over {group} takes options, or paths of one kind (folders, .npz files): run one for each"
        )
    option, setting = places.pop()
    assigned = f"{group}.{setting}={text.partition('=')[2]}"
    # The option that a script's conventions choose keeps the rest: the VAE's scaling factor, the family of the model.
    is_chosen = group in ("model", "vae") and setting in settings_of_script(group, given)
    return [assigned] if is_chosen else [f"{group}={option}", assigned]


def texts_of(override: Override) -> list[str]:
    """The values of an override that are texts."""
    value = override.value()
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    texts = [value.text if isinstance(value, QuotedString) else value for value in values]
    return [value for value in texts if isinstance(value, str)]


def is_path(text: str, group: str, own: Path | None) -> bool:
    """Whether a text is a path and no option, ditexp's or the user's."""
    if text in options_of(group) or (own and (own / group / f"{text}.yaml").is_file()):
        return False
    return "/" in text or text.startswith((".", "~")) or Path(text).suffix in SUFFIXES or os.path.exists(text)


def is_architecture(text: str) -> bool:
    return bool(ARCHITECTURE.match(text)) and Path(text).suffix not in SUFFIXES and not os.path.exists(text)


def not_weights(name: str) -> str:
    """The mistake of an architecture's name where a model is expected."""
    family = name.partition("-")[0].lower()
    return (
        f"model={name} is an architecture, and sampling needs its weights: give their file, model=my.pt, or "
        f"compat={family} model=my.pt for its paper's settings; docs/published_models.md"
    )


def settings_of_script(group: str, given: Sequence[Override]) -> set[str]:
    """The settings of the option that the conventions of a published script, compat=sit, choose for a group."""
    first = {override.key_or_group: values[0] for override in given if (values := texts_of(override))}
    script = first.get("compat") or found_in(
        packaged("experiments") / first.get("experiment", "") / "sweep.yaml", "compat"
    )
    option = found_in(packaged("conf") / "compat" / f"{script}.yaml", group)
    return set(map(str, OmegaConf.load(packaged("conf") / group / f"{option}.yaml"))) if option else set()


def found_in(file: Path, group: str) -> str | None:
    """The option that a file, or one that it extends, chooses for a group."""
    if not file.is_file():
        return None
    text = file.read_text(encoding="utf-8")
    if found := re.search(rf"override /{group}: (\w+)", text):
        return found[1]
    base = re.search(r"^  - (\w+)$", text, re.MULTILINE)
    return found_in(file.with_name(f"{base[1]}.yaml"), group) if base and base[1] != "_self_" else None
