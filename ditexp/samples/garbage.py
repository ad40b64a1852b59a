"""What no result needs of an outputs folder, and its removal while runs, evaluations and other removals go on.

A folder gets a hidden name before its files are removed, so that nobody takes a part for the whole, and a later call
knows what a killed one has left.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ditexp.files.atomic import abandoned
from ditexp.files.process import PROCESS, is_running, this_process
from ditexp.files.records import RESTS_ON, read_record
from ditexp.samples.claims import REMOVAL, Claims
from ditexp.samples.store import SampleStore

DAY = 86_400  # seconds
SET_ID = re.compile("[0-9a-f]{16}")
LEFT = "left by a killed process"
# Whatever a run puts in a set's folder.
OURS = re.compile(r"README\.md|set\.json|\d{6,}\.(json|npy\.gz|claim)|(.+~.+|removal)\.claim|\..+\.tmp")


@dataclass(frozen=True)
class Needless:
    """files: their sizes and dates as they were when it was found, by their names below the path. date: of the path."""

    path: Path
    why: str
    files: dict[str, tuple[int, int]]
    date: int

    @property
    def size(self) -> int:
        return sum(size for size, _ in self.files.values())


def needless(outputs: Path) -> list[Needless]:
    """Raises ValueError for a result that can't be read, since what it needs is unknown."""
    needed, found = needed_by(outputs), []
    every = {store.folder.name: store for store in stores(outputs)}
    for store in every.values():
        if store.folder.name not in needed and not at_work(store):
            found.append((store.folder, f"sample set, {len(list(store.manifests()))} of {store.num_blocks} blocks"))
    for folder, _ in strangers(outputs):
        if folder.name not in needed and is_remnant(folder):
            found.append((folder, f"sample set without set.json, {LEFT}"))
    for folder in features(outputs):
        in_use = at_work(every[folder.name]) if folder.name in every else is_recent(folder)
        if folder.name not in needed and not in_use:
            found.append((folder, "cached features"))
    within = {folder for folder, _ in found}
    found += [(path, LEFT) for path in abandoned(outputs, deep=True) if within.isdisjoint(path.parents)]
    return [Needless(path, why, files_of(path), date_of(path)) for path, why in found]


def remove(found: Needless, outputs: Path) -> str:
    """Why it is left alone after all, or "" once it is removed. Raises ValueError as `needless` does."""
    try:
        if found.why == LEFT:
            return delete(found.path)
        if found.path.parent == outputs / "samples":
            return remove_set(found, outputs)
        if found.path.name in needed_by(outputs):
            return "a result needs it now"
        return hide_and_delete(found.path) if date_of(found.path) == found.date else "it has come into use"
    except FileNotFoundError:
        return "it is gone already"
    except OSError as error:
        return f"it can't be removed ({error.strerror})"


def remove_set(found: Needless, outputs: Path) -> str:
    with Claims(found.path) as claims:
        if not claims.take(REMOVAL):
            return "another process is removing it"
        if claims.others():
            return "it has come into use"
        if found.path.name in needed_by(outputs):
            return "a result needs it now"
        if files_of(found.path) != found.files:
            return "it has changed since"
        return hide_and_delete(found.path)


def hide_and_delete(folder: Path) -> str:
    hidden = folder.with_name(f".{folder.name}.{this_process()}.tmp")
    folder.rename(hidden)
    return delete(hidden)


def delete(path: Path) -> str:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)  # another process may be removing the same
    else:
        path.unlink(missing_ok=True)
    return "it can't be removed" if path.exists() else ""


def files_of(path: Path) -> dict[str, tuple[int, int]]:
    """Of a file, or of all below a folder but claims: size and date, by name."""
    found = {}
    for place, _, names in os.walk(path) if path.is_dir() else [(path.parent, [], [path.name])]:
        for name in names:
            with suppress(FileNotFoundError):
                about = os.lstat(os.path.join(place, name))
                if not name.endswith(".claim"):
                    found[os.path.relpath(os.path.join(place, name), path)] = about.st_size, about.st_mtime_ns
    return found


def date_of(path: Path) -> int:
    """In nanoseconds, 0 if it is gone."""
    with suppress(FileNotFoundError):
        return path.stat().st_mtime_ns
    return 0


def folders(outputs: Path) -> Iterator[tuple[Path, SampleStore | None, str]]:
    """The folders of outputs/samples: each with its set, None where it can't be read, and why it is not taken for one.

    Hidden ones are those that are being removed.
    """
    for path in sorted((outputs / "samples").glob("[!.]*")):
        if not path.is_dir():
            continue
        store, wrong = None, ""
        try:
            store = SampleStore.find(path)
        except ValueError as error:
            wrong = str(error).removeprefix(f"{path}/")
        if path.is_symlink():
            wrong = "a link, which is neither followed nor freed"
        elif store and store.is_copy:
            wrong = f"a copy of sample set {store.id}, since its name is not its id"
        elif not os.path.lexists(path / "set.json"):
            blocks = len(list(path.glob("[0-9]*.npy.gz")))
            wrong = f"{blocks} blocks without set.json: the run that made them mends it" if blocks else "no sample set"
        yield path, store, wrong


def stores(outputs: Path) -> Iterator[SampleStore]:
    """Every set that can be read and is no copy."""
    return (store for _, store, wrong in folders(outputs) if store and not wrong)


def strangers(outputs: Path) -> Iterator[tuple[Path, str]]:
    """The other folders of outputs/samples, and what they are."""
    yield from ((path, wrong) for path, _, wrong in folders(outputs) if wrong)
    for path in sorted((outputs / "samples").glob(".*.tmp")):
        process = path.name.removesuffix(".tmp")[1:].partition(".")[2]
        if PROCESS.fullmatch(process) and is_running(process) is None:
            yield path, "removed by a process of another host, or left by it: `samples gc` there frees it"


def is_remnant(folder: Path) -> bool:
    """Whether a removal or a run that was killed has left it: a set's folder without set.json, with nothing else."""
    names = [path.name for path in folder.glob("*")]
    is_a_sets = SET_ID.fullmatch(folder.name) and not folder.is_symlink() and "set.json" not in names
    return bool(is_a_sets and all(map(OURS.fullmatch, names)) and not Claims(folder).others())


def features(outputs: Path) -> list[Path]:
    """The folders of cached features, one for each network and each source of images."""
    return sorted(path for path in (outputs / "cache" / "features").glob("[!.]*/[!.]*") if path.is_dir())


def at_work(store: SampleStore) -> bool:
    """Whether a process samples, judges or reads the set, as far as its claims tell."""
    return bool(Claims(store.folder).others())


def is_recent(folder: Path) -> bool:
    """Whether a run or an evaluation that has no result yet may have put features there, or read them."""
    try:
        return time.time() - folder.stat().st_mtime < DAY
    except FileNotFoundError:
        return False


def refuse(error: ValueError) -> None:
    remedy = "run its command again, or remove the file"
    raise ValueError(f"{error}: what it needs is unknown, so nothing is freed; {remedy}")


def needed_by(outputs: Path, *, unreadable: Callable[[ValueError], None] = refuse) -> set[str]:
    """What the results rest on: ids of sample sets, and fingerprints of images and of what they are measured against.

    unreadable: what is done about a result that can't be read.
    """
    needed = set()
    for path in sorted((outputs / "results").glob("*.json")):
        try:
            about = path.stat()
            needed |= needs_of(path, about.st_size, about.st_mtime_ns)
        except FileNotFoundError:
            pass  # removed meanwhile
        except ValueError as error:
            unreadable(error)
    return needed


@functools.cache  # they are asked for again before each removal
def needs_of(path: Path, size: int, date: int) -> frozenset[str]:
    """Of one result of a run or an evaluation. Raises FileNotFoundError, or ValueError if it can't be read."""
    found = read_record(path, RESTS_ON)
    protocol = found.get("protocol") or {}
    if not found.get("sample_id") and not protocol:
        raise ValueError(f"{path} is damaged (it names no images)")
    if found.get("id") not in (None, path.stem.removeprefix("evaluate-")):
        raise ValueError(f"{path} is the result of another name, {ascii(found['id'])[:40]}")
    sources = [protocol.get(part) or {} for part in ("images", "reference")]
    return frozenset(filter(None, [found.get("sample_id"), *(source.get("fingerprint") for source in sources)]))
