"""Cards of what a run needs beside a model: VAEs, statistics, references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ditexp.checkpoint.container import Container
from ditexp.inspect.facts import Card, file_facts
from ditexp.reference.npz import NpzReference
from ditexp.reference.statistics import StatisticsFile
from ditexp.vae.networks import load
from ditexp.vae.statistics import read_statistics, statistics_in


def card_of_vae(path: Path) -> Card:
    loaded = load(path, str(path))
    parameters = sum(value.numel() for value in loaded.network.parameters())
    facts: dict[str, Any] = {
        "class": loaded.identity["network"],
        "weights": loaded.identity["weights"],
        "parameters": parameters,
        "latents": {"channels": loaded.channels, "image side / latent side": loaded.factor},
        "scaling": {"factor": loaded.latents["scaling_factor"], "shift": loaded.latents["shift_factor"] or 0},
    }
    return Card(path, "a VAE", facts, (f"ditexp run vae=folder vae.path={path} model.checkpoint=...",))


def card_of_statistics(path: Path, container: Container) -> Card | None:
    """The statistics of latents, or a reference that ditexp.reference prepared; None for other files."""
    if {"reference", "fingerprint", "image_shape"} <= container.metadata.keys():
        reference = StatisticsFile(path)
        facts = {"images": len(reference), "image shape": list(reference.image_shape), "of": reference.name}
        command = f"ditexp run reference=statistics reference.path={path}"
        return Card(path, "a reference that ditexp reference prepared", {**file_facts(container), **facts}, (command,))
    if statistics_in(container.state) is None:
        return None
    mean, std, _ = read_statistics(path, str(path))
    facts = {
        "of": "each channel" if mean.shape[1:] == (1, 1) else "each element",
        "shape": list(mean.shape),
        "mean": {"smallest": f"{mean.min():.4g}", "largest": f"{mean.max():.4g}"},
        "std": {"smallest": f"{std.min():.4g}", "largest": f"{std.max():.4g}"},
    }
    command = f"ditexp run vae.statistics={path} ..."
    return Card(path, "statistics of a VAE's latents", {**file_facts(container), **facts}, (command,))


def card_of_npz(path: Path) -> Card:
    """Images in arr_0, statistics of features, or both."""
    reference = NpzReference(path)
    facts: dict[str, Any] = {"size": path.stat().st_size}
    if reference.images:
        facts |= {"images": len(reference), "image shape": list(reference.images.image_shape)}
    for output, gaussian in reference.gaussians.items():
        facts[f"statistics of {output} features"] = f"{len(gaussian.mean):,} wide"
    holds = " and ".join(["images"] * bool(reference.images) + ["statistics"] * bool(reference.gaussians))
    commands = [f"ditexp run reference=npz reference.path={path}"]
    if reference.images:
        commands.append(f"ditexp evaluate images={path} reference=...")
    return Card(path, f"an npz file with {holds}", facts, tuple(commands))
