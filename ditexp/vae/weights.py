"""The weights of a VAE in a file, or in the shards that an index names."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ditexp.files.content import digest, unchanged
from ditexp.files.pickles import read_pickled
from ditexp.files.reading import read_facts, unfit
from ditexp.files.state_dict import state_dict_of

KIND = "a VAE"
REMEDY = "give another, or download it again"
INDEX = ".index.json"
SUFFIXES = (f".safetensors{INDEX}", ".safetensors", f".bin{INDEX}", ".bin", ".pth", ".pt")  # the first that exists


class Weights(NamedTuple):
    """Tensors in float32 by the network's own names. sha256: of the files that hold them."""

    tensors: dict[str, Tensor]
    sha256: str


def file_of(folder: Path, stem: str) -> Path | None:
    """The file of weights of this name, whose pattern may have stars; None if there is none."""
    found = (path for suffix in SUFFIXES for path in sorted(folder.glob(f"{stem}{suffix}")))
    return next(found, None)


def read_weights(path: Path, name: str, anchor: str) -> Weights:
    """anchor: the name of a weight that the network has. Raises ValueError for files that hold no such network."""
    files = shards(path, name) if path.name.endswith(INDEX) else [path]
    with ExitStack() as stack:
        hashes = [stack.enter_context(unchanged(file)) for file in files]
        state: dict[str, Any] = {}
        for file in files:
            state |= read_state(file, f"{name}: {file.name}" if len(files) > 1 else name)
        tensors = state_dict_of(state, name=name, kind=KIND, anchor=anchor)
    return Weights(tensors, hashes[0] if len(hashes) == 1 else digest(hashes))


def shards(index: Path, name: str) -> list[Path]:
    """The files that an index names, which lie beside it."""
    facts = read_facts(index, "an index of weights", remedy=REMEDY, needed={"weight_map": dict})
    names: Iterable[Any] = dict.fromkeys(map(str, facts["weight_map"].values()))
    if astray := [file for file in names if Path(file).name != file]:
        raise unfit(name, f"names a file in another folder: {astray[0]}", REMEDY)
    return [index.parent / file for file in names]


def read_state(path: Path, name: str) -> dict[str, Any]:
    if path.suffix != ".safetensors":
        return read_pickled(path, KIND, remedy=REMEDY, name=name)
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, RuntimeError, OSError) as error:
        raise unfit(name, f"is truncated or damaged ({error})", REMEDY) from None
