"""The scale, the shift and the statistics that lead from a model's samples to a VAE's latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ditexp.checkpoint.container import read_checkpoint
from ditexp.checkpoint.weights import aligned
from ditexp.checks import number
from ditexp.files.reading import unfit

REMEDY = "give one with the mean and std of the latents"
MAX_DEPTH = 3


@dataclass(frozen=True)
class Normalization:
    """A sample x of the model is the latent z = x std / scale + mean of the VAE.

    mean, std: (C, 1, 1) or (C, H, W) float32; std is positive. For a VAE with a shift, mean is that.
    """

    scale: float
    mean: Tensor
    std: Tensor

    def to(self, device: torch.device) -> Normalization:
        return self if self.mean.device == device else replace(self, mean=self.mean.to(device), std=self.std.to(device))

    def denormalize(self, x: Tensor) -> Tensor:
        return x * self.std / self.scale + self.mean

    def normalize(self, latents: Tensor) -> Tensor:
        return (latents - self.mean) * self.scale / self.std


def per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)


def given_statistics(settings: Mapping[str, Sequence[float]]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C, 1, 1) from settings. Raises ValueError for other numbers than those."""
    names = sorted(settings)
    lengths = {len(values) for values in settings.values() if isinstance(values, Sequence)}
    if names != ["mean", "std"] or len(lengths) != 1 or isinstance(settings["mean"], str):
        raise ValueError(
            f"vae.statistics has {', '.join(names) or 'nothing'}: give a file, or mean and std, each with a number for "
            "each channel"
        )
    for value in settings["mean"]:
        number("vae.statistics.mean", value)
    for value in settings["std"]:
        number("vae.statistics.std", value, above=0)
    return per_channel(settings["mean"]), per_channel(settings["std"])


def read_statistics(path: Path, name: str) -> tuple[Tensor, Tensor, str]:
    """Mean and standard deviation in a file, (C, 1, 1) or (C, H, W), and the file's sha256.

    It may hold mean and std (LightningDiT); mean and var, whose std is sqrt(var + 1e-5) (RAE); latents_bias and
    latents_scale, its inverse (REPA-E); or the running statistics of a layer `bn`, as REPA-E's checkpoints do, whose
    std is sqrt(var). Raises ValueError for any other file.
    """
    container = read_checkpoint(path, name=name)
    found = statistics_in(container.state)
    if found is None:
        raise unfit(name, "has no statistics", REMEDY)
    mean, std = (spatial(value, name, key) for value, key in zip(found, ("mean", "std")))
    if mean.shape != std.shape and (len(mean) != len(std) or (1, 1) not in (mean.shape[1:], std.shape[1:])):
        raise unfit(name, f"has a mean of {tuple(mean.shape)} and a std of {tuple(std.shape)}", REMEDY)
    if not bool((std > 0).all()):
        raise unfit(name, "has a std that is not above 0", REMEDY)
    container.require_unchanged()
    return mean, std, container.sha256


def statistics_in(state: Any, depth: int = 0) -> tuple[Any, Any] | None:
    """Mean and standard deviation in a dictionary or, below it, in that of averaged weights first."""
    if not isinstance(state, Mapping) or depth > MAX_DEPTH:
        return None
    for mean, spread, std_of in KINDS:
        if mean in state and spread in state:
            values = state[mean], state[spread]
            return (values[0], std_of(values[1])) if all(isinstance(value, Tensor) for value in values) else None
    nested = [state[key] for key in sorted(state, key=lambda key: (key != "ema", str(key)))]
    return next(filter(None, (statistics_in(value, depth + 1) for value in nested)), None)


KINDS = (
    ("mean", "std", lambda std: std),
    ("mean", "var", lambda var: (var + 1e-5).sqrt()),
    ("latents_bias", "latents_scale", lambda scale: 1 / scale),
    ("bn.running_mean", "bn.running_var", torch.sqrt),
)


def spatial(value: Tensor, name: str, key: str) -> Tensor:
    """(C,), (1, C, 1, 1), (C, 1, 1), (C, H, W) or (1, C, H, W) -> (C, 1, 1) or (C, H, W) in float32."""
    shaped = value.view(-1, 1, 1) if value.dim() == 1 else value[0] if value.dim() == 4 and len(value) == 1 else value
    if shaped.dim() != 3 or not shaped.is_floating_point() or not bool(shaped.isfinite().all()):
        kind = f"{tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
        raise unfit(name, f"has a {key} of {kind}, not of finite numbers (C,) or (C, H, W)", REMEDY)
    return aligned(shaped).float()
