"""Sampling from a model, in this process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ditexp.api.models import Model
from ditexp.api.overrides import Choice, option, override
from ditexp.api.progress import State, progress_shown
from ditexp.api.samples import Samples
from ditexp.api.turns import TURNS
from ditexp.checks import whole
from ditexp.cli.composing import settled
from ditexp.run.blocks import BlockMaker
from ditexp.run.cell import Cell, build
from ditexp.run.decoding import one_thread
from ditexp.run.underway import Underway
from ditexp.samples.cost import cost_per_image

MAX_BATCH = 128


def sample(
    model: Model,
    num_samples: int,
    *,
    solver: Choice = "euler",
    steps: int = 50,
    guidance: float | Choice | None = None,
    schedule: Choice = "uniform",
    cache: Choice = "none",
    labels: int | Sequence[int] | np.ndarray | None = None,
    prompts: str | Sequence[str] | Mapping[int, Any] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    device: str | None = None,
    precision: str = "fp32",
    rounding: str = "half_up",
    progress: bool = True,
) -> Samples:
    """Sample from a model: the images of `ditexp run` with the same settings, bit for bit.

    solver, guidance, schedule, cache: an option by its name, or a dictionary of its name and settings, such as {"name":
    "dopri5", "rtol": 1e-5}. guidance: or a number, the scale of classifier-free guidance (1: off). steps: of a solver
    with fixed steps. labels: None for all classes in turn, one class, or classes that the samples take in turn.
    prompts: in place of labels for a model of text, taken in turn. batch_size: of calls of the network; None: all
    samples together, up to 128 a call. device: "cpu", "cuda" or "cuda:1"; None: the first GPU, if there is one.
    precision: "fp32", "tf32", "bf16", "fp16", "fp8" or "int8". rounding: of images to pixels. progress: a bar, if it
    takes long.

    On a CPU one thread samples, as in a worker of the command. Raises ValueError with a line for each mistake.
    """
    whole("num_samples", num_samples, minimum=1)
    if batch_size is None:
        batch_size = math.ceil(num_samples / math.ceil(num_samples / MAX_BATCH))
    overrides = [
        *model.overrides,
        *option("solver", solver),
        *option("schedule", schedule),
        *option("cache", cache),
        *guidance_of(guidance),
        *condition_of(labels, prompts),
        *(
            override(key, value)
            for key, value in {
                "steps": steps,
                "num_samples": batch_size,  # so that a block is a batch, and none beyond the last sample is made
                "batch_size": batch_size,
                "seed": seed,
                "precision": precision,
                "rounding": rounding,
                "devices": devices_of(device),
            }.items()
        ),
        *("metric=[]", "feature=none", "reference=none", "tracker=none"),
    ]
    with TURNS:
        with settled("config", overrides) as (cfg, _):
            cell = build(cfg, loaded={"model": model.flow, "vae": model.vae})
        return made(cell, num_samples, progress=progress)


def made(cell: Cell, num_samples: int, *, progress: bool) -> Samples:
    """The first samples of a cell whose blocks are single batches; nothing is written."""
    underway, blocks = Underway(cell.sampler), []
    maker = BlockMaker(
        sampler=cell.sampler,
        store=cell.store,
        latents=cell.latents,
        batch_size=cell.batch_size,
        feature=None,
        features=cell.outputs.features,
        maker={},
        underway=underway,
    )

    def state() -> State:
        return State(len(blocks) * cell.batch_size + underway.how_far()[0], num_samples, "sampling")

    with one_thread(cell.sampler.device), progress_shown(state, wanted=progress):
        for number in range(math.ceil(num_samples / cell.batch_size)):
            blocks.append(maker.make(number))
    labels = [block.labels for block in blocks if block.labels is not None]
    return Samples(
        np.concatenate([block.images for block in blocks])[:num_samples],
        np.concatenate(labels)[:num_samples] if labels else None,
        cost_per_image([block.cost for block in blocks], steps=cell.steps),
    )


def guidance_of(guidance: float | Choice | None) -> list[str]:
    if guidance is None:
        return ["guidance=none"]
    if isinstance(guidance, str | Mapping):
        return option("guidance", guidance)
    return option("guidance", {"name": "cfg", "scale": guidance})


def condition_of(
    labels: int | Sequence[int] | np.ndarray | None, prompts: str | Sequence[str] | Mapping[int, Any] | None
) -> list[str]:
    """Raises ValueError if both are given."""
    if prompts is not None:
        if labels is not None:
            raise ValueError("labels and prompts are both given: a model takes one of them")
        return option("condition", {"name": "prompts", "prompts": [prompts] if isinstance(prompts, str) else prompts})
    if labels is None:
        return ["condition=balanced"]
    classes = labels if isinstance(labels, Sequence | np.ndarray) else [labels]
    return option("condition", {"name": "balanced", "classes": classes})


def devices_of(device: str | None) -> str | int | list[int]:
    """A torch device as the setting `devices` names it."""
    if device is None:
        return "auto"
    kind, _, number = str(device).partition(":")
    if kind == "cuda" and (number.isdecimal() or not number):
        return [int(number)] if number else 1
    if device != "cpu":
        raise ValueError(f"device={device}: choose cpu, cuda or cuda:1, or None for the first GPU or else the CPU")
    return "cpu"
