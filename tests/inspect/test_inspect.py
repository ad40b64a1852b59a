"""ditexp inspect: what it says of each kind of file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from ditexp import __version__
from ditexp.inspect.card import card_of
from tests.helpers.family_files import family_state, save_family
from tests.helpers.paths import CONF, WEIGHTS

TITLES = {"sit": "SiT or DiT", "repa": "REPA", "lightningdit": "LightningDiT", "jit": "JiT", "rae": "RAE"}
TITLES |= {"ddt": "DDT", "repa_e": "REPA-E"}


@pytest.mark.parametrize("family", TITLES)
def test_a_published_familys_file_is_known(family, tmp_path):
    path = save_family(tmp_path / "my.pt", family)
    card = card_of(path)
    facts = card.facts
    assert card.kind == TITLES[family] and family in facts["family"]
    assert facts["size"] == path.stat().st_size and len(facts["sha256"]) == 64 and facts["format"] == "torch"
    assert facts["parameters"] == sum(value.numel() for value in family_state(family).values())
    assert f"ditexp run compat={family} model.checkpoint={path} " in " ".join(card.commands)
    if family == "ddt":
        assert facts["needs"][0].startswith("model.encoder_depth is needed")
        assert facts["weights"] == {"taken": "ema", "available": ["ema", "model"], "precision": ["float32"]}
        return
    if family == "jit":
        assert facts["needs"][0].startswith("model.in_context_start is needed")  # the width is that of no published one
        assert facts["weights"] == {"taken": "ema1", "available": ["ema1", "ema2", "model"], "precision": ["float32"]}
        assert facts["trained with"]["model"] == "JiT-B/16"
        return
    patch, latents = {"lightningdit": (1, [32, 2, 2]), "rae": (1, [8, 4, 4])}.get(family, (2, [4, 4, 4]))
    heads = {} if family == "rae" else {"heads": 6}
    depth = 2 if family == "rae" else 1
    assert facts["architecture"] == {"depth": depth, "width": 384, **heads, "patch": patch}
    assert facts["samples"] == {"latents": latents} and facts["needs"][-1].startswith("a VAE for latents of ")
    assert facts["classes"] == {"number": 5, "null class": True}
    if family == "repa_e":
        assert facts["dropped"] == {"tensors": 3, "first": "bn.running_mean"}
    if family == "repa":
        assert facts["dropped"] == {"tensors": 3, "first": "projectors.0.0.weight"}


@pytest.mark.parametrize("family", ["meanflow", "imf", "pmf"])
def test_a_file_of_a_model_of_two_times_is_known(family, tmp_path):
    card = card_of(save_family(tmp_path / "my.pt", family))
    facts = card.facts
    assert card.kind == {"meanflow": "MeanFlow", "imf": "iMF", "pmf": "pMF"}[family] and facts["family"] == [family]
    patch, samples = {
        "meanflow": (2, {"latents": [4, 4, 4]}),
        "imf": (16, {"latents": [4, 32, 32]}),
        "pmf": (4, {"pixels": [3, 8, 8]}),
    }[family]
    assert facts["architecture"] == {"depth": 1, "width": 384, "heads": 6, "patch": patch}
    assert facts["samples"] == samples and facts["classes"] == {"number": 5, "null class": True}
    assert ("two times" in facts) and f"ditexp run compat={family} " in card.commands[0]
    needs = " ".join(facts.get("needs", ()))
    assert ("model.omega" in needs, "a VAE" in needs) == (family != "meanflow", family != "pmf")
    assert ("model.noise_scale" in needs) == (family == "pmf")


def test_files_that_look_alike_have_both_names_and_the_evidence(tmp_path):
    path = save_family(tmp_path / "my.pt", "sit")
    torch.save({"ema": torch.load(path), "args": {"model": "SiT-S/2", "path_type": "Linear"}}, path)
    card = card_of(path)
    text = "\n".join(card.lines())
    assert card.facts["family"] == ["sit", "dit"] and len(card.commands) == 2
    for words in (
        "files of SiT and DiT have the same names and shapes",
        "compat=sit|dit or model.family=sit|dit, a VAE for latents of 4 x 4 x 4, which compat= chooses",
        "its training was of model=SiT-S/2",
        "for sit: path_type=Linear among the training's arguments",
        "as a DiT, its output for noise has the correlation ",
        "not repa: final_layer.linear.weight has 32 rows, not 16 without a variance",
        "not jit: it has no x_embedder.proj1.weight",
    ):
        assert words in text, words


def test_what_no_weight_tells_is_needed(tmp_path):
    facts = card_of(save_family(tmp_path / "my.pt", "repa", hidden_size=48, num_heads=3)).facts
    assert facts["needs"][0].startswith("model.num_heads is needed") and "architecture" not in facts


def test_files_of_ditexp_itself():
    digits = card_of(WEIGHTS / "digits_dit.safetensors")
    assert digits.kind == "a DiT of ditexp train" and digits.facts["samples"] == {"pixels": [1, 8, 8]}
    text = card_of(WEIGHTS / "digits_text")
    assert text.kind == "a text-conditional DiT of ditexp train" and "model=text_dit" in text.commands[0]


def test_statistics_and_references(tmp_path):
    torch.save({"mean": torch.zeros(1, 32, 1, 1), "std": 2 * torch.ones(1, 32, 1, 1)}, tmp_path / "latents_stats.pt")
    statistics = card_of(tmp_path / "latents_stats.pt")
    assert statistics.kind == "statistics of a VAE's latents" and statistics.facts["shape"] == [32, 1, 1]
    assert "vae.statistics=" in statistics.commands[0]
    np.savez(tmp_path / "reference.npz", np.zeros((5, 8, 8, 3), np.uint8), mu=np.zeros(4), sigma=np.eye(4))
    reference = card_of(tmp_path / "reference.npz")
    assert reference.kind == "an npz file with images and statistics"
    assert reference.facts["images"] == 5 and reference.facts["image shape"] == [8, 8, 3]
    assert reference.facts["statistics of pool features"] == "4 wide"


def test_weights_of_something_else_are_named(tmp_path):
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pt")
    card = card_of(tmp_path / "other.pt")
    assert card.kind == "weights of no model that ditexp knows" and card.facts["first"] == ["layer.weight"]


def test_the_command_for_a_pipeline_is_one_that_composes(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusion3Pipeline"}))
    (command,) = card_of(tmp_path).commands
    overrides = command.removeprefix("ditexp run ").split()
    with initialize_config_dir(str(CONF), version_base=None):
        assert compose("config", [*overrides, "condition.prompts=[a]"]).model.path == str(tmp_path)


def test_the_command(in_process, tmp_path):
    save_family(tmp_path / "repa.pt", "repa")
    Path(tmp_path / "page.pt").write_text("<!DOCTYPE html>")
    ended = in_process("repa.pt", "page.pt", "nowhere.pt", command="inspect")
    assert ended.code == 2 and ended.out.startswith("repa.pt: REPA\n")
    assert [line.split(" ")[0] for line in ended.complaints] == ["page.pt", "nowhere.pt"]
    assert in_process("repa.pt", command="inspect").code == 0
    (line,) = in_process("repa.pt", "--json", command="inspect").out.splitlines()
    assert json.loads(line)["path"] == "repa.pt" and json.loads(line)["family"] == ["repa"]
    assert in_process("--version", command="inspect").out == f"ditexp {__version__}\n"
    assert "FILE" in in_process("--help", command="inspect").out
    without = in_process(command="inspect")
    assert without.code == 2 and "FILE" in without.err and len(without.complaints) == 1
