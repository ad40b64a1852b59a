"""Score images without a model: python -m ditexp.evaluate images=samples.npz reference=npz reference.path=...

images: an npz file, a folder, or a sample set. The numbers and their protocol go to outputs/results/evaluate-<id>.json.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import stdev

import torch
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from ditexp.checks import ConfigError
from ditexp.cli.command import command
from ditexp.cli.components import instantiate
from ditexp.cli.numbers import not_whole_numbers
from ditexp.evaluate.evaluator import Evaluator, protocol_of
from ditexp.evaluate.extraction import feature_cache
from ditexp.files.atomic import atomic, make_way
from ditexp.files.content import digest
from ditexp.images import FolderImages, ImageSource, NpzImages
from ditexp.provenance import provenance
from ditexp.report.columns import MISSING, reference_in_words
from ditexp.samples.claims import kept
from ditexp.samples.store import SampleStore, folder_named
from ditexp.terminal.console import wide_terminal
from ditexp.terminal.notices import notice


@command("evaluate")
def main(cfg: DictConfig) -> None:
    if mistakes := not_whole_numbers(cfg, resamples=0):
        raise ConfigError("\n".join(mistakes))
    metrics = {name: instantiate(metric) for name, metric in cfg.get("metric", {}).items()}
    if comparing := [name for name, metric in metrics.items() if hasattr(metric, "compare")]:
        raise ValueError(f"metric={', '.join(comparing)} is of a sampler, not of images: give it to ditexp.run")
    evaluator = Evaluator(instantiate(cfg.feature), instantiate(cfg.reference), metrics, protocol_of(cfg))
    images = open_images(cfg, channels=evaluator.feature.channels if evaluator.feature else 3)
    count = len(images) if cfg.num_samples is None else cfg.num_samples
    if not isinstance(count, int) or not 0 < count <= len(images):
        raise ValueError(f"num_samples={count}: {images.name} has images for 1 to {len(images)}")
    if mistakes := list(evaluator.mistakes(images, count)):
        raise ConfigError("\n".join(mistakes))
    tell_of_folders_left_out(images, count)
    judged = {"name": images.name, "fingerprint": images.fingerprint(), "count": count}
    protocol = {"images": judged, **evaluator.record()}  # files are hashed here, before any is judged

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    units, resamples = None, cfg.resamples
    if isinstance(images, SampleStore):
        try:
            units = units_of(images, count)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            notice(f"{images.name}: no deviations, since which samples belong together is unknown ({reason})")
            resamples = 0
    with kept(images.folder) if isinstance(images, SampleStore) else nullcontext():
        scores, deviations = evaluator.score(
            images,
            count=count,
            resamples=resamples,
            units=units,
            cache=feature_cache(cfg.outputs),
            device=device,
            title=images.name,
        )
        found = {"metrics": scores, "deviations": deviations, "protocol": protocol}
        result = {"id": digest(protocol), **found, **provenance()}
        out = Path(cfg.outputs) / "results" / f"evaluate-{result['id']}.json"
        show(result, out)  # before it is written: a disk that has become full hides no number
        make_way(out)
        with atomic(out) as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n")


def open_images(cfg: DictConfig, *, channels: int) -> ImageSource:
    """What exists as a path is that; else a bare name is the id of a sample set. Raises ValueError if it is neither."""
    samples = Path(cfg.outputs) / "samples"
    path = folder_named(cfg.images, samples)
    if (path / "set.json").exists():
        return SampleStore.open(path, num_samples=cfg.num_samples, samples=samples)
    if not path.exists():
        raise ValueError(
            f"images={cfg.images} does not exist: give the path of an npz file or of a folder of images, or the id of "
            f"a sample set in {samples}"
        )
    return FolderImages(path, channels=channels, settings=None) if path.is_dir() else NpzImages(path)


def tell_of_folders_left_out(images: ImageSource, count: int) -> None:
    """A notice if the first `count` images are of some of the folders only, as those of the first classes are."""
    folders = [file.parent for file in images.files] if isinstance(images, FolderImages) else []
    if (first := len(set(folders[:count]))) < (every := len(set(folders))):
        notice(
            f"num_samples={count}: the first {count} images of {images.name} lie in {first} of its {every} folders; if "
            "these are classes, judge all images, or a folder of images drawn at random"
        )


def units_of(images: SampleStore, count: int) -> Sequence[int] | None:
    """Which of the first `count` samples are not independent, by the task that made the set.

    Raises ValueError if the task can't be built anew, for example because the images that it began with are gone. A
    set may be a stranger's, so that what it names is built if it is a task, data or a condition of ditexp's alone.
    """
    task = (images.about().get("config") or {}).get("task")
    if task is None:
        raise ValueError("set.json doesn't tell its task")
    if strange := [target for target in targets_in(task) if not is_own(target)]:
        raise ValueError(f"set.json names {strange[0]}, which is none of ditexp's own tasks")
    return instantiate(OmegaConf.create(task)).units(range(count))


def targets_in(node: object) -> Iterator[str]:
    """Whatever a node of a configuration would have built or called; interpolations, which may stand for such nodes."""
    if isinstance(node, str) and "${" in node:
        yield node
    if isinstance(node, dict):
        yield from (str(value) for key, value in node.items() if key == "_target_")
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from targets_in(inner)


def is_own(target: str) -> bool:
    """Whether it is a class that a task, data or a condition of ditexp's is made by, not one imported there."""
    module, _, name = target.rpartition(".")
    if not re.fullmatch(r"ditexp\.(task|data|condition)(\.\w+)?", module):
        return False
    try:
        found = vars(importlib.import_module(module)).get(name)
    except ImportError:
        return False
    return isinstance(found, type) and found.__module__ == module


def show(result: dict, out: Path) -> None:
    protocol, terminal = result["protocol"], wide_terminal()
    images, reference = protocol["images"], protocol["reference"]
    against = f" against {reference_in_words(reference)}" if reference else ""
    table = Table()
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("sd", justify="right")  # of such a value, with other images of the same kind
    for name, value in result["metrics"].items():
        found = result["deviations"].get(name)
        deviation = stdev(found["halves"]) if found else 0.0  # which all halves that agree have, too
        table.add_row(name, f"{value:.6g}", f"{deviation:.2g}" if deviation else MISSING)
    terminal.print(f"{images['count']:,} images of {images['name']}{against}", soft_wrap=True)
    facts = [f"protocol {protocol['protocol']}", *protocol["changed"], f"features {protocol['feature']['name']}"]
    terminal.print(", ".join(facts), soft_wrap=True)
    terminal.print(table)
    if protocol["beyond"]:
        terminal.print(f"{protocol['protocol']}'s evaluator has no {', '.join(protocol['beyond'])}")
    terminal.print(str(out), soft_wrap=True)


if __name__ == "__main__":
    main()
