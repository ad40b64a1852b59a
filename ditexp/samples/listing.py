"""Sets on disk as a table: a line each, or with all that is known of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from ditexp.samples.folders import Set, is_in_use
from ditexp.samples.manifest import Manifest
from ditexp.terminal.escape import one_line
from ditexp.terminal.units import amount

HALF_A_YEAR = 183 * 24 * 3600  # seconds: `ls -l` too shows the year of older dates


@dataclass(frozen=True)
class Listed:
    """A set and what is there of it. results: how many rest on it. is_needed: by a result, or by such a set."""

    store: Set
    made: list[Manifest]
    results: int
    is_needed: bool

    @property
    def size(self) -> str:
        return amount(sum(manifest.bytes for manifest in self.made))

    @property
    def missing(self) -> int:
        return self.store.num_blocks - len(self.made)

    @property
    def kind(self) -> str:
        decoded = self.made and not any(manifest.has_file for manifest in self.made)
        return "images, from latents" if decoded else self.store.kind


def overview(sets: Iterable[Listed], *, width: int) -> Table:
    """A line a set; what it is of is cut where the terminal of this width ends."""
    rows = [
        (one.store.id, describe(one), f"{len(one.store):,}", one.size, state_of(one), date_of(one), str(one.results))
        for one in sets
    ]
    names = ("set", "of what", "samples", "size", "state", "made", "results")
    others = sum(1 + max(len(row[i]) for row in (names, *rows)) for i in range(len(names)) if i != 1)
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    for name in names:
        is_number = name in ("samples", "size", "results")
        most = max(8, width - others) if name == "of what" else None
        table.add_column(name, no_wrap=True, max_width=most, justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*row)
    return table


def state_of(one: Listed) -> str:
    if is_in_use(one.store):
        return "in use"
    return f"{one.missing} missing" if one.missing else "complete"


def details(sets: Iterable[Listed]) -> Table:
    """All that is known of each set, with the command that made it."""
    names = ("set", "of what", "samples", "size", "state", "made with", "by")
    table = Table(*names, box=None, header_style="bold")
    for one in sets:
        store, record = one.store, one.store.record()
        there = min(len(one.made) * store.block_size, len(store))
        state = "not complete" if one.missing else "complete"
        if is_in_use(store):
            state = f"{state}, in use"
        elif not one.is_needed:
            state = f"{state}, no result"
        hosts = ", ".join(sorted({str(manifest.maker.get("host", "?")) for manifest in one.made}))
        made_by = f"{hosts} {(record.provenance.get('time') or '')[:10]}"
        count = f"{there:,} of {len(store):,}"
        table.add_row(store.id, f"{one.kind}: {sampler_of(store)}", count, one.size, state, record.command, made_by)
    return table


def describe(one: Listed) -> str:
    kind = "" if one.kind == "images" else f"{one.kind}: "
    return one_line(kind + sampler_of(one.store))


def sampler_of(store: Set) -> str:
    """What made the samples, in a few words: digits_dit heun 20, cfg 1.5."""
    config = store.record().config
    steps = config.get("steps") if "schedule" in store.identity else None  # an adaptive solver has none
    words = [model_of(part(config, "model")), option(config, "solver"), "" if steps is None else str(steps)]
    guidance = part(config, "guidance")
    weight = f"w {guidance['weight']}" if guidance.get("weight") is not None else str(guidance.get("scale") or "")
    more = [f"{option(config, 'guidance')} {weight}".strip(), option(config, "task")]
    return ", ".join([" ".join(filter(None, words)), *(each for each in more if each not in ("none", "generate", ""))])


def model_of(node: Mapping[str, Any]) -> str:
    """A model by its file or folder, or else by the name of its option."""
    place = next((node[key] for key in ("checkpoint", "folder", "path") if node.get(key)), None)
    return Path(str(place)).stem if place else option({"model": node}, "model")


def option(config: Mapping[str, Any], group: str) -> str:
    """The module of a component's class, which is called as its option is."""
    return str(part(config, group).get("_target_", "")).rpartition(".")[0].rpartition(".")[2]


def part(config: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    found = config.get(group)
    return found if isinstance(found, dict) else {}


def date_of(one: Listed) -> str:
    """When the newest block was written, as `ls -l` shows dates."""
    if not one.made:
        return ""
    written = max(manifest.written for manifest in one.made)
    return time.strftime("%b %d" if abs(time.time() - written) < HALF_A_YEAR else "%Y-%m", time.localtime(written))
