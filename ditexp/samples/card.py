"""README.md in a sample set's folder, for the person who finds it there: what it is, and how to make it again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ditexp.files.atomic import atomic, make_way
from ditexp.samples.folders import Set
from ditexp.samples.manifest import Manifest
from ditexp.samples.store import SampleStore, find_set
from ditexp.terminal.escape import for_markdown, printable
from ditexp.terminal.units import amount, date


def write_card(folder: Path) -> None:
    make_way(folder / "README.md")
    with atomic(folder / "README.md") as temporary:
        temporary.write_text(card(find_set(folder)), encoding="utf-8")


def card(store: Set) -> str:
    record, made = store.record(), list(store.manifests())
    shape, values = " x ".join(map(str, store.shape)), "uint8" if isinstance(store, SampleStore) else "float32"
    whole = "complete" if len(made) == store.num_blocks else "not complete: run the command below to go on"
    size = sum(manifest.bytes for manifest in made)
    lines = [
        f"# Sample set {store.id}",
        "",
        f"{store.num_samples:,} {store.kind}, {shape} {values}; {len(made)} of {store.num_blocks} "
        f"blocks of {store.block_size} are here ({amount(size)}): {whole}.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {for_markdown(name)} | {for_markdown(describe(value))} |" for name, value in store.identity.items()),
        "",
        "## Made by",
        "",
        *makers(made),
        "",
        "## Make it again",
        "",
    ]
    if commit := record.provenance.get("commit"):
        dirty = "  # and changes that were not committed" if record.provenance.get("dirty") else ""
        lines.append(f"    git checkout {commit}{dirty}")
    lines += [
        *code(record.command),
        "",
        "The same command continues a set that is not complete. `set.json` holds the whole configuration, and the",
        "file beside each block its hashes, its cost and its maker.",
        "",
        "## Use it",
        "",
        f"    ditexp samples verify {store.id}",
        *use(store, made),
    ]
    return "\n".join(lines) + "\n"


def use(store: Set, made: Sequence[Manifest]) -> list[str]:
    """How to read the set, with ditexp and without it."""
    if source := next((manifest.latents for manifest in made if not manifest.has_file), None):
        return [
            "",
            f"The pixels are not kept: only the latents are, in the set {source}. The run's command with `store=both`",
            "decodes and keeps them.",
        ]
    return [
        f"    ditexp samples export {store.id} samples.npz",
        "",
        "or, without ditexp, a block at a time:",
        "",
        *code(store.format.read_without_ditexp),
    ]


def code(text: str) -> list[str]:
    """The lines of an indented block, where nothing is markup."""
    return [f"    {line}" for line in printable(text).rstrip("\n").split("\n")]


def describe(value: Any) -> str:
    """A component of the identity in a few words."""
    if not isinstance(value, dict):
        return str(value)
    parts = [str(value["class"]).rpartition(".")[2]] if "class" in value else []
    return ", ".join(parts + [f"{key} {item}" for key, item in value.items() if key != "class" and item is not None])


def makers(made: Sequence[Manifest]) -> list[str]:
    """Which machines made how many blocks, and the time that took."""
    blocks = Counter(json.dumps(manifest.maker, sort_keys=True) for manifest in made)
    lines = []
    for maker, count in blocks.items():
        facts = json.loads(maker)
        host, device = facts.pop("host", "?"), facts.pop("device", "?")
        rest = ", ".join(f"{key} {value}" for key, value in facts.items())
        lines.append(f"- {count} block(s) on {for_markdown(f'{host}, {device}: {rest}')}")
    if made:
        seconds = sum(manifest.cost.seconds for manifest in made)
        day = date(max(manifest.written for manifest in made))
        lines += [
            "",
            f"{seconds:,.1f} s of sampling by one device, {wall_time(made):,.1f} s by the clock, until {day}.",
        ]
    return lines


def wall_time(made: Sequence[Manifest]) -> float:
    """Seconds in which at least one worker sampled, by the clocks of the hosts."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted((one.written - one.cost.seconds, one.written) for one in made):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
