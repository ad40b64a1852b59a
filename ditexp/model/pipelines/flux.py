"""FLUX.1 (Black Forest Labs 2024; its paper is Labs et al. 2025, arXiv 2506.15742)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ditexp.model.pipelines.kind import Classes, TokenCount
from ditexp.model.pipelines.latents import PackedLatents
from ditexp.values import Condition, required


class Flux(PackedLatents):
    """A FluxTransformer2DModel on patches of 2 x 2 latents, for prompts that CLIP and T5 encode.

    A condition has T5's states (B, L, D) and CLIP's pooled vector (B, P). FLUX.1 dev has guidance as an input of its
    network; schnell has none.
    """

    title = "FLUX.1"
    pipelines = ("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline")
    tokenizers = ("tokenizer", "tokenizer_2")
    unused = ("image_encoder", "feature_extractor")
    preset = "flux"

    def classes(self) -> Classes:
        import diffusers
        import transformers

        networks = {
            "transformer": diffusers.FluxTransformer2DModel,
            "vae": diffusers.AutoencoderKL,
            "text_encoder": transformers.CLIPTextModel,
            "text_encoder_2": transformers.T5EncoderModel,
        }
        return Classes(diffusers.FluxPipeline, networks)

    def encode(self, pipeline: Any, prompt: str, device: torch.device, max_length: int) -> Condition:
        states, pooled, _ = pipeline.encode_prompt([prompt], device=device, max_sequence_length=max_length)
        return Condition(states=states, vector=pooled)

    def count_tokens(self, pipeline: Any, prompt: str, max_length: int) -> Sequence[TokenCount]:
        return [
            TokenCount("CLIP", len(pipeline.tokenizer(prompt).input_ids), pipeline.tokenizer_max_length),
            TokenCount("T5", len(pipeline.tokenizer_2(prompt).input_ids), max_length),
        ]

    def blocks(self, network: Any) -> Sequence[torch.nn.ModuleList]:
        return [network.transformer_blocks, network.single_transformer_blocks]

    def default_guidance(self, network: Any) -> float | None:
        return 3.5 if network.config.guidance_embeds else None

    def inputs(self, x: Tensor, condition: Condition, guidance: Tensor | None) -> dict[str, Any]:
        states = required(condition.states)
        return {
            "encoder_hidden_states": states,
            "pooled_projections": required(condition.vector),
            "txt_ids": states.new_zeros(states.shape[1], 3),
            "img_ids": positions(x.shape[-2] // 2, x.shape[-1] // 2, states),
            "guidance": guidance,
        }


def positions(rows: int, columns: int, like: Tensor) -> Tensor:
    """(rows x columns, 3): zero, the row and the column of each token; of the type and on the device of a tensor."""
    row, column = (torch.arange(count, dtype=like.dtype, device=like.device) for count in (rows, columns))
    return torch.cartesian_prod(row.new_zeros(1), row, column)
