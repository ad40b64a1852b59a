"""Checkpoints that others wrote: other precisions, wrappers and prefixes are read or refused, by their content."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ditexp.feature.digits import BUNDLED, DigitsFeature
from ditexp.files.state_dict import state_dict_of
from ditexp.model.pretrained import PretrainedDiT
from ditexp.solver.heun import Heun
from tests.helpers.networks import saved, tiny_dit
from tests.helpers.refusals import refused
from tests.helpers.samplers import sampler_of

WEIGHTS = tiny_dit().state_dict()
OTHERS = {key: 2 * value for key, value in WEIGHTS.items()}


def model(file: str, **settings) -> PretrainedDiT:
    return PretrainedDiT(checkpoint=file, family="sit", num_heads=3, **settings)


def prefixed(prefix: str, weights: dict = WEIGHTS) -> dict:
    return {prefix + key: value for key, value in weights.items()}


def has(found: PretrainedDiT, weights: dict) -> bool:
    state = found.network.state_dict()
    return state.keys() == weights.keys() and all(torch.equal(state[key], weights[key]) for key in weights)


def samples(found: PretrainedDiT) -> torch.Tensor:
    return sampler_of(found, Heun(), steps=2).images(range(3))[0]


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_another_precision_is_read_as_the_same_weights_in_float32(tmp_path, dtype, suffix, caplog):
    lower = {key: value.to(dtype) for key, value in WEIGHTS.items()}
    given = model(saved(tmp_path / f"given.{suffix}", lower))
    expected = {key: value.float() for key, value in lower.items()}
    assert caplog.messages == [
        f"model.checkpoint={tmp_path}/given.{suffix} holds weights in {str(dtype)[6:]}, which are converted to float32"
    ]
    assert has(given, expected)
    assert torch.equal(samples(given), samples(model(saved(tmp_path / f"float.{suffix}", expected))))


def test_mixed_precisions_are_said_in_one_line(tmp_path, caplog):
    mixed = WEIGHTS | {"pos_embed": WEIGHTS["pos_embed"].double(), "blocks.0.attn.qkv.bias": torch.zeros(72).half()}
    assert has(model(saved(tmp_path / "x.pt", mixed)), {key: value.float() for key, value in mixed.items()})
    assert [message.partition("holds ")[2] for message in caplog.messages] == [
        "weights in float16 and float64, which are converted to float32"
    ]


@pytest.mark.parametrize(
    "state",
    [
        *(prefixed(prefix) for prefix in ("module.", "_orig_mod.", "model.", "_orig_mod.module.", "model.module.")),
        *(prefixed(prefix) for prefix in ("module._orig_mod.model.", "network.", "module.model._orig_mod.")),
        prefixed("module.") | {"n_averaged": torch.tensor(7)},
        {key.replace("blocks.0.", "blocks.0._orig_mod."): value for key, value in WEIGHTS.items()},
        *({wrapper: WEIGHTS} for wrapper in ("state_dict", "model", "ema", "model_ema", "model_state_dict", "net")),
        {"state_dict": prefixed("model."), "pytorch-lightning_version": "2", "epoch": 3, "optimizer_states": [{}]},
        {"state_dict": prefixed("model.") | {"loss.vgg.weight": torch.zeros(3)}, "global_step": 3},
        {"state_dict": prefixed("model.", OTHERS) | prefixed("model_ema.")},
        {"model": prefixed("module.", OTHERS), "ema": prefixed("module._orig_mod."), "opt": {"state": {0: {}}}},
        {"model": {"state_dict": prefixed("_orig_mod.")}},
        WEIGHTS | {"step": 3},
        {"model": WEIGHTS, "state_dict": prefixed("module.")},  # one network under two names
    ],
    ids=lambda state: ",".join(list(state)[:1] + list(state)[-1:]),
)
def test_wrappers_and_prefixes_are_left_out(tmp_path, state):
    assert has(model(saved(tmp_path / "x.pt", state)), WEIGHTS)


def test_a_choice_between_averaged_and_plain_weights(tmp_path):
    both = saved(tmp_path / "both.pt", {"state_dict": prefixed("model.", OTHERS) | prefixed("ema.")})
    assert has(model(both), WEIGHTS) and has(model(both, ema=False), OTHERS)
    with refused(["holds averaged weights alone, at ema: choose model.ema=true"]):
        model(saved(tmp_path / "one.pt", {"ema": WEIGHTS}), ema=False)
    shadow = saved(tmp_path / "shadow.pt", {"model": WEIGHTS, "ema": {"shadow_params": [torch.zeros(3)]}})
    with refused(["averaged weights at ema, but not as a DiT names its own: choose model.ema=false"]):
        model(shadow)
    assert has(model(shadow, ema=False), WEIGHTS)


HEAD = "blocks.0.attn.proj.weight"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"a": WEIGHTS, "b": OTHERS}, ["holds several networks, at a and b: save its state dict alone"]),
        ({"student": WEIGHTS} | prefixed("teacher.", OTHERS), ["holds several networks, at student and teacher"]),
        (prefixed("module.") | WEIGHTS, ["holds pos_embed twice, once as pos_embed: save its state"]),
        (
            WEIGHTS | {HEAD: torch.zeros(24, 24, dtype=torch.int8)},
            [HEAD, "is int8, quantized or no weight: give dense"],
        ),
        (WEIGHTS | {HEAD: torch.zeros(24, 24).to(torch.float8_e4m3fn)}, [HEAD, "is float8_e4m3fn, quantized"]),
        (WEIGHTS | {HEAD: torch.zeros(24, 24, dtype=torch.complex64)}, [HEAD, "is complex64: give"]),
        (WEIGHTS | {HEAD: torch.zeros(24, 24).to_sparse()}, [HEAD, "is sparse: give dense"]),
        (WEIGHTS | {HEAD: torch.zeros(24, 24, device="meta")}, [HEAD, "has no values (it was saved from the meta"]),
        (WEIGHTS | {HEAD: torch.zeros(7, 7)}, [f"is not a DiT: {HEAD} is (7, 7), not (24, 24)"]),
        (
            {k: v for k, v in WEIGHTS.items() if "adaLN" not in k},
            ["it lacks", "adaLN_modulation.1.bias", "and 3 more"],
        ),
        (WEIGHTS | {"blocks.0.norm.weight": torch.zeros(24)}, ["it should not have blocks.0.norm.weight"]),
        (prefixed("a.") | {"a.blocks.7.x": torch.zeros(1)}, ["it should not have blocks.7.x", "it lacks blocks.2."]),
        (WEIGHTS | {"blocks.x.y": torch.zeros(1)}, ["is not a DiT: its weights have other shapes"]),
        (WEIGHTS | {"pos_embed": torch.zeros(1)}, ["is not a DiT: its weights have other shapes"]),
        ({"conv.weight": torch.zeros(3)}, ["is not a DiT: it has no 'x_embedder.proj.weight' (it has conv.weight)"]),
        ({"net": {"a": torch.zeros(3), "b": torch.zeros(3)}}, ["it has no 'x_embedder.proj.weight' (it has a, b)"]),
        ({"epoch": 3}, ["holds no state dict (keys: epoch)"]),
        (5, ["holds no state dict (keys: none)"]),
        (torch.zeros(3), ["holds no state dict (keys: none)"]),
        ([WEIGHTS], ["holds no state dict"]),
        ({0: {1: 2}}, ["holds no state dict (keys: 0)"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_refused_in_one_line(tmp_path, state, words):
    with refused(["x.pt", *words]):
        model(saved(tmp_path / "x.pt", state))


def test_weights_that_are_not_finite_are_said_once(tmp_path, caplog):
    lost = WEIGHTS | {HEAD: torch.full((24, 24), torch.inf), "pos_embed": WEIGHTS["pos_embed"] * torch.nan}
    for _ in range(2):
        model(saved(tmp_path / "x.pt", lost))
    assert [message.partition("x.pt: ")[2] for message in caplog.messages] == [
        "pos_embed and 1 more weights have NaN or infinite values, and what is computed with them has, too"
    ]


def test_files_of_old_versions_of_torch_are_read(tmp_path):
    torch.save(WEIGHTS, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert has(model(str(tmp_path / "old.pt")), WEIGHTS)


def test_a_feature_networks_weights_are_read_as_a_models_are(tmp_path, caplog):
    state = state_dict_of(torch.load(torch_file(tmp_path)), name="x", kind="a digits classifier", anchor="head.weight")
    half = {f"module.{key}": value.half() for key, value in state.items()}
    feature = DigitsFeature(weights=saved(tmp_path / "half.safetensors", half))
    assert "half.safetensors holds weights in float16, which are converted to float32" in caplog.text
    assert all(torch.equal(value, state[key].half().float()) for key, value in feature.network.state_dict().items())
    with refused(["several networks"]):
        twice = {key: 2 * value for key, value in state.items()}
        state_dict_of({"ema": state, "model": twice}, name="x", kind="a network", anchor="head.weight")
    with refused(["other.safetensors is not a digits classifier: head.bias is (3,), not (10,)"]):
        DigitsFeature(weights=saved(tmp_path / "other.safetensors", state | {"head.bias": torch.zeros(3)}))


def torch_file(tmp_path: Path) -> str:
    return saved(tmp_path / "digits.pt", DigitsFeature(weights=str(BUNDLED)).network.state_dict())
