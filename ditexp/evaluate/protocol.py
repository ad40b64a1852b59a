"""Which evaluator's protocol a configuration follows, and where it differs."""

from __future__ import annotations

from typing import TypedDict

from omegaconf import DictConfig

from ditexp.cli.nodes import resolve


class Protocol(TypedDict):
    """protocol: its name. changed: settings that differ from it. beyond: metrics that its own evaluator lacks."""

    protocol: str
    changed: list[str]
    beyond: list[str]


def protocol_of(cfg: DictConfig) -> Protocol:
    """The protocol of a configuration: its group `protocol`, compared with its groups `feature` and `metric`."""
    protocol, feature, metrics = (resolve(cfg.get(name)) or {} for name in ("protocol", "feature", "metric"))
    pairs = [("feature", protocol["feature"], feature)]
    pairs += [(f"metric.{name}", protocol["metric"].get(name, {}), metric) for name, metric in metrics.items()]
    changed = [
        f"{where}.{key}={chosen[key]}"
        for where, prescribed, chosen in pairs
        for key, value in prescribed.items()
        if key in chosen and chosen[key] != value
    ]
    beyond = [name for name in metrics if name not in protocol["offers"]]
    return {"protocol": protocol["name"], "changed": changed, "beyond": beyond}
