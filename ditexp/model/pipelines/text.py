"""A text-to-image pipeline of diffusers as a model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ditexp.checks import choice, number, whole
from ditexp.model.labelled import nearer_labels
from ditexp.model.pipelines.kind import PipelineKind
from ditexp.model.pipelines.loading import load
from ditexp.terminal.notices import notice
from ditexp.values import Condition

RGB = 3  # channels of the images
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TextPipeline:
    """The velocity of a pipeline's network on the latents of its VAE, for prompts that its text encoders encode.

    In diffusers time runs from data to noise: its sigma is 1 - t, and most of its velocities, noise - data, are the
    negative of ours. The scheduler is not used; `schedule` takes its place, and schedule=pipeline has its times.

    path: a folder that save_pretrained wrote, with weights in safetensors, or a name on the Hugging Face hub.
    size: the side of the square images, in pixels; None: the pipeline's own.
    dtype: of the weights (in float16 some of T5's stay float32, or they would overflow).
    max_length: the tokens of a prompt that the encoder reads; None: the pipeline's own. CLIP reads 77.
    t5: false omits T5, the largest part of Stable Diffusion 3, and uses zeros for its states, as diffusers does.
    guidance: the guidance that is an input of the network, as FLUX's; None: the pipeline's own.
    negative_prompt: the prompt of the null condition; None: the empty one.
    Each prompt is encoded once and alone, so that it does not depend on others.
    Raises ValueError for a pipeline that is missing or damaged, and for settings that it does not have.
    """

    has_null, num_classes, start, start_std = True, 0, 0.0, 1.0
    class_names: tuple[str, ...] = ()

    def __init__(
        self,
        kind: PipelineKind,
        *,
        path: str,
        size: int | None = None,
        dtype: str = "bfloat16",
        max_length: int | None = None,
        t5: bool = True,
        guidance: float | None = None,
        negative_prompt: str | None = None,
    ) -> None:
        choice("model.dtype", dtype, DTYPES)
        self.max_length = kind.max_length if max_length is None else max_length
        whole("model.max_length", self.max_length, minimum=1, maximum=kind.most_tokens)
        if not t5 and not kind.t5:
            raise ValueError(f"model.t5=false: {kind.title} cannot do without its text encoders: leave it out")
        self.kind, self.negative_prompt = kind, "" if negative_prompt is None else str(negative_prompt)
        self.pipeline, loaded = load(path, kind, dtype=DTYPES[dtype], without=() if t5 else kind.t5)
        self.network = self.pipeline.transformer
        self.input_dtype: torch.dtype | None = None  # that of the weights
        self.guidance = self.embedded_guidance(guidance)
        side = self.side(size)
        self.sample_shape = kind.sample_shape(self.pipeline, side)
        self.codec = kind.codec(self.pipeline.vae, (side, side, RGB))
        self.size_multiple = kind.size_multiple(self.network)
        self.device = torch.device("cpu")
        self.encoded: dict[tuple[Callable[..., Condition], str], Condition] = {}
        self.identity = {
            "model": "pipeline",
            "kind": kind.title,
            **loaded,
            "size": side,
            "dtype": dtype,
            "max_length": self.max_length,
            "t5": t5,
            "guidance": self.guidance,
            "negative_prompt": self.negative_prompt,
            "grid": kind.grid(self.pipeline, self.sample_shape),
        }

    def embedded_guidance(self, given: float | None) -> float | None:
        """The guidance among the network's inputs. Raises ValueError if one is given, and the network has none."""
        own = self.kind.default_guidance(self.network)
        if given is None:
            return own
        if own is None:
            raise ValueError(
                f"model.guidance={given}: this network has no guidance among its inputs: leave it out, and choose "
                "guidance=cfg"
            )
        return number("model.guidance", given)

    def side(self, size: int | None) -> int:
        """The side of images in pixels. Raises ValueError if the network does not have it."""
        kind, pipeline = self.kind, self.pipeline
        unit, own, most = kind.side_multiple(pipeline), kind.own_side(pipeline), kind.most_side(pipeline)
        side = own if size is None else size
        if not isinstance(side, int) or isinstance(side, bool) or side < 1 or side % unit or (most and side > most):
            limit = f" up to {most}" if most else ""
            raise ValueError(f"model.size={size}: give a multiple of {unit}{limit}, or null for {own}")
        return side

    def to(self, device: torch.device | str) -> TextPipeline:
        for part in self.pipeline.components.values():
            if isinstance(part, nn.Module):
                part.to(device)
        if torch.device(device) != self.device:
            self.device = torch.device(device)
            self.encoded.clear()  # a sample must not depend on where its prompt was first encoded
        return self

    @property
    def blocks(self) -> nn.ModuleList:
        return JoinedBlocks(self.kind.blocks(self.network))

    def with_network(self, network: Any) -> TextPipeline:
        made = copy.copy(self)
        made.network, made.input_dtype = network, self.network.dtype
        return made

    def encode(self, prompts: Sequence[str]) -> Condition:
        """The condition of B prompts, on the model's device."""
        return self.encoded_by(self.kind.encode, prompts)

    def encoded_by(self, encode: Callable[..., Condition], prompts: Sequence[str]) -> Condition:
        """The conditions of B prompts. encode: the kind's, of a prompt or of a negative one."""
        for prompt in dict.fromkeys(prompts):
            if (encode, prompt) not in self.encoded:
                with torch.inference_mode():
                    self.encoded[encode, prompt] = encode(self.pipeline, prompt, self.device, self.max_length)
        parts = zip(*(self.encoded[encode, prompt].parts for prompt in prompts))
        return Condition(*(None if rows[0] is None else torch.cat(rows) for rows in parts))

    def notice_truncation(self, prompts: Iterable[str]) -> None:
        """Print a notice for each prompt that has more tokens than an encoder reads."""
        for prompt in prompts:
            for encoder, count, limit in self.kind.count_tokens(self.pipeline, prompt, self.max_length):
                if count > limit:
                    notice(f"a prompt of {count} tokens is cut off at {encoder}'s {limit}: {prompt!r}")

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        dtype = self.input_dtype or self.network.dtype
        guidance = None if self.guidance is None else torch.full_like(t, self.guidance, dtype=torch.float32)
        condition = condition.map(lambda part: part.to(dtype) if part.is_floating_point() else part)
        return self.kind.velocity(self.network, x.to(dtype), t, condition, guidance).to(x.dtype)

    def null(self, condition: Condition) -> Condition:
        """The condition of the negative prompt."""
        part = next(part for part in (condition.states, condition.vector) if part is not None)
        null = self.encoded_by(self.kind.encode_negative, [self.negative_prompt] * len(part)).to(part.device)
        return replace(null, labels=condition.labels)

    def between(self, first: Condition, second: Condition, fraction: Tensor) -> Condition:
        """States and vectors on the straight lines between those of two prompts, in float32 whatever the weights."""

        def line(start: Tensor | None, end: Tensor | None, *more: int) -> Tensor | None:
            if start is None or end is None:
                return None
            return torch.lerp(start.float(), end.float(), fraction.float().view(-1, *more))

        mask = None
        if first.mask is not None and second.mask is not None:
            mask = (first.mask & (fraction[:, None] < 1)) | (second.mask & (fraction[:, None] > 0))
        return Condition(
            labels=nearer_labels(first, second, fraction),
            vector=line(first.vector, second.vector, 1),
            states=line(first.states, second.states, 1, 1),
            mask=mask,
        )


class JoinedBlocks(nn.ModuleList):
    """The blocks of several lists as one: what replaces a block here replaces it in its list."""

    def __init__(self, lists: Sequence[nn.ModuleList]) -> None:
        super().__init__(block for blocks in lists for block in blocks)
        self.places = [(blocks, number) for blocks in lists for number in range(len(blocks))]

    def __setitem__(self, idx: int, module: nn.Module) -> None:
        super().__setitem__(idx, module)
        blocks, place = self.places[idx]
        blocks[place] = module
