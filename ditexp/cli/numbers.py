"""Whole numbers among a command's settings, each within what memory, files and time can hold."""

from __future__ import annotations

from omegaconf import DictConfig

from ditexp.checks import LARGEST, whole

MAXIMUM = {
    "num_samples": 10**8,
    "batch_size": 2**20,
    "forwards": 10**5,
    "resamples": 10**5,
    "trajectories": 10**5,
    "candidates": 1000,
    "workers": 1024,
    "steps": 10**9,
    "save_every": 10**9,
    "warmup": 10**9,
}


def not_whole_numbers(cfg: DictConfig, **minimum: int) -> list[str]:
    """A mistake for each key, given with its minimum, whose value is not a whole number from there to its maximum."""
    mistakes = []
    for key, smallest in minimum.items():
        try:
            whole(key, cfg[key], minimum=smallest, maximum=MAXIMUM.get(key, LARGEST))
        except ValueError as error:
            mistakes.append(str(error))
    return mistakes
