"""Checkpoints that others wrote: other precisions, wrappers and prefixes are read or refused, by their content."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ditexp.checkpoint.container import read_checkpoint
from ditexp.checkpoint.weights import Weights, weights_of
from ditexp.feature.digits import BUNDLED, DigitsFeature
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
    assert caplog.messages[0] == (
        f"model.checkpoint={tmp_path}/given.{suffix} holds weights in {str(dtype)[6:]}, which are converted to float32"
    )
    assert has(given, expected)
    assert torch.equal(samples(given), samples(model(saved(tmp_path / f"float.{suffix}", expected))))


def test_mixed_precisions_are_said_in_one_line(tmp_path, caplog):
    mixed = WEIGHTS | {"pos_embed": WEIGHTS["pos_embed"].double(), "blocks.0.attn.qkv.bias": torch.zeros(72).half()}
    assert has(model(saved(tmp_path / "x.pt", mixed)), {key: value.float() for key, value in mixed.items()})
    assert caplog.messages[0].partition("holds ")[2] == "weights in float16 and float64, which are converted to float32"


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


def test_a_choice_between_averaged_and_plain_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a long path would shorten the rest of the line
    both = saved(tmp_path / "both.pt", {"state_dict": prefixed("model.", OTHERS) | prefixed("ema.")})
    assert has(model(both), WEIGHTS) and has(model(both, weights="ema"), WEIGHTS)
    assert has(model(both, weights="model"), OTHERS)
    with refused(["has no weights 'model': choose model.weights=ema"]):
        model(saved(tmp_path / "one.pt", {"ema": WEIGHTS}), weights="model")
    shadow = saved(Path("shadow.pt"), {"model": WEIGHTS, "ema": {"shadow_params": [torch.zeros(3)]}})
    with refused(["has 1 averaged weights without names", "choose model.weights=model"]):
        model(shadow)
    assert has(model(shadow, weights="model"), WEIGHTS)
    beside = saved(tmp_path / "beside.pt", OTHERS | prefixed("ema."))
    assert has(model(beside), WEIGHTS) and has(model(beside, weights="model"), OTHERS)


def test_one_of_several_averages(tmp_path):
    third = {key: 3 * value for key, value in WEIGHTS.items()}
    file = saved(tmp_path / "x.pt", {"model": WEIGHTS, "model_ema2": third, "model_ema1": OTHERS, "epoch": 3})
    found = {which: weights_in(file, which) for which in (None, "model", "ema1", "ema2", "model_ema2")}
    assert [one.which for one in found.values()] == ["ema1", "model", "ema1", "ema2", "ema2"]
    assert found[None].available == ("ema1", "ema2", "model")
    for which, expected in ((None, OTHERS), ("model", WEIGHTS), ("ema2", third), ("model_ema2", third)):
        assert same(found[which].tensors, expected)


def weights_in(file: str, which: str | None = None) -> Weights:
    return weights_of(read_checkpoint(file, name="x"), which=which)


def same(found: dict, expected: dict) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)


@pytest.mark.parametrize("is_list", [True, False])
@pytest.mark.parametrize("lacks", [["pos_embed"], []])
def test_averages_without_names_get_those_of_the_others(tmp_path, lacks, is_list):
    """In the order of the parameters; what an average lacks, as all fixed ones do, is that of the others."""
    shadow = [value for key, value in OTHERS.items() if key not in lacks]
    state = {"model": WEIGHTS, "ema": {"decay": 0.999, "num_updates": 7, "shadow_params": shadow}}
    if not is_list:
        numbered = {f"shadow_params.{number}": value for number, value in enumerate(shadow)}
        state = {"model": prefixed("model.") | numbered | {"num_updates": torch.tensor(7)}}
    file = saved(tmp_path / "x.pt", state)
    assert same(weights_in(file).tensors, OTHERS | {key: WEIGHTS[key] for key in lacks})
    assert same(weights_in(file, "model").tensors, WEIGHTS)


HEAD = "blocks.0.attn.proj.weight"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"a": WEIGHTS, "b": OTHERS}, ["holds several networks, at a and b: choose one by model.weights"]),
        ({"student": WEIGHTS} | prefixed("teacher.", OTHERS), ["holds several networks, at student and teacher"]),
        (prefixed("module.") | WEIGHTS, ["holds pos_embed twice, once as pos_embed: save its state"]),
        (
            WEIGHTS | {HEAD: torch.zeros(24, 24, dtype=torch.int8)},
            [HEAD, "is int8, which is no weight"],
        ),
        (WEIGHTS | {HEAD: torch.zeros(24, 24).to(torch.float8_e4m3fn)}, [HEAD, "is float8_e4m3fn: give dense"]),
        (WEIGHTS | {HEAD: torch.zeros(24, 24, dtype=torch.complex64)}, [HEAD, "is complex64, which is no weight"]),
        (WEIGHTS | {HEAD: torch.zeros(24, 24).to_sparse()}, [HEAD, "is sparse: give dense"]),
        (WEIGHTS | {HEAD: torch.zeros(24, 24, device="meta")}, [HEAD, "has no values (meta device)"]),
        (WEIGHTS | {HEAD: torch.zeros(7, 7)}, [f"is not a SiT: {HEAD} is (7, 7), not (24, 24)"]),
        (
            {k: v for k, v in WEIGHTS.items() if "adaLN" not in k},
            ["it has no 'blocks.0.adaLN"],
        ),
        (WEIGHTS | {"blocks.0.norm.weight": torch.zeros(24)}, ["it should not have blocks.0.norm.weight"]),
        (prefixed("a.") | {"a.blocks.7.x": torch.zeros(1)}, ["it has a key blocks.7, but no blocks.2"]),
        (WEIGHTS | {"blocks.x.y": torch.zeros(1)}, ["it has a key blocks.x, but no blocks.2"]),
        (WEIGHTS | {"pos_embed": torch.zeros(1)}, ["is not a SiT: pos_embed is (1,), which are not 3 axes"]),
        ({"conv.weight": torch.zeros(3)}, ["is not a DiT: it has no 'final_layer.linear.weight': it has conv.weight"]),
        ({"net": {"a": torch.zeros(3), "b": torch.zeros(3)}}, ["it has no 'final_layer.linear.weight': it has a, b"]),
        ({"epoch": 3}, ["holds no state dict (keys: epoch)"]),
        (5, ["holds no state dict (keys: none)"]),
        (torch.zeros(3), ["holds no state dict (keys: none)"]),
        ([WEIGHTS], ["holds no state dict"]),
        ({0: {1: 2}}, ["holds no state dict (keys: 0)"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_refused_in_one_line(tmp_path, monkeypatch, state, words):
    monkeypatch.chdir(tmp_path)  # a long path would shorten the rest of the line
    with refused(["x.pt", *words]):
        model(saved(Path("x.pt"), state))


def test_weights_that_are_not_finite_are_said_once(tmp_path, caplog):
    lost = WEIGHTS | {HEAD: torch.full((24, 24), torch.inf), "pos_embed": WEIGHTS["pos_embed"] * torch.nan}
    for _ in range(2):
        model(saved(tmp_path / "x.pt", lost))
    assert [message.partition("x.pt: ")[2] for message in caplog.messages if "x.pt: " in message] == [
        "pos_embed and 1 more weights have NaN or infinite values, and what is computed with them has, too"
    ]


def test_files_of_old_versions_of_torch_are_read(tmp_path):
    torch.save(WEIGHTS, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert has(model(str(tmp_path / "old.pt")), WEIGHTS)


def test_a_feature_networks_weights_are_read_as_a_models_are(tmp_path, caplog):
    state = torch.load(torch_file(tmp_path))
    half = {f"module.{key}": value.half() for key, value in state.items()}
    feature = DigitsFeature(weights=saved(tmp_path / "half.safetensors", half))
    assert "half.safetensors holds weights in float16, which are converted to float32" in caplog.text
    assert all(torch.equal(value, state[key].half().float()) for key, value in feature.network.state_dict().items())
    with refused(["several networks"]):
        twice = {key: 2 * value for key, value in state.items()}
        DigitsFeature(weights=saved(tmp_path / "two.pt", {"ema": state, "model": twice}))
    with refused(["other.safetensors is not a digits classifier: head.bias is (3,), not (10,)"]):
        DigitsFeature(weights=saved(tmp_path / "other.safetensors", state | {"head.bias": torch.zeros(3)}))


def torch_file(tmp_path: Path) -> str:
    return saved(tmp_path / "digits.pt", DigitsFeature(weights=str(BUNDLED)).network.state_dict())
