"""What a training leaves on disk: checkpoint.pt to go on from, and model.safetensors at its end."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ditexp.core import notice
from ditexp.files import atomic
from ditexp.tensors import write_tensors

# What changes none of the weights: a training goes on with other values of these.
NOT_TRAINED = ("folder", "device", "workers", "save_every")
REMEDY = "give another folder=..., or delete it"


@dataclass
class Checkpoint:
    """A training's state on disk.

    config: the training's configuration, as a plain dict. data: JSON-able facts of its images: how many `images`, the
    `class_names`, the `labels` that occur, and their `identity`, empty where only their path is known.
    """

    path: Path
    config: dict
    data: dict

    @property
    def settings(self) -> dict:
        """The configuration as far as it decides the weights; images are known by their identity, not their path."""
        kept = {key: value for key, value in self.config.items() if key not in NOT_TRAINED}
        kept["clip_gradient"] = kept["clip_gradient"] or None  # 0 is no clipping, too
        if self.data["identity"]:
            kept["data"] = {key: value for key, value in kept["data"].items() if key != "path"}
        return kept

    def save(self, *, step: int, loss: float, network: nn.Module, average: nn.Module, optimizer) -> None:
        """Replace the file. Weights that are not finite must not get here: there would be nothing to go on from."""
        state = {
            "settings": json.dumps(self.settings, sort_keys=True),
            "data": json.dumps(self.data, sort_keys=True),
            "step": step,
            "loss": loss,
            "optimizer": optimizer.state_dict(),
            "model": network.state_dict(),
            "ema": average.state_dict(),
        }
        with atomic(self.path) as temporary, open(temporary, "wb") as file:  # opened here: torch hides a full disk
            try:
                torch.save(state, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    def resume(self, network: nn.Module, average: nn.Module, optimizer) -> tuple[int, float]:
        """Restore everything; the step to go on from and the loss so far.

        Where the training began before averages were warmed up, it goes on so: `config` gets ema_warmup=false.
        Raises ValueError for a file that is damaged, or of other settings, other images or weights that are not finite.
        """
        state = read_state(self.path)
        self.check_settings(state)
        self.check_data(state)
        for name in ("model", "ema"):
            if lost := first_not_finite(state[name]):
                raise ValueError(f"{self.path}: its training has failed, {lost} is not finite: {REMEDY}")
        network.load_state_dict(state["model"])
        average.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        return state["step"], state["loss"]

    def check_settings(self, state: dict) -> None:
        old = {key: value for key, value in json.loads(state["settings"]).items() if key not in NOT_TRAINED}
        if "ema_warmup" not in old:
            if self.config["ema_warmup"] and state["step"] < self.config["steps"]:
                notice(f"{self.path} began without ema_warmup, and goes on so")
            self.config["ema_warmup"] = old["ema_warmup"] = False
        new = self.settings
        if "data" not in state:  # it knew its images by their path
            new["data"] = self.config["data"]
        if others := sorted(key for key in old | new if old.get(key) != new.get(key)):
            raise ValueError(f"{self.path} was made with other settings ({', '.join(others)}): {REMEDY}")

    def check_data(self, state: dict) -> None:
        if "data" in state:
            if changes := list(different(json.loads(state["data"]), self.data)):
                raise ValueError(f"{self.path} was made of other images ({'; '.join(changes)}): {REMEDY}")
            return
        if not self.config["data"]["_target_"].endswith("ImageFolder"):
            return
        names = dict(enumerate(self.data["class_names"]))
        now = {names[label]: label for label in self.data["labels"] if label in names}
        then = {name: label for label, name in enumerate(sorted(now))}  # folders were numbered in the order of text
        if changed := [name for name in now if now[name] != then[name]]:
            name = changed[0]
            raise ValueError(
                f"{self.path} is of class folders that were numbered as text: {name} was label {then[name]} and is "
                f"{now[name]} now: {REMEDY}"
            )


def different(old: dict, new: dict) -> Iterator[str]:
    """What has changed between the facts of two data sets, in words."""
    if old["images"] != new["images"]:
        yield f"{old['images']:,} then, {new['images']:,} now"
    if old["class_names"] != new["class_names"]:
        yield f"classes {shortened(old['class_names'])} then, {shortened(new['class_names'])} now"
    if old["identity"] != new["identity"] and old["images"] == new["images"]:
        yield "with other contents or names"


def shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "none"


def first_not_finite(weights: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with NaN or infinity in it."""
    return next((name for name, value in weights.items() if not value.isfinite().all()), None)


def read_state(path: Path) -> dict:
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        missing = [key for key in ("settings", "step", "loss", "optimizer", "model", "ema") if key not in state]
    except (pickle.UnpicklingError, RuntimeError, EOFError, TypeError):
        raise ValueError(f"{path} is damaged, or no checkpoint: {REMEDY}") from None
    if missing:
        raise ValueError(f"{path} is no checkpoint of a training: it has no {missing[0]}: {REMEDY}")
    return state


def write_model(
    path: Path, weights: Mapping[str, Tensor], *, checkpoint: Checkpoint, class_names: Sequence[str], loss: float
) -> None:
    """The weights with what made them, and the names of the network's classes; the same training, the same bytes."""
    facts = {"architecture": checkpoint.config["network"], "training": checkpoint.settings, "data": checkpoint.data}
    if class_names:
        facts["class_names"] = list(class_names)
    metadata = {key: json.dumps(value, sort_keys=True) for key, value in facts.items()}
    tensors = {key: value.cpu().contiguous() for key, value in weights.items()}
    with atomic(path) as temporary:
        write_tensors(temporary, tensors, {**metadata, "loss": f"{loss:.5f}"})
