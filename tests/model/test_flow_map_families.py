"""Published models of two times against their original code, with drawn weights; and their settings."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ditexp.model.families.flow_maps import IMF_XL, PMF_B, RECIPES, infer_tokens
from ditexp.model.improved_mean_flow import ImprovedMeanFlow, PixelMeanFlow
from ditexp.model.loading import without_values
from ditexp.model.pretrained import PretrainedDiT
from ditexp.model.pretrained_flow_map import PretrainedFlowMap, inner_guidance
from ditexp.pixels import Pixels
from ditexp.values import Condition
from tests.golden.files import FOLDER, read_golden
from tests.golden.published import published, published_file, weights
from tests.golden.weights import noise
from tests.helpers.networks import saved
from tests.helpers.refusals import refused

GOLDEN = {family: read_golden(FOLDER / family / "forward.npz") for family in ("meanflow", "imf", "pmf")}
CASES = [(family, name) for family, (facts, _) in GOLDEN.items() for name in facts["cases"]]
SETTINGS: dict[str, dict[str, Any]] = {
    "meanflow": {},
    "imf": {"omega": 8.0, "interval": [0.35, 0.6]},
    "pmf": {"omega": 7.5, "interval": [0.2, 0.9], "noise_scale": 2.0},
}


@pytest.fixture(autouse=True)
def in_folder_of_the_test(tmp_path, monkeypatch):
    """Where paths are short, so that messages need not be cut."""
    monkeypatch.chdir(tmp_path)


def loaded(family: str, name: str = "narrow", /, **settings: Any) -> PretrainedFlowMap:
    heads = {"num_heads": 4} if (family, name) == ("meanflow", "narrow") else {}
    file = published_file(Path("x.pt"), family, GOLDEN[family][0]["cases"][name]["shapes"])
    return PretrainedFlowMap(checkpoint=file, **{"family": family, **heads, **SETTINGS[family], **settings})


def averages(family: str, name: str) -> list[Tensor]:
    """What the original network was given, evaluated by ditexp: for each guidance (B, C, H, W) of their velocity."""
    facts = GOLDEN[family][0]
    x = noise(name, (len(facts["labels"]), *facts["cases"][name]["size"]))
    (t, r), labels = torch.tensor(facts["times"]).unbind(1), torch.tensor(facts["labels"])
    scale, found = SETTINGS[family].get("noise_scale", 1.0), []
    model = loaded(family, name)
    for omega, low, high in facts["guidance"] or [(None, None, None)]:
        if omega is not None:
            model.guidance = inner_guidance(omega, [1 - high, 1 - low])
        found.append(-scale * model.average_velocity(x / scale, 1 - t, Condition(labels), 1 - r))
    return found


@pytest.mark.parametrize(("family", "name"), CASES)
@torch.inference_mode()
def test_average_velocities_are_those_of_the_original_network(family, name):
    expected, every = GOLDEN[family][1][name], GOLDEN[family][0]["cases"][name]["every"]
    worst = 0.0
    for found, its in zip(averages(family, name), expected, strict=True):
        for row, its_row in zip(found[..., ::every, ::every], its, strict=True):
            worst = max(worst, ((row - its_row).abs().max() / its_row.abs().max()).item())
    print(f"{family} {name}: largest relative error {worst:.1e}")
    assert expected.std() > 0.1 and worst < 5e-6
    if len(expected) > 1:  # what is told of the guidance matters
        assert all((one - other).abs().max() > 1e-3 for one, other in itertools.pairwise(expected))


@torch.inference_mode()
def test_a_velocity_is_the_average_over_no_time():
    model, t, labels = loaded("imf"), torch.tensor([0.25, 0.5]), Condition(torch.tensor([1, 2]))
    x = noise("x", (2, *model.sample_shape))
    assert torch.equal(model(x, t, labels), model.average_velocity(x, t, labels, t))


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("meanflow", ["is a MeanFlow-2x48/2", "ema weights (not model)"]),
        ("imf", ["is an iMF-3x48/8", "model weights", "without 3 tensors (v_final_layer.norm.weight, ...)"]),
        ("pmf", ["is a pMF-3x48/4", "model weights", "without 1 tensors (rope_freqs, ...)"]),
    ],
)
def test_what_keys_decide_is_recognised(family, words, caplog):
    model = loaded(family, family=None)
    (line,) = caplog.messages
    assert model.family.name == family and all(word in line for word in words), line
    assert model.num_classes == 10 and model.has_null
    assert model.codec == (Pixels((16, 16, 3), 2.0) if family == "pmf" else None)


@pytest.mark.parametrize("family", GOLDEN)
def test_a_model_of_two_times_is_none_of_one(family):
    file = published_file(Path("x.pt"), family, GOLDEN[family][0]["cases"]["narrow"]["shapes"])
    with refused([f"choose model={family}, and solver=flow_map"]):
        PretrainedDiT(checkpoint=file, num_heads=4)


def test_a_model_of_one_time_is_none_of_two():
    shapes = read_golden(FOLDER / "lightningdit" / "forward.npz")[0]["cases"]["published options"]["shapes"]
    file = published_file(Path("x.pt"), "lightningdit", shapes)
    with refused(["is of LightningDiT, a model of one time: choose model=lightningdit"]):
        PretrainedFlowMap(checkpoint=file)
    with refused(["is not a MeanFlow: it has no r_embedder.mlp.0.weight", "looks like LightningDiT"]):
        PretrainedFlowMap(checkpoint=file, family="meanflow")


@pytest.mark.parametrize(
    ("family", "settings", "words"),
    [
        ("meanflow", {"omega": 2.0}, ["model.omega=2.0: MeanFlow has no omega: leave it null"]),
        ("meanflow", {"num_heads": None}, ["model.num_heads is needed"]),
        ("imf", {"noise_scale": 2.0}, ["model.noise_scale=2.0: iMF has no noise_scale: leave it null"]),
        ("imf", {"omega": None}, ["model.omega is needed: no published iMF has 3 blocks of width 48 and patches of 8"]),
        ("imf", {"interval": None}, ["model.interval is needed"]),
        ("imf", {"omega": 0.5}, ["model.omega=0.5: give a number of at least 1"]),
        ("imf", {"interval": [0.6, 0.4]}, ["model.interval=0.4: give a number of at least 0.6"]),
        ("imf", {"interval": [0.1]}, ["model.interval=[0.1]: give [low, high]"]),
        ("imf", {"interval": 0.5}, ["model.interval=0.5: give [low, high]"]),
        ("pmf", {"noise_scale": 0.0}, ["noise_scale=0.0: give a number above 0"]),
        ("pmf", {"noise_scale": None}, ["model.noise_scale is needed"]),
        ("pmf", {"num_heads": 5}, ["model.num_heads=5"]),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(family, settings, words):
    with refused(words):
        loaded(family, **settings)


@pytest.mark.parametrize(
    ("family", "key", "change", "words"),
    [
        (
            "imf",
            "u_heads.0.attn.out_proj._flax_linear.weight",
            None,
            ["is not an iMF: it lacks blocks.2.attn.out_proj"],
        ),
        ("imf", "omega_tokens", lambda value: value[0], ["omega_tokens is (48,)"]),
        ("imf", "t_min_tokens", lambda value: value[:1], ["1 tokens for the interval's start and 2 for its end"]),
        ("pmf", "pos_embed", lambda value: value[:, 1:], ["pos_embed has 15 positions beside those of 20 conditions"]),
        ("pmf", "rope_freqs", lambda value: value.flip(0), ["is not a pMF: rope_freqs holds other rotations"]),
        ("pmf", "rope_freqs", lambda value: value.real, ["rope_freqs holds other rotations"]),
        ("pmf", "x_embedder.proj1.bias", None, ["it lacks x_embedder.proj1.bias"]),
    ],
)
def test_damaged_files_are_refused_in_one_line(family, key, change, words):
    state = published(family, GOLDEN[family][0]["cases"]["narrow"]["shapes"])
    assert f"net.{key}" in state
    value = state.pop(f"net.{key}")
    if change is not None:
        state[f"net.{key}"] = change(value)
    with refused(words):
        PretrainedFlowMap(checkpoint=saved(Path("x.pt"), state), family=family, **SETTINGS[family])


@pytest.mark.parametrize(
    ("kind", "published_size", "size", "expected"),
    [
        (ImprovedMeanFlow, IMF_XL, {}, {"omega": 8.0, "interval": [0.38, 0.58], "noise_scale": 1.0}),
        (
            ImprovedMeanFlow,
            IMF_XL,
            {"hidden_size": 768, "depth": 12, "num_heads": 12, "mlp_width": 2048},
            {"omega": 8.0, "interval": [0.35, 0.6], "noise_scale": 1.0},
        ),
        (PixelMeanFlow, PMF_B, {}, {"omega": 7.5, "interval": [0.2, 0.9], "noise_scale": 1.0}),
        (
            PixelMeanFlow,
            PMF_B,
            {"input_size": 512, "patch_size": 32, "hidden_size": 1280, "depth": 48, "num_heads": 16, "bottleneck": 256},
            {"omega": 5.5, "interval": [0.4, 0.9], "noise_scale": 4.0},
        ),
    ],
)
def test_the_published_sizes_have_their_authors_settings(kind, published_size, size, expected):
    arguments = {**published_size, **size}
    state = without_values(kind, arguments).state_dict()
    assert infer_tokens(state) == arguments
    recipe = RECIPES[arguments["depth"], arguments["hidden_size"], arguments["patch_size"]]
    assert recipe.settings == expected


def test_other_names_of_the_same_network():
    """Weights behind wrappers' prefixes, without those that are computed."""
    shapes = GOLDEN["pmf"][0]["cases"]["narrow"]["shapes"]
    state = {f"module.net.{key}": value for key, value in weights(shapes).items() if key != "rope_freqs"}
    file = saved(Path("x.pt"), {"ema": state, "model": {key: value + 1 for key, value in state.items()}})
    found = PretrainedFlowMap(checkpoint=file, **SETTINGS["pmf"]).network.state_dict()
    assert torch.equal(found["time_tokens"], state["module.net.time_tokens"])
