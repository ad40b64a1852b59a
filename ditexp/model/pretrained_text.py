"""A trained text-conditional DiT from its folder, with a text encoder of transformers."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ditexp.checkpoint.container import read_checkpoint
from ditexp.checkpoint.weights import weights_of
from ditexp.core import Walk
from ditexp.model.architecture import NoDiT, infer_architecture
from ditexp.model.contents import training_of
from ditexp.model.labelled import nearer_labels
from ditexp.model.loading import Misfit, load_network
from ditexp.model.text_dit import TextDiT
from ditexp.model.text_encoder import ENCODER, TOKENIZER, TextEncoder
from ditexp.pixels import Pixels
from ditexp.values import Condition, required

WEIGHTS = "model.safetensors"
# Arguments of TextDiT that its weights tell.
ARGUMENTS = ("input_size", "patch_size", "in_channels", "hidden_size", "depth", "num_heads", "mlp_ratio", "learn_sigma")


class PretrainedTextDiT:
    """The velocity of a TextDiT that ditexp.train made, conditioned on prompts.

    folder: with model.safetensors, tokenizer/ and text_encoder/. tokenizer, text_encoder: other folders, or names on
    the Hugging Face hub; None: those in the folder. max_length: tokens per prompt; None: the limit of the tokenizer.
    Each prompt is encoded once and alone, so that its states do not depend on what else is sampled. The empty prompt is
    the null condition. Raises ValueError for files that are missing, damaged, or do not fit one another.
    """

    has_null, num_classes, start, start_std = True, 0, 0.0, 1.0
    class_names: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        folder: str,
        tokenizer: str | None = None,
        text_encoder: str | None = None,
        max_length: int | None = None,
    ) -> None:
        name = f"model.folder={folder}"
        container = read_checkpoint(Path(folder) / WEIGHTS, name=f"{name}/{WEIGHTS}")
        weights, trained = weights_of(container, kind="a text DiT").tensors, training_of(container)
        try:
            architecture = infer_architecture(weights, num_heads=trained.num_heads, num_classes=0)
            plain = {key: architecture[key] for key in ARGUMENTS}
            self.encoder = TextEncoder.load(
                tokenizer or f"{folder}/{TOKENIZER}", text_encoder or f"{folder}/{ENCODER}", max_length
            )
            self.network = load_network(TextDiT, {**plain, "text_width": self.encoder.width}, weights)
        except (NoDiT, Misfit) as error:
            raise ValueError(f"{name} is no text DiT for this encoder: {error}") from None
        self.encoder.eval().requires_grad_(False)
        channels, side = plain["in_channels"], plain["input_size"]
        self.sample_shape, self.codec = (channels, side, side), Pixels((side, side, channels))
        self.size_multiple = plain["patch_size"]
        self.encoded: dict[str, tuple[Tensor, Tensor]] = {}
        self.identity = {
            "model": "text_dit",
            **plain,
            "sha256": container.sha256,
            "text_encoder": self.encoder.identity,
            "max_length": self.encoder.max_length,
        }

    def to(self, device: torch.device | str) -> PretrainedTextDiT:
        self.network.to(device)
        self.encoder.to(device)
        return self

    def encode(self, prompts: Sequence[str]) -> Condition:
        """States (B, L, D) and mask (B, L) of B prompts, on the CPU."""
        for prompt in dict.fromkeys(prompts):
            if prompt not in self.encoded:
                with torch.inference_mode():
                    states, mask = self.encoder([prompt])
                    self.encoded[prompt] = states[0].cpu(), mask[0].cpu()
        states, masks = zip(*(self.encoded[prompt] for prompt in prompts))
        return Condition(states=torch.stack(states), mask=torch.stack(masks))

    def notice_truncation(self, prompts: Iterable[str]) -> None:
        """Print a notice for each prompt that has more tokens than the model reads."""
        self.encoder.notice_truncation(prompts)

    @property
    def blocks(self) -> nn.ModuleList:
        return self.network.blocks

    def __call__(self, x: Tensor, t: Tensor, condition: Condition, walk: Walk | None = None) -> Tensor:
        return self.network.velocity(x, t, required(condition.states), required(condition.mask), walk)

    def network_time(self, t: float) -> float:
        return t

    def with_network(self, network: nn.Module) -> PretrainedTextDiT:
        assert isinstance(network, TextDiT)
        made = copy.copy(self)
        made.network = network
        return made

    def null(self, condition: Condition) -> Condition:
        states = required(condition.states)
        return replace(self.encode([""] * len(states)).to(states.device), labels=condition.labels)

    def between(self, first: Condition, second: Condition, fraction: Tensor) -> Condition:
        """States on the straight line between those of two prompts; the padding of either counts as 0."""
        masks = [required(condition.mask) for condition in (first, second)]
        start, end = (
            required(condition.states) * mask.unsqueeze(-1) for condition, mask in zip((first, second), masks)
        )
        mask = (masks[0] & (fraction[:, None] < 1)) | (masks[1] & (fraction[:, None] > 0))
        states = torch.lerp(start, end, fraction[:, None, None])
        return Condition(nearer_labels(first, second, fraction), states=states, mask=mask)
