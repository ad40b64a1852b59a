"""Where a cell departs from the published script whose conventions it was given: compat=sit and so on."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig

from ditexp.cli.composing import composed
from ditexp.run.components import COMPONENTS
from ditexp.run.settings import flat, resolved, settings_of
from ditexp.terminal.notices import notice

# Groups whose option alone is compared: what they measure with does not change samples.
JUDGES = ("feature", "reference", "protocol")
# Settings that a preset cannot know, or that change no sample.
FACTS = (
    *("model.checkpoint", "model.num_heads", "model.num_classes", "model.in_context_start"),
    *("model.encoder_depth", "model.input_size"),
    *("vae.path", "vae.statistics", "vae.batch_size", "vae.tiling"),
)


def departures_of(config: Mapping[str, Any], settings: Mapping[str, Any], choices: Mapping[str, Any]) -> list[str]:
    """Each setting that is not the preset's, with the preset's in brackets: "solver=heun (torchdiffeq)".

    Empty without a preset. num_samples, seed, devices and paths do not count; the batch size does with an adaptive
    solver, since a sample of torchdiffeq's depends on its batch. config: the cell's, resolved. settings: flat, of
    `settings_of`. choices: the option of each group.
    """
    if not (preset := settings.get("compat")):
        return []
    usual, usual_choices = preset_alone(str(preset))
    lines = [
        line
        for group in (*COMPONENTS, *JUDGES)
        for line in of_group(group, config[group], usual[group], choices[group], usual_choices[group])
    ]
    is_adaptive = settings["steps"] is None
    for name in ("precision", "rounding", "batch_size" if is_adaptive else "steps"):
        lines += difference(name, settings[name], usual[name])
    return lines


def of_group(group: str, node: Any, usual: Any, option: str | None, usual_option: str | None) -> list[str]:
    """The departures of one component; of its option alone where that is of another class."""
    node, usual = node or {}, usual or {}
    has_other_class = node.get("_target_") != usual.get("_target_")
    if option != usual_option and (has_other_class or group in JUDGES):
        return [f"{group}={option} ({usual_option})"]
    if group in JUDGES:
        return []
    ours, theirs = flat(node, group), flat(usual, group)
    names = [name for name in {**theirs, **ours} if theirs.get(name) != "???"]
    lines = [line for name in names if name not in FACTS for line in difference(name, ours.get(name), theirs.get(name))]
    if not lines and option != usual_option and any(ours.get(name) != theirs.get(name) for name in names):
        return [f"{group}={option} ({usual_option})"]  # such as a VAE from another folder
    return lines


def difference(name: str, value: Any, usual: Any) -> list[str]:
    return [] if value == usual else [f"{name}={shown(value)} ({shown(usual)})"]


def shown(value: Any) -> str:
    """A value as it is typed."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@functools.cache
def preset_alone(name: str) -> tuple[dict[str, Any], Mapping[str, str | None]]:
    """The configuration of a preset that nothing else was chosen with, and the option of each group."""
    return composed("config", [f"compat={name}"])


def notice_departures(cells: Iterable[tuple[DictConfig, DictConfig]]) -> None:
    """Print one notice of all cells' departures. cells: the configuration of each, and Hydra's own part."""
    presets, counts = Counter[str](), {}
    for cfg, hydra_cfg in cells:
        if hydra_cfg.runtime.choices.get("compat") in (None, "none"):
            continue
        config = resolved(cfg)
        settings = settings_of(config, hydra_cfg)
        if preset := settings.get("compat"):
            presets[preset] += 1
            found = departures_of(config, settings, hydra_cfg.runtime.choices)
            counts.setdefault(preset, Counter()).update(found)
    for preset, found in counts.items():
        if found:
            notice(f"compat={preset}, but {in_words(found, presets[preset])}")


def in_words(departures: Mapping[str, int], cells: int) -> str:
    """Departures and how many of the cells have them, as one text."""
    return "; ".join(
        line if count == cells else f"{line} in {count} of {cells} cells" for line, count in departures.items()
    )
