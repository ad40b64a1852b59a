"""Published models against their original code: golden outputs of networks with drawn weights."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ditexp.cache.delta import Delta
from ditexp.cache.taylorseer import TaylorSeer
from ditexp.cache.work import share_of_work
from ditexp.model import claim
from ditexp.model.architecture import infer_architecture
from ditexp.model.dit import DiT
from ditexp.model.layers import attend_in_float32
from ditexp.model.prediction import Velocity, sit_prediction
from ditexp.model.pretrained import PretrainedDiT
from ditexp.pixels import Pixels
from ditexp.values import Condition
from tests.golden.files import FOLDER, read_golden
from tests.golden.published import published_file, weights
from tests.golden.weights import drawn, noise
from tests.helpers.networks import saved
from tests.helpers.refusals import refused

GOLDEN = {
    family: read_golden(FOLDER / family / "forward.npz")
    for family in ("sit", "dit", "repa", "lightningdit", "jit", "rae", "ddt")
}
CASES = [(family, name) for family, (facts, _) in GOLDEN.items() for name in facts["cases"]]
GIVEN = {"narrow": {"num_heads": 4}, "four channels": {"num_heads": 4}, "without rope": {"num_heads": 4}}


@pytest.fixture(autouse=True)
def in_folder_of_the_test(tmp_path, monkeypatch):
    """Where paths are short, so that messages need not be cut."""
    monkeypatch.chdir(tmp_path)


def case_of(family: str, name: str) -> dict[str, Any]:
    return GOLDEN[family][0]["cases"][name]


def loaded(family: str, name: str, /, **settings) -> PretrainedDiT:
    case = case_of(family, name)
    options = case["options"]
    given = {} if family in ("jit", "rae") else GIVEN.get(name, {})
    args = {"path_type": "Linear", "prediction": "velocity"} if family == "sit" else {}
    if family == "jit":
        given = {"in_context_start": options["in_context_start"]}
        args = {"noise_scale": options.get("noise_scale", 1.0), "t_eps": 0.05}
    if family == "ddt":
        given = {"encoder_depth": options["num_encoder_blocks"], "input_size": options["input_size"]}
    file = published_file(Path("x.pt"), family, case["shapes"], **args)
    return PretrainedDiT(checkpoint=file, **{"family": family, **given, **settings})


def inputs(family: str, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """What the original network was given: x, time and labels."""
    case, options = case_of(family, name), case_of(family, name)["options"]
    shape = (len(case["labels"]), options["in_channels"], options["input_size"], options["input_size"])
    return noise(name, shape), torch.tensor(case["times"], dtype=torch.float32), torch.tensor(case["labels"])


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(("family", "name"), CASES, ids=" ".join)
@torch.inference_mode()
def test_outputs_are_those_of_the_original_network(family, name):
    model, (x, time, labels) = loaded(family, name), inputs(family, name)
    expected, every = GOLDEN[family][1][f"{name}: output"], case_of(family, name)["every"]
    found = model.network.outputs(x, time, labels)[:, : expected.shape[1], ::every, ::every]
    assert expected.std() > 0.1
    for row, its in zip(found, expected):
        assert relative_error(row, its) < 1e-5


@torch.inference_mode()
def test_velocities_run_from_noise_to_data():
    """SiT's and LightningDiT's are the output, REPA's its opposite at 1 - t, and JiT's that of its own sampler."""
    for family, name, sign in (
        ("sit", "narrow", 1),
        ("lightningdit", "qk-norm", 1),
        ("repa", "qk-norm", -1),
        ("rae", "narrow", -1),
    ):
        model, (x, time, labels) = loaded(family, name), inputs(family, name)
        found = sign * model(x, time if sign == 1 else 1 - time, Condition(labels))
        assert relative_error(found, GOLDEN[family][1][f"{name}: output"]) < 1e-5
    for name, scale in (("narrow", 1), ("other heads", 2)):
        model, (z, t, labels) = loaded("jit", name), inputs("jit", name)
        every = case_of("jit", name)["every"]
        found = scale * model(z / scale, t, Condition(labels))[..., ::every, ::every]
        for row, its in zip(found, GOLDEN["jit"][1][f"{name}: velocity"]):  # also where 1 - t is below t_eps
            assert relative_error(row, its) < 1e-5
        assert model.codec == Pixels((z.shape[2], z.shape[2], 3), scale)


RECOGNISED = [("repa", "narrow"), ("lightningdit", "published options"), ("jit", "narrow")]
RECOGNISED += [("rae", "narrow"), ("ddt", "narrow")]


@pytest.mark.parametrize(("family", "name"), RECOGNISED)
def test_what_keys_decide_is_recognised(family, name, caplog):
    model = loaded(family, name, family=None)
    assert model.family.name == family
    (line,) = caplog.messages
    words = {
        "repa": ["REPA-2x48/2", "model weights", "without 6 tensors (projectors.0.0.weight, ...)"],
        "lightningdit": ["LightningDiT-2x48/1", "ema weights", "without 2 tensors (feat_rope.freqs_cos, ...)"],
        "ddt": ["DDT-4x48/2", "ema weights (not model)"],
        "rae": ["RAE-2x48/1", "ema weights (not model)", "without 4 tensors (enc_feat_rope.freqs_cos, ...)"],
        "jit": ["JiT-4x48/4", "ema1 weights (not ema2, model)", "trained with noise_scale=1.0, t_eps=0.05"],
    }
    assert "\n" not in line and all(word in line for word in words[family]), line


@pytest.mark.parametrize(("family", "name"), [("sit", "narrow"), ("dit", "narrow"), ("sit", "four channels")])
def test_what_keys_do_not_decide_must_be_said(family, name):
    other = "REPA" if name == "four channels" else "DiT"
    with refused([f"may be SiT or {other}", f"model.family=sit|{other.lower()}"]):
        loaded(family, name, family=None)


@pytest.mark.parametrize(
    ("family", "name", "claim", "words"),
    [
        ("sit", "narrow", "repa", ["is not a REPA: final_layer.linear.weight has 32 rows, not 16", "SiT or DiT"]),
        (
            "sit",
            "four channels",
            "dit",
            ["final_layer.linear.weight has 16 rows, not 32 with a variance", "SiT or REPA"],
        ),
        ("sit", "narrow", "jit", ["is not a JiT: it has no x_embedder.proj1.weight"]),
        ("sit", "narrow", "lightningdit", ["is not a LightningDiT: it has none of blocks.0.norm1.weight"]),
        ("repa", "narrow", "sit", ["is not a SiT: it has projectors.0.0.weight", "looks like REPA"]),
        ("lightningdit", "published options", "sit", ["is not a SiT: it has blocks.0.norm1.weight", "LightningDiT"]),
        ("rae", "narrow", "lightningdit", ["is not a LightningDiT: it has s_embedder.proj.weight", "looks like RAE"]),
        ("lightningdit", "published options", "rae", ["is not a RAE: it has no s_embedder.proj.weight"]),
        ("jit", "narrow", "lightningdit", ["is not a LightningDiT: it has no x_embedder.proj.weight", "JiT"]),
    ],
)
def test_a_wrong_family_is_refused_with_the_evidence(family, name, claim, words):
    with refused(words):
        loaded(family, name, family=claim)


def test_other_weights_of_a_file_can_be_chosen():
    shapes = case_of("jit", "narrow")["shapes"]
    others = drawn(shapes, salt="others ")["final_layer.linear.bias"]
    found = {which: loaded("jit", "narrow", weights=which) for which in (None, "ema1", "ema2", "model")}
    biases = {which: model.network.final_layer.linear.bias for which, model in found.items()}
    assert torch.equal(biases[None], drawn(shapes)["final_layer.linear.bias"])
    assert torch.equal(biases["ema1"], biases[None])
    assert torch.equal(biases["ema2"], others) and torch.equal(biases["model"], others)
    assert len({str(model.identity["ema"]) for model in found.values()}) == 4


def identity_network(*, sign: int, channels: int = 8) -> dict[str, Tensor]:
    """A network of SiT's kind whose output is its input, or the opposite, whatever the time."""
    with torch.random.fork_rng():
        network = DiT(
            input_size=16, patch_size=4, in_channels=4, hidden_size=64, depth=1, num_heads=4, num_classes=10,
            learn_sigma=channels == 8,
        )  # fmt: skip
    state = network.state_dict()  # gates are zero
    state["x_embedder.proj.weight"] = torch.eye(64).view(64, 4, 4, 4)
    state["pos_embed"] = torch.zeros_like(state["pos_embed"])
    head = sign * torch.eye(64).view(4, 16, 64).transpose(0, 1)  # from channels, then pixels, to pixels, then channels
    state["final_layer.linear.weight"] = torch.cat([head] * (channels // 4), dim=1).flatten(0, 1)
    return state


@pytest.mark.parametrize(
    ("sign", "channels", "family", "words"),
    [
        (1, 8, "sit", ["is not a SiT: its output for noise at time 999 has the correlation 0.99", "model.family=dit"]),
        (-1, 8, "dit", ["is not a DiT: its output for noise at time 0 has the correlation -0.99", "model.family=sit"]),
        (1, 4, "sit", ["is not a SiT", "model.family=repa"]),
        (-1, 4, "repa", ["is not a REPA", "model.family=sit"]),
        (-1, 8, "sit", []),
        (1, 8, "dit", []),
        (1, 4, "repa", []),
    ],
)
def test_what_a_network_does_with_noise_contradicts_a_wrong_claim(sign, channels, family, words):
    file = saved(Path("x.pt"), identity_network(sign=sign, channels=channels))
    with refused(words) if words else nullcontext():
        PretrainedDiT(checkpoint=file, family=family, num_heads=4)


def test_the_claim_is_checked_once_for_all_processes(monkeypatch):
    file = saved(Path("x.pt"), identity_network(sign=-1))
    PretrainedDiT(checkpoint=file, family="sit", num_heads=4)
    monkeypatch.setattr(claim, "correlation", None)
    PretrainedDiT(checkpoint=file, family="sit", num_heads=4)


@pytest.mark.parametrize(
    ("width", "depth", "heads"), [(384, 12, 6), (768, 12, 12), (1024, 24, 16), (1152, 28, 16), (1280, 32, 16)]
)
def test_heads_of_published_widths(width, depth, heads):
    with torch.device("meta"):
        network = DiT(
            input_size=8, patch_size=2, in_channels=4, hidden_size=width, depth=depth, num_heads=1, num_classes=9
        )
    found = infer_architecture(network.state_dict())
    assert (found["num_heads"], found["depth"], found["hidden_size"]) == (heads, depth, width)


@pytest.mark.parametrize(("width", "start"), [(768, 4), (1024, 8), (1280, 10)])
def test_in_context_tokens_join_where_the_published_sizes_say(width, start):
    with torch.device("meta"):
        network = DiT(
            input_size=8, patch_size=4, in_channels=3, hidden_size=width, depth=12, num_heads=16, num_classes=9,
            bottleneck=128, in_context_tokens=32,
        )  # fmt: skip
    found = infer_architecture(network.state_dict())
    assert (found["in_context_tokens"], found["in_context_start"], found["bottleneck"]) == (32, start, 128)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"in_context_start": None}, ["model.in_context_start is needed: the block", "unknown for the width 48"]),
        ({"in_context_start": 4}, ["model.in_context_start=4: give a whole number of at most 3"]),
        ({"num_heads": 5}, ["model.num_heads=5: the width of 48 is no multiple of it"]),
        ({"num_heads": 4}, ["model.num_heads=4, but blocks.0.attn.q_norm.weight is (16,): there are 3"]),
        ({"path_type": "GVP"}, ["model.path_type=GVP: JiT has no path_type: leave it null"]),
        ({"noise_scale": -1.0}, ["noise_scale=-1.0: give a number above 0"]),
        ({"weights": "ema3"}, ["ema3"]),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(settings, words):
    with refused(words):
        loaded("jit", "narrow", **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"encoder_depth": None}, ["model.encoder_depth is needed: how many of its 4 blocks", "for the width 48"]),
        ({"encoder_depth": 4}, ["model.encoder_depth=4: give a whole number of at most 3"]),
        ({"input_size": 9}, ["model.input_size=9", "multiple of the patch size 2"]),
        ({"in_context_start": 1}, ["model.in_context_start=1: DDT has no in_context_start: leave it null"]),
        ({"num_heads": 4}, ["model.num_heads=4, but blocks.0.attn.q_norm.weight is (16,): there are 3"]),
    ],
    ids=str,
)
def test_wrong_settings_of_ddt_are_refused(settings, words):
    with refused(words):
        loaded("ddt", "narrow", **settings)


def test_the_side_that_no_weight_of_ddt_tells_is_that_of_256_pixels():
    assert loaded("ddt", "narrow", input_size=None).sample_shape == (4, 32, 32)
    with refused(["model.encoder_depth=2: SiT has no encoder_depth: leave it null"]):
        loaded("sit", "narrow", encoder_depth=2)


def test_repa_es_file_is_known_and_repa_reads_it_too(caplog):
    facts, _ = read_golden(FOLDER / "repa_e" / "samples.npz")
    file = published_file(Path("x.pt"), "repa_e", facts["shapes"], vae={"decoder.conv_in.weight": torch.zeros(2)})
    known, given = (PretrainedDiT(checkpoint=file, family=family, num_heads=4) for family in (None, "repa"))
    assert known.family.name == "repa_e" and given.family.name == "repa" and known.identity == given.identity
    assert "decode with vae.statistics=" in caplog.messages[-1]
    with refused(["is not a REPA-E: it has no bn.running_mean"]):
        loaded("repa", "narrow", family="repa_e")


def test_arguments_of_the_training_choose_the_prediction():
    shapes = case_of("sit", "narrow")["shapes"]
    file = published_file(Path("x.pt"), "sit", shapes, path_type="VP", prediction="noise")
    model = PretrainedDiT(checkpoint=file, family="sit", num_heads=4)
    assert model.prediction == sit_prediction(path_type="VP", prediction="noise")
    model = PretrainedDiT(checkpoint=file, family="sit", num_heads=4, path_type="Linear", prediction="velocity")
    assert model.prediction == Velocity()


def test_early_files_of_repa_have_their_later_blocks_under_another_name():
    state = weights(case_of("repa", "qk-norm")["shapes"])
    early = {key.replace("blocks.1.", "decoder_blocks.0."): value for key, value in state.items()}
    model = PretrainedDiT(checkpoint=saved(Path("x.pt"), early), family="repa")
    assert torch.equal(model.network.state_dict()["blocks.1.attn.qkv.weight"], state["blocks.1.attn.qkv.weight"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: {"dec_feat_rope.freqs_sin": state["dec_feat_rope.freqs_sin"].flip(0)}, ["other rotations"]),
        (lambda state: {"pos_embed": state["pos_embed"][:, 1:]}, ["pos_embed has 15 positions, which is not a square"]),
        (lambda state: {"x_embedder.proj.weight": torch.zeros(48, 8, 1, 1)}, ["both 48 wide", "where the head begins"]),
        (lambda state: {"blocks.0.attn.proj.weight": torch.zeros(64, 64)}, ["not first 48 wide and then 64"]),
        (lambda state: {"s_embedder.proj.weight": torch.zeros(48, 8, 2, 2)}, ["of patches of 2, not of 1"]),
    ],
)
def test_weights_that_are_no_dit_dh_are_refused(change, words):
    state = weights(case_of("rae", "narrow")["shapes"])
    with refused(["is not a RAE: ", *words]):
        PretrainedDiT(checkpoint=saved(Path("x.pt"), state | change(state)), family="rae")


@torch.inference_mode()
def test_caches_of_blocks_take_the_trunk_and_the_head_and_no_range_across():
    model = loaded("rae", "narrow")
    x, time, labels = inputs("rae", "narrow")
    walk = TaylorSeer(interval=2).begin(model).evaluation(0.5, len(x))
    assert torch.equal(model(x, time, Condition(labels), walk), model(x, time, Condition(labels)))
    assert 0 < share_of_work(TaylorSeer(interval=2), model, x, Condition(labels)) < 0.5
    with refused(["cache: Delta reuses", "trunk and head have tokens of their own", "cache=taylorseer"]):
        Delta().check(model)


def test_rotations_other_than_lightningdits_are_refused():
    state = weights(case_of("lightningdit", "published options")["shapes"])
    state["feat_rope.freqs_cos"] = state["feat_rope.freqs_cos"].flip(0)
    with refused(["is not a LightningDiT: feat_rope.freqs_cos holds other rotations"]):
        PretrainedDiT(checkpoint=saved(Path("x.pt"), state), family="lightningdit")


def test_logits_stay_in_float32_where_autocast_chooses_less():
    q, k, v = (noise(name, (1, 2, 5, 16)).bfloat16() for name in "qkv")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attend_in_float32(q, k, v)
    shares = (q.float() @ k.float().transpose(-2, -1) / 4).softmax(-1)
    assert torch.equal(found, shares.bfloat16() @ v)
