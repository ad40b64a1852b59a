"""Published models against their original code: golden outputs of networks with drawn weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ditexp.model.pretrained import PretrainedDiT
from tests.golden.files import FOLDER, read_golden
from tests.golden.published import published_file
from tests.golden.weights import noise

GOLDEN = {
    family: read_golden(FOLDER / family / "forward.npz") for family in ("sit", "dit", "repa", "lightningdit", "jit")
}
CASES = [(family, name) for family, (facts, _) in GOLDEN.items() for name in facts["cases"]]
GIVEN = {"narrow": {"num_heads": 4}, "four channels": {"num_heads": 4}, "without rope": {"num_heads": 4}}


def case_of(family: str, name: str) -> dict[str, Any]:
    return GOLDEN[family][0]["cases"][name]


def loaded(family: str, name: str, folder: Path, **settings) -> PretrainedDiT:
    case = case_of(family, name)
    options = case["options"]
    given = {} if family == "jit" else GIVEN.get(name, {})
    args = {"path_type": "Linear", "prediction": "velocity"} if family == "sit" else {}
    if family == "jit":
        given = {"in_context_start": options["in_context_start"]}
        args = {"noise_scale": options.get("noise_scale", 1.0), "t_eps": 0.05}
    file = published_file(folder / "checkpoint.pt", family, case["shapes"], **args)
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
def test_outputs_are_those_of_the_original_network(family, name, tmp_path):
    model, (x, time, labels) = loaded(family, name, tmp_path), inputs(family, name)
    expected, every = GOLDEN[family][1][f"{name}: output"], case_of(family, name)["every"]
    found = model.network.outputs(x, time, labels)[:, : expected.shape[1], ::every, ::every]
    assert expected.std() > 0.1
    print(f"\n{family} {name}: {relative_error(found, expected):.1e}")
    for row, its in zip(found, expected):
        assert relative_error(row, its) < 1e-5
