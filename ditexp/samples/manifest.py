"""The manifest of a block, 000000.json beside the block's file: a block counts only once it has one."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ditexp.files.records import NUMBER, read_record
from ditexp.values import Cost

COSTS = ("images", "velocity_rows", "network_rows", "seconds", "peak_memory_mb")
NEEDED = {  # see `misfit`
    "bytes": int,
    "mtime_ns": int,
    "sha256": str,
    "written": NUMBER,
    "cost": dict.fromkeys(COSTS, NUMBER),
    "maker": dict,
    "latents": [str],
}


@dataclass(frozen=True)
class Manifest:
    """The record of a block.

    bytes, mtime_ns, sha256: of its file; 0 and empty if only the latents are kept. pixels: their sha256, which does not
    depend on zlib's version. latents: the id of the set of latents that the images were decoded from; empty if it is
    not known, and in a set of latents. written: in seconds since 1970. process: the writer's name. cost: of sampling
    and decoding, even where another process sampled the latents before. maker: JSON-able facts about the machine and
    the code.

    Early versions recorded neither block (None), pixels and process (empty) nor the cost's preparation_seconds (NaN).
    """

    block: int | None
    bytes: int
    mtime_ns: int
    sha256: str
    pixels: str
    latents: str
    written: float
    process: str
    cost: Cost
    maker: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Raises FileNotFoundError, or ValueError if the file is damaged."""
        return cls.from_json(read_record(path, NEEDED))

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Manifest:
        known = {key: found[key] for key in ("bytes", "mtime_ns", "sha256", "written", "maker")}
        early = {"block": found.get("block"), "pixels": found.get("pixels", ""), "process": found.get("process", "")}
        return cls(**known, **early, latents=found.get("latents") or "", cost=cost_in(found["cost"]))

    @property
    def has_file(self) -> bool:
        return self.bytes > 0 or not self.latents

    def to_json(self) -> dict[str, Any]:
        """Pixels that are decoded from no stored latents have no `latents`."""
        facts = vars(self) | {"cost": vars(self.cost)}
        return {name: fact for name, fact in facts.items() if name != "latents" or fact}


def cost_in(found: dict[str, Any]) -> Cost:
    """Raises ValueError if no images can have this cost."""
    counts = {kind: found.get(kind, {}) for kind in ("accepted", "rejected")}
    if not all(isinstance(steps, dict) and all(map(str.isdecimal, steps)) for steps in counts.values()):
        raise ValueError(f"its cost has {counts}")
    accepted, rejected = (Counter({int(steps): images for steps, images in each.items()}) for each in counts.values())
    numbers: dict[str, Any] = {"preparation_seconds": math.nan} | {
        key: found[key] for key in (*COSTS, "preparation_seconds") if key in found
    }
    for number in (*(found[key] for key in COSTS), *accepted.values(), *rejected.values()):
        if type(number) not in (int, float) or not 0 <= number < math.inf:
            raise ValueError(f"its cost has {number}")
    return Cost(**numbers, accepted=accepted, rejected=rejected)
