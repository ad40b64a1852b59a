"""A cell from its samples to its result: the whole program on one page.

what is there -> claim the sample set -> sample the missing blocks -> score -> outputs/results/<id>.json
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any

from ditexp.evaluate.per_prompt import summary, table_beside, write_table
from ditexp.files.atomic import check_writable, make_way, remove_abandoned
from ditexp.files.records import write_record
from ditexp.provenance import command as typed_command
from ditexp.provenance import provenance
from ditexp.result import Result
from ditexp.run.block_queue import BlockQueue
from ditexp.run.blocks import SetSpec
from ditexp.run.cell import Cell
from ditexp.run.judge import Scores, judge
from ditexp.run.pictures import mend_pictures, write_pictures, write_prompt_picture
from ditexp.run.watch import Watch
from ditexp.run.workers import pool_of
from ditexp.samples.card import write_card
from ditexp.samples.claims import Claims
from ditexp.terminal.notices import notice


def run(
    cell: Cell,
    *,
    settings: dict[str, Any],
    command: str,
    departures: Sequence[str] = (),
    sweep: str = "",
    watch: Watch,
) -> Result:
    """Do what is missing of a cell, and return its result.

    settings: what tells this cell from others, flat, for tables. command: what makes this cell alone. departures: from
    a preset's conventions. sweep: the name of its folder in outputs/runs. watch: is given how far the cell is.
    """
    facts = {**facts_of(cell, settings, command), "departures": list(departures), "sweep": sweep}
    store = cell.store
    clean_up(cell)
    missing, known = store.missing(), cell.result()
    if known and not (missing and store.folder.exists()):
        mend(cell, known, command, is_complete=not missing)
        return replace(known, **facts, cached=True)
    begun = running(cell, facts)
    there = blocks_of(cell) - len(cell.slice.of(missing))
    watch.begin(begun, images=there * store.block_size, total=blocks_of(cell) * store.block_size)
    prepare(cell, is_complete=not missing)
    # These keep others from deleting the sets while they are made and scored.
    with Claims(cell.latents.folder) as of_latents, Claims(store.folder) as of_images:
        missing = claim_sets(cell, of_images, of_latents, command, is_complete=not missing)
        # Cells that differ in their pixels alone share the work by claims on the latents.
        sample(cell, cell.slice.of(missing), of_latents if store.keeps_latents else of_images, watch)
        if left := store.missing():
            return incomplete(cell, left, facts)
        watch.phase("scoring")
        scores = judge(cell)
        write_pictures(cell)
        if scores.per_prompt:
            write_table(scores.per_prompt, table_beside(cell.outputs.result(cell.id)))
            write_prompt_picture(cell, scores.per_prompt)
        result = result_of(cell, begun, scores)
        write_record(cell.outputs.result(cell.id), result.to_json())
    return replace(result, cached=False)


def facts_of(cell: Cell, settings: dict[str, Any], command: str) -> dict[str, Any]:
    """The part of a result that this run decides, even if the rest was there before."""
    return {
        "study": cell.study,
        "settings": settings,
        "grid": cell.outputs.grid(cell.id),
        "trajectory_picture": cell.outputs.trajectory(cell.id),
        "cell_command": command,
        "command": typed_command(),
    }


def running(cell: Cell, facts: dict[str, Any]) -> Result:
    """What is known of a cell before it has a result."""
    return Result(
        id=cell.id,
        status="running",
        sample_id=cell.store.id,
        num_samples=cell.num_samples,
        class_names=list(cell.sampler.model.class_names),
        config=cell.config,
        provenance=provenance()["provenance"],
        **facts,
    )


def blocks_of(cell: Cell) -> int:
    """How many blocks this run makes or finds: those of its slice."""
    return len(cell.slice.of(range(cell.store.num_blocks)))


def clean_up(cell: Cell) -> None:
    """Remove what killed processes left, and move another set out of the way."""
    with suppress(OSError):  # a folder that can only be read
        remove_abandoned(cell.outputs.results)
        for store in cell.sets:
            store.clear()
    for store in cell.sets:
        store.move_other_set_aside()


def mend(cell: Cell, known: Result, command: str, *, is_complete: bool) -> None:
    """Mend the files beside a result that is there already."""
    if is_complete:
        with suppress(OSError):  # a folder that can only be read
            describe_sets(cell, command, is_new=False)
    mend_pictures(cell, known, has_samples=is_complete)


def prepare(cell: Cell, *, is_complete: bool) -> None:
    """Fail now, before hours of sampling, if the result cannot be written or the samples cannot be scored."""
    path, evaluator = cell.outputs.result(cell.id), cell.evaluator
    make_way(path)
    check_writable(path)
    if evaluator.feature and evaluator.metrics and not is_complete:
        evaluator.feature.load()  # may download
        evaluator.prepare(cache=cell.outputs.features, device=cell.devices[0])


def claim_sets(cell: Cell, of_images: Claims, of_latents: Claims, command: str, *, is_complete: bool) -> list[int]:
    """Claim the sets' folders and describe the sets there; returns the blocks that are missing now."""
    store, missing = cell.store, []
    with suppress(OSError) if is_complete else nullcontext():  # a complete set may be in a folder that can only be read
        if store.keeps_latents:
            cell.latents.enter(of_latents)
        elif cell.latents.folder.exists():
            with suppress(OSError):  # they are only read
                of_latents.keep()
        store.enter(of_images)
        missing = store.missing()  # others may have made or deleted some in the meantime
        describe_sets(cell, command, is_new=bool(missing))
    return missing


def describe_sets(cell: Cell, command: str, *, is_new: bool) -> None:
    """Write set.json where it is missing or damaged, and the sets' README.md after it."""
    about: dict[str, Any] = {"config": cell.config, **provenance(), "command": command}
    for store in cell.sets:
        if store.begin(**about) or is_new:
            write_card(store.folder)


def sample(cell: Cell, blocks: list[int], claims: Claims, watch: Watch) -> None:
    """Have blocks made by this process's workers, and by all others that work on the set."""
    store = cell.store
    if not blocks:
        return
    total = store.num_blocks * store.block_size
    if total > store.num_samples:
        notice(
            f"samples are made in whole blocks of {store.block_size}: "
            f"{total} are made, the first {store.num_samples} are used"
        )
    spec = SetSpec(cell.config, store.id, os.getcwd())
    watch.phase("sampling")
    try:
        BlockQueue(pool_of(cell.devices), store, claims, watch, spec, blocks_of(cell), set(blocks)).run()
    finally:
        with suppress(OSError):
            for each in cell.sets:
                each.clear()
                write_card(each.folder)


def incomplete(cell: Cell, left: list[int], facts: dict[str, Any]) -> Result:
    """The result of a run that made its slice. Raises RuntimeError if blocks of the slice itself are missing."""
    store = cell.store
    if lost := cell.slice.of(left):
        raise RuntimeError(
            f"{in_words(lost)} missing in {store.folder}, although just made or there before: something removes or "
            "changes them; the same command makes them again"
        )
    error = f"slice {cell.slice}: {store.num_blocks - len(left)} of {store.num_blocks} blocks are there"
    return Result(id=f"slice-{cell.id}", status="incomplete", error=error, **facts)


def in_words(blocks: list[int]) -> str:
    if len(blocks) == 1:
        return f"block {blocks[0]} is"
    count = "" if blocks[-1] - blocks[0] == len(blocks) - 1 else f"{len(blocks)} of the "
    return f"{count}blocks {blocks[0]} to {blocks[-1]} are"


def result_of(cell: Cell, begun: Result, scores: Scores) -> Result:
    film, of_prompts = cell.outputs.film(cell.id), cell.outputs.prompt_picture(cell.id)
    details = dict(scores.details)
    if scores.per_prompt:
        details["prompts"] = summary(scores.per_prompt, table_beside(cell.outputs.result(cell.id)))
    return replace(
        begun,
        status="done",
        film=film if film.exists() else None,
        prompt_picture=of_prompts if scores.per_prompt and of_prompts.exists() else None,
        cost=cell.store.cost(steps=cell.steps),
        metrics=scores.metrics,
        deviations=scores.deviations,
        details=details,
        measurement=cell.evaluator.record(),
        provenance=provenance()["provenance"],
    )
