"""vae=folder and its kin: the same images and latents as diffusers' own, whatever holds the weights."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ditexp.data import Digits
from ditexp.model.analytic import GaussianMixture
from ditexp.pixels import to_pixels
from ditexp.solver.heun import Heun
from ditexp.task.originals import check_images
from ditexp.vae.autoencoder import Autoencoder
from ditexp.vae.codec import Decoding
from tests.golden.files import FOLDER, read_golden
from tests.golden.noise import normal
from tests.golden.published import published_file
from tests.golden.weights import draw, drawn, drawn_like
from tests.helpers.paths import ROOT
from tests.helpers.refusals import refused
from tests.helpers.samplers import sampler_of
from tests.helpers.vaes import SIDE, images, latents, saved_kl, saved_rae, tiny_kl

SHAPE = (4, SIDE, SIDE)
WEIGHTS = "diffusion_pytorch_model.safetensors"
TAEF2 = ROOT.parent / "shared" / "data" / "taef2"
GOLDEN = Path(__file__).parents[1] / "golden" / "va_vae.npz"
REPA_E = FOLDER / "repa_e" / "samples.npz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return saved_kl(tmp_path_factory.mktemp("vae") / "kl")


@pytest.mark.parametrize("form", ["whole", "sharded", "pickled", "half", "former names", "pipeline", "beside half"])
def test_the_images_and_latents_are_those_of_diffusers(form, tmp_path):
    network, place = tiny_kl(), tmp_path
    if form == "half":
        network.half().save_pretrained(place)
        network.float()
    elif form == "former names":  # as in the released SD VAEs
        network.save_pretrained(place)
        names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        state = load_file(place / WEIGHTS)
        for now, before in names.items():
            state = {key.replace(f".{now}.", f".{before}."): value for key, value in state.items()}
        save_file(state, place / WEIGHTS)
        assert "decoder.mid_block.attentions.0.query.weight" in state
    else:
        place = tmp_path / "vae" if form == "pipeline" else tmp_path
        size = "20KB" if form == "sharded" else "5GB"
        network.save_pretrained(place, max_shard_size=size, safe_serialization=form != "pickled")
    files = len(list(place.glob("*.safetensors")))
    assert files > 2 if form == "sharded" else files == (form != "pickled")
    if form == "beside half":  # the whole precision is read
        tiny_kl().half().save_pretrained(place, variant="fp16")
        assert {file.name for file in place.glob("*.safetensors")} == {WEIGHTS, WEIGHTS.replace(".s", ".fp16.s")}

    codec = Autoencoder(path=str(tmp_path)).codec(SHAPE)
    assert codec.image_shape == (2 * SIDE, 2 * SIDE, 3)
    config = network.config
    expected = network.decode(latents() / config.scaling_factor + config.shift_factor).sample
    torch.testing.assert_close(codec.decode(latents()), expected, rtol=0, atol=1e-6)
    encoded = network.encode(images()).latent_dist.mode()
    expected = (encoded - config.shift_factor) * config.scaling_factor
    torch.testing.assert_close(codec.encode(images()), expected, rtol=0, atol=1e-6)


def test_what_identifies_a_vae_is_its_content(folder, tmp_path):
    def identity(path: Path = folder, **settings) -> dict:
        return Autoencoder(path=str(path), **settings).codec(SHAPE).identity

    saved_kl(tmp_path / "elsewhere")
    assert identity() == identity(tmp_path / "elsewhere") == identity(scaling_factor=0.18215, tiling=True)
    network = tiny_kl()
    network.decoder.conv_in.bias[0] += 1e-3
    network.save_pretrained(tmp_path / "other")
    others = [
        identity(tmp_path / "other"),
        identity(scaling_factor=0.5),
        identity(shift_factor=0.0),
        identity(batch_size=2),
        identity(precision="bf16"),
    ]
    assert len({json.dumps(one) for one in [identity(), *others]}) == 6


def test_scale_and_shift_are_settings(folder):
    network = tiny_kl()
    codec = Autoencoder(path=str(folder), scaling_factor=0.5, shift_factor=-1).codec(SHAPE)
    torch.testing.assert_close(codec.decode(latents()), network.decode(latents() / 0.5 - 1).sample, rtol=0, atol=1e-6)
    mode = network.encode(images()).latent_dist.mode()
    torch.testing.assert_close(codec.encode(images()), 0.5 * (mode + 1), rtol=0, atol=1e-6)


def test_the_config_may_have_statistics_of_the_channels(tmp_path):
    mean, std = [0.5, -1.0, 0.0, 2.0], [1.0, 2.0, 0.5, 3.0]
    network = tiny_kl(latents_mean=mean, latents_std=std, shift_factor=None)
    network.save_pretrained(tmp_path)
    codec = Autoencoder(path=str(tmp_path)).codec(SHAPE)
    scaled = latents() * torch.tensor(std).view(4, 1, 1) / 0.18215 + torch.tensor(mean).view(4, 1, 1)
    torch.testing.assert_close(codec.decode(latents()), network.decode(scaled).sample, rtol=0, atol=1e-6)


def test_batches_and_precision_are_its_own(folder, monkeypatch):
    whole = Autoencoder(path=str(folder)).codec(SHAPE)
    parts = Autoencoder(path=str(folder), batch_size=2).codec(SHAPE)
    sizes = []
    parts.network.decoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    torch.testing.assert_close(parts.decode(latents(count=5)), whole.decode(latents(count=5)), rtol=0, atol=1e-5)
    assert sizes == [2, 2, 1]
    for precision, error in (("bf16", 0.1), ("fp16", 0.02), ("tf32", 1e-6)):
        other = Autoencoder(path=str(folder), precision=precision).codec(SHAPE).decode(latents())
        assert other.dtype == torch.float32
        assert 0 <= (other - whole.decode(latents())).abs().max() < error


def test_a_sampler_in_tf32_changes_no_image_of_a_vae_in_fp32(folder):
    seen = []
    codec = Autoencoder(path=str(folder)).codec(SHAPE)
    codec.network.decoder.register_forward_pre_hook(lambda *_: seen.append(torch.get_float32_matmul_precision()))
    torch.set_float32_matmul_precision("high")
    try:
        codec.decode(latents())
        assert (seen, torch.get_float32_matmul_precision()) == (["highest"], "high")
    finally:
        torch.set_float32_matmul_precision("highest")


def test_fp16_is_fp32_where_the_config_says_that_it_overflows(tmp_path, caplog):
    saved_kl(tmp_path, force_upcast=True)
    with caplog.at_level(logging.WARNING, "ditexp"):
        vae = Autoencoder(path=str(tmp_path), precision="fp16")
    assert vae.network.dtype == torch.float32 and "force_upcast" in caplog.text
    assert Autoencoder(path=str(tmp_path), precision="bf16").network.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("tiling", "side", "tiled"),
    [(None, 1024, False), (None, 1032, True), (True, 512, False), (True, 520, True), (False, 4096, False)],
)
def test_large_images_are_tiled(tiling, side, tiled):
    assert Decoding(tiling=tiling).tiled(side, 256) is tiled
    assert Decoding(tiling=tiling).tiled(256, side) is tiled


def test_tiles_are_those_of_diffusers_and_part_of_the_identity(tmp_path):
    network = tiny_kl(block_out_channels=(4, 4), norm_num_groups=2, layers_per_block=1, mid_block_add_attention=False)
    network.save_pretrained(tmp_path)
    shape = (4, 300, 260)
    x = latents(count=1, side=300)[..., :260]
    codecs = {tiling: Autoencoder(path=str(tmp_path), tiling=tiling).codec(shape) for tiling in ("auto", True, False)}
    network.enable_tiling()
    network.tile_sample_min_size, network.tile_latent_min_size = 512, 256
    expected = network.decode(x / network.config.scaling_factor + network.config.shift_factor).sample
    decoded = {tiling: codec.decode(x) for tiling, codec in codecs.items()}
    torch.testing.assert_close(decoded[True], expected, rtol=0, atol=1e-6)
    assert torch.equal(decoded["auto"], decoded[False]) and not torch.equal(decoded[True], decoded[False])
    assert codecs["auto"].identity == codecs[False].identity != codecs[True].identity
    assert codecs[True].encode(decoded[True]).shape == x.shape


def test_the_number_of_images_a_call_falls_with_their_size():
    assert [Decoding().images_a_call(side, side) for side in (256, 512, 1024, 4096)] == [16, 4, 1, 1]
    assert Decoding(batch_size=7).images_a_call(4096, 4096) == 7


@pytest.mark.parametrize(
    ("settings", "shape", "words"),
    [
        ({}, (16, SIDE, SIDE), ["16 x 8 x 8", "4 channels", "choose the VAE"]),
        ({"statistics": "elements"}, (4, 16, 16), ["4 x 8 x 8", "4 x 16 x 16"]),
        ({"statistics": "channels5"}, SHAPE, ["vae.statistics=", "5 channels", "4"]),
        ({"scaling_factor": 0}, SHAPE, ["vae.scaling_factor=0", "above 0"]),
        ({"shift_factor": "x"}, SHAPE, ["vae.shift_factor=x"]),
        ({"precision": "fp8"}, SHAPE, ["vae.precision=fp8", "bf16"]),
        ({"batch_size": 0}, SHAPE, ["vae.batch_size=0", "at least 1"]),
        ({"tiling": "yes"}, SHAPE, ["vae.tiling=yes", "true", "false", "auto"]),
    ],
)
def test_what_does_not_fit_is_said_before_any_work(settings, shape, words, folder, tmp_path):
    shapes = {"elements": (4, SIDE, SIDE), "channels5": (5, 1, 1)}
    if (name := settings.get("statistics")) is not None:
        torch.save({"mean": torch.zeros(shapes[name]), "std": torch.ones(shapes[name])}, tmp_path / f"{name}.pt")
        settings = {**settings, "statistics": str(tmp_path / f"{name}.pt")}
    with refused(words):
        Autoencoder(path=str(folder), **settings).codec(shape)


def test_images_whose_sides_are_no_multiples_are_refused(folder):
    with refused(["15 x 16", "multiples of 2"]):
        Autoencoder(path=str(folder)).codec(SHAPE).encode(torch.zeros(1, 3, 15, 16))


# What a file of statistics holds, and the mean and std that it means.
MEAN, STD = torch.tensor([0.5, -1.0, 0.0, 2.0]).view(4, 1, 1), torch.tensor([1.0, 2.0, 0.5, 3.0]).view(4, 1, 1)
ELEMENTS = torch.linspace(0.5, 1.5, 4 * SIDE**2).view(4, SIDE, SIDE)
STATISTICS = {
    "LightningDiT": ({"mean": MEAN[None], "std": STD[None]}, MEAN, STD),
    "RAE": ({"mean": ELEMENTS - 1, "var": ELEMENTS**2 - 1e-5}, ELEMENTS - 1, ELEMENTS),
    "REPA-E": ({"latents_scale": 1 / STD[None], "latents_bias": MEAN[None]}, MEAN, STD),
    "REPA-E's checkpoint": (
        {
            "model": {"bn.running_mean": torch.zeros(4), "bn.running_var": torch.ones(4)},
            "ema": {"bn.running_mean": MEAN.flatten(), "bn.running_var": STD.flatten() ** 2},
        },
        MEAN,
        STD,
    ),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_of_every_kind_scale_the_latents_in_place_of_the_config(name, folder, tmp_path):
    held, mean, std = STATISTICS[name]
    torch.save(held, tmp_path / "stats.pt")
    settings = {"scaling_factor": 2.0} if name == "LightningDiT" else {}
    codec = Autoencoder(path=str(folder), statistics=str(tmp_path / "stats.pt"), **settings).codec(SHAPE)
    network, scale = tiny_kl(), settings.get("scaling_factor", 1.0)
    expected = network.decode(latents() * std / scale + mean).sample
    torch.testing.assert_close(codec.decode(latents()), expected, rtol=0, atol=1e-5)
    expected = (network.encode(images()).latent_dist.mode() - mean) / std * scale
    torch.testing.assert_close(codec.encode(images()), expected, rtol=1e-5, atol=1e-5)
    assert len(codec.identity["statistics"]) == 64


@pytest.mark.parametrize("wrapped", [False, True])
def test_va_vae_is_the_original(wrapped, tmp_path):
    golden = np.load(GOLDEN)
    shapes = json.loads(str(golden["facts"]))["shapes"]
    state = drawn(shapes)
    extra = dict.fromkeys(("loss.logvar", "foundation_model.blocks.0.weight", "linear_proj.bias"), torch.zeros(2))
    torch.save({"state_dict": {**state, **extra}, "epoch": 3} if wrapped else state, tmp_path / "vavae.pt")
    codec = Autoencoder(path=str(tmp_path / "vavae.pt")).codec((8, 4, 4))
    assert codec.image_shape == (64, 64, 3)
    decoded = codec.decode(draw("latents", (2, 8, 4, 4)))[:, :, ::3, ::3].numpy()
    encoded = codec.encode(draw("images", (1, 3, 64, 64))).numpy()
    for ours, theirs in ((decoded, golden["decoded"]), (encoded, golden["encoded"])):
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


def test_raes_decoder_is_the_original(tmp_path):
    _, golden = read_golden(FOLDER / "rae" / "decoder.npz")
    path, statistics = saved_rae(tmp_path)
    codec = Autoencoder(path=path, statistics=statistics).codec((8, 4, 4))
    assert codec.image_shape == (16, 16, 3)
    images = codec.decode(normal("rae, latents", (2, 8, 4, 4)))
    torch.testing.assert_close(images / 2 + 0.5, golden["images"], rtol=0, atol=1e-6)
    assert torch.equal(to_pixels(images, "truncate"), golden["pixels"])


@pytest.mark.parametrize(
    ("settings", "shape", "words"),
    [
        ({}, (8, 8, 8), ["latents of 8 x 8 x 8", "decodes those of 8 x 4 x 4: choose the VAE"]),
        ({}, (4, 4, 4), ["4 x 4 x 4", "8 channels"]),
        ({"tiling": True}, (8, 4, 4), ["vae.tiling=true: a representation autoencoder has no tiles", "choose auto"]),
        ({"change": {"decoder_pos_embed": torch.zeros(1, 16, 48)}}, (8, 4, 4), ["decoder_pos_embed is (1, 16, 48)"]),
        ({"change": {"decoder_pred.weight": torch.zeros(50, 48)}}, (8, 4, 4), ["decoder_pred.weight is (50, 48)"]),
        ({"change": {"decoder_norm.weight": None}}, (8, 4, 4), ["does not fit AutoencoderRAE: it lacks decoder_norm"]),
        ({"change": {"decoder_embed.weight": torch.zeros(48)}}, (8, 4, 4), ["is no decoder of RAE"]),
    ],
)
def test_what_does_not_fit_raes_decoder_is_refused(settings, shape, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, _ = saved_rae(Path("rae"))
    state = torch.load(path) | settings.get("change", {})
    torch.save({key: value for key, value in state.items() if value is not None}, path)
    with refused(words):
        Autoencoder(path=path, **{key: value for key, value in settings.items() if key != "change"}).codec(shape)


def test_a_decoder_alone_makes_no_samples_of_images(tmp_path):
    model = GaussianMixture(shape=(8, 4, 4))
    model.codec = None
    sampler = sampler_of(model, Heun(), vae=Autoencoder(path=saved_rae(tmp_path)[0]))
    with refused(["task=edit encodes images, and this VAE is a decoder alone: choose task=generate"]):
        check_images(Digits(), sampler, task="edit")
    with refused(["decoder alone"]):
        sampler.encode(torch.zeros(1, 3, 16, 16))


@pytest.mark.slow
@pytest.mark.parametrize("with_statistics", [True, False])
def test_a_representation_autoencoder_is_that_of_diffusers(with_statistics, tmp_path):
    from diffusers import AutoencoderRAE

    sizes = {"encoder_hidden_size": 64, "encoder_input_size": 56, "encoder_num_hidden_layers": 1, "patch_size": 4}
    sizes |= {"decoder_hidden_size": 48, "decoder_num_hidden_layers": 2, "decoder_intermediate_size": 80}
    shape, statistics = (64, 4, 4), {}
    if with_statistics:
        statistics = {"latents_mean": draw("mean", shape), "latents_std": draw("std", shape).abs() + 0.1}
    network = AutoencoderRAE(**sizes, **statistics, scaling_factor=0.7).eval().requires_grad_(False)
    network.decoder.load_state_dict(drawn_like(network.decoder.state_dict()))
    network.save_pretrained(tmp_path)
    codec = Autoencoder(path=str(tmp_path)).codec(shape)
    x = latents(channels=64, side=4)
    torch.testing.assert_close(codec.decode(x) / 2 + 0.5, network.decode(x).sample, rtol=0, atol=1e-6)
    config = json.loads((tmp_path / "config.json").read_text())
    for key, value, words in (
        ("encoder_input_size", 57, ["encoder_input_size is no multiple of 14"]),
        ("decoder_num_hidden_layers", 10**9, ["decoder_num_hidden_layers", "1000000000"]),
        ("decoder_num_attention_heads", 5, ["AutoencoderRAE", "5"]),
        ("reshape_to_2d", False, ["reshape_to_2d"]),
        ("patch_size", 8, ["decoder_pred.bias is (48,), not (192,)"]),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | {key: value}))
        with refused(words):
            Autoencoder(path=str(tmp_path))


def test_repa_es_vae_and_statistics_are_in_the_models_file(tmp_path):
    """Decoded as by its generate.py: x sqrt(running_var) + running_mean, without the eps of batch normalisation."""
    facts, arrays = read_golden(REPA_E)
    file = published_file(tmp_path / "0400000.pt", "repa_e", facts["shapes"], vae=drawn(facts["vae"]))
    codec = Autoencoder(path=file, statistics=file).codec((8, 4, 4))
    decoded, expected = codec.decode(arrays["sde_guided"])[:, :, ::3, ::3], arrays["sde_guided_decoded"]
    assert (decoded - expected).abs().max() < 1e-5 * expected.abs().max()
    alone = published_file(tmp_path / "4000000.pt", "repa_e", facts["shapes"])
    with refused(["vae.path=", "is not a VAE", "has "]):
        Autoencoder(path=alone, statistics=alone)


def halves(network) -> dict[str, dict[str, torch.Tensor]]:
    """An AutoencoderTiny in TAESD's own layout."""
    encoder = {key.removeprefix("layers."): value for key, value in network.encoder.state_dict().items()}
    decoder = {}
    for key, value in network.decoder.state_dict().items():
        position, _, rest = key.removeprefix("layers.").partition(".")
        decoder[f"{int(position) + 1}.{rest}"] = value
    return {"encoder": encoder, "decoder": decoder}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_tiny_autoencoder_is_that_of_diffusers(suffix, tmp_path):
    from diffusers import AutoencoderTiny

    network = AutoencoderTiny().eval().requires_grad_(False)
    for half, state in halves(network).items():
        save = save_file if suffix == ".safetensors" else torch.save
        save(state, tmp_path / f"taesd_{half}{suffix}")
    network.save_pretrained(tmp_path / "folder")
    for place in (tmp_path, tmp_path / "folder", tmp_path / "folder" / WEIGHTS):
        codec = Autoencoder(path=str(place)).codec(SHAPE)
        assert codec.image_shape == (8 * SIDE, 8 * SIDE, 3)
        torch.testing.assert_close(codec.decode(latents()), network.decode(latents()).sample, rtol=0, atol=1e-6)
        pictures = images(8 * SIDE)
        torch.testing.assert_close(codec.encode(pictures), network.encode(pictures).latents, rtol=0, atol=1e-6)
    with refused(["vae.tiling=true", "auto"]):
        Autoencoder(path=str(tmp_path), tiling=True)


@pytest.mark.skipif(not TAEF2.is_dir(), reason="no TAEF2 in ../shared/data/taef2")
def test_taef2_gives_back_photographs():
    from sklearn.datasets import load_sample_images

    photographs = torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2)[:, :, :424]
    codec = Autoencoder(path=str(TAEF2)).codec((32, 53, 80))
    back = to_pixels(codec.decode(codec.encode(photographs.float() / 127.5 - 1)))
    errors = (photographs.double() - back.double()).square().mean(dim=(1, 2, 3))
    assert (10 * torch.log10(255**2 / errors)).tolist() == pytest.approx([22.52, 32.55], abs=0.05)  # dB
