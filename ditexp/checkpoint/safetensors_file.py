"""Files of safetensors: one, or several with an index."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ditexp.files.reading import LINE, read_facts, unfit
from ditexp.files.tensors import opened_tensors
from ditexp.terminal.notices import in_line

INDEX = ".safetensors.index.json"
MAX_SHARDS = 1000


def read_safetensors(path: Path, kind: str, *, name: str, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, mapped from the file, and its metadata. Raises ValueError."""
    with opened_tensors(path, kind, remedy=remedy, name=name) as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


def index_in(folder: Path, *, name: str, remedy: str) -> Path:
    """The index in a folder of shards. Raises ValueError unless there is exactly one."""
    found = sorted(folder.glob(f"*{INDEX}"))
    if len(found) != 1:
        wrong = f"is a folder with {len(found)} files *{INDEX}" if found else "is a folder without weights in it"
        raise unfit(name, wrong, "give the path of one" if found else remedy)
    return found[0]


def shards_of(index: Path, *, name: str, remedy: str) -> dict[Path, set[str]]:
    """The files that an index names, and the tensors that each should have. Raises ValueError."""
    facts = read_facts(index, "an index of safetensors", remedy=remedy, needed={"weight_map": dict})
    shards: dict[Path, set[str]] = {}
    for key, file in facts["weight_map"].items():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            shown = in_line(repr(file), LINE // 3)
            raise unfit(name, f"names the shard {shown}, which is no file beside it", remedy)
        shards.setdefault(index.parent / file, set()).add(key)
    if not 0 < len(shards) <= MAX_SHARDS:
        raise unfit(name, f"names {len(shards):,} shards", remedy)
    return shards


def read_shards(
    shards: dict[Path, set[str]], kind: str, *, name: str, remedy: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of all shards, and their metadata. Raises ValueError if a shard is missing or has others."""
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for shard, keys in shards.items():
        found, more = read_safetensors(shard, kind, name=f"{name}: {shard.name}", remedy=remedy)
        if found.keys() != keys:
            other = min(found.keys() ^ keys)
            word = "lacks" if other in keys else "has"
            raise unfit(name, f"does not fit {shard.name}, which {word} {in_line(other, LINE // 3)}", remedy)
        tensors |= found
        metadata |= more
    return tensors, metadata
