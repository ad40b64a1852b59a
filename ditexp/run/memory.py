"""The settings of a cell that its memory depends on, in the order in which to lower them: see `cli.shortage`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def of_sampling(config: Mapping[str, Any], device: str) -> dict[str, Any]:
    """config: the cell's, resolved. device: the type of the device that samples, cpu or cuda."""
    found = {name: config[name] for name in ("batch_size", "precision")}
    if device == "cpu":
        found["devices"] = config["devices"]
    vae = config["vae"] or {}
    if "batch_size" in vae:
        found["vae.batch_size"] = vae["batch_size"]
    return {**found, "compile": config["compile"]}


def of_scoring(config: Mapping[str, Any]) -> dict[str, Any]:
    """config: the cell's, resolved."""
    feature = config["feature"] or {}
    return {f"feature.{name}": size for name, size in feature.items() if name == "batch_size"}
