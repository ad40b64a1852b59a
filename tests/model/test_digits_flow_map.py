"""The bundled model of two times beside the model that it was trained to follow."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from safetensors import safe_open

from ditexp.cli.command import register_with_hydra
from ditexp.core import FlowModel, Solver
from ditexp.data import Digits
from ditexp.feature.digits import DigitsFeature
from ditexp.images.digits import DigitsImages
from ditexp.metric.fid import FrechetDistance
from ditexp.model.pretrained import PretrainedDiT
from ditexp.model.pretrained_flow_map import PretrainedFlowMap
from ditexp.solver.euler import Euler
from ditexp.solver.flow_map import FlowMapJumps
from ditexp.train.checkpoint import NOT_TRAINED
from ditexp.values import Features
from tests.helpers.paths import CONF, WEIGHTS
from tests.helpers.samplers import sampler_of

FILE, TEACHER = WEIGHTS / "digits_flow_map.safetensors", WEIGHTS / "digits_dit.safetensors"
CARD = (WEIGHTS / "README.md").read_text()


@pytest.fixture(scope="module")
def student() -> PretrainedFlowMap:
    return PretrainedFlowMap(checkpoint=str(FILE))


@pytest.fixture(scope="module")
def teacher() -> PretrainedDiT:
    return PretrainedDiT(checkpoint=str(TEACHER))


@pytest.fixture(scope="module")
def fid():
    """FID of samples of seed 0, made as `ditexp run` makes them."""
    feature, metric = DigitsFeature(), FrechetDistance()
    real = torch.from_numpy(np.concatenate(list(DigitsImages().blocks()))).permute(0, 3, 1, 2)
    known = Features(len(real), feature(real)["pool"])

    def score(model: FlowModel, solver: Solver, steps: int, count: int) -> float:
        made = sampler_of(model, solver, steps=steps)
        images = [made.images(range(start, start + 128))[0] for start in range(0, count, 128)]
        return metric(Features(count, feature(torch.cat(images))["pool"]), known)["fid"]

    return score


def test_one_jump_is_better_than_two_steps_of_its_teacher(student, teacher, fid):
    """By factors: FIDs of 256 samples from the same noise differ by their bias alone, about 1."""
    jump = fid(student, FlowMapJumps(), 1, 256)
    assert jump < fid(teacher, Euler(), 1, 256) / 5
    assert jump < fid(teacher, Euler(), 2, 256) / 2


def test_the_card_has_its_fid(student, fid):
    rows = re.findall(r"^\| (\d) jumps? \| ([\d.]+) \|", CARD, re.MULTILINE)
    assert [jumps for jumps, _ in rows] == ["1", "2", "4"]
    for jumps, value in rows:
        assert fid(student, FlowMapJumps(), int(jumps), 512) == pytest.approx(float(value), rel=0.02)


def test_the_card_has_the_command_that_made_it(student, teacher):
    (command,) = re.findall(r"`ditexp train (network=digits_flow_map [^`]*)`", CARD)
    register_with_hydra()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        cfg = compose("train", overrides=command.split())
    settings = {key: value for key, value in OmegaConf.to_container(cfg).items() if key not in NOT_TRAINED}
    settings["objective"] = {**settings["objective"], "teacher": teacher.identity}
    with safe_open(FILE, "pt") as file:
        facts = {key: json.loads(value) for key, value in file.metadata().items()}
    assert facts["training"] == settings
    assert facts["class_names"] == list(student.class_names) == Digits.class_names
