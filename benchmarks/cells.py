"""Cells that benchmarks run."""

from __future__ import annotations

from omegaconf import DictConfig

from ditexp.cli.composing import settled
from ditexp.run import job
from ditexp.run.cell import build
from ditexp.run.watch import Watch


def configuration(overrides: list[str]) -> DictConfig:
    """What `ditexp run` would make of these overrides, without a tracker."""
    with settled("config", [*overrides, "tracker=none"]) as (cfg, _):
        return cfg


def run_cell(cfg: DictConfig) -> None:
    """All of a cell: building, sampling in workers, scoring, and the files of its samples and its result."""
    with Watch() as watch:
        job.run(build(cfg), settings={}, command="", watch=watch)
