"""The components of a cell, built from its configuration and bound into a sampler and a sample set."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ditexp.binding import bind
from ditexp.cli.components import instantiate
from ditexp.core import VAE, Feature, FlowModel, PromptedConditioner
from ditexp.files.stamps import Stamp, stamp, stamps_below
from ditexp.outputs import Outputs
from ditexp.run.decoding import Decoder
from ditexp.run.identity import flow_of, latents_identity, sampling_identity
from ditexp.sampler import Sampler
from ditexp.samples.latents import LatentStore
from ditexp.samples.store import SampleStore
from ditexp.values import LabelMeaning, Prompt

COMPONENTS = ("model", "vae", "solver", "schedule", "guidance", "cache", "condition", "task")


def build_for_sampling(cfg: DictConfig, device: torch.device) -> tuple[Sampler, SampleStore]:
    """The sampler and the sample set of a configuration that has been checked."""
    return bind_components(cfg, {name: build_component(cfg, name) for name in COMPONENTS}, device)


def bind_components(cfg: DictConfig, parts: Mapping[str, Any], device: torch.device) -> tuple[Sampler, SampleStore]:
    """parts: the components, by their groups in the configuration."""
    model, solver, guidance, schedule = (parts[name] for name in ("model", "solver", "guidance", "schedule"))
    if not solver.adaptive:
        schedule = schedule.tuned_to(flow_of(model=model, solver=solver, guidance=guidance))
    sampler = bind(
        model=model,
        solver=solver,
        schedule=schedule,
        guidance=guidance,
        cache=parts["cache"],
        conditioner=parts["condition"],
        task=parts["task"],
        seed=cfg.seed,
        device=device,
        vae=parts["vae"],
        rounding=cfg.rounding,
        precision=cfg.precision,
        compile=cfg.compile,
    )
    return sampler, store_of(cfg, sampler)


def store_of(cfg: DictConfig, sampler: Sampler) -> SampleStore:
    """The sample set, with the set of its latents."""
    root = Outputs(cfg.outputs).samples
    identity = sampling_identity(sampler, batch_size=cfg.batch_size, num_samples=cfg.num_samples)
    shared: dict[str, Any] = {"num_samples": cfg.num_samples, "label_meaning": label_meaning(sampler)}
    return SampleStore(
        root,
        identity=identity,
        latents=LatentStore(root, identity=latents_identity(sampler, identity), **shared),
        keep=cfg.store,
        decode=Decoder(sampler, cfg.batch_size),
        prompts=prompts_of(sampler),
        **shared,
    )


def label_meaning(sampler: Sampler) -> LabelMeaning:
    """The meaning of the samples' labels: the task's if it sets its own, or else the conditioner's."""
    return sampler.task.label_meaning(sampler.model) or sampler.conditioner.label_meaning(sampler.model)


def prompts_of(sampler: Sampler) -> Sequence[Prompt]:
    """The prompts that samples have in turn; none if the task, and not their index, decides on their condition."""
    task, conditioner = sampler.task, sampler.conditioner
    is_by_index = task.has_own_conditions and task.label_meaning(sampler.model) is None
    return conditioner.rows if is_by_index and isinstance(conditioner, PromptedConditioner) else ()


def build_component(cfg: DictConfig, name: str) -> Any:
    """The component of one group. Models, VAEs and feature networks load once per process, and all cells share them."""
    node = cfg[name]
    if name in ("model", "vae", "feature") and node is not None:
        return build_shared(node)
    if name == "guidance" and "weak" in node:  # autoguidance's second model
        rest = OmegaConf.masked_copy(node, [key for key in node if key != "weak"])
        try:
            weak = build_shared(node.weak)
        except ValueError as error:
            raise ValueError(f"guidance.weak: {error}") from None
        return instantiate(rest, _partial_=True)(weak=weak)
    return instantiate(node)


def build_shared(node: DictConfig) -> FlowModel | VAE | Feature:
    """A component that this process loads once, and again only when a file that its settings name has changed."""
    list(node.items())  # raises for a missing value while its full name is still known
    return build_cached(OmegaConf.to_yaml(node, resolve=True), stamps_of(OmegaConf.to_container(node, resolve=True)))


@functools.lru_cache(maxsize=4)
def build_cached(node: str, files: tuple[Stamp, ...]) -> FlowModel | VAE | Feature:
    """files: part of the cache's key."""
    return instantiate(DictConfig(OmegaConf.create(node)))


def stamps_of(value: object) -> tuple[Stamp, ...]:
    """The stamps of all files that a component's settings name."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return tuple(itertools.chain.from_iterable(map(stamps_of, inner)))
    if not isinstance(value, str) or not os.path.exists(value):
        return ()
    return tuple(stamps_below(value)) if os.path.isdir(value) else (stamp(value),)
