"""model=sd3 on a tiny pipeline of diffusers' with random weights: the same samples as diffusers' own, and bad input."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ditexp.condition.labels import Balanced
from ditexp.condition.prompts import Prompts
from ditexp.guidance.cfg import ClassifierFree
from ditexp.model.pipelines.opening import open_pipeline
from ditexp.model.pipelines.text import TextPipeline
from ditexp.pixels import to_pixels
from ditexp.sampler import Sampler
from ditexp.samples.store import SampleStore
from ditexp.schedule.compat import DiffusersFlow
from ditexp.solver.euler import Euler
from ditexp.values import Condition
from tests.helpers.errors import rms
from tests.helpers.pipelines import PROMPTS, TOKENS, save_sd3
from tests.helpers.refusals import refused
from tests.helpers.samplers import sampler_of as sampler_of_parts

INDICES = range(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_sd3(tmp_path_factory.mktemp("sd3") / "pipeline")


def load(path: Path, **settings) -> TextPipeline:
    return open_pipeline(path=str(path), **{"dtype": "float32", "max_length": TOKENS} | settings)


@pytest.fixture(scope="module")
def model(folder) -> TextPipeline:
    return load(folder)


@pytest.fixture(scope="module", params=["float32", "float64"])
def both(request, folder) -> tuple[TextPipeline, Callable]:
    """Ours and diffusers' own, at a precision."""
    import diffusers

    dtype, ours = getattr(torch, request.param), load(folder)
    theirs = diffusers.StableDiffusion3Pipeline.from_pretrained(folder)
    for pipeline in (ours.pipeline, theirs):
        pipeline.to(dtype)
    theirs.set_progress_bar_config(disable=True)
    return ours, theirs


def sampler_of(model: TextPipeline, *, steps: int = 2, scale: float = 4.0) -> Sampler:
    schedule = DiffusersFlow(steps=steps, shift=3.0)
    guidance, conditioner = ClassifierFree(scale=scale), Prompts(prompts=PROMPTS)
    return sampler_of_parts(model, Euler(), schedule=schedule, guidance=guidance, conditioner=conditioner)


# ---- The same as diffusers' pipeline


@pytest.mark.parametrize("steps", [4, 28])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_samples_are_those_of_diffusers(steps, scale, both):
    """In float32 on our schedule; in float64 on its sigmas, which are of float32, as its states are after each step."""
    ours, theirs = both
    sampler = sampler_of(ours, steps=steps, scale=scale)
    noise, condition = sampler.noise(INDICES).to(ours.network.dtype), sampler.condition(INDICES)

    def of_diffusers(kind: str) -> torch.Tensor:
        return theirs(
            [PROMPTS[index % len(PROMPTS)] for index in INDICES],
            latents=noise,
            num_inference_steps=steps,
            guidance_scale=scale,
            output_type=kind,
            max_sequence_length=TOKENS,
        ).images

    expected, pixels = of_diffusers("latent"), of_diffusers("pt")
    its_grid = (1 - theirs.scheduler.sigmas.double()).tolist()
    with torch.inference_mode():
        grid = sampler.grid if noise.dtype == torch.float32 else its_grid
        latents = sampler.integrate(noise, condition, INDICES, grid=grid)
        images = sampler.decode(latents)
    difference, levels = (latents - expected).abs().max().item(), (images - 255 * pixels).abs().max().item()
    print(f"{steps} steps, scale {scale}, {noise.dtype}: latents differ by {difference:.1e}, images by {levels:.3f}")
    assert latents.dtype == noise.dtype and expected.std() > 0.5 and difference < 1e-4
    assert images.float().std() > 10 and levels < 1  # half a level is what rounding to uint8 does


@pytest.mark.parametrize("steps", [1, 2, 28, 50])
def test_the_grid_is_that_of_diffusers(steps):
    import diffusers

    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(steps)
    assert (
        1 - DiffusersFlow(steps=steps, shift=3.0).grid() - scheduler.sigmas
    ).abs().max() < 1e-7  # float32's last bit


def test_pixels_round_as_those_of_diffusers():
    """Both round 127.5 x + 127.5; a tie goes up here, to the even neighbour there."""
    import diffusers

    x = torch.linspace(-1.2, 1.2, 100_003, dtype=torch.float64).view(1, 1, 1, -1)
    theirs = diffusers.image_processor.VaeImageProcessor().postprocess(x, output_type="np").transpose(0, 3, 1, 2)
    level = 127.5 * x + 127.5
    differs = to_pixels(x) != torch.from_numpy((255 * theirs).round())
    assert not (differs & ((level - level.floor() - 0.5).abs() > 1e-4)).any()  # to_pixels computes in float32
    tie = torch.full((1, 1, 1, 1), (0.5 - 127.5) / 127.5)
    assert to_pixels(tie).item() == 1 and np.round(np.float32(0.5)) == 0


def test_velocity_is_minus_that_of_diffusers_at_sigma_1_minus_t(model):
    """At times that float32 has exactly: 1000 (1 - 0.9) is 99.99998, and the network makes 1e-5 of the difference."""
    x, t, condition = torch.randn(2, *model.sample_shape), torch.tensor([0.25, 0.875]), model.encode(PROMPTS[:2])
    theirs = model.network(
        x, condition.states, condition.vector, timestep=torch.tensor([750.0, 125.0]), return_dict=False
    )[0]
    torch.testing.assert_close(model(x, t, condition), -theirs, rtol=0, atol=1e-5)


# ---- Conditions


def test_the_velocity_depends_on_everything(model):
    x, t, condition = torch.randn(1, *model.sample_shape), torch.tensor([0.5]), model.encode(["a red seven"])
    other = model.encode(["two"])
    v = model(x, t, condition)
    for changed in (
        model(x + 0.1, t, condition),
        model(x, t + 0.1, condition),
        model(x, t, Condition(vector=other.vector, states=condition.states)),
        model(x, t, Condition(vector=condition.vector, states=other.states)),
    ):
        assert (changed - v).abs().max() > 1e-2


def test_a_prompt_is_encoded_once_and_alone(folder, monkeypatch):
    model, encoded = load(folder), []
    encode = model.pipeline.encode_prompt
    monkeypatch.setattr(model.pipeline, "encode_prompt", lambda *a, **k: encoded.append(a[0]) or encode(*a, **k))
    sampler = sampler_of(model)
    sampler.images(INDICES)
    sampler.images(INDICES)
    assert sorted(encoded) == sorted([[""], *([prompt] for prompt in PROMPTS)])
    together, alone = model.encode(["two", "a red seven"]), load(folder).encode(["a red seven"])
    assert torch.equal(together.states[1], alone.states[0]) and torch.equal(together.vector[1], alone.vector[0])
    model.to("meta")
    assert not model.encoded  # or a sample would depend on where its prompt was encoded first


def test_the_empty_prompt_is_the_null_condition(model):
    condition = Prompts(prompts=PROMPTS)(model, 0, INDICES)
    null, empty = model.null(condition), model.encode([""] * len(INDICES))
    assert torch.equal(null.states, empty.states) and torch.equal(null.vector, empty.vector)
    assert null.labels.tolist() == condition.labels.tolist() == [0, 1, 2]


def test_between_two_prompts(model):
    first, second = model.encode(["a red seven"] * 3), model.encode(["two"] * 3)
    between = model.between(first, second, torch.tensor([0.0, 0.25, 1.0]))
    for ours, one, other in zip(between.parts, first.parts, second.parts):
        if ours is not None:
            assert torch.equal(ours[0], one[0]) and torch.equal(ours[2], other[2])
            torch.testing.assert_close(ours[1], 0.75 * one[1] + 0.25 * other[1])
    assert between.mask is None and between.labels is None


def test_prompts_that_are_too_long_are_named(model, caplog):
    with caplog.at_level(logging.WARNING, "ditexp"):
        model.notice_truncation(["two", "a red one " * 4, "seven " * 16])
    t5, both_of_clip, both_of_t5 = (record.message for record in caplog.records)
    assert t5 == f"a prompt of 13 tokens is cut off at T5's 12: {'a red one ' * 4!r}"
    assert both_of_clip == f"a prompt of 82 tokens is cut off at CLIP's 77: {'seven ' * 16!r}"
    assert both_of_t5.startswith("a prompt of 17 tokens is cut off at T5's 12")


def test_labels_are_no_condition(model):
    with refused(["takes text, not labels", "condition=prompts"]):
        Balanced().check(model)


# ---- Settings


def test_another_size(folder, model):
    assert (model.sample_shape, model.codec.image_shape, model.size_multiple) == ((4, 8, 8), (32, 32, 3), 2)
    larger = load(folder, size=64)
    assert (larger.sample_shape, larger.codec.image_shape) == ((4, 16, 16), (64, 64, 3))
    x, t = torch.randn(1, 4, 16, 16), torch.tensor([0.5])
    v = larger(x, t, larger.encode(["two"]))
    assert v.shape == x.shape and larger.codec.decode(x).shape == (1, 3, 64, 64)
    assert torch.equal(v, model(x, t, model.encode(["two"])))  # the network takes sizes other than its own
    assert larger.identity != model.identity


def test_without_t5(folder, model):
    small = load(folder, t5=False)
    with_t5, without = model.encode(["a red seven"]), small.encode(["a red seven"])
    clip = slice(77)
    assert torch.equal(without.states[:, clip], with_t5.states[:, clip]) and with_t5.states[:, 77:].any()
    assert without.states.shape == with_t5.states.shape and not without.states[:, 77:].any()
    assert small.pipeline.text_encoder_3 is None and "text_encoder_3" not in small.identity
    small.notice_truncation(["a red one " * 4])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_of_another_type(dtype, folder, model):
    half = load(folder, dtype=dtype)
    for part in (part for part in half.pipeline.components.values() if isinstance(part, torch.nn.Module)):
        for name, tensor in part.named_parameters():
            overflows = dtype == "float16" and name.endswith("DenseReluDense.wo.weight")  # known of T5
            assert tensor.dtype == (torch.float32 if overflows else getattr(torch, dtype)), name
    x, t = torch.randn(2, *model.sample_shape), torch.tensor([0.2, 0.6])
    v, exact = half(x, t, half.encode(PROMPTS[:2])), model(x, t, model.encode(PROMPTS[:2]))
    assert v.dtype == torch.float32  # the state stays what it was
    assert 1e-5 < rms(v - exact) / rms(exact) < 0.05
    assert half.codec.decode(x).dtype == torch.float32 and half.identity != model.identity


def test_the_identity_is_that_of_the_contents(folder, tmp_path, model):
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert load(copy).identity == model.identity
    weights = load_file(copy / "text_encoder/model.safetensors")
    weights["text_projection.weight"] *= 2
    save_file(weights, copy / "text_encoder/model.safetensors", metadata={"format": "pt"})
    assert load(copy).identity != model.identity
    assert load(folder, max_length=13).identity != model.identity
    json.dumps(model.identity)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 30}, ["model.size=30", "multiple of 8 up to 96", "null for 32"]),
        ({"size": 104}, ["model.size=104", "up to 96"]),
        ({"size": 0}, ["model.size=0"]),
        ({"dtype": "int8"}, ["model.dtype=int8", "float32, bfloat16, float16"]),
        ({"max_length": 0}, ["model.max_length=0: give a whole number of at least 1"]),
        ({"max_length": 513}, ["model.max_length=513: give a whole number of at most 512"]),
    ],
)
def test_settings_that_cannot_be(settings, words, folder):
    with refused(words):
        load(folder, **settings)


# ---- Files


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def lose_a_weight(file: Path) -> None:
    weights = load_file(file)
    del weights[sorted(weights)[-1]]
    save_file(weights, file, metadata={"format": "pt"})


def become_another(file: Path) -> None:
    file.write_text(file.read_text().replace("StableDiffusion3Pipeline", "WanPipeline"))


def bring_code(file: Path) -> None:
    """A scheduler of its own, as a repository of the hub may have."""
    index = json.loads(file.read_text())
    file.write_text(json.dumps(index | {"scheduler": ["mine", "Scheduler"]}))
    (file.parent / "scheduler" / "mine.py").write_text("raise SystemExit('this code ran')")


def have_no_such_scheduler(file: Path) -> None:
    index = json.loads(file.read_text())
    file.write_text(json.dumps(index | {"scheduler": ["diffusers", "NoSuchScheduler"]}))


def be_code(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"_class_name": ["mine", "Pipeline"]}))
    (file.parent / "mine.py").write_text("raise SystemExit('this code ran')")


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        (
            "model_index.json",
            become_another,
            ["is a WanPipeline", "ditexp samples Stable Diffusion 3, FLUX.1"],
        ),
        ("model_index.json", bring_code, ["its scheduler comes with its own code, which is never run"]),
        ("model_index.json", have_no_such_scheduler, ["NoSuchScheduler"]),
        ("model_index.json", be_code, ["its pipeline comes with its own code, which is never run"]),
        ("model_index.json", Path.unlink, ["is no pipeline", "has no model_index.json", "save_pretrained"]),
        (
            "transformer/diffusion_pytorch_model.safetensors",
            truncate,
            ["is no Stable Diffusion 3", "Unable to load weights", "save_pretrained"],
        ),
        ("text_encoder_2/model.safetensors", truncate, ["incomplete metadata"]),
        ("vae/diffusion_pytorch_model.safetensors", Path.unlink, ["no file named", "vae"]),
        ("tokenizer/tokenizer.json", truncate, ["char"]),
        ("transformer/diffusion_pytorch_model.safetensors", lose_a_weight, ["transformer lacks 1 weights"]),
        ("text_encoder/model.safetensors", lose_a_weight, ["text_encoder lacks 1 weights", "text_projection"]),
    ],
)
def test_a_damaged_pipeline_is_refused(file, damage, words, folder, tmp_path):
    damage(shutil.copytree(folder, tmp_path / "damaged") / file)
    with refused(["damaged is ", *words]):
        load(tmp_path / "damaged")


def test_a_pipeline_that_is_not_there_is_refused(tmp_path):
    with refused(["model.path=/", "/none is no pipeline", "Hugging Face hub"]):
        load(tmp_path / "none")


def test_a_library_that_is_missing_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with refused(["pip install 'ditexp[text]'"]):
        load(folder)


def test_a_name_on_the_hub(folder, tmp_path, model, monkeypatch):
    """From the cache, without a network."""
    from huggingface_hub import constants

    commit, cache = "c0ffee" * 6 + "c0de", tmp_path / "models--tiny--sd3"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    shutil.copytree(folder, cache / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    named = load(Path("tiny/sd3"))
    assert named.identity["name"] == "tiny/sd3" and named.identity["commit"] == commit
    assert torch.equal(named.encode(["two"]).states, model.encode(["two"]).states)
    with refused(["model.path=tiny/none", "have a file named model_index.json"]):
        load(Path("tiny/none"))


# ---- The command


@pytest.mark.slow
def test_the_command(folder, tmp_path, ditexp):
    run = ditexp(
        "model=sd3",
        f"model.path={folder}",
        "model.dtype=float32",
        f"model.max_length={TOKENS}",
        "condition=prompts",
        "condition.prompts=[a red seven, two, a handwritten one]",
        "guidance=cfg",
        "guidance.scale=4",
        "schedule=compat_diffusers",
        "schedule.shift=3",
        "steps=2",
        "num_samples=4",
        "batch_size=2",
        "metric=[]",
        "devices=cpu:1",
    )
    assert run.code == 0, run.output
    (result,) = (json.loads(file.read_text()) for file in (tmp_path / "outputs/results").glob("*.json"))
    assert result["cost"]["forwards"] == 4 and result["metrics"] == {}  # of a sample: two steps under guidance
    images, labels = SampleStore.open(tmp_path / "outputs/samples" / result["sample_id"]).read(0)
    assert images.shape == (4, 32, 32, 3) and labels.tolist() == [0, 1, 2, 0]
    with Image.open(result["grid"]) as picture:
        assert picture.width >= 4 * 32 and picture.height >= 32
    sampler = sampler_of(load(folder))
    expected = torch.cat([sampler.images(indices)[0] for indices in ([0, 1], [2, 3])])
    assert torch.equal(torch.from_numpy(images).permute(0, 3, 1, 2), expected)  # whatever process makes them
