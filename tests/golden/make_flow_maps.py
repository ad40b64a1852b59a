"""What the original networks and samplers of two times make of drawn weights, on the CPU in float32.

    python -m tests.golden.make_flow_maps meanflow|imf|pmf /path/to/the/original [commit]

The commit is needed only where the folder is no checkout; iMF's and pMF's are of the branch torch.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.golden.files import FOLDER, write_golden
from tests.golden.noise import normal
from tests.golden.original import stand_in
from tests.golden.weights import draw, drawn_like, noise

SIT = {"patch_size": 2, "in_channels": 4, "depth": 2, "num_classes": 10, "use_cfg": True, "qk_norm": False}
TOKENS = {"num_classes": 10, "aux_head_depth": 1, "eval_mode": True}
CASES: dict[str, dict[str, dict[str, Any]]] = {
    "meanflow": {
        "narrow": {**SIT, "input_size": 8, "hidden_size": 48, "num_heads": 4},
        "wide": {**SIT, "input_size": 6, "hidden_size": 384, "num_heads": 6, "depth": 1},
    },
    "imf": {
        "narrow": {**TOKENS, "patch_size": 8, "hidden_size": 48, "num_heads": 3, "depth": 3},
        "wide": {**TOKENS, "patch_size": 16, "hidden_size": 128, "num_heads": 2, "depth": 2},
    },
    "pmf": {
        "narrow": {**TOKENS, "input_size": 16, "patch_size": 4, "hidden_size": 48, "num_heads": 3, "depth": 3},
        "wide": {**TOKENS, "input_size": 64, "patch_size": 32, "hidden_size": 128, "num_heads": 4, "depth": 2},
    },
}
# From t to r in their time, from noise at 1 to data at 0; the last but one is where pMF's t is below 0.05.
TIMES = [(1.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.5, 0.25), (0.25, 0.25), (0.03125, 0.0), (0.5, 0.0)]
LABELS = [1, 10, 2, 10, 3, 9, 4]  # 10 is the null class
GUIDANCE = [(8.0, 0.4, 0.65), (1.0, 0.0, 1.0), (2.5, 0.1, 0.8)]  # omega, and the interval in their time
NOISE_SCALE = 2.0  # of pMF-B/32, whose place the small network takes
SAMPLES: dict[str, dict[str, dict[str, Any]]] = {
    "meanflow": {"one_step": {"num_steps": 1}, "two_steps": {"num_steps": 2}, "four_steps": {"num_steps": 4}},
    "imf": {
        "one_step": {"num_steps": 1, "omega": 8.0, "t_min": 0.4, "t_max": 0.65},
        "two_steps": {"num_steps": 2, "omega": 4.0, "t_min": 0.36, "t_max": 0.64},
    },
    "pmf": {
        "one_step": {"num_steps": 1, "omega": 7.5, "t_min": 0.1, "t_max": 0.8},
        "two_steps": {"num_steps": 2, "omega": 6.5, "t_min": 0.1, "t_max": 0.7},
    },
}
SAMPLED = [3, 7, 9]  # labels


def original(family: str, options: dict[str, Any]) -> nn.Module:
    if family == "meanflow":
        width = options["hidden_size"]
        return importlib.import_module("sit").SiT(decoder_hidden_size=width, fused_attn=False, **options)
    module = importlib.import_module(f"models.{family}DiT")
    return vars(module)[f"{family}DiT"](**options)


def with_drawn_weights(network: nn.Module) -> nn.Module:
    state = drawn_like(network.state_dict())
    if "rope_freqs" in state:  # pMF, which trains its positions
        state["pos_embed"] = draw("pos_embed", state["pos_embed"].shape)
    network.load_state_dict(state)
    return network.eval()


def averages(family: str, network: nn.Module, x: Tensor) -> Tensor:
    """The average velocities (guidance, B, C, H, W) at the times and labels above."""
    t, r = torch.tensor(TIMES).unbind(1)
    labels = torch.tensor(LABELS)
    if family == "meanflow":
        return network(x, r, t, labels)[None]
    numbers = ([torch.full_like(t, value) for value in guidance] for guidance in GUIDANCE)
    return torch.stack([network(x, t, t - r, *given, labels)[0] for given in numbers])


def write_forward(family: str, repository: Path, commit: str) -> None:
    cases, outputs = {}, {}
    for name, options in CASES[family].items():
        network = with_drawn_weights(original(family, options))
        side, channels = options.get("input_size", 32), 3 if family == "pmf" else 4
        every = {64: 7, 32: 5, 16: 3}.get(side, 1)  # a pixel of so many is kept, in rows and columns
        x = noise(name, (len(LABELS), channels, side, side))
        outputs[name] = averages(family, network, x)[..., ::every, ::every].contiguous()
        shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
        cases[name] = {"shapes": shapes, "size": [channels, side, side], "every": every}
    facts = {"cases": cases, "times": TIMES, "labels": LABELS, "guidance": [] if family == "meanflow" else GUIDANCE}
    write_golden(FOLDER / family / "forward.npz", repository, facts, outputs, commit=commit)


class Fed:
    """In place of the original's generators: the noise of a case."""

    def __init__(self, case: str) -> None:
        self.case = case

    def randn(self, size: tuple[int, ...]) -> Tensor:
        return normal(self.case, size)


def sampled(family: str, case: str, network: nn.Module) -> Tensor:
    """By the original sampler."""
    settings, labels, name = SAMPLES[family][case], torch.tensor(SAMPLED), f"{family}, {case}"
    if family == "meanflow":
        x = normal(name, (len(SAMPLED), 4, 8, 8))
        return importlib.import_module("meanflow_sampler").meanflow_sampler(network, x, labels, **settings)
    module, kind = importlib.import_module(family), {"imf": "iMeanFlow", "pmf": "pixelMeanFlow"}[family]
    size = {"imf": "imfDiT_B_2", "pmf": "pmfDiT_B_32"}[family]
    networks = importlib.import_module(f"models.{family}DiT")
    vars(networks)[size] = lambda **_: network
    wrapped = vars(module)[kind](size, **({"img_size": 16} if family == "pmf" else {}), num_classes=10)
    return wrapped.generate(len(SAMPLED), Fed(name), labels=labels, **settings)


def write_samples(family: str, repository: Path, commit: str) -> None:
    network, arrays = with_drawn_weights(original(family, CASES[family]["narrow"])), {}
    for case in SAMPLES[family]:
        arrays[case] = x = sampled(family, case, network)
        images = ((x if family == "pmf" else stand_in(x)) + 1) / 2
        levels = torch.clamp(255.0 * images, 0, 255)  # and without rounding, to uint8, in MeanFlow's port
        arrays[f"{case}_images"] = (levels if family == "meanflow" else levels.round()).to(torch.uint8)
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    scale = {"noise_scale": NOISE_SCALE} if family == "pmf" else {}
    cases = {case: {**settings, **scale} for case, settings in SAMPLES[family].items()}
    facts = {"shapes": shapes, "labels": SAMPLED, "cases": cases}
    write_golden(FOLDER / family / "samples.npz", repository, facts, arrays, commit=commit)


def main() -> None:
    family, repository, commit = sys.argv[1], Path(sys.argv[2]), "".join(sys.argv[3:])
    sys.path.insert(0, str(repository))
    torch.set_grad_enabled(False)
    write_forward(family, repository, commit)
    write_samples(family, repository, commit)


if __name__ == "__main__":
    main()
