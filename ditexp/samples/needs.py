"""What the results of an outputs folder rest on, which must not be freed."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Set
from pathlib import Path

from ditexp.files.records import read_record
from ditexp.files.stamps import SETTLED
from ditexp.outputs import Outputs

SOURCE = {"fingerprint": [str]}
# See `misfit`: what names the images of a result of a run or of an evaluation.
SHAPE = {"id": [str], "sample_id": [str], "protocol": [{"images": [SOURCE], "reference": [SOURCE]}]}


def refuse(error: ValueError) -> None:
    remedy = "run its command again, or remove the file"
    raise ValueError(f"{error}: what it needs is unknown, so nothing is freed; {remedy}")


def needed_by_results(outputs: Outputs) -> Set[str]:
    """Ids of sample sets, and fingerprints of the images that were scored and of the references.

    Asked before each removal, so results are looked at again only if their folder has changed. Raises ValueError if a
    result can't be read.
    """
    try:
        date = outputs.results.stat().st_mtime_ns
    except FileNotFoundError:
        return frozenset()
    is_settled = date < time.time_ns() - SETTLED  # any change from now on shows in the date
    return needed_since(outputs, date) if is_settled else results_by_images(outputs).keys()


@functools.lru_cache(maxsize=1)
def needed_since(outputs: Outputs, date: int) -> Set[str]:
    """date: of the last change of the results' folder, which every result that is written changes."""
    return results_by_images(outputs).keys()


def results_by_images(outputs: Outputs, *, unreadable: Callable[[ValueError], None] = refuse) -> Counter[str]:
    """The number of results that need each of these. unreadable: called with the error of a result that can't be read.

    By default nothing can be freed beside one.
    """
    needed: Counter[str] = Counter()
    for path in sorted(outputs.results.glob("*.json")):
        try:
            found = path.stat()
            needed.update(needed_by(path, found.st_size, found.st_mtime_ns))
        except FileNotFoundError:
            pass  # another process has just removed it
        except ValueError as error:
            unreadable(error)
    return needed


@functools.cache  # asked again before each removal
def needed_by(path: Path, size: int, date: int) -> frozenset[str]:
    """The same for one result, of this size and date. Raises FileNotFoundError, or ValueError if it can't be read."""
    found = read_record(path, SHAPE)
    protocol = found.get("protocol") or {}
    if not found.get("sample_id") and not protocol:
        raise ValueError(f"{path} is damaged (it names no images)")
    if found.get("id") not in (None, path.stem.removeprefix("evaluate-")):
        raise ValueError(f"{path} is the result of another name, {ascii(found['id'])[:40]}")
    sources = [protocol.get(part) or {} for part in ("images", "reference")]
    return frozenset(filter(None, [found.get("sample_id"), *(source.get("fingerprint") for source in sources)]))
