"""One cell from its configuration to its result: the whole program on one page.

cfg -> build and check -> sample the missing blocks, and their features -> metrics -> outputs/results/<id>.json
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from ditexp.core import Labelled, class_names
from ditexp.evaluate.checks import check_labels
from ditexp.evaluate.extraction import extract, extract_block, folder_of
from ditexp.evaluate.uncertainty import deviations_per_sample
from ditexp.files.atomic import atomic, check_writable, make_way, remove_abandoned
from ditexp.files.json_values import encode
from ditexp.outputs import Outputs
from ditexp.provenance import code_version, machine, provenance
from ditexp.provenance import command as typed
from ditexp.run.cell import Cell, build, build_component, build_for_sampling, sampling_identity, slice_of
from ditexp.run.pictures import mend_pictures, write_pictures
from ditexp.run.workers import Assignment, crew_of
from ditexp.samples.card import write_card
from ditexp.samples.claims import Claims
from ditexp.terminal.notices import notice
from ditexp.terminal.progress import progress_bar
from ditexp.values import PerSample


def run(cfg: DictConfig, *, settings: dict, title: str, command: str) -> dict:
    """Do whatever of a cell is not done yet and return its result.

    settings: what tells this cell from others, flat, for tables. title: its name on the progress bar. command: what
    makes this cell alone.
    """
    cell = build(cfg)
    with suppress(OSError):  # a folder that can only be read
        remove_abandoned(cell.result_path.parent)
        cell.store.clear()
    pictures = {"grid": str(cell.grid_path), "trajectory_picture": str(cell.trajectory_path)}
    store, about = cell.store, {"study": cfg.study, "settings": settings, **pictures, "cell_command": command}
    about["command"] = typed()  # for a report of what was there already, too
    store.expel_stranger()
    missing, known = store.missing(), cell.result()
    if known and not (missing and store.folder.exists()):  # a set may be deleted, never damaged
        if not missing:
            with suppress(OSError):  # a folder that can only be read
                describe_set(cell, command, is_new=False)
        mend_pictures(cell, known, has_samples=not missing)
        return known | about | {"cached": True}
    make_way(cell.result_path)
    check_writable(cell.result_path)  # before hours of sampling
    if missing and cell.evaluator.metrics:
        cell.evaluator.feature.load()  # a download that fails does so before hours of sampling, as does a bad image
        cell.evaluator.prepare(cache=Outputs(cfg.outputs).features, device=cell.devices[0], title=title)
    with Claims(store.folder) as claims:
        with nullcontext() if missing else suppress(OSError):  # complete, in a folder that can only be read
            store.enter(claims)
            missing = store.missing()  # it may have been freed, or made, since we looked
            describe_set(cell, command, is_new=bool(missing))
        sample(cell, slice_of(cfg, missing), claims, title)
        if left := store.missing():
            if lost := slice_of(cfg, left):
                raise RuntimeError(
                    f"{in_words(lost)} missing in {store.folder}, though just made or there before: something removes "
                    "or changes them; the same command makes them again"
                )
            there = f"{store.num_blocks - len(left)} of {store.num_blocks} blocks are there"
            return {"id": f"slice-{cell.id}", "status": "incomplete", **about, "error": f"slice {cfg.slice}: {there}"}
        result = judge(cell, about, title)
        with atomic(cell.result_path) as temporary:
            temporary.write_text(json.dumps(result, indent=2))
    return result | {"cached": False}


def describe_set(cell: Cell, command: str, *, is_new: bool) -> None:
    """Have set.json say what the set is, where that isn't there or is damaged, and the set's README.md follow it."""
    about = {"config": OmegaConf.to_container(cell.cfg, resolve=True), **provenance(), "command": command}
    if cell.store.begin(about) or is_new:
        write_card(cell.store.folder)


def judge(cell: Cell, about: dict, title: str) -> dict:
    """The result of a complete set; its pictures are drawn as well."""
    cfg, store = cell.cfg, cell.store
    metrics, deviations = cell.evaluator.score(
        store,
        count=cfg.num_samples,
        resamples=cfg.resamples,
        cache=Outputs(cfg.outputs).features,
        device=cell.devices[0],
        title=title,
        units=cell.sampler.task.units(range(cfg.num_samples)),
    )
    compared, details, deviations_compared = compare(cell, title)
    of_task, deviations_of_task = task_scores(cell)
    write_pictures(cell)
    steps = None if cell.sampler.solver.adaptive else len(cell.sampler.grid) - 1
    return {
        "id": cell.id,
        "status": "done",
        **about,
        **({"film": str(cell.film_path)} if cell.film_path.exists() else {}),
        "sample_id": store.id,
        "num_samples": cfg.num_samples,
        "cost": {"steps": steps, **store.cost()},
        "metrics": metrics | compared | of_task,
        "deviations": {
            name: encode(each) for name, each in (deviations | deviations_compared | deviations_of_task).items()
        },
        **details,
        **({"class_names": list(names)} if (names := class_names(cell.sampler.model)) else {}),
        "protocol": encode(cell.evaluator.record()),
        "config": OmegaConf.to_container(cfg, resolve=True),
        **provenance(),
    }


def in_words(blocks: list[int]) -> str:
    if len(blocks) == 1:
        return f"block {blocks[0]} is"
    count = "" if blocks[-1] - blocks[0] == len(blocks) - 1 else f"{len(blocks)} of the "
    return f"{count}blocks {blocks[0]} to {blocks[-1]} are"


def sample(cell: Cell, blocks: list[int], claims: Claims, title: str) -> None:
    """Have blocks made by this process's workers, and by whoever else works on the set."""
    store = cell.store
    if not blocks:
        return
    total = store.num_blocks * store.block_size
    if total > store.num_samples:
        notice(
            f"samples are made in whole blocks of {store.block_size}: "
            f"{total} are made, the first {store.num_samples} are used"
        )
    make = functools.partial(block_maker, OmegaConf.to_container(cell.cfg, resolve=True), store.id, os.getcwd())
    mine = len(slice_of(cell.cfg, list(range(store.num_blocks))))
    done = (mine - len(blocks)) * store.block_size
    try:
        with progress_bar(title, total=mine * store.block_size, completed=done) as bar:
            Assignment(crew_of(cell.devices), store, claims, bar, make, set(blocks)).carry_out()
    finally:
        with suppress(OSError):
            store.clear()
            write_card(store.folder)


def block_maker(config: dict, set_id: str, folder: str, device: torch.device) -> Callable:
    """In a worker: how it makes a cell's blocks, of whole batches, each to be written once it is complete.

    While it is written, its features are extracted. folder: where relative paths of the configuration begin.
    """
    os.chdir(folder)
    cfg = OmegaConf.create(config)
    sampler, store = build_for_sampling(cfg, device)
    if store.id != set_id:
        raise ValueError(f"sample set {set_id} has become {store.id}: weights or code were changed during the run")
    sampler.prepare(cfg.batch_size)
    maker = {**code_version(), **machine(device), "precision": cfg.precision, "compile": cfg.compile}
    feature = build_component(cfg, "feature").to(device) if cfg.get("metric") else None

    def make(block: int, advance: Callable[[int], None]) -> tuple[Callable[[], None], Callable[[], None]]:
        indices, batches = store.indices(block), []
        for start in range(0, len(indices), cfg.batch_size):
            batches.append(sampler.images(indices[start : start + cfg.batch_size]))
            advance(cfg.batch_size)
        images = torch.cat([images for images, _ in batches]).permute(0, 2, 3, 1).numpy()
        labels = None if batches[0][1] is None else torch.cat([labels for _, labels in batches]).numpy()
        write = functools.partial(store.write, block, images, labels, cost=sampler.take_cost(), maker=maker)
        return write, functools.partial(judge, block, images)

    def judge(block: int, images: np.ndarray) -> None:
        if feature:
            with suppress(Exception):  # samples come first: what fails here is tried again, and told, in the parent
                extract_block(images, feature, folder_of(store.id, feature, Outputs(cfg.outputs).features), block)

    return make


def compare(cell: Cell, title: str) -> tuple[dict[str, float], dict, dict[str, dict]]:
    """The metrics that integrate samples anew: their scores, by their names what is beside these, and deviations."""
    scores, details, deviations = {}, {}, {}
    if cell.comparisons:
        cell.sampler.load(cell.cfg.batch_size)
    identity = sampling_identity(cell.cfg, cell.sampler)
    flow = {name: identity[name] for name in ("model", "guidance", "conditioner", "seed", "device", "numerics")}
    for name, comparison in cell.comparisons.items():
        with progress_bar(f"{title}, {name}", total=comparison.samples) as bar:
            found, details[name] = comparison.compare(
                cell.sampler,
                batch_size=cell.cfg.batch_size,
                identity=flow,
                cache=Path(cell.cfg.outputs) / "cache" / name,
                advance=bar.advance,
            )
        with torch.inference_mode():
            labels = cell.sampler.condition(range(comparison.samples)).to("cpu").labels
        deviations |= deviations_per_sample(found, resamples=cell.cfg.resamples, labels=labels)
        scores |= as_numbers(found)
    return scores, details, deviations


def task_scores(cell: Cell) -> tuple[dict[str, float], dict[str, dict]]:
    """What the task has to say of its samples, and deviations of these numbers."""
    sampler, store, feature = cell.sampler, cell.store, cell.evaluator.feature
    if not hasattr(sampler.task, "scores"):
        return {}, {}
    classes, classify = None, None
    if feature and "logits" in feature.outputs and feature.channels == store.image_shape[2]:
        feature.to(cell.devices[0])
        cache = Outputs(cell.cfg.outputs).features
        if tells_labels(cell):
            classes = extract(store, feature, cache, outputs={"logits"}, limit=store.num_samples).logits.argmax(1)

        def classify(images: torch.Tensor) -> torch.Tensor:
            return feature(images)["logits"].argmax(1)

    with torch.inference_mode():
        found = sampler.task.scores(sampler, store, classes, classify)
    labels = store.labels() if cell.cfg.resamples else None
    deviations = deviations_per_sample(
        found,
        resamples=cell.cfg.resamples,
        labels=None if labels is None else torch.from_numpy(labels),
        units=sampler.task.units(range(store.num_samples)),
    )
    return as_numbers(found), deviations


def as_numbers(scores: Mapping[str, float | PerSample]) -> dict[str, float]:
    return {name: score.score if isinstance(score, PerSample) else score for name, score in scores.items()}


def tells_labels(cell: Cell) -> bool:
    """Whether the feature network knows the classes that samples were made under."""
    try:
        check_labels(cell.store, cell.evaluator.feature)
    except ValueError as error:
        if isinstance(cell.sampler.task, Labelled):
            notice(f"target_share is left out: {error}")
        return False
    return True
