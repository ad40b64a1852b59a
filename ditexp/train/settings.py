"""Checks of the plain values of a training's configuration."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from ditexp.checks import flag, number, whole
from ditexp.terminal.notices import notice
from ditexp.train.network import classes_of

if TYPE_CHECKING:
    from torch import nn

    from ditexp.train.data import TrainingData

# The smallest and the largest value of each whole number; larger ones would need memory, files or time without end.
WHOLE_NUMBERS = {
    "seed": (0, 10**13),  # beyond it, the seeds of single steps don't fit into 64 bits
    "steps": (1, 10**9),
    "batch_size": (1, 2**20),
    "save_every": (1, 10**9),
    "warmup": (0, 10**9),
    "workers": (0, 1024),
}


def mistakes_in(cfg: DictConfig) -> list[str]:
    """A line for each value that no training can have."""
    mistakes: list[str] = []

    @contextmanager
    def collected() -> Generator[None]:
        try:
            yield
        except ValueError as error:
            mistakes.append(str(error))

    for name, (minimum, maximum) in WHOLE_NUMBERS.items():
        with collected():
            whole(name, cfg[name], minimum=minimum, maximum=maximum)
    with collected():
        number("learning_rate", cfg.learning_rate, above=0)
    with collected():
        number("weight_decay", cfg.weight_decay, minimum=0)
    with collected():
        number("ema", cfg.ema, minimum=0, below=1)
    if cfg.clip_gradient is not None:
        with collected():
            number("clip_gradient", cfg.clip_gradient, minimum=0)
    with collected():
        flag("ema_warmup", cfg.ema_warmup)
    return mistakes


def notice_oddities(cfg: DictConfig, network: nn.Module, data: TrainingData) -> None:
    """Notices of settings that work, but are rarely meant."""
    if cfg.warmup >= cfg.steps > 1:
        notice(f"warmup={cfg.warmup}: the learning rate still rises when steps={cfg.steps} end")
    if cfg.batch_size > len(data):
        notice(f"batch_size={cfg.batch_size}: there are {len(data)} images, so that a batch holds some of them twice")
    if 0 < data.num_classes < classes_of(network):
        notice(
            f"the network has {classes_of(network)} classes, the data {data.num_classes}: labels from "
            f"{data.num_classes} on are never trained"
        )
