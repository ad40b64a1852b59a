"""A trained DiT / SiT from its checkpoint: read safely, its architecture inferred, its weights hashed."""

from __future__ import annotations

import inspect
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ditexp.files.content import unchanged
from ditexp.files.state_dict import misfit, state_dict_of
from ditexp.model.dit import DiT
from ditexp.pixels import Pixels
from ditexp.values import Condition, required

PATCHES = "x_embedder.proj.weight"  # every DiT has it
METADATA = (("architecture", "{}"), ("class_names", "[]"))  # in files of ditexp.train; with the defaults for others
HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}  # DiT-S, B, L, XL: no shape of a weight gives the number of heads


class PretrainedDiT:
    """The velocity of a checkpoint with the official DiT / SiT keys. All but the number of heads is inferred from it.

    checkpoint: .safetensors, or .pt / .pth with a state dict, which may be wrapped in dictionaries and prefixes; code
    in a pickle is never run. Weights of other precisions are converted to float32.
    ema: use the averaged weights if the file has both. num_heads: needed for widths other than those of DiT-S to XL.
    num_classes: needed only if the model was trained without label dropout; by default the last row of the label table
    is the null class, as in all released DiTs. class_names: from files of ditexp.train, else empty.
    Raises ValueError for a file that is missing, truncated, contains code, or is not a DiT.
    """

    start, start_std = 0.0, 1.0

    def __init__(
        self,
        *,
        checkpoint: str,
        ema: bool = True,
        num_heads: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        weights, trained, self.class_names, sha256 = read_checkpoint(Path(checkpoint), ema=ema)
        architecture = infer_architecture(
            weights,
            checkpoint=checkpoint,
            num_heads=num_heads or trained.get("num_heads"),
            num_classes=num_classes if num_classes is not None else trained.get("num_classes"),
        )
        with torch.device("meta"), SkipInitialization():
            self.network = DiT(**architecture)
        if wrong := misfit(weights, self.network.state_dict()):
            raise ValueError(f"model.checkpoint={checkpoint} is not a DiT: {wrong}")
        self.network.load_state_dict(weights, assign=True)
        self.network.eval().requires_grad_(False)
        side, self.size_multiple = architecture["input_size"], architecture["patch_size"]
        channels = architecture["in_channels"]
        self.sample_shape = (channels, side, side)
        self.codec = Pixels((side, side, channels)) if channels in (1, 3) else None
        self.num_classes, self.has_null = self.network.num_classes, self.network.has_null
        self.identity = {"model": "dit", **architecture, "ema": ema, "sha256": sha256}

    def to(self, device: torch.device | str) -> PretrainedDiT:
        self.network.to(device)
        return self

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return self.network(x, t, condition.labels if condition.vector is None else condition.vector)

    def null(self, condition: Condition) -> Condition:
        labels = torch.full_like(required(condition.labels), self.num_classes)
        return Condition(labels, None if condition.vector is None else self.embed(labels))

    def between(self, first: Condition, second: Condition, fraction: Tensor) -> Condition:
        """Label embeddings (B, D) on the straight line between two; the labels are those of the nearer end."""
        start, end = (self.embed(required(condition.labels)) for condition in (first, second))
        return Condition(nearer_labels(first, second, fraction), torch.lerp(start, end, fraction[:, None]))

    def embed(self, labels: Tensor) -> Tensor:
        """The rows (B, D) of the label table, on the device of the labels, wherever the table is."""
        table = self.network.y_embedder.embedding_table.weight
        return table[labels.to(table.device)].to(labels.device)


def nearer_labels(first: Condition, second: Condition, fraction: Tensor) -> Tensor | None:
    """The labels (B,) of the nearer of two conditions, at `fraction` (B,) of the way; None if they have no labels."""
    if first.labels is None or second.labels is None:
        return None
    return torch.where(fraction < 0.5, first.labels, second.labels)


class SkipInitialization(TorchFunctionMode):
    """Leaves new parameters uninitialized, since a checkpoint is about to replace them."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if inspect.isfunction(func) and func.__module__ == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def read_checkpoint(path: Path, *, ema: bool) -> tuple[dict[str, Tensor], dict, tuple[str, ...], str]:
    """The state dict of a file, the architecture and class names that ditexp.train wrote, and the file's sha256."""
    if not path.is_file():
        raise ValueError(f"model.checkpoint={path} is not a file")
    with unchanged(path) as sha256:
        return *read_weights(path, ema=ema), sha256


def read_weights(path: Path, *, ema: bool) -> tuple[dict[str, Tensor], dict, tuple[str, ...]]:
    """What `read_checkpoint` returns, without the hash. float32 is memory-mapped if the format allows it."""
    state, metadata = read_state(path)
    weights = state_dict_of(state, name=f"model.checkpoint={path}", kind="a DiT", anchor=PATCHES, ema=ema)
    if not metadata and isinstance(state.get("data"), str):
        return weights, {}, names_in(state)
    try:
        architecture, names = (json.loads(metadata.get(*key)) for key in METADATA)
    except ValueError:
        raise ValueError(f"model.checkpoint={path} has metadata that ditexp.train did not write: remove it") from None
    return weights, architecture, tuple(names)


def read_state(path: Path) -> tuple[dict, dict]:
    """The contents of a file, and its metadata."""
    name = f"model.checkpoint={path}"
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        is_mappable = zipfile.is_zipfile(path)  # since torch 1.6
        with warnings.catch_warnings(action="ignore"):  # about sparse tensors, which are refused
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_mappable), {}
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower():
            raise ValueError(f"{name} contains pickled code, which is never run: save only its state dict") from None
        raise ValueError(f"{name} is truncated or damaged ({type(error).__name__})") from None
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{name} is truncated or damaged ({' '.join(str(error).split())[:120]})") from None


def names_in(state: dict) -> tuple[str, ...]:
    """The class names in a checkpoint of ditexp.train."""
    return tuple(json.loads(state["data"])["class_names"]) if {"settings", "data"} <= state.keys() else ()


def infer_architecture(
    weights: dict[str, Tensor], *, checkpoint: str, num_heads: int | None, num_classes: int | None
) -> dict:
    """The arguments of DiT that fit these weights."""
    try:
        hidden_size, in_channels, patch_size, _ = weights[PATCHES].shape
        tokens = weights["pos_embed"].shape[1]
        out_channels = weights["final_layer.linear.weight"].shape[0] // patch_size**2
        mlp_ratio = weights["blocks.0.mlp.fc1.weight"].shape[0] / hidden_size
        blocks = {int(key.split(".")[1]) for key in weights if key.startswith("blocks.")}
    except KeyError as missing:
        raise ValueError(
            f"model.checkpoint={checkpoint} is not a DiT: it has no {missing} (it has {', '.join(list(weights)[:3])})"
        ) from None
    except (ValueError, IndexError, ZeroDivisionError):
        raise ValueError(f"model.checkpoint={checkpoint} is not a DiT: its weights have other shapes") from None
    heads = num_heads or HEADS.get(hidden_size)
    if heads is None:
        raise ValueError(f"model.num_heads is needed: no DiT size has the width {hidden_size} of {checkpoint}")
    table = weights.get("y_embedder.embedding_table.weight", ())
    classes = num_classes if num_classes is not None else max(0, len(table) - 1)
    if len(table) not in (classes, classes + 1):
        raise ValueError(f"model.num_classes={classes}, but {checkpoint} has {len(table)} label embeddings")
    return {
        "input_size": int(tokens**0.5) * patch_size,
        "patch_size": patch_size,
        "in_channels": in_channels,
        "hidden_size": hidden_size,
        "depth": len(blocks),
        "num_heads": heads,
        "num_classes": classes,
        "has_null": len(table) > classes,
        "mlp_ratio": mlp_ratio,
        "learn_sigma": out_channels == 2 * in_channels,
    }
