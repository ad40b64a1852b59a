"""model=diffusers on tiny Qwen-Image, Z-Image and Sana: the same samples as diffusers' own, and what only they have."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from ditexp.condition.prompts import Prompts
from ditexp.core import Solver
from ditexp.guidance.base import Guided
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.norm_cap import NormCap
from ditexp.guidance.token_norm import TokenNorm
from ditexp.model.pipelines.opening import open_pipeline
from ditexp.model.pipelines.text import TextPipeline
from ditexp.sampler import Sampler
from ditexp.schedule.pipeline import PipelineSteps
from ditexp.solver.dpm_solver import DPMSolverMultistep
from ditexp.solver.euler import Euler
from tests.helpers.pipelines import PROMPTS, TINY, TOKENS, sampled_by_diffusers
from tests.helpers.refusals import refused
from tests.helpers.samplers import sampler_of

pytestmark = pytest.mark.slow  # they import diffusers

SIDE = 32
INDICES = range(3)
KINDS = ("qwen_image", "z_image", "sana")
every_kind = pytest.mark.parametrize("name", KINDS)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """The folder of a tiny pipeline, by its name."""
    return cache(lambda name: TINY[name].save(tmp_path_factory.mktemp("pipelines") / name))


@pytest.fixture(scope="module")
def load(folder_of):
    @cache
    def load(name: str, **settings: Any) -> TextPipeline:
        given = {"dtype": "float32", "size": SIDE, "max_length": TOKENS} | settings
        model = open_pipeline(path=str(folder_of(name)), **given)
        assert isinstance(model, TextPipeline)
        return model

    return load


@pytest.fixture(scope="module")
def diffusers_of(folder_of):
    @cache
    def load(name: str) -> Any:
        import diffusers

        pipeline = diffusers.DiffusionPipeline.from_pretrained(folder_of(name))
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return load


def sampler_on_own_grid(model: TextPipeline, guidance: Guided, *, steps: int, solver: Solver = Euler()) -> Sampler:  # noqa: B008
    schedule = PipelineSteps(steps).tuned_to({"model": model.identity})
    return sampler_of(model, solver, schedule=schedule, guidance=guidance, conditioner=Prompts(prompts=PROMPTS))


# ---- The same as diffusers' pipelines


@pytest.mark.parametrize("steps", [4, 10])
@pytest.mark.parametrize(
    ("name", "guidance", "given"),
    [
        ("qwen_image", TokenNorm(scale=1.0), {}),
        ("qwen_image", TokenNorm(scale=4.0), {}),
        ("z_image", NormCap(scale=1.0), {}),
        ("z_image", NormCap(scale=4.0), {}),
        ("z_image", NormCap(scale=4.0, cap=0.9), {"cfg_normalization": 0.9}),
        ("z_image", NormCap(scale=4.0, interval=[0, 0.5], interval_closed="right"), {"cfg_truncation": 0.5}),
        ("sana", ClassifierFree(scale=1.0), {}),
        ("sana", ClassifierFree(scale=4.0), {}),
    ],
)
def test_samples_are_those_of_diffusers(name, guidance, given, steps, load, diffusers_of, record_property):
    """In float32, from the same noise; Sana with Euler's scheduler, whose shift is that of its own."""
    import diffusers

    ours, theirs = load(name, negative_prompt="two"), diffusers_of(name)
    sampler = sampler_on_own_grid(ours, guidance, steps=steps)
    grid = sampler.grid
    noise = sampler.noise(INDICES)
    if name == "sana":
        theirs.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    expected, pictures = sampled_by_diffusers(
        name, theirs, noise, steps=steps, scale=guidance.w + 1, side=SIDE, negative="two", **given
    )
    its_grid = (1 - theirs.scheduler.sigmas.double()).tolist()
    if name == "sana":
        grid = its_grid
    with torch.inference_mode():
        latents = sampler.integrate(noise, sampler.condition(INDICES), INDICES, grid=grid)
        images = sampler.decode(latents)
    difference, levels = (latents - expected).abs().max().item(), (images - 255 * pictures).abs().max().item()
    record_property("parity", (name, steps, guidance.w + 1, given, difference, levels))
    print(f"{name}, {steps} steps, {guidance.w=}, {given}: latents {difference:.1e}, images {levels:.3f}")
    assert max(abs(one - other) for one, other in zip(grid, its_grid, strict=True)) < 2e-7
    assert expected.std() > 0.5 and difference < 1e-4
    assert images.float().std() > 10 and levels < 1  # half a level is what rounding to uint8 does


@pytest.mark.parametrize("steps", [4, 20])
@pytest.mark.parametrize("times", ["exact", "whole"])
def test_dpm_solver_is_that_of_sana(times, steps, load, diffusers_of):
    """On its grid, if its scheduler gives exact times to the network.

    It cuts them off to whole numbers of 1000. And it starts at sigma = 0.9997, where schedule=pipeline starts at 1.
    """
    import diffusers

    ours, theirs = load("sana"), diffusers_of("sana")
    theirs.scheduler = diffusers.DPMSolverMultistepScheduler(**ours.pipeline.scheduler.config)
    set_timesteps = theirs.scheduler.set_timesteps

    def with_exact_times(*given: Any, **settings: Any) -> None:
        set_timesteps(*given, **settings)
        if times == "exact":
            theirs.scheduler.timesteps = 1000 * theirs.scheduler.sigmas[:-1]

    theirs.scheduler.set_timesteps = with_exact_times
    sampler = sampler_on_own_grid(ours, ClassifierFree(scale=4.0), steps=steps, solver=DPMSolverMultistep())
    noise, condition = sampler.noise(INDICES), sampler.condition(INDICES)
    expected, _ = sampled_by_diffusers("sana", theirs, noise, steps=steps, scale=4.0, side=SIDE)
    its_grid = (1 - theirs.scheduler.sigmas.double()).tolist()
    assert max(abs(one - other) for one, other in zip(sampler.grid[1:], its_grid[1:], strict=True)) < 2e-7
    assert sampler.grid[0] == 0 < its_grid[0] < 4e-4
    with torch.inference_mode():
        latents = sampler.integrate(noise, condition, INDICES, grid=its_grid)
    difference = (latents - expected).abs().max().item()
    print(f"{times} times, {steps} steps: latents {difference:.1e}")
    assert difference < 1e-5 if times == "exact" else 1e-5 < difference < 1e-2


# ---- Conditions


@every_kind
def test_a_prompt_does_not_depend_on_the_others_of_its_batch(name, load):
    """Prompts of different lengths, one of them beyond a multiple of 32 tokens, alone and together."""
    model = load(name, max_length=64)
    long = "a red seven " * 12
    x, t = torch.randn(2, *model.sample_shape), torch.tensor([0.25, 0.75])
    together = model.encode([long, "two"])
    assert together.mask is not None and together.mask[0].sum() > 32 > together.mask[1].sum()
    v = model(x, t, together)
    for row, prompt in enumerate([long, "two"]):
        alone = model(x[row : row + 1], t[row : row + 1], model.encode([prompt]))
        assert (v[row : row + 1] - alone).abs().max() < 1e-5
    assert (model(x, t, model.encode(["two", long])) - v).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["qwen_image", "sana"])
def test_padding_does_not_matter(name, load):
    x, t = torch.randn(1, *load(name).sample_shape), torch.tensor([0.5])
    short, long = (model(x, t, model.null(model.encode(["two"]))) for model in (load(name), load(name, max_length=40)))
    assert (short - long).abs().max() < 1e-5


def test_sanas_negative_prompt_has_no_instruction(load):
    model = load("sana", negative_prompt="two")
    prompt = model.encode(["two"])
    null = model.null(prompt)
    assert null.mask.sum() == 2  # the first token and the word
    assert prompt.mask.sum() == 3  # and between them the last token of the instruction
    assert not torch.equal(null.states, prompt.states)


@pytest.mark.parametrize(
    ("name", "encoder", "others"), [("qwen_image", "Qwen2.5-VL", 5), ("z_image", "Qwen3", 7), ("sana", "Gemma", 2)]
)
def test_prompts_that_are_too_long_are_named(name, encoder, others, load, caplog):
    """others: tokens beside the prompt's; of Sana's instruction, the last one."""
    model, limit = load(name, max_length=12), 12
    fits = " ".join(["two"] * (limit - others))
    assert int(model.encode([fits]).mask.sum()) == limit
    with caplog.at_level("WARNING", "ditexp"):
        model.notice_truncation([fits, f"{fits} two"])
    (record,) = caplog.records
    assert record.message == f"a prompt of 13 tokens is cut off at {encoder}'s 12: {f'{fits} two'!r}"


@every_kind
def test_between_two_prompts(name, load):
    model = load(name)
    first, second = model.encode(["a red seven"] * 3), model.encode(["two"] * 3)
    between = model.between(first, second, torch.tensor([0.0, 0.25, 1.0]))
    for row, end in ((0, first), (2, second)):
        assert torch.equal(between.states[row], end.states[row]) and torch.equal(between.mask[row], end.mask[row])
    assert torch.equal(between.mask[1], first.mask[1] | second.mask[1])


# ---- Images and settings


@every_kind
def test_encoding_is_the_inverse_of_decoding(name, load):
    model = load(name)
    x = torch.randn(2, *model.sample_shape)
    torch.testing.assert_close(model.codec.normalize(model.codec.denormalize(x)), x, rtol=0, atol=1e-5)
    images = model.codec.decode(x)
    assert images.shape == (2, 3, SIDE, SIDE) and model.codec.encode(images).shape == x.shape


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("qwen_image", {"size": 36}, ["model.size=36", "multiple of 8, or null for 512"]),
        ("qwen_image", {"max_length": 1025}, ["model.max_length=1025", "at most 1,024"]),
        ("z_image", {"size": 520}, ["model.size=520", "multiple of 8 up to 512, or null for 512"]),
        ("sana", {"size": 30}, ["model.size=30", "multiple of 4, or null for 32"]),
        ("sana", {"max_length": 301}, ["model.max_length=301", "at most 300"]),
        ("sana", {"guidance": 4.5}, ["model.guidance=4.5", "guidance=cfg"]),
        ("sana", {"arithmetic": "dit"}, ["model.arithmetic=dit", "SanaPipeline"]),
    ],
)
def test_settings_that_cannot_be(name, settings, words, load):
    with refused(words):
        load(name, **settings)


@pytest.mark.parametrize("name", ["qwen_image", "z_image"])
def test_low_precision_is_close(name, load):
    exact, half = load(name), load(name, dtype="bfloat16")
    x, t = torch.randn(2, *exact.sample_shape), torch.tensor([0.2, 0.6])
    v, expected = (model(x, t, model.encode(PROMPTS[:2])) for model in (half, exact))
    assert v.dtype == torch.float32 and 1e-4 < (v - expected).std() / expected.std() < 0.1
