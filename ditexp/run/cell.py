"""One point of a sweep, built from its configuration and checked, with nothing done yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig

from ditexp.cli.components import instantiate
from ditexp.core import VAE, Cache, Conditioner, Feature, FlowModel, Guidance, Schedule, Solver
from ditexp.evaluate import uncertainty
from ditexp.evaluate.evaluator import Evaluator
from ditexp.evaluate.protocol import protocol_of
from ditexp.files.content import digest
from ditexp.metric.base import Comparison, Metric, by_kind
from ditexp.outputs import Outputs
from ditexp.reference.kinds import contents_of
from ditexp.result import Result, read_result
from ditexp.run.batch_size import with_batch_size
from ditexp.run.components import COMPONENTS, bind_components, build_component
from ditexp.run.configuration import Mistakes, Slice, check_numbers, with_steps
from ditexp.run.devices import choose_devices
from ditexp.run.identity import identify
from ditexp.run.settings import resolved
from ditexp.sampler import Sampler
from ditexp.samples.block_store import BlockStore
from ditexp.samples.latents import LatentStore
from ditexp.samples.store import SampleStore
from ditexp.task.base import Task
from ditexp.terminal.notices import notice

# What a component of each group must be, and what to inherit to be that.
KINDS: dict[str, tuple[type, str]] = {
    "model": (FlowModel, "see FlowModel in ditexp/core"),
    "vae": (VAE, "see VAE in ditexp/core"),
    "solver": (Solver, "inherit it from ditexp.solver.base.OneStep"),
    "schedule": (Schedule, "inherit it from ditexp.schedule.base.AnySchedule"),
    "guidance": (Guidance, "inherit it from ditexp.guidance.base.Guided"),
    "cache": (Cache, "see Cache in ditexp/core"),
    "condition": (Conditioner, "inherit it from ditexp.condition.base.Conditioner"),
    "feature": (Feature, "see Feature in ditexp/core"),
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """All that sampling and scoring need: nothing reads the configuration after this.

    id: of the result; it covers the sample set and how it is scored. config: resolved, with the steps that a budget of
    evaluations allows; for records, and for workers. comparisons: metrics of the sampler instead of its images.
    resamples: random halves of the samples that deviations are estimated from. slice: the blocks that this run makes.
    """

    id: str
    study: str
    config: dict[str, Any]
    outputs: Outputs
    devices: list[torch.device]
    sampler: Sampler
    store: SampleStore
    evaluator: Evaluator
    comparisons: dict[str, Comparison]
    batch_size: int
    resamples: int
    slice: Slice

    @property
    def num_samples(self) -> int:
        return self.store.num_samples

    @property
    def latents(self) -> LatentStore:
        """The set of the samples' latents, stored or not."""
        assert self.store.latents is not None, "every set of a run has one"
        return self.store.latents

    @property
    def sets(self) -> list[BlockStore]:
        """The sets that a run makes or continues: of images and, where they are kept, of latents."""
        return [self.store, self.latents] if self.store.keeps_latents else [self.store]

    @property
    def steps(self) -> int | None:
        """None for an adaptive solver."""
        return None if self.sampler.solver.adaptive else len(self.sampler.grid) - 1

    @property
    def has_gaps(self) -> bool:
        """Whether blocks are missing, although the set is there: a set may be deleted, but not damaged."""
        return self.store.folder.exists() and bool(self.store.missing())

    @property
    def is_done(self) -> bool:
        """Whether its result is there, and no block is missing."""
        return self.result() is not None and not self.has_gaps

    def result(self) -> Result | None:
        """The result on disk. None if there is none or, with a notice, if it is damaged."""
        path = self.outputs.result(self.id)
        try:
            found = read_result(path)
        except FileNotFoundError:
            return None
        except ValueError as error:
            wrong = str(error)
        else:
            if (found.id, found.sample_id, found.status) == (self.id, self.store.id, "done"):
                return found
            wrong = f"{path} is the result of another cell"
        notice(f"{wrong}: the samples are scored again")
        return None


def build(cfg: DictConfig, *, loaded: Mapping[str, Any] | None = None, measure: bool = False) -> Cell:
    """Build and check a cell. Raises ConfigError with every mistake, a line each, before any work.

    loaded: components that the caller has built from this configuration already, by their groups. measure: whether
    batch_size=auto is measured where it is not known.
    """
    with Mistakes() as mistakes:
        mistakes.add(check_numbers(cfg))
        devices = mistakes.attempt(choose_devices, cfg.devices) or []
        parts = build_parts(cfg, loaded or {}, mistakes)
        metrics, comparisons = build_metrics(cfg, mistakes)
        check_parts(parts, comparisons, mistakes)
    with Mistakes():
        cfg = with_steps(with_batch_size(cfg, parts, devices[0], measure=measure))
        parts["schedule"] = build_component(cfg, "schedule")  # with these steps
        sampler, store = bind_components(cfg, parts, devices[0])
    with Mistakes() as mistakes:
        evaluator = Evaluator(parts["feature"], parts["reference"], metrics, protocol_of(cfg))
        check_sampler(sampler, cfg.num_samples, mistakes)
        mistakes.add(evaluator.mistakes(store, cfg.num_samples, store.prompts))
    return Cell(
        id=cell_id(store, evaluator, comparisons, cfg.resamples),
        study=str(cfg.study),
        config=resolved(cfg),
        outputs=Outputs(cfg.outputs),
        devices=devices,
        sampler=sampler,
        store=store,
        evaluator=evaluator,
        comparisons=comparisons,
        batch_size=cfg.batch_size,
        resamples=cfg.resamples,
        slice=Slice.parse(cfg.slice),
    )


def build_parts(cfg: DictConfig, loaded: Mapping[str, Any], mistakes: Mistakes) -> dict[str, Any]:
    """The components, the feature network and the reference; None where there is none, or a mistake."""
    names = [name for name in (*COMPONENTS, "feature", "reference") if name not in loaded]
    return {**loaded, **{name: mistakes.attempt(build_component, cfg, name) for name in names}}


def build_metrics(cfg: DictConfig, mistakes: Mistakes) -> tuple[dict[str, Metric], dict[str, Comparison]]:
    built = {name: mistakes.attempt(instantiate, node) for name, node in cfg.get("metric", {}).items()}
    found = mistakes.attempt(by_kind, {name: metric for name, metric in built.items() if metric is not None})
    return found or ({}, {})


def check_parts(parts: Mapping[str, Any], comparisons: Mapping[str, Comparison], mistakes: Mistakes) -> None:
    """Whether the components are what they should be, and fit each other, as far as they could be built."""
    if incomplete := [line for name in KINDS if (line := lacking(name, parts[name]))]:
        mistakes.add(incomplete)
        return
    if parts["task"] is not None and not isinstance(parts["task"], Task):
        mistakes.add([f"task: {type(parts['task']).__name__} is not a task: inherit it from ditexp.task.base.Task"])
    if parts["model"]:
        for part in filter(None, (parts["guidance"], parts["condition"])):
            mistakes.attempt(part.check, parts["model"])
    if parts["solver"]:
        for comparison in comparisons.values():
            mistakes.attempt(comparison.check, parts["solver"])


def lacking(group: str, part: object) -> str | None:
    """The mistake of a component that lacks members of its group's protocol."""
    kind, remedy = KINDS[group]
    members = dir(part)
    missing = [name for name in vars(kind) if not name.startswith("_") and name not in members]
    if part is None or not missing:
        return None
    return f"{group}: {type(part).__qualname__} has no {', '.join(missing)}: {remedy}"


def check_sampler(sampler: Sampler, num_samples: int, mistakes: Mistakes) -> None:
    mistakes.attempt(sampler.task.check, sampler)
    if num_samples < (minimum := sampler.task.min_samples):
        mistakes.add([f"num_samples={num_samples}: this task needs {minimum} or more"])


def cell_id(store: SampleStore, evaluator: Evaluator, comparisons: Mapping[str, Comparison], resamples: int) -> str:
    """The id of a result: it covers the sample set and everything that changes its scores."""
    return digest(
        {
            "sample_id": store.id,
            "num_samples": store.num_samples,
            "metrics": {name: identify(metric) for name, metric in {**evaluator.metrics, **comparisons}.items()},
            "resamples": [resamples, uncertainty.VERSION] if resamples else 0,
            "feature": evaluator.feature and evaluator.feature.identity,
            "reference": contents_of(evaluator.reference),
            **evaluator.protocol,
        }
    )
