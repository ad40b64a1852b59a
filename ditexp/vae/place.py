"""Where a VAE's files are: on this machine, or on the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from ditexp.files.hub import HubPlace, fetched, hub_place
from ditexp.vae.weights import SUFFIXES

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model"  # in diffusers' folders
# MB of the weights that the options of conf/vae name: what to expect where the hub cannot be asked.
SIZES = {
    "stabilityai/sd-vae-ft-ema": 335,
    "stabilityai/sd-vae-ft-mse": 335,
    "stabilityai/sdxl-vae": 335,
    "madebyollin/taesd": 10,
}


def located(value: str, setting: str) -> Path:
    """The path of a setting that is a path or a name on the hub, whose files are downloaded if need be.

    Raises ValueError if they cannot be had.
    """
    place = hub_place(value)
    if place is None:
        return Path(value)
    if place.inner.endswith(SUFFIXES):
        remedy = "give the path of the file"
    else:
        size = f" ({SIZES[place.repository]} MB)" if place.repository in SIZES else ""
        remedy = f"give a folder with its {CONFIG} and {WEIGHTS}.safetensors{size}"
    return fetched(place, lambda names: needed(names, place), setting=f"{setting}={value}", remedy=remedy)


def needed(names: Sequence[str], place: HubPlace) -> list[str]:
    """The files of a VAE among those of a repository; empty if they are not all there."""
    if place.inner in names:
        return [place.inner]
    below = f"{place.inner}/" if place.inner else ""
    inside = [name for name in names if name.startswith(below) and "/" not in name.removeprefix(below)]
    config = f"{below}{CONFIG}"
    if config not in inside:
        halves = [first(inside, f"{below}*{half}") for half in ("encoder", "decoder")]
        return [half for half in halves if half] if all(halves) else []
    weights = first(inside, f"{below}{WEIGHTS}")
    if weights is None:
        return []
    if not weights.endswith(".index.json"):
        return [config, weights]
    shards = [name for name in inside if re.search(r"-\d{5}-of-\d{5}\.safetensors$", name)]
    complete = shards and len(shards) == int(shards[0][-17:-12])
    return [config, weights, *shards] if complete else []


def first(names: Sequence[str], stem: str) -> str | None:
    return next((name for suffix in SUFFIXES for name in names if fnmatch(name, f"{stem}{suffix}")), None)
