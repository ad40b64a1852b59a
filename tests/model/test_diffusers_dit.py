"""DiT in the layout of diffusers: its weights by other names, its arithmetic, and the samples of a DiTPipeline."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ditexp.condition.labels import Balanced
from ditexp.condition.prompts import Prompts
from ditexp.guidance.cfg import ClassifierFree
from ditexp.model.diffusers_dit import DiffusersDiT
from ditexp.model.dit import DiT
from ditexp.model.layers import TimestepEmbedder
from ditexp.model.pipelines.opening import open_pipeline
from ditexp.model.pretrained import PretrainedDiT
from ditexp.schedule.pipeline import PipelineSteps
from ditexp.solver.ddim import DDIM
from ditexp.values import Condition
from ditexp.variance_preserving import flow_times, linear_betas
from tests.helpers.pipelines import save_dit
from tests.helpers.refusals import refused
from tests.helpers.samplers import sampler_of

LABELS = [1, 207, 999]
NETWORK = {
    "_class_name": "Transformer2DModel",  # as the first folders have it
    "activation_fn": "gelu-approximate",
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "num_embeds_ada_norm": 10,
    "norm_type": "ada_norm_zero",
    "patch_size": 2,
    "sample_size": 8,
}


def random_dit() -> DiT:
    network = DiT(
        input_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=32,
        depth=2,
        num_heads=2,
        num_classes=10,
        learn_sigma=True,
    )
    draw = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=draw)
    return network.eval()


def by_the_names_of_diffusers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The conversion of diffusers' scripts, once more, from DiT's names."""
    found = {}
    for kind in ("weight", "bias"):
        found[f"pos_embed.proj.{kind}"] = weights[f"x_embedder.proj.{kind}"]
        found[f"proj_out_1.{kind}"] = weights[f"final_layer.adaLN_modulation.1.{kind}"]
        found[f"proj_out_2.{kind}"] = weights[f"final_layer.linear.{kind}"]
        for number in range(2):
            ours, theirs = f"blocks.{number}", f"transformer_blocks.{number}"
            q, k, v = weights[f"{ours}.attn.qkv.{kind}"].chunk(3)
            for name, value in zip("qkv", (q, k, v)):
                found[f"{theirs}.attn1.to_{name}.{kind}"] = value.clone()
            found[f"{theirs}.attn1.to_out.0.{kind}"] = weights[f"{ours}.attn.proj.{kind}"]
            found[f"{theirs}.ff.net.0.proj.{kind}"] = weights[f"{ours}.mlp.fc1.{kind}"]
            found[f"{theirs}.ff.net.2.{kind}"] = weights[f"{ours}.mlp.fc2.{kind}"]
            found[f"{theirs}.norm1.linear.{kind}"] = weights[f"{ours}.adaLN_modulation.1.{kind}"]
            for layer, name in ((0, "linear_1"), (2, "linear_2")):
                embedder = f"{theirs}.norm1.emb.timestep_embedder.{name}.{kind}"
                found[embedder] = weights[f"t_embedder.mlp.{layer}.{kind}"].clone()
    for number in range(2):
        table = f"transformer_blocks.{number}.norm1.emb.class_embedder.embedding_table.weight"
        found[table] = weights["y_embedder.embedding_table.weight"].clone()
    return found


@pytest.fixture(scope="module")
def network() -> DiT:
    return random_dit()


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory) -> Path:
    """A DiTPipeline without a VAE."""
    path = tmp_path_factory.mktemp("pipeline")
    (path / "transformer").mkdir()
    names = {str(label): f"class {label}" for label in range(10)}
    index = {"_class_name": "DiTPipeline", "id2label": names, "scheduler": ["diffusers", "DDIMScheduler"]}
    (path / "model_index.json").write_text(json.dumps(index))
    (path / "transformer/config.json").write_text(json.dumps(NETWORK))
    weights = by_the_names_of_diffusers(network.state_dict())
    save_file(weights, path / "transformer/diffusion_pytorch_model.safetensors")
    return path


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(3, 4, 8, 8, generator=draw), torch.tensor([0.01, 0.5, 0.9]), torch.tensor([0, 9, 10])


# ---- The layout


@pytest.mark.parametrize("place", ["", "transformer"])
def test_the_weights_of_a_pipeline_are_dits_by_other_names(place, folder, network, caplog):
    with caplog.at_level(logging.WARNING, "ditexp"):
        model = PretrainedDiT(checkpoint=str(folder / place))
    assert "is a DiT-2x32/2" in caplog.text and "frequencies" not in caplog.text
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in model.network.state_dict().items())
    assert model.num_classes == 10 and model.has_null and model.has_variance and model.identity["num_heads"] == 2
    assert model.class_names == (() if place else tuple(f"class {label}" for label in range(10)))


def test_a_weight_file_of_torch_is_read_too(folder, tmp_path):
    copy = shutil.copytree(folder / "transformer", tmp_path / "copy")
    file = copy / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(file), copy / "diffusion_pytorch_model.bin")
    file.unlink()
    x, t, labels = inputs()
    one, other = (PretrainedDiT(checkpoint=str(place)) for place in (folder, copy))
    assert torch.equal(one(x, t, Condition(labels)), other(x, t, Condition(labels)))


def test_the_arithmetic_of_diffusers_has_other_frequencies_and_is_recorded(folder, caplog):
    with caplog.at_level(logging.WARNING, "ditexp"):
        theirs = PretrainedDiT(checkpoint=str(folder), arithmetic="diffusers")
    ours = PretrainedDiT(checkpoint=str(folder))
    assert "timestep frequencies of diffusers, 10000^(-i/127)" in caplog.text
    assert isinstance(theirs.network, DiffusersDiT) and theirs.identity != ours.identity
    x, t, labels = inputs()
    one, other = (model(x, t, Condition(labels)) for model in (ours, theirs))
    assert ((one - other).flatten(1).norm(dim=1) / one.flatten(1).norm(dim=1) > 0.01).all()


@pytest.mark.parametrize("divisor", [127, 128])
def test_frequencies(divisor):
    embedder = TimestepEmbedder(16)
    embedder.divisor = divisor
    embedder.mlp = torch.nn.Identity()
    expected = [math.cos(500 * 10_000 ** (-i / divisor)) for i in range(128)]
    assert (embedder(torch.tensor([500.0]))[0, :128] - torch.tensor(expected)).abs().max() < 1e-4


# ---- What is refused


def change_config(**settings: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "transformer/config.json").write_text(json.dumps(NETWORK | settings))

    return change


def change_weights(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        file = folder / "transformer/diffusion_pytorch_model.safetensors"
        weights = load_file(file)
        change(weights)
        save_file(weights, file)

    return rewrite


TABLE = "transformer_blocks.1.norm1.emb.class_embedder.embedding_table.weight"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (change_config(activation_fn="geglu"), ["its config has activation_fn=geglu, not gelu-approximate"]),
        (change_config(norm_eps=1e-6), ["its config has norm_eps=1e-06, not 1e-05"]),
        (change_config(num_attention_heads="two"), ["num_attention_heads"]),
        (change_config(patch_size=0), ["sample_size=8 and patch_size=0"]),
        (change_config(sample_size=10**9), ["sample_size=1000000000"]),
        (lambda folder: (folder / "model_index.json").write_text("[1]"), ["model_index.json"]),
        (change_weights(lambda weights: weights[TABLE].mul_(2)), ["block 1 has another y_embedder.embedding_table"]),
        (change_weights(lambda weights: weights.pop("transformer_blocks.1.attn1.to_k.bias")), ["lacks the attn1.to_k"]),
        (change_weights(lambda weights: weights.pop("proj_out_1.bias")), ["final_layer.adaLN_modulation.1.bias"]),
        (change_weights(lambda weights: weights.update(more=torch.zeros(1))), ["more"]),
        (lambda folder: (folder / "transformer/diffusion_pytorch_model.safetensors").unlink(), ["does not exist"]),
    ],
)
def test_a_folder_that_is_no_dit_is_refused(damage, words, folder, tmp_path):
    damage(shutil.copytree(folder, tmp_path / "damaged"))
    with refused(words):
        PretrainedDiT(checkpoint=str(tmp_path / "damaged"))


def test_a_choice_of_arithmetic_that_cannot_be(folder, network, tmp_path):
    with refused(["model.arithmetic=sit: choose from dit, diffusers"]):
        PretrainedDiT(checkpoint=str(folder), arithmetic="sit")
    save_file(network.state_dict(), tmp_path / "sit.safetensors")
    with refused(["model.arithmetic=diffusers", "is of SiT, not of DiT"]):
        PretrainedDiT(checkpoint=str(tmp_path / "sit.safetensors"), family="sit", arithmetic="diffusers")


def test_prompts_are_refused_for_a_model_of_classes(folder):
    with refused(["this model takes no text", "condition=balanced"]):
        Prompts(prompts=["a seven"]).check(PretrainedDiT(checkpoint=str(folder)))


FACTS = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}  # what is not there is the default


@pytest.mark.parametrize(("steps", "second"), [(50, 960), (30, 924), (1, None)])
def test_the_grid_of_a_dit_pipeline(steps, second):
    grid = PipelineSteps(steps).tuned_to({"model": {"grid": {"scheduler": "DDIMScheduler", "config": FACTS}}}).grid()
    times = flow_times(linear_betas(1000))
    assert len(grid) == steps + 1 and grid[0] == 0 and grid[-1] == 1
    if second:
        assert (grid[1] - times[second]).abs() < 1e-12 and (grid[-2] - times[0]).abs() < 1e-12


@pytest.mark.parametrize("settings", [{"clip_sample": True}, {"timestep_spacing": "trailing"}, {"beta_end": 0.01}])
def test_another_ddim_is_refused(settings):
    with refused(["schedule=pipeline", next(iter(settings))]):
        PipelineSteps(4).tuned_to({"model": {"grid": {"scheduler": "DDIMScheduler", "config": FACTS | settings}}})


# ---- The same as diffusers'


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> tuple[Path, Any]:
    import diffusers

    path = save_dit(tmp_path_factory.mktemp("diffusers"))
    theirs = diffusers.DiTPipeline.from_pretrained(path)
    theirs.set_progress_bar_config(disable=True)
    return path, theirs


@pytest.mark.slow
@torch.no_grad()
def test_the_network_is_that_of_diffusers(pipeline):
    path, theirs = pipeline
    network = PretrainedDiT(checkpoint=str(path), arithmetic="diffusers").network.double()
    x, t, labels = torch.randn(3, 4, 8, 8).double(), torch.tensor([999, 500, 3]), torch.tensor([1, 1000, 207])
    expected = theirs.transformer.double()(x, timestep=t, class_labels=labels).sample
    theirs.transformer.float()
    assert expected.std() > 0.5 and (network.outputs(x, t.double(), labels) - expected).abs().max() < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("steps", [5, 50])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_samples_are_those_of_diffusers(steps, scale, pipeline, monkeypatch, record_property):
    """DDIM on its times, which begin at 980 (of 50 steps) with unit noise; images up to rounding."""
    path, theirs = pipeline
    decode, seen = theirs.vae.decode, []
    monkeypatch.setattr(theirs.vae, "decode", lambda z: (seen.append(z), decode(z))[1])
    pictures = theirs(
        LABELS,
        guidance_scale=scale,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
    ).images
    expected = seen[0] * theirs.vae.config.scaling_factor
    ours = open_pipeline(path=str(path))
    assert isinstance(ours, PretrainedDiT) and ours.class_names[207] == "class 207, number 207"
    indices = theirs.scheduler.timesteps.tolist()
    grid = [*flow_times(linear_betas(1000))[indices].tolist(), 1.0]
    schedule = PipelineSteps(steps).tuned_to({"model": ours.identity})
    sampler = sampler_of(
        ours, DDIM(), schedule=schedule, guidance=ClassifierFree(scale=scale), conditioner=Balanced(classes=LABELS)
    )
    assert max(abs(one - other) for one, other in zip(sampler.grid[1:], grid[1:], strict=True)) < 1e-12
    noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    unit = math.hypot(grid[0], 1 - grid[0])  # the std in the flow of unit noise on the diffusion's path
    with torch.inference_mode():
        latents = sampler.integrate(noise * unit, sampler.condition(range(3)), range(3), grid=grid)
        images = sampler.decode(latents)
    std = expected.std().item()  # up to 225, since the network is not trained
    difference, levels = (latents - expected).abs().max().item(), (images - 255 * pictures).abs().max().item()
    record_property("parity", ("dit", steps, scale, {}, difference / std, levels))
    print(
        f"{steps} steps, scale {scale}: latents {difference / std:.1e} of their std of {std:.1f}, images {levels:.3f}"
    )
    assert std > 0.5 and difference / std < 1e-4
    assert images.float().std() > 10 and levels < 1  # half a level is what rounding to uint8 does


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 64}, ["model.size=64: a DiTPipeline has no size"]),
        ({"dtype": "float16"}, ["model.dtype=float16", "precision=bf16"]),
        ({"guidance": 4.0}, ["model.guidance=4.0", "guidance=cfg"]),
        ({"t5": False}, ["model.t5=False"]),
        ({"negative_prompt": "two"}, ["model.negative_prompt=two"]),
        ({"arithmetic": "sit"}, ["model.arithmetic=sit: choose from dit, diffusers"]),
    ],
)
def test_settings_that_cannot_be(settings, words, pipeline):
    path, _ = pipeline
    with refused(words):
        open_pipeline(path=str(path), **settings)


@pytest.mark.slow
def test_both_arithmetics_of_a_pipeline(pipeline):
    path, _ = pipeline
    theirs, ours = open_pipeline(path=str(path)), open_pipeline(path=str(path), arithmetic="dit")
    assert isinstance(theirs, PretrainedDiT) and isinstance(ours, PretrainedDiT)
    assert type(theirs.network) is DiffusersDiT and type(ours.network) is DiT and theirs.identity != ours.identity
    x, t, condition = *inputs()[:2], Condition(torch.tensor(LABELS))
    alone = PretrainedDiT(checkpoint=str(path))
    assert torch.equal(ours(x, t, condition), alone(x, t, condition))
    images = ours.codec.decode(x)
    assert images.shape == (3, 3, 32, 32) and ours.codec.image_shape == (32, 32, 3)
    assert ours.codec.encode(images).shape == x.shape
