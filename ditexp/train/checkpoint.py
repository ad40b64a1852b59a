"""The files of a training: checkpoint.pt to continue from, and model.safetensors at its end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ditexp.checkpoint.container import read_state as read_torch_state
from ditexp.files.atomic import atomic
from ditexp.files.reading import lacking, parse_json, unfit
from ditexp.files.tensors import write_tensors
from ditexp.terminal.notices import notice

# Settings that change no weight: a training continues with other values of these.
NOT_TRAINED = ("folder", "device", "workers", "save_every")
REMEDY = "give another folder=..., or delete it"
NEEDED = {"settings": str, "step": int, "loss": float, "optimizer": dict, "model": dict, "ema": dict}


@dataclass
class Checkpoint:
    """A training's state on disk.

    config: the training's configuration. data: JSON-able facts about its images, see `data.facts_of`: their number
    (`images`), `class_names`, the `labels` that occur, and `identity`, empty if only their path identifies them.
    """

    path: Path
    config: dict[str, Any]
    data: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration as far as it decides the weights; the images' identity stands for their path."""
        kept = {key: value for key, value in self.config.items() if key not in NOT_TRAINED}
        kept["clip_gradient"] = kept["clip_gradient"] or None  # 0 also means no clipping
        if self.data["identity"]:
            kept["data"] = {key: value for key, value in kept["data"].items() if key != "path"}
        return kept

    def save(self, *, step: int, loss: float, network: nn.Module, average: nn.Module, optimizer: Optimizer) -> None:
        """Replace the file. The weights must be finite, or there would be nothing to continue from."""
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

    def resume(self, network: nn.Module, average: nn.Module, optimizer: Optimizer) -> tuple[int, float]:
        """Restore everything; returns the step to continue from and the loss so far.

        A training of a version without ema_warmup continues without it: `config` gets ema_warmup=false. Raises
        ValueError if the file is damaged, of other settings or images, or has weights that are not finite.
        """
        state = read_state(self.path)
        self.check_settings(state)
        self.check_data(state)
        check_weights(self.path, "model", state["model"], network)
        check_weights(self.path, "ema", state["ema"], average)
        network.load_state_dict(state["model"])
        average.load_state_dict(state["ema"])
        try:
            optimizer.load_state_dict(state["optimizer"])
            fits = all(
                part.shape in ((), parameter.shape)
                for parameter, parts in optimizer.state.items()
                for part in parts.values()
            )
        except Exception:  # torch checks little of it
            fits = False
        if not fits:
            raise unfit(self.path, "is not a checkpoint of this training: its optimizer is of another", REMEDY)
        return state["step"], state["loss"]

    def check_settings(self, state: dict[str, Any]) -> None:
        old = {key: value for key, value in state["settings"].items() if key not in NOT_TRAINED}
        if "ema_warmup" not in old:
            if self.config["ema_warmup"] and state["step"] < self.config["steps"]:
                notice(f"{self.path} began without ema_warmup, and continues without it")
            self.config["ema_warmup"] = old["ema_warmup"] = False
        new = self.settings
        if "data" not in state:  # it identified its images by their path
            new["data"] = self.config["data"]
        if others := sorted(key for key in old | new if old.get(key) != new.get(key)):
            raise ValueError(f"{self.path} was made with other settings ({', '.join(others)}): {REMEDY}")

    def check_data(self, state: dict[str, Any]) -> None:
        if "data" in state:
            if changes := list(different(state["data"], self.data)):
                raise ValueError(f"{self.path} was made of other images ({'; '.join(changes)}): {REMEDY}")
            return
        if not self.config["data"]["_target_"].endswith("ImageFolder"):
            return
        names = dict(enumerate(self.data["class_names"]))
        now = {names[label]: label for label in self.data["labels"] if label in names}
        then = {name: label for label, name in enumerate(sorted(now))}  # as earlier versions numbered folders
        if changed := [name for name in now if now[name] != then[name]]:
            name = changed[0]
            raise ValueError(
                f"{self.path} is of class folders that were numbered as text: {name} was label {then[name]} and is "
                f"{now[name]} now: {REMEDY}"
            )


def different(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """The differences between the facts of two data sets, in words."""
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


def read_state(path: Path) -> dict[str, Any]:
    """The content of a checkpoint. Raises ValueError if the file is damaged, or no checkpoint of a training."""
    kind = "a checkpoint of a training"
    state, _, _ = read_torch_state(path, kind, name=str(path), remedy=REMEDY)
    wrong = lacking(state, NEEDED) or (f"its step is {state['step']}" if state["step"] < 0 else None)
    facts = {key: facts_in(state[key]) for key in ("settings", "data") if key in state} if not wrong else {}
    if wrong or None in facts.values():
        raise unfit(path, f"is not {kind}: {wrong or 'its settings or data are no JSON'}", REMEDY)
    return state | facts


def facts_in(text: object) -> dict[str, Any] | None:
    with suppress(ValueError):
        facts = parse_json(text) if isinstance(text, str) else None
        return facts if isinstance(facts, dict) else None


def check_weights(path: Path, name: str, found: Mapping[str, Tensor], network: nn.Module) -> None:
    """Raise ValueError unless these are weights of the network, and finite."""
    wanted = {key: (value.shape, value.dtype) for key, value in network.state_dict().items()}
    if {key: (value.shape, value.dtype) for key, value in found.items() if isinstance(value, Tensor)} != wanted:
        raise unfit(path, f"is not a checkpoint of this network: its {name} has other weights", REMEDY)
    if lost := first_not_finite(found):
        raise unfit(f"{path}:", f"its training has failed, {lost} is not finite", REMEDY)


def write_model(
    path: Path, weights: Mapping[str, Tensor], *, checkpoint: Checkpoint, class_names: Sequence[str], loss: float
) -> None:
    """Write the weights, what made them, and the names of the classes; the same training gives the same bytes."""
    facts = {"architecture": checkpoint.config["network"], "training": checkpoint.settings, "data": checkpoint.data}
    if class_names:
        facts["class_names"] = list(class_names)
    metadata = {key: json.dumps(value, sort_keys=True) for key, value in facts.items()}
    tensors = {key: value.cpu().contiguous() for key, value in weights.items()}
    with atomic(path) as temporary:
        write_tensors(temporary, tensors, {**metadata, "loss": f"{loss:.5f}"})
