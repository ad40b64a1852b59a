"""set.json: what a sample set is, and what began it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ditexp.files.image import BLOCK_BYTES
from ditexp.files.records import read_record, write_record
from ditexp.values import LabelMeaning

NAME = "set.json"
MAX_SAMPLES = 10**8
REMEDY = "the run that made the set mends it"
NOT_KNOWN = LabelMeaning(
    None,
    why_not="labels of these samples are no classes, or it is not recorded: judge them by the command that made them",
)
# See `misfit`: what readers need, and what a run writes.
NEEDED = {
    "identity": {"block_size": int, "image_shape": [list], "latent_shape": [list]},
    "num_samples": int,
    "id": [str],
    "config": [dict],
    "command": [str],
    "provenance": [{"time": [str], "commit": [str]}],
}
COMPLETE = NEEDED | {"command": str, "provenance": {"time": str}}


class ImpossibleSet(ValueError):
    """The facts of a record are of the right types, but no set can have them."""


@dataclass(frozen=True)
class SetRecord:
    """The record of a sample set; the id is a digest of the identity.

    num_samples: the most that a run has asked for. id: empty in sets of early versions. config, command, provenance: of
    the run that began the set.
    """

    num_samples: int
    identity: dict[str, Any]
    label_meaning: LabelMeaning
    id: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def is_of_latents(self) -> bool:
        return "latent_shape" in self.identity

    @classmethod
    def read(cls, folder: Path, *, shape: Mapping[str, Any] = NEEDED, remedy: str = REMEDY) -> SetRecord:
        """The record of a set's folder. Raises FileNotFoundError, or ValueError with the remedy."""
        try:
            return cls.from_json(read_record(folder / NAME, shape))
        except ImpossibleSet:
            raise ValueError(f"{folder / NAME} is damaged: {remedy}") from None
        except ValueError as error:
            raise ValueError(f"{error}: {remedy}") from None

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> SetRecord:
        """Raises ImpossibleSet if no set can have this record."""
        try:
            labels = label_meaning_in(found["labels"]) if "labels" in found else label_meaning_of_older(found)
            check_sizes(found["num_samples"], found["identity"]["block_size"], shape_in(found["identity"]))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ImpossibleSet from None
        origin = {key: found[key] for key in ("id", "config", "command", "provenance") if found.get(key) is not None}
        return cls(found["num_samples"], found["identity"], labels, **origin)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "num_samples": self.num_samples,
            "identity": self.identity,
            "labels": asdict(self.label_meaning),
            "config": self.config,
            "command": self.command,
            "provenance": self.provenance,
        }

    def write(self, folder: Path) -> None:
        write_record(folder / NAME, self.to_json())


def shape_in(identity: Mapping[str, Any]) -> tuple[int, int, int]:
    """(H, W, C) of the images of a set with this identity, or (C, H, W) of its latents. Raises ValueError."""
    first, second, third = identity["latent_shape" if "latent_shape" in identity else "image_shape"]
    return first, second, third


def check_sizes(num_samples: int, block_size: int, shape: tuple[int, int, int], bytes_each: int = 1) -> None:
    """Raise ValueError for sizes that no set has, or whose blocks don't fit into memory. bytes_each: of a value."""
    if not all(type(size) is int and size > 0 for size in (num_samples, block_size, *shape)):
        raise ValueError(f"no set has {num_samples} samples of {shape} in blocks of {block_size}")
    if num_samples > MAX_SAMPLES:
        raise ValueError(f"num_samples={num_samples}: a set has {MAX_SAMPLES:,} at most")
    if (size := block_size * math.prod(shape) * bytes_each) > BLOCK_BYTES:
        raise ValueError(
            f"batch_size={block_size}: this many samples take {size:,} bytes, over the limit of {BLOCK_BYTES:,}: "
            "choose a smaller one"
        )


def label_meaning_in(facts: dict[str, Any]) -> LabelMeaning:
    """Raises ValueError or TypeError if the facts are no LabelMeaning."""
    meaning = LabelMeaning(**facts)
    classes, names = meaning.classes or (), meaning.names
    if not all(type(label) is int for label in classes) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"labels are {facts}")
    return meaning


def label_meaning_of_older(found: dict[str, Any]) -> LabelMeaning:
    """From the configuration of a set that was begun before set.json had the meaning of labels."""
    condition = found.get("config", {}).get("condition", {})
    kind, count = condition.get("_target_", ""), found["identity"].get("model", {}).get("num_classes")
    if found.get("config", {}).get("task", {}).get("direction") is not None:
        return NOT_KNOWN
    if kind.endswith((".Balanced", ".Random")) and count:
        return LabelMeaning(condition.get("classes") or range(count), count)
    if kind.endswith(".Prompts") and isinstance(condition.get("prompts"), dict):
        return LabelMeaning([int(label) for label in condition["prompts"]])
    return NOT_KNOWN
