"""model=diffusers on tiny pipelines with random weights: the same samples as diffusers' own, and bad input."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from ditexp.condition.prompts import Prompts
from ditexp.guidance.cfg import ClassifierFree
from ditexp.model.pipelines.opening import open_pipeline
from ditexp.model.pipelines.text import TextPipeline
from ditexp.sampler import Sampler
from ditexp.schedule.pipeline import PipelineSteps
from ditexp.solver.euler import Euler
from tests.helpers.pipelines import PROMPTS, TINY, TOKENS, sampled_by_diffusers
from tests.helpers.samplers import sampler_of

SIDE = 32
INDICES = range(3)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """The folder of a tiny pipeline, by its name."""
    return cache(lambda name: TINY[name].save(tmp_path_factory.mktemp("pipelines") / name))


def load(path: Path, **settings: Any) -> TextPipeline:
    return open_pipeline(path=str(path), **{"dtype": "float32", "size": SIDE, "max_length": TOKENS} | settings)


def sampler_on_own_grid(model: TextPipeline, *, steps: int, scale: float = 1.0) -> Sampler:
    """Euler's steps on the grid of the pipeline."""
    schedule = PipelineSteps(steps).tuned_to({"model": model.identity})
    guidance, conditioner = ClassifierFree(scale=scale), Prompts(prompts=PROMPTS)
    return sampler_of(model, Euler(), schedule=schedule, guidance=guidance, conditioner=conditioner)


# ---- The same as diffusers' pipelines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "scale", "given"),
    [
        ("sd3", {}, 1.0, {}),
        ("sd3", {"negative_prompt": "two"}, 4.0, {"negative": "two"}),
        ("flux", {"guidance": 1.0}, 1.0, {"guidance_scale": 1.0}),
        ("flux", {}, 1.0, {"guidance_scale": 3.5}),
        ("flux", {"guidance": 2.0, "negative_prompt": "two"}, 3.0, {"guidance_scale": 2.0, "negative": "two"}),
        ("flux_schnell", {}, 1.0, {}),
        ("flux_schnell", {}, 3.0, {}),
        ("flux2", {"guidance": 1.0}, 1.0, {"guidance_scale": 1.0}),
        ("flux2", {}, 1.0, {"guidance_scale": 4.0}),
        ("flux2_klein", {}, 1.0, {}),
        ("flux2_klein", {}, 4.0, {}),
    ],
)
@pytest.mark.parametrize("steps", [3, 10])
def test_samples_are_those_of_diffusers(name, settings, scale, given, steps, folder_of, record_property):
    """In float32, from the same noise, on the pipeline's own grid."""
    import diffusers

    ours = load(folder_of(name), **settings)
    sampler = sampler_on_own_grid(ours, steps=steps, scale=scale)
    theirs = diffusers.DiffusionPipeline.from_pretrained(folder_of(name))
    theirs.set_progress_bar_config(disable=True)
    noise = sampler.noise(INDICES)
    expected, pictures = sampled_by_diffusers(
        name, theirs, noise, steps=steps, scale=scale, height=SIDE, width=SIDE, **given
    )
    with torch.inference_mode():
        latents = sampler.integrate(noise, sampler.condition(INDICES), INDICES)
        images = sampler.decode(latents)
    grid = (1 - theirs.scheduler.sigmas.double() - torch.tensor(sampler.grid)).abs().max().item()
    difference, levels = (latents - expected).abs().max().item(), (images - 255 * pictures).abs().max().item()
    record_property("parity", (name, steps, scale, settings, difference, levels))
    print(f"{name}, {settings}, {steps} steps, scale {scale}: latents {difference:.1e}, grid {grid:.1e}, {levels:.3f}")
    assert grid < 1e-7 and expected.std() > 0.5 and difference < 1e-4
    assert images.float().std() > 10 and levels < 1  # half a level is what rounding to uint8 does
