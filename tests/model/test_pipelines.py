"""model=diffusers on tiny pipelines with random weights: the same samples as diffusers' own, and bad input."""

from __future__ import annotations

import csv
from functools import cache
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ditexp.condition.prompts import Prompts
from ditexp.evaluated import evaluated
from ditexp.guidance.cfg import ClassifierFree
from ditexp.model.pipelines.kinds import KINDS, kind_of
from ditexp.model.pipelines.opening import open_pipeline
from ditexp.model.pipelines.text import JoinedBlocks, TextPipeline
from ditexp.precision import PRECISIONS
from ditexp.run.cell import build
from ditexp.sampler import Sampler
from ditexp.schedule.pipeline import PipelineSteps
from ditexp.solver.euler import Euler
from ditexp.vae.autoencoder import Autoencoder
from tests.helpers.configurations import composed
from tests.helpers.pipelines import PROMPTS, TINY, TOKENS, sampled_by_diffusers
from tests.helpers.refusals import refused
from tests.helpers.samplers import sampler_of

SIDE = 32
INDICES = range(2)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """The folder of a tiny pipeline, by its name."""
    return cache(lambda name: TINY[name].save(tmp_path_factory.mktemp("pipelines") / name))


@pytest.fixture(scope="module")
def theirs_of(folder_of):
    """The same pipeline as diffusers reads it."""

    def read(name: str) -> Any:
        import diffusers

        pipeline = diffusers.DiffusionPipeline.from_pretrained(folder_of(name))
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return cache(read)


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
        ("sd3", {"negative_prompt": "two"}, 4.0, {"negative": "two"}),
        ("flux", {}, 1.0, {"guidance_scale": 3.5}),
        ("flux", {"guidance": 2.0, "negative_prompt": "two"}, 3.0, {"guidance_scale": 2.0, "negative": "two"}),
        ("flux_schnell", {}, 1.0, {}),
        ("flux2", {"guidance": 1.0}, 1.0, {"guidance_scale": 1.0}),
        ("flux2", {}, 1.0, {"guidance_scale": 4.0}),
        ("flux2_klein", {}, 1.0, {}),
        ("flux2_klein", {}, 4.0, {}),
    ],
)
@pytest.mark.parametrize("steps", [3, 6])
def test_samples_are_those_of_diffusers(name, settings, scale, given, steps, folder_of, theirs_of, record_property):
    """In float32, from the same noise, on the pipeline's own grid."""
    ours = load(folder_of(name), **settings)
    sampler = sampler_on_own_grid(ours, steps=steps, scale=scale)
    theirs, noise = theirs_of(name), sampler.noise(INDICES)
    expected, pictures = sampled_by_diffusers(name, theirs, noise, side=SIDE, steps=steps, scale=scale, **given)
    with torch.inference_mode():
        latents = sampler.integrate(noise, sampler.condition(INDICES), INDICES)
        images = sampler.decode(latents)
    grid = (1 - theirs.scheduler.sigmas.double() - torch.tensor(sampler.grid)).abs().max().item()
    difference, levels = (latents - expected).abs().max().item(), (images - 255 * pictures).abs().max().item()
    assert sampler.evaluations() == (steps, steps if scale == 1 else 2 * steps)
    record_property("parity", (name, steps, scale, settings, difference, levels))
    print(f"{name}, {settings}, {steps} steps, scale {scale}: latents {difference:.1e}, grid {grid:.1e}, {levels:.3f}")
    assert grid < 1e-7 and expected.std() > 0.5 and difference < 1e-4
    assert images.float().std() > 10 and levels < 1  # half a level is what rounding to uint8 does


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.title)
def test_a_preset_has_the_defaults_of_the_pipeline(kind):
    """Guidance is a scale, or the weight of Z-Image, or an input of the network."""
    cfg, config = composed(f"compat={kind.preset}"), SimpleNamespace(guidance_embeds=True)
    defaults = signature(kind.classes().pipeline.__call__).parameters
    guidance = cfg.guidance.get("scale") or cfg.guidance.get("weight")
    guidance = guidance or kind.default_guidance(SimpleNamespace(config=config))
    name = "true_cfg_scale" if kind.preset == "qwen_image" else "guidance_scale"
    assert (cfg.steps, guidance) == (defaults["num_inference_steps"].default, defaults[name].default)


# ---- The pipeline's own grid

FACTS = {
    "scheduler": "FlowMatchEulerDiscreteScheduler",
    "config": {
        "num_train_timesteps": 1000,
        "shift": 3.0,
        "use_dynamic_shifting": True,
        "base_shift": 0.5,
        "max_shift": 1.15,
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
        "shift_terminal": None,
        "time_shift_type": "exponential",
    },
    "sigmas": "even",
    "mu": "linear",
    "tokens": 1024,
}


def own_grid(steps: int, **facts: Any) -> torch.Tensor:
    """facts: of the grid, and settings of the scheduler."""
    grid = {name: facts.pop(name, value) for name, value in FACTS.items() if name != "config"}
    return PipelineSteps(steps).tuned_to({"model": {"grid": {**grid, "config": FACTS["config"] | facts}}}).grid()


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 50])
@pytest.mark.parametrize(
    ("mu", "tokens", "settings"),
    [
        ("linear", 4096, {}),
        ("linear", 1024, {"base_shift": 0.3, "max_shift": 0.9, "shift_terminal": 0.02}),
        ("linear", 1024, {"time_shift_type": "linear"}),
        ("linear", 1024, {"use_dynamic_shifting": False, "shift": 1.5}),
        ("empirical", 1024, {}),
        ("empirical", 9216, {}),
    ],
)
@pytest.mark.parametrize("sigmas", ["even", "scheduler"])
def test_the_grid_is_that_of_the_scheduler(sigmas, mu, tokens, settings, steps):
    import diffusers
    from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**FACTS["config"] | settings)
    config = scheduler.config
    slope = (config.max_shift - config.base_shift) / (4096 - 256)
    known = compute_empirical_mu(tokens, steps) if mu == "empirical" else config.base_shift + slope * (tokens - 256)
    given = {"sigmas": [1 - index / steps for index in range(steps)]} if sigmas == "even" else {}
    if settings.get("shift_terminal") and steps == 1:
        with refused(["steps=1", "give 2 or more"]):
            own_grid(steps, sigmas=sigmas, mu=mu, tokens=tokens, **settings)
        return
    scheduler.set_timesteps(None if given else steps, mu=known, **given)
    grid = own_grid(steps, sigmas=sigmas, mu=mu, tokens=tokens, **settings)
    assert len(grid) == steps + 1 and (1 - grid - scheduler.sigmas).abs().max() < 2e-7


def test_the_grid_is_identified_by_its_points_alone():
    facts = {"model": {"grid": FACTS}}
    tuned, other = (PipelineSteps(4).tuned_to(facts | more) for more in ({}, {"solver": "another"}))
    assert tuned.identity == other.identity == {"class": "PipelineSteps", "points": tuned.grid().tolist()}
    assert tuned.grid()[0] == 0 and tuned.grid()[-1] == 1 and tuned.grid().diff().min() > 0


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (
            {"scheduler": "UniPCMultistepScheduler"},
            ["this pipeline has a UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler"],
        ),
        ({"use_karras_sigmas": True}, ["use_karras_sigmas", "choose schedule=uniform"]),
        ({"invert_sigmas": True}, ["invert_sigmas"]),
    ],
)
def test_a_scheduler_that_is_not_known_is_refused(facts, words):
    with refused(["schedule=pipeline", *words]):
        own_grid(4, **facts)


def test_a_model_without_a_scheduler_is_refused():
    with refused(["schedule=pipeline", "this model is none", "choose schedule=uniform"]):
        PipelineSteps(4).tuned_to({"model": {"model": "dit"}})


# ---- Settings


@pytest.mark.slow
def test_guidance_is_an_input_of_the_network_where_it_has_one(folder_of):
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([0.5])
    models = [load(folder_of("flux"), guidance=guidance) for guidance in (1.0, 3.5, None)]
    one, own, default = (model(x, t, model.encode(["two"])) for model in models)
    assert torch.equal(own, default) and (own - one).abs().max() > 1e-2
    assert models[1].identity == models[2].identity != models[0].identity
    with refused(["model.guidance=3.5", "no guidance among its inputs", "guidance=cfg"]):
        load(folder_of("flux_schnell"), guidance=3.5)
    with refused(["model.guidance=x"]):
        load(folder_of("flux"), guidance="x")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 36}, ["model.size=36", "multiple of 8, or null for 512"]),
        ({"max_length": 513}, ["model.max_length=513", "at most 512"]),
        ({"t5": False}, ["model.t5=false", "FLUX.1"]),
        ({"dtype": "int8"}, ["model.dtype=int8", "float32, bfloat16, float16"]),
    ],
)
def test_settings_that_cannot_be(settings, words, folder_of):
    with refused(words):
        load(folder_of("flux"), **settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd3", "flux2"])
def test_encoding_is_the_inverse_of_decoding(name, folder_of):
    model = load(folder_of(name))
    codec, x = model.codec, torch.randn(2, *model.sample_shape)
    torch.testing.assert_close(codec.normalize(codec.denormalize(x)), x, rtol=0, atol=1e-5)
    assert codec.encode(codec.decode(x)).shape == x.shape


@pytest.mark.slow
def test_the_negative_prompt_is_the_null_condition(folder_of):
    model = load(folder_of("flux2"), negative_prompt="two")
    condition = Prompts(prompts=PROMPTS)(model, 0, INDICES)
    null = model.null(condition)
    assert torch.equal(null.states, model.encode(["two"] * 2).states) and null.labels.tolist() == [0, 1]
    assert model.identity != load(folder_of("flux2")).identity


@pytest.mark.slow
def test_another_vae_takes_the_place_of_the_pipeline_s(folder_of):
    model = load(folder_of("flux"))
    other = Autoencoder(path=str(folder_of("flux")))
    sampler = sampler_of(model, Euler(), vae=other)
    x = torch.randn(2, *model.sample_shape)
    torch.testing.assert_close(sampler.codec.decode(x), model.codec.decode(x), rtol=0, atol=1e-4)
    assert sampler.codec.identity != model.codec.identity


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_the_matrices_of_all_blocks_are_quantized_but_those_of_the_modulation(name, folder_of):
    model = load(folder_of(name))
    made = evaluated(model, precision=PRECISIONS["int8"], compile=False, device=torch.device("cpu"))
    weights = {
        path: type(layer.weight.data) is not torch.Tensor
        for path, layer in made.network.named_modules()
        if isinstance(layer, torch.nn.Linear)
    }
    modulations = {path for path in weights if path.endswith("linear") and "norm" in path and "blocks" in path}
    assert modulations and not any(weights[path] for path in modulations)
    assert all(quantized == ("blocks." in path) for path, quantized in weights.items() if path not in modulations)


# ---- What doesn't go together


@pytest.fixture(scope="module")
def cell_of(folder_of):
    """A cell of the tiny FLUX, built and checked."""
    quick = ["model.size=32", f"model.max_length={TOKENS}", "model.dtype=float32", "steps=2", "devices=cpu:1"]
    return lambda *overrides: build(composed("compat=flux", f"model.path={folder_of('flux')}", *quick, *overrides))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["condition=balanced"], ["takes text, not labels", "condition=prompts"]),
        (["condition.prompts=[two]", "cache=fora"], ["FORA reuses blocks of a DiT", "cache=none"]),
        (["condition.prompts=[two]", "model.size=30"], ["model.size=30"]),
        (["condition.prompts=[two]", "vae=folder", "vae.path=nowhere"], ["vae.path=nowhere"]),
    ],
)
def test_mistakes_are_found_before_any_work(overrides, words, cell_of):
    with refused(words):
        cell_of(*overrides)


@pytest.mark.slow
def test_evaluations_are_counted(cell_of):
    """FLUX's own guidance is free, the null condition costs as much as the prompt."""
    for overrides, forwards in ((["solver=heun"], 4), (["guidance=cfg", "guidance.scale=2"], 4), ([], 2)):
        assert cell_of("condition.prompts=[two]", *overrides).sampler.evaluations()[1] == forwards


def test_blocks_of_two_lists_are_replaced_in_their_lists():
    lists = [torch.nn.ModuleList(torch.nn.Identity() for _ in range(count)) for count in (2, 3)]
    blocks, new = JoinedBlocks(lists), torch.nn.Linear(1, 1)
    blocks[3] = new
    assert len(blocks) == 5 and blocks[3] is lists[1][1] is new and new not in list(lists[0])


@pytest.mark.parametrize("name", ["WanPipeline", "StableDiffusionXLPipeline"])
def test_an_unknown_pipeline_is_named_with_what_is_known(name):
    with refused([f"model.path=/p is a {name}", "Stable Diffusion 3, FLUX.1, FLUX.2"]):
        kind_of("/p", name)


@pytest.mark.slow
def test_one_sweep_over_three_pipelines_counts_what_each_cell_evaluates(ditexp, tmp_path):
    """Two steps are 2 evaluations by Euler and 4 by Heun; guidance, which is off at scale 1, doubles the forwards."""
    names = ("sd3", "flux", "qwen_image")
    for name in names:
        TINY[name].save(tmp_path / name)
    ended = ditexp(
        *("-m", "model=diffusers", f"model.path={','.join(names)}", "model.size=32", "model.dtype=float32"),
        *("solver=euler,heun", "schedule=pipeline", "steps=2", "guidance=cfg", "guidance.scale=1,3"),
        *("condition=prompts", "condition.prompts=[a red fox, a harbour at dawn]", "num_samples=2", "batch_size=2"),
        *("metric=[]", "feature=none", "reference=none", "tracker=none", "devices=cpu:1"),
        folder=tmp_path,
    )
    assert ended.code == 0, ended.output
    (table,) = tmp_path.glob("outputs/reports/*/table.csv")
    with open(table) as file:
        rows = list(csv.DictReader(file))
    found = {(row["model.path"], row["solver"], float(row["guidance.scale"])): row for row in rows}
    counts = {("euler", 1): (2, 2), ("euler", 3): (2, 4), ("heun", 1): (4, 4), ("heun", 3): (4, 8)}
    assert found.keys() == {(name, *cell) for name in names for cell in counts}
    for (_, *cell), row in found.items():
        assert (float(row["nfe"]), float(row["forwards"])) == counts[tuple(cell)]
