"""One cell from its configuration to its result: the whole program on one page.

cfg -> build and check -> sample the missing blocks -> features -> metrics -> outputs/results/<id>.json
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from ditexp.cell import Cell, build
from ditexp.core import notice
from ditexp.features import extract, reference_features
from ditexp.files import atomic
from ditexp.progress import progress_bar
from ditexp.provenance import provenance
from ditexp.report.grids import image_grid


def run(cfg: DictConfig, *, settings: dict, title: str) -> dict:
    """Do whatever of a cell is not done yet and return its result.

    settings: what tells this cell from others, flat, for tables. title: its name on the progress bar.
    """
    cell = build(cfg)
    about = {"study": cfg.study, "settings": settings, "grid": str(cell.grid_path)}
    if cell.result_path.exists():
        return json.loads(cell.result_path.read_text()) | about | {"cached": True}
    sample(cell, title)
    metrics = evaluate(cell, title)
    write_grid(cell)
    steps = None if cell.sampler.solver.adaptive else cell.sampler.schedule.steps
    result = {
        "id": cell.id,
        "status": "done",
        **about,
        "sample_id": cell.store.id,
        "num_samples": cfg.num_samples,
        "cost": {"steps": steps, **cell.store.cost()},
        "metrics": metrics,
        "protocol": cell.protocol(),
        "config": OmegaConf.to_container(cfg, resolve=True),
        **provenance(),
    }
    with atomic(cell.result_path) as temporary:
        temporary.write_text(json.dumps(result, indent=2))
    return result | {"cached": False}


def sample(cell: Cell, title: str) -> None:
    """Make the blocks that are missing, each of whole batches, each written once it is complete."""
    store, sampler, batch_size = cell.store, cell.sampler, cell.cfg.batch_size
    missing = store.missing()
    if not missing:
        return
    total = store.num_blocks * store.block_size
    if total > store.num_samples:
        notice(
            f"samples are made in whole blocks of {store.block_size}: "
            f"{total} are made, the first {store.num_samples} are used"
        )
    store.begin({"config": OmegaConf.to_container(cell.cfg, resolve=True), **provenance()})
    sampler.prepare(batch_size)
    with progress_bar(title, total=total, completed=total - len(missing) * store.block_size) as bar:
        for block in missing:
            indices = store.indices(block)
            batches = []
            for start in range(0, len(indices), batch_size):
                try:
                    batches.append(sampler.images(indices[start : start + batch_size]))
                except FloatingPointError as error:
                    where = f"block {block} (samples {indices[0]} to {indices[-1]})"
                    raise FloatingPointError(f"{where}: {error}") from None
                bar.advance(batch_size)
            images = torch.cat([images for images, _ in batches]).permute(0, 2, 3, 1).numpy()
            labels = None if batches[0][1] is None else torch.cat([labels for _, labels in batches]).numpy()
            store.write(block, images, labels, sampler.take_cost())


def evaluate(cell: Cell, title: str) -> dict[str, float]:
    """All metrics of the set, from features extracted once and cached block by block."""
    if not cell.metrics:
        return {}
    cache = Path(cell.cfg.outputs) / "cache" / "features"
    cell.feature.to(cell.sampler.device)
    count = cell.store.num_samples + (len(cell.reference) if cell.reference else 0)
    with progress_bar(f"{title}, {cell.feature.name} features", total=count) as bar:
        fake = extract(cell.store, cell.feature, cache, progress=bar)
        real = reference_features(cell.reference, cell.feature, cache, progress=bar)
    scores: dict[str, float] = {}
    for metric in cell.metrics.values():
        scores |= metric(fake, real)
    return scores


def write_grid(cell: Cell) -> None:
    """The first samples, ten a row, so that balanced labels of ten classes form columns."""
    images, _ = cell.store.read(0)
    with atomic(cell.grid_path) as temporary:
        image_grid(images[: min(100, cell.store.num_samples)], columns=10).save(temporary, format="png")
