"""Files of the Hugging Face hub: downloaded once, before any work, with a bar; afterwards read from its cache.

huggingface_hub does it, so that HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE act as everywhere.
"""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ditexp.files.content import sha256
from ditexp.files.reading import unfit
from ditexp.terminal.notices import in_line
from ditexp.terminal.progress import progress_bar

NAME = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:/([\w./-]{1,200}))?")
TIMEOUT = 20  # seconds until a server that does not answer counts as absent
MB = 10**6

# The names of a repository's files, sorted -> those that are needed; empty if they are not all there.
Choice = Callable[[Sequence[str]], list[str]]


@dataclass(frozen=True)
class HubPlace:
    """A repository, `owner/name`, and a file or folder within; "" is its top."""

    repository: str
    inner: str


def hub_place(value: str) -> HubPlace | None:
    """What a setting names on the hub; None if it is a path on this machine, or can only be one."""
    found = NAME.fullmatch(value)
    if found is None or ".." in value.split("/") or Path(value).exists() or Path(value).is_symlink():
        return None
    return HubPlace(found[1], (found[2] or "").strip("/"))


def cached(place: HubPlace, choose: Choice) -> Path | None:
    """The place in the hub's cache; None if not all the files that are needed are there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(place.repository, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    return folder / place.inner if choose(names) else None


def fetched(place: HubPlace, choose: Choice, *, setting: str, remedy: str) -> Path:
    """The place in the hub's cache, downloaded if it is not there yet; a worker downloads nothing.

    setting: in messages. remedy: what to do without the hub. Raises ValueError if the files cannot be had.
    """
    if found := cached(place, choose):
        return found
    if multiprocessing.parent_process():
        raise unfit(setting, "is not in the hub's cache of this machine", remedy)
    try:
        download(place, choose)
    except Exception as error:  # of the network, the server, the disk: huggingface_hub raises many kinds
        raise unfit(setting, f"is not here, and {endpoint()} fails ({reason(error)})", remedy) from None
    found = cached(place, choose)
    if found is None:
        raise unfit(setting, f"has no files that are needed on {endpoint()}", remedy)
    return found


def reason(error: Exception) -> str:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, HfHubHTTPError):  # 401 also stands for a name that does not exist
        return f"HTTP status {error.response.status_code}"
    text = re.sub(r"\[Errno -?\d+\] ", "", str(error))
    return in_line(" ".join(text.split()) or type(error).__name__, 40)


def endpoint() -> str:
    """The hub's address, which HF_ENDPOINT sets."""
    from huggingface_hub.constants import ENDPOINT

    return ENDPOINT


def download(place: HubPlace, choose: Choice) -> None:
    """Download what is needed, with a bar in MB, and compare it with the server's sha256."""
    from huggingface_hub import HfApi, hf_hub_download

    info = HfApi().model_info(place.repository, files_metadata=True, timeout=TIMEOUT)
    siblings = {one.rfilename: one for one in info.siblings or ()}
    chosen = [siblings[name] for name in choose(sorted(siblings))]
    total = sum(one.size or 0 for one in chosen)
    with progress_bar(f"Downloading {place.repository}", total=max(1, round(total / MB)), unit="MB") as bar:
        for one in chosen:
            bar.note(one.rfilename)
            path = hf_hub_download(
                place.repository,
                one.rfilename,
                etag_timeout=TIMEOUT,
                tqdm_class=counter(lambda size: bar.advance(size / MB)),
            )
            if one.lfs and sha256(path) != one.lfs.sha256:
                Path(path).unlink()
                raise OSError(f"wrong sha256: {one.rfilename}")


def counter(advance: Callable[[float], None]) -> Any:
    """A progress bar for huggingface_hub that shows nothing itself and passes on how many bytes have arrived."""
    from tqdm import tqdm

    class Counter(tqdm):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **{**settings, "disable": True})
            advance(settings.get("initial") or 0)  # of a download that goes on

        def update(self, n: float | None = 1) -> bool | None:
            advance(n or 0)
            return None

    return Counter
