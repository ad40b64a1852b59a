"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv 2403.03206)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ditexp.model.pipelines.kind import Classes, TokenCount
from ditexp.model.pipelines.latents import PlainLatents
from ditexp.values import Condition, required


class StableDiffusion3(PlainLatents):
    """An SD3Transformer2DModel on the latents of its VAE, for prompts that two CLIPs and a T5 encode.

    A condition has states (B, L, D), CLIP's followed by T5's, and a vector (B, P), CLIP's pooled embeddings. Padding is
    not masked, as in diffusers.
    """

    title = "Stable Diffusion 3"
    pipelines = ("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline")
    tokenizers = ("tokenizer", "tokenizer_2", "tokenizer_3")
    t5 = ("text_encoder_3", "tokenizer_3")
    unused = ("image_encoder", "feature_extractor")
    max_length = 256
    preset = "sd3"
    sigmas = "scheduler"

    def classes(self) -> Classes:
        import diffusers
        import transformers

        clip = transformers.CLIPTextModelWithProjection
        networks = {
            "transformer": diffusers.SD3Transformer2DModel,
            "vae": diffusers.AutoencoderKL,
            "text_encoder": clip,
            "text_encoder_2": clip,
            "text_encoder_3": transformers.T5EncoderModel,
        }
        return Classes(diffusers.StableDiffusion3Pipeline, networks)

    def most_side(self, pipeline: Any) -> int:
        return self.side_multiple(pipeline) * pipeline.transformer.config.pos_embed_max_size

    def encode(self, pipeline: Any, prompt: str, device: torch.device, max_length: int) -> Condition:
        states, _, pooled, _ = pipeline.encode_prompt(
            [prompt],
            prompt_2=None,  # the same
            prompt_3=None,
            device=device,
            do_classifier_free_guidance=False,
            max_sequence_length=max_length,
        )
        return Condition(states=states, vector=pooled)

    def count_tokens(self, pipeline: Any, prompt: str, max_length: int) -> Sequence[TokenCount]:
        clip = TokenCount("CLIP", len(pipeline.tokenizer(prompt).input_ids), pipeline.tokenizer_max_length)
        if pipeline.tokenizer_3 is None:
            return [clip]
        return [clip, TokenCount("T5", len(pipeline.tokenizer_3(prompt).input_ids), max_length)]

    def time(self, network: Any, t: Tensor) -> Tensor:
        return 1000 * (1 - t)

    def inputs(self, x: Tensor, condition: Condition, guidance: Tensor | None) -> dict[str, Any]:
        return {
            "encoder_hidden_states": required(condition.states),
            "pooled_projections": required(condition.vector),
        }
