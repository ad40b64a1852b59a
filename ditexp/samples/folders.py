"""The folders of outputs/samples: sample sets, copies of sets, and others."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ditexp.files.process import PROCESS, is_running
from ditexp.outputs import Outputs
from ditexp.samples.claims import Claims
from ditexp.samples.latents import LatentStore
from ditexp.samples.set_record import NAME
from ditexp.samples.store import SampleStore, find_set

Set = SampleStore | LatentStore


@dataclass(frozen=True)
class SetFolder:
    """store: the set in the folder, if it can be read. other: what else the folder is; empty for a set."""

    path: Path
    store: Set | None = None
    other: str = ""

    @property
    def has_damaged_record(self) -> bool:
        return self.store is None and os.path.lexists(self.path / NAME)


def list_folders(outputs: Outputs) -> list[SetFolder]:
    """All folders of outputs/samples. Hidden ones are being removed, and listed only if another host removes them."""
    found = [describe(path) for path in sorted(outputs.samples.glob("[!.]*")) if path.is_dir()]
    for path in sorted(outputs.samples.glob(".*.tmp")):
        process = path.name.removesuffix(".tmp")[1:].partition(".")[2]
        if PROCESS.fullmatch(process) and is_running(process) is None:
            other = "another host is removing it, or was killed at that: `samples gc` there frees it"
            found.append(SetFolder(path, other=other))
    return found


def describe(path: Path) -> SetFolder:
    store, other, has_record = None, "", os.path.lexists(path / NAME)
    try:
        store = find_set(path) if has_record else None
    except ValueError as error:
        other = str(error).removeprefix(f"{path}/")
    if path.is_symlink():
        other = "a link, which is neither followed nor freed"
    elif store and store.is_copy:
        other = f"a copy of sample set {store.id}, since its name is not its id"
    elif not has_record:
        blocks = sum(path.suffix in (".gz", ".safetensors") for path in path.glob("[0-9]*"))
        other = f"{blocks} blocks without {NAME}: the run that made them mends it" if blocks else "no sample set"
    return SetFolder(path, store, other)


def sets_in(folders: Sequence[SetFolder]) -> list[Set]:
    """The sets that can be read and are no copies."""
    return [folder.store for folder in folders if folder.store and not folder.other]


def needed_latents(sets: Sequence[Set], needed: Collection[str]) -> set[str]:
    """The ids of the latents of all sets of images that are needed, by their ids, or in use."""
    latents = [store for store in sets if isinstance(store, LatentStore)]
    images = [store for store in sets if isinstance(store, SampleStore)] if latents else []
    used = [store.identity for store in images if store.id in needed or is_in_use(store)]
    shared = {store.id: store.shared_identity for store in latents}
    alike = {}  # by the keys of latents' identities, these parts of all that are used
    for keys in {frozenset(each) for each in shared.values()}:
        alike[keys] = {frozen({key: each[key] for key in keys}) for each in used if keys <= each.keys()}
    return {id for id, each in shared.items() if frozen(each) in alike[frozenset(each)]}


def frozen(value: object) -> object:
    """A value of JSON that can be looked up; equal where the values are equal."""
    if isinstance(value, dict):
        return frozenset((key, frozen(inner)) for key, inner in value.items())
    return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value


def is_in_use(store: Set) -> bool:
    """Whether a process makes, scores or reads the set, as far as its claims show."""
    return bool(Claims(store.folder).others())
