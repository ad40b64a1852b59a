"""A trained DiT, SiT, REPA, LightningDiT or JiT from its checkpoint: its architecture inferred, its weights hashed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ditexp.checkpoint.container import Container, read_checkpoint
from ditexp.checkpoint.weights import Weights, weights_of
from ditexp.core import Walk
from ditexp.files.content import found_once
from ditexp.files.reading import LINE, parse_json, unfit
from ditexp.model.architecture import NoDiT, infer_architecture
from ditexp.model.claim import contradiction
from ditexp.model.dit import DiT
from ditexp.model.families import SIT, STATISTICS, Family, chosen_family, fitting, renamed
from ditexp.model.layers import BlockOptions
from ditexp.model.loading import Misfit, load_network
from ditexp.model.prediction import Data, Prediction, Velocity
from ditexp.pixels import Pixels
from ditexp.terminal.notices import in_line, notice
from ditexp.values import Condition, required

CPU = torch.device("cpu")
SIZES = {(12, 384): "S", (12, 768): "B", (24, 1024): "L", (28, 1152): "XL", (32, 1280): "H"}


class PretrainedDiT:
    """The velocity of a published model, or of one that ditexp.train made, from its checkpoint.

    checkpoint: .safetensors, also in shards, or any file of torch.save; code in a pickle is never run.
    family: sit, dit, repa, lightningdit or jit; None to recognise it, which fails where files of families look alike.
    weights: which of the file's: model, ema, ema1, ...; None for the averaged ones, if there are any.
    num_heads: needed for widths of no published model. num_classes: needed only if the model was trained without label
    dropout; by default the last row of the label table is the null class. in_context_start: needed for a JiT of a width
    of no published one. noise_scale, path_type, prediction: as in training; None for the arguments in the file, or else
    the defaults of the family's script.
    class_names: from files of ditexp.train, else empty.
    Raises ValueError for a file that is missing, damaged, contains code, or is no such model.
    """

    def __init__(
        self,
        *,
        checkpoint: str,
        family: str | None = None,
        weights: str | None = None,
        num_heads: int | None = None,
        num_classes: int | None = None,
        in_context_start: int | None = None,
        noise_scale: float | None = None,
        path_type: str | None = None,
        prediction: str | None = None,
    ) -> None:
        name = f"model.checkpoint={checkpoint}"
        container = read_checkpoint(checkpoint, name=name)
        found = weights_of(container, which=weights)
        trained = training_of(container)
        tensors = renamed(found.tensors)
        self.family = (
            SIT if trained.by_ditexp and family in (None, "sit") else chosen_family(tensors, family, name=name)
        )
        try:
            architecture = infer_architecture(
                tensors,
                num_heads=trained.num_heads if num_heads is None else num_heads,
                num_classes=trained.num_classes if num_classes is None else num_classes,
                in_context_start=in_context_start,
                **self.family.fixed,
            )
            kept = {key: value for key, value in tensors.items() if not self.family.is_dropped(key)}
            self.network = load_network(DiT, architecture, kept)
            if self.network.rope:
                check_rotations(self.network, tensors)
        except (NoDiT, Misfit) as error:
            raise unfit(name, f"is not a {self.family.title}: {error}", "give another file") from None
        except ValueError as error:
            raise ValueError(in_line(f"{name}: {error}", LINE)) from None
        side, channels = architecture["input_size"], architecture["in_channels"]
        given = {"noise_scale": noise_scale, "path_type": path_type, "prediction": prediction}
        self.prediction = self.family.prediction(found.args, given, side=side, name=name)
        self.start, self.start_std = self.prediction.start, self.prediction.start_std
        self.sample_shape, self.size_multiple = (channels, side, side), architecture["patch_size"]
        scale = self.prediction.scale if isinstance(self.prediction, Data) else 1.0
        self.codec = Pixels((side, side, channels), scale) if channels in (1, 3) else None
        self.num_classes, self.has_null = self.network.num_classes, self.network.has_null
        self.class_names = trained.class_names
        self.identity = identity_of(architecture, weights, found.which, self.prediction, container.sha256)
        if not trained.by_ditexp:
            dropped = [key for key in tensors if key not in kept]
            notice(f"{name} is a {summary(self.family, self.network, found, dropped)}")
            if STATISTICS in tensors:
                notice(f"{name} has the statistics of REPA-E's latents: decode with vae.statistics={checkpoint}")
        if family and not trained.by_ditexp:
            self.check_claim(fitting(tensors), facts=f"{container.sha256} {found.which}", name=name)

    def check_claim(self, others: list[Family], *, facts: str, name: str) -> None:
        """Raise ValueError if the network shows that it is of another family than the user says.

        facts: what determines the network. It is evaluated once on this machine, for all processes.
        """
        usual = self.family.prediction({}, {}, side=self.network.input_size, name=name)
        if self.prediction != usual or others == [self.family]:
            return
        facts = f"claim {self.family.name} {self.network.head_width} {facts}"
        rest = [one for one in others if one is not self.family]
        if wrong := found_once(facts, lambda: contradiction(self.network, self.family, rest)):
            raise ValueError(f"{name} is not a {self.family.title}: {wrong}")

    def to(self, device: torch.device | str) -> PretrainedDiT:
        self.network.to(device)
        return self

    @property
    def blocks(self) -> nn.ModuleList:
        return self.network.blocks

    def __call__(self, x: Tensor, t: Tensor, condition: Condition, walk: Walk | None = None) -> Tensor:
        x_given, time = self.prediction.inputs(x, t)
        output = self.network(x_given, time, given(condition), walk)
        return self.prediction.velocity(output, x, t)

    @property
    def has_variance(self) -> bool:
        """Only DiT's. SiT's files may have the channels, but nothing trained them."""
        return self.family.variance is True

    def network_time(self, t: float) -> float:
        """The time that the network is given at t."""
        x, time = torch.zeros(1, *self.sample_shape, dtype=torch.float64), torch.tensor([t], dtype=torch.float64)
        (found,) = self.prediction.inputs(x, time)[1].tolist()
        return found

    def with_network(self, network: nn.Module) -> PretrainedDiT:
        assert isinstance(network, DiT)
        made = copy.copy(self)
        made.network = network
        return made

    def velocity_and_variance(self, x: Tensor, t: Tensor, condition: Condition, walk: Walk | None = None) -> Tensor:
        x_given, time = self.prediction.inputs(x, t)
        output = self.network.outputs(x_given, time, given(condition), walk)
        predicted, variance = output.chunk(2, dim=1)
        return torch.cat([self.prediction.velocity(predicted, x, t), variance], dim=1)

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


def given(condition: Condition) -> Tensor | None:
    """What the network is given of a condition: the embeddings (B, D) if it has any, or else the labels (B,)."""
    return condition.labels if condition.vector is None else condition.vector


def nearer_labels(first: Condition, second: Condition, fraction: Tensor) -> Tensor | None:
    """The labels (B,) of the nearer of two conditions, at `fraction` (B,) of the way; None if they have no labels."""
    if first.labels is None or second.labels is None:
        return None
    return torch.where(fraction < 0.5, first.labels, second.labels)


@dataclass(frozen=True)
class Training:
    """What ditexp.train writes beside weights. by_ditexp: whether it made the file."""

    by_ditexp: bool = False
    num_heads: int | None = None
    num_classes: int | None = None
    class_names: tuple[str, ...] = ()


def training_of(container: Container) -> Training:
    """What ditexp.train wrote, if it made the file. Raises ValueError if it is damaged."""
    state, metadata = container.state, container.metadata
    try:
        if "architecture" in metadata:
            network, names = parse_json(metadata["architecture"]), parse_json(metadata.get("class_names", "[]"))
        elif isinstance(state, Mapping) and {"settings", "data"} <= state.keys():
            network, names = parse_json(state["settings"])["network"], parse_json(state["data"])["class_names"]
        else:
            return Training()
        return Training(True, network.get("num_heads"), network.get("num_classes"), tuple(map(str, names)))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{container.name} has metadata that ditexp train did not write: remove it") from None


def check_rotations(network: DiT, weights: Mapping[str, Tensor]) -> None:
    """Raise NoDiT if a file has other tables of rotations than its network computes."""
    side = network.input_size // network.patch_size
    for key, expected in zip(("feat_rope.freqs_cos", "feat_rope.freqs_sin"), network.rotations(side, side, CPU)):
        table = weights.get(key, expected)
        # bfloat16 keeps cosines to 0.002; the entries of other rotations differ by 1.
        is_close = table.shape == expected.shape and table.is_floating_point() and (table - expected).abs().max() < 0.01
        if not is_close:
            raise NoDiT(f"{key} holds other rotations than those of its {side} x {side} patches")


def identity_of(
    architecture: dict[str, Any], given: str | None, which: str, prediction: Prediction, sha256: str
) -> dict[str, Any]:
    """The facts that determine a model. given: the setting `weights`; which: those that were chosen."""
    known = {key: asdict(value) if isinstance(value, BlockOptions) else value for key, value in architecture.items()}
    predicts = {} if prediction == Velocity() else prediction.identity
    is_averaged = given is None or which == "ema"
    return {"model": "dit", **known, "ema": is_averaged or (which != "model" and which), "sha256": sha256, **predicts}


def summary(family: Family, network: DiT, found: Weights, dropped: list[str]) -> str:
    """In words: what was found in a file, and what of it is used."""
    width, depth = network.pos_embed.shape[-1], len(network.blocks)
    size = SIZES.get((depth, width), f"{depth}x{width}")
    count = sum(value.numel() for value in network.parameters())
    others = ", ".join(one for one in found.available if one != found.which)
    used = [f"{key}={value}" for key, value in family.trained_with(found.args).items()]
    parts = [
        f"{family.title}-{size}/{network.patch_size} of {count / 1e6:.1f} M parameters",
        f"{found.which} weights" + (f" (not {others})" if others else ""),
        *([f"without {len(dropped)} tensors ({dropped[0]}, ...)"] if dropped else []),
        *([f"trained with {', '.join(used)}"] if used else []),
    ]
    return ", ".join(parts)
