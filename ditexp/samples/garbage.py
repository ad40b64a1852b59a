"""Finds what no result needs in an outputs folder, and removes it safely beside runs, evaluations and other removals.

A folder gets a hidden name before its files are removed. So no process takes a part for the whole, and a later call
finds what a killed one left.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ditexp.files.atomic import abandoned
from ditexp.files.process import this_process
from ditexp.outputs import Outputs
from ditexp.samples.block_store import record_in
from ditexp.samples.claims import REMOVAL, Claims
from ditexp.samples.folders import SetFolder, is_in_use, list_folders, needed_latents, sets_in
from ditexp.samples.needs import needed_by_results
from ditexp.samples.set_record import NAME
from ditexp.terminal.units import plural

DAY = 86_400  # seconds
SET_ID = re.compile("[0-9a-f]{16}")
LEFT = "left by a killed process"
# The names of all files that ditexp writes in a set's folder.
OURS = re.compile(
    r"README\.md|set\.json|prompts\.jsonl|\d{6,}\.(json|npy\.gz|safetensors|claim)|(.+~.+|removal)\.claim|\..+\.tmp"
)


@dataclass(frozen=True)
class Needless:
    """A file or folder that nothing needs.

    files: when it was found, the sizes and dates of its files, by their names below the path. date: of the path.
    """

    path: Path
    why: str
    files: dict[str, tuple[int, int]]
    date: int

    @property
    def size(self) -> int:
        return sum(size for size, _ in self.files.values())


def needless(outputs: Outputs, folders: Sequence[SetFolder]) -> list[Needless]:
    """folders: of outputs/samples. Raises ValueError if a result can't be read, since what it needs is unknown."""
    every = {store.folder.name: store for store in sets_in(folders)}
    of_results, found = needed_by_results(outputs), []
    needed = of_results | needed_latents(list(every.values()), of_results)
    for name, store in every.items():
        if name not in needed and not is_in_use(store):
            blocks = f"{len(list(store.manifests()))} of {plural(store.num_blocks, 'block')}"
            found.append((store.folder, f"{'latents' if store.kind == 'latents' else 'sample set'}, {blocks}"))
    for folder in folders:
        if folder.other and folder.path.name not in needed and is_remnant(folder.path):
            found.append((folder.path, f"sample set without {NAME}, {LEFT}"))
    for path in cached_features(outputs):
        in_use = is_in_use(every[path.name]) if path.name in every else is_recent(path)
        if path.name not in needed and not in_use:
            found.append((path, "cached features"))
    within = {path for path, _ in found}
    found += [(path, LEFT) for path in abandoned(outputs.root, deep=True) if within.isdisjoint(path.parents)]
    return [Needless(path, why, files_of(path), date_of(path)) for path, why in found]


def remove(found: Needless, outputs: Outputs) -> str:
    """Remove what `needless` found, unless it is needed now: why it was left alone, or "" once it is removed.

    Raises ValueError as `needless` does.
    """
    try:
        if found.why == LEFT:
            return delete(found.path)
        if found.path.parent == outputs.samples:
            return remove_set(found, outputs)
        if found.path.name in needed_by_results(outputs):
            return "a result needs it now"
        return hide_and_delete(found.path) if date_of(found.path) == found.date else "it has come into use"
    except FileNotFoundError:
        return "it is gone already"
    except OSError as error:
        return f"it can't be removed ({error.strerror})"


def remove_set(found: Needless, outputs: Outputs) -> str:
    with Claims(found.path) as claims:
        if not claims.take(REMOVAL):
            return "another process is removing it"
        if claims.others():
            return "it has come into use"
        if is_needed(found.path, outputs):
            return "a result needs it now"
        if files_of(found.path) != found.files:
            return "it has changed since"
        return hide_and_delete(found.path)


def is_needed(folder: Path, outputs: Outputs) -> bool:
    """Whether a result needs a set now, or a set of images that is needed or in use is decoded from it."""
    needed = needed_by_results(outputs)
    try:
        of_latents = record_in(folder).is_of_latents
    except ValueError:  # blocks without set.json
        of_latents = False
    if folder.name in needed or not of_latents:
        return folder.name in needed
    return folder.name in needed_latents(sets_in(list_folders(outputs)), needed)


def hide_and_delete(folder: Path) -> str:
    hidden = folder.with_name(f".{folder.name}.{this_process()}.tmp")
    folder.rename(hidden)
    return delete(hidden)


def delete(path: Path) -> str:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)  # another process may be removing it too
    else:
        path.unlink(missing_ok=True)
    return "it can't be removed" if path.exists() else ""


def files_of(path: Path) -> dict[str, tuple[int, int]]:
    """Size and date of a file, or of all files below a folder, by name; without claims."""
    found = {}
    for place, _, names in os.walk(path) if path.is_dir() else [(path.parent, [], [path.name])]:
        below = os.path.relpath(place, path)
        for name in names:
            with suppress(FileNotFoundError):
                about = os.lstat(os.path.join(place, name))
                if not name.endswith(".claim"):
                    found[os.path.join(below, name)] = about.st_size, about.st_mtime_ns
    return found


def date_of(path: Path) -> int:
    """In nanoseconds; 0 if the path is gone."""
    with suppress(FileNotFoundError):
        return path.stat().st_mtime_ns
    return 0


def is_remnant(folder: Path) -> bool:
    """Whether a killed removal or run left this folder: a set's, without set.json, with nothing but ditexp's files."""
    names = [path.name for path in folder.glob("*")]
    is_a_sets = SET_ID.fullmatch(folder.name) and not folder.is_symlink() and NAME not in names
    return bool(is_a_sets and all(map(OURS.fullmatch, names)) and not Claims(folder).others())


def cached_features(outputs: Outputs) -> list[Path]:
    """The folders of cached features, one for each network and each set of images."""
    return sorted(path for path in outputs.features.glob("[!.]*/[!.]*") if path.is_dir())


def is_recent(folder: Path) -> bool:
    """Whether a run or an evaluation without a result yet may have written or read features there."""
    try:
        return time.time() - folder.stat().st_mtime < DAY
    except FileNotFoundError:
        return False
