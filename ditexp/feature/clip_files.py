"""The files of a CLIP: where they are, and what they say of its preprocessing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ditexp.feature.resize import pillow_bicubic
from ditexp.files.hub import HubPlace, fetched, hub_place
from ditexp.files.reading import UnfitFile, read_facts, shown, unfit

# The files that decide the outputs; a repository may also have weights in other formats.
CONFIG, OWN_PREPROCESSING, PROCESSOR = "config.json", "preprocessor_config.json", "processor_config.json"
NEEDED = re.compile(
    rf"{CONFIG}|{OWN_PREPROCESSING}|{PROCESSOR}|tokenizer(_config)?\.json|special_tokens_map\.json|vocab\.json|merges\.txt"
    r"|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json"
)
REMEDY = "give a CLIP that save_pretrained wrote, with model.safetensors"


@dataclass(frozen=True)
class Preprocessing:
    """size: pixels of the shorter side after the resize. crop: of both sides. mean, std: of RGB in [0, 1]."""

    size: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, 3, crop, crop) float32. The crop lies as torchvision's does."""
        height, width = images.shape[2:]
        short = min(height, width)
        resized = pillow_bicubic(images, (self.size * height // short, self.size * width // short))
        top, left = (round((count - self.crop) / 2) for count in resized.shape[2:])
        cropped = resized[:, :, top : top + self.crop, left : left + self.crop] / 255
        mean, std = (cropped.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (cropped - mean) / std


def located(path: str) -> Path:
    """The folder of a CLIP, whose files are downloaded if the path is a name on the hub and they are not here."""
    place = hub_place(path)
    if place is None:
        return Path(path)
    return fetched(place, lambda names: needed_of(names, place), setting=f"feature.path={path}", remedy=REMEDY)


def needed_of(names: Sequence[str], place: HubPlace) -> list[str]:
    """The files of a CLIP among those of a repository; empty if they are not all there."""
    below = f"{place.inner}/" if place.inner else ""
    inside = [name.removeprefix(below) for name in names if name.startswith(below)]
    return [below + name for name in needed(inside)]


def needed(names: Sequence[str]) -> list[str]:
    """Those of a CLIP's files that are read; empty if it lacks its configuration or weights."""
    found = [name for name in names if NEEDED.fullmatch(name)]
    shards = [name for name in found if "-of-" in name]
    is_whole = len(shards) == int(shards[0][-17:-12]) if shards else "model.safetensors" in found
    return found if CONFIG in found and is_whole else []


def read_config(folder: Path, path: str) -> tuple[int, Preprocessing]:
    """The number of features, and the preprocessing. path: the setting, for messages.

    Raises ValueError if these are not the files of a CLIP.
    """
    name = f"feature.path={path}"
    if not folder.is_dir():
        raise unfit(name, "is not a folder", REMEDY)
    if not needed(sorted(file.name for file in folder.iterdir())):
        raise unfit(name, f"lacks {CONFIG} or model.safetensors", REMEDY)
    config = read_facts(folder / CONFIG, "a configuration of transformers", remedy=REMEDY, needed={"model_type": str})
    if config["model_type"] != "clip":
        raise unfit(name, f"is a {shown(config['model_type'])}, not a clip", REMEDY)
    width = config.get("projection_dim", 512)
    if type(width) is not int or width < 1:
        raise unfit(folder / CONFIG, f"has {shown(width)} as projection_dim", REMEDY)
    kind = "a preprocessing of transformers"
    if (folder / OWN_PREPROCESSING).exists():
        facts = read_facts(folder / OWN_PREPROCESSING, kind, remedy=REMEDY, needed={})
        return width, preprocessing_of(facts, folder / OWN_PREPROCESSING)
    facts = read_facts(folder / PROCESSOR, kind, remedy=REMEDY, needed={"image_processor": dict})
    return width, preprocessing_of(facts["image_processor"], folder / PROCESSOR)


def preprocessing_of(facts: Mapping[str, Any], file: Path) -> Preprocessing:
    """Raises ValueError for a preprocessing that CLIPs do not have."""
    size, crop = facts.get("size"), facts.get("crop_size")
    size = size.get("shortest_edge") if isinstance(size, dict) else size
    sides = {*crop.values()} if isinstance(crop, dict) else {crop}
    steps = ("do_resize", "do_center_crop", "do_normalize")
    if wrong := next((step for step in steps if facts.get(step, True) is not True), None):
        raise unfit(file, f"has {wrong}={shown(facts[wrong])}", REMEDY)
    if facts.get("resample", 3) != 3:
        raise unfit(file, f"has resample={shown(facts['resample'])}, not 3 (bicubic)", REMEDY)
    if type(size) is not int or len(sides) != 1 or type(side := sides.pop()) is not int or not 1 <= side <= size:
        raise unfit(file, f"has size={shown(facts.get('size'))}, crop_size={shown(crop)}", REMEDY)
    return Preprocessing(size, side, colours(facts, "image_mean", file), colours(facts, "image_std", file))


def colours(facts: Mapping[str, Any], key: str, file: Path) -> tuple[float, ...]:
    values = facts.get(key)
    if not isinstance(values, list) or len(values) != 3 or not all(isinstance(value, float | int) for value in values):
        raise wrong_colours(file, key, values)
    return tuple(map(float, values))


def wrong_colours(file: Path, key: str, values: object) -> UnfitFile:
    return unfit(file, f"has {shown(values)} as {key}", REMEDY)
