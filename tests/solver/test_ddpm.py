"""DDPM and DDIM: samples of DiT's own code, its coefficients and its grid; and how both methods meet others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ditexp.condition.labels import Balanced
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.none import NoGuidance
from ditexp.model.dit import sincos_position_embedding
from ditexp.model.pretrained import PretrainedDiT
from ditexp.pixels import Undecoded, to_pixels
from ditexp.sampler import Sampler
from ditexp.schedule.ddpm import RespacedDDPM
from ditexp.solver.ddim import DDIM
from ditexp.solver.ddpm import DDPM
from tests.golden.noise import normal, step_name
from tests.golden.weights import drawn
from tests.helpers.samplers import sampler_of

GOLDEN = Path(__file__).parents[1] / "golden" / "dit" / "samples.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files if name != "facts"}


with np.load(GOLDEN) as archive:
    FACTS: dict[str, Any] = json.loads(archive["facts"].item())
SHAPE = (len(FACTS["labels"]), 4, 8, 8)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> PretrainedDiT:
    """The network of the golden file, from a file like the released one."""
    width, side = FACTS["network"]["hidden_size"], FACTS["network"]["input_size"] // FACTS["network"]["patch_size"]
    path = tmp_path_factory.mktemp("dit") / "DiT.pt"
    torch.save({**drawn(FACTS["shapes"]), "pos_embed": sincos_position_embedding(width, side)}, path)
    return PretrainedDiT(checkpoint=str(path), family="dit", num_heads=FACTS["network"]["num_heads"])


def sampler(model, solver, *, steps: int, **parts) -> Sampler:
    parts = {"vae": Undecoded(), "conditioner": Balanced(classes=FACTS["labels"])} | parts
    return sampler_of(model, solver, schedule=RespacedDDPM(steps), **parts)


def samples(made: Sampler, name: str) -> Tensor:
    """From the noise of the golden file's case."""
    field, x = made.field(made.condition(range(len(FACTS["labels"])))), made.begin(normal(name, SHAPE))
    with torch.inference_mode():
        return made.solver.integrate(field, x, made.grid, None, noise_of(name)).x


def noise_of(name: str) -> Callable[[int], Tensor]:
    return lambda step: normal(step_name(name, step), SHAPE)


@pytest.mark.parametrize("case", FACTS["cases"])
def test_samples_are_those_of_dits_own_code(case, model, golden):
    settings = FACTS["cases"][case]
    solver = DDIM(settings["eta"]) if settings["solver"] == "ddim" else DDPM(settings["variance"])
    guidance = NoGuidance() if settings["scale"] == 1 else ClassifierFree(scale=settings["scale"], guided_channels=3)
    ours = samples(sampler(model, solver, steps=settings["steps"], guidance=guidance), f"dit, {case}")
    theirs = golden[case]
    error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    size = 2 * theirs.std()  # the drawn network does not bring samples to the size of images
    levels = (to_pixels(ours / size).int() - to_pixels(theirs / size).int()).abs()
    changed = (levels > 0).float().mean().item()
    print(f"{case}: {error:.1e} of the largest, {changed:.2%} of grey levels by {levels.max()}")
    assert error < 1e-4
    assert levels.max() <= 1 and changed <= 1e-3
    assert 0 < to_pixels(theirs / size).float().std() < 128
