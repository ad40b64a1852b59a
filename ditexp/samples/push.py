"""Sends a sample set's card, record and results, and on request its images, to the Hugging Face hub as a data set.

huggingface_hub does it, so that HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE act as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ditexp.files.hub import NAME, endpoint, reason
from ditexp.files.records import read_record
from ditexp.outputs import Outputs
from ditexp.samples.card import card
from ditexp.samples.folders import Set
from ditexp.samples.needs import SHAPE
from ditexp.samples.prompt_list import NAME as PROMPTS
from ditexp.samples.set_record import NAME as RECORD

FRONT_MATTER = "---\ntags: [ditexp, generated-images]\n---\n\n"  # by which the hub finds data sets


@dataclass(frozen=True)
class Sent:
    """A file of the data set: its name there, and its content or the file that holds it."""

    name: str
    content: bytes | Path

    @property
    def size(self) -> int:
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)


def files_of(store: Set, outputs: Outputs, *, images: bool) -> list[Sent]:
    """README.md, set.json and the results of a set. images: also every block that is there, with its manifest."""
    sent = [
        Sent("README.md", (FRONT_MATTER + card(store)).encode()),
        Sent(RECORD, store.folder / RECORD),
        *(Sent(PROMPTS, path) for path in [store.folder / PROMPTS] if path.exists()),
        *(Sent(f"results/{path.name}", path) for path in results_of(store, outputs)),
    ]
    blocks = [block for block in range(store.num_blocks) if images and store.manifest(block)]
    for block in blocks:
        paths = [store.path(block), store.block(block).manifest_path]
        sent += [Sent(path.name, path) for path in paths if path.exists()]  # pixels may not be kept
    return sent


def results_of(store: Set, outputs: Outputs) -> list[Path]:
    """The files of results of runs and evaluations that rest on the set; unreadable ones are left out."""
    found = []
    for path in sorted(outputs.results.glob("*.json")):
        try:
            result = read_record(path, SHAPE)
        except (ValueError, FileNotFoundError):
            continue
        source = (result.get("protocol") or {}).get("images") or {}
        if store.id in (result.get("sample_id"), source.get("fingerprint")):
            found.append(path)
    return found


def user_name() -> str:
    """Of who is logged in. Raises ValueError that says what to do."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        raise ValueError("HF_HUB_OFFLINE is set, so nothing can be sent: unset it; --dry-run lists what would be sent")
    if get_token() is None:
        raise ValueError(
            f"not logged in to {endpoint()}: run `hf auth login`, or set HF_TOKEN to a token that may write"
        )
    try:
        return HfApi().whoami()["name"]
    except Exception as error:  # of the network or the server: huggingface_hub raises many kinds
        remedy = "check the network and your token (`hf auth whoami`)"
        raise ValueError(f"{endpoint()} does not say who is logged in ({reason(error)}): {remedy}") from None


def check_name(to: str) -> str:
    """Raises ValueError unless it is the name of a repository."""
    if not (found := NAME.fullmatch(to)) or found[2]:
        raise ValueError(f"--to {to}: give a repository of the hub as user/name")
    return to


def push(files: Sequence[Sent], to: str, *, message: str) -> str:
    """Send all files in one commit; returns the data set's address. Raises ValueError if the hub refuses."""
    from huggingface_hub import CommitOperationAdd, HfApi

    operations = [CommitOperationAdd(one.name, one.content) for one in files]
    try:
        api = HfApi()
        address = api.create_repo(to, repo_type="dataset", exist_ok=True)
        api.create_commit(to, operations, commit_message=message, repo_type="dataset")
    except Exception as error:
        raise ValueError(
            f"{to} was not pushed to {endpoint()} ({reason(error)}): check the name and that your token may write"
        ) from None
    return str(address)
