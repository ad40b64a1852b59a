"""Statistics of latents that are given as numbers."""

from __future__ import annotations

import pytest
import torch
import yaml

from ditexp.vae.statistics import Normalization, given_statistics
from tests.golden.noise import normal
from tests.helpers.paths import CONF
from tests.helpers.refusals import refused


def test_imfs_latents_are_those_of_its_script():
    """z std + mean, with the numbers of utils/vae_util.py in imeanflow 0468798."""
    settings = yaml.safe_load((CONF / "vae" / "imf.yaml").read_text())
    x = normal("latents", (2, 4, 3, 3))
    std = torch.tensor([4.85503674, 5.31922414, 3.93725398, 3.9870003])
    mean = torch.tensor([0.86488, -0.27787343, 0.21616915, 0.3738409])
    found = Normalization(settings["scaling_factor"], *given_statistics(settings["statistics"]))
    assert torch.allclose(found.denormalize(x), x * std.view(-1, 1, 1) + mean.view(-1, 1, 1), atol=1e-6)
    assert torch.allclose(found.normalize(found.denormalize(x)), x, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, ["vae.statistics has nothing", "give a file, or mean and std"]),
        ({"mean": [0.0]}, ["vae.statistics has mean:"]),
        ({"mean": [0.0], "std": [1.0, 1.0]}, ["each with a number for each channel"]),
        ({"mean": 0.0, "std": 1.0}, ["each with a number for each channel"]),
        ({"mean": [0.0], "std": [0.0]}, ["vae.statistics.std=0.0: give a number above 0"]),
        ({"mean": ["a"], "std": [1.0]}, ["vae.statistics.mean=a: give a number"]),
    ],
)
def test_other_statistics_are_refused(settings, words):
    with refused(words):
        given_statistics(settings)
