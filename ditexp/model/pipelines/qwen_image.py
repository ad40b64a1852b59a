"""Qwen-Image (Wu et al. 2025, arXiv 2508.02324)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ditexp.model.pipelines.kind import Classes, TokenCount, padded
from ditexp.model.pipelines.latents import PackedLatents
from ditexp.model.pipelines.vae import PipelineVAE
from ditexp.values import Condition, required


class QwenImageVAE(PipelineVAE):
    """An AutoencoderKLQwenImage, which is one of videos: its latents are x std + mean of each channel, in one frame."""

    def decode(self, x: Tensor) -> Tensor:
        return super().decode(x)[:, :, 0]

    def encode(self, images: Tensor) -> Tensor:
        return super().encode(images.unsqueeze(2))

    def denormalize(self, x: Tensor) -> Tensor:
        return (x * self.statistic("latents_std", x) + self.statistic("latents_mean", x)).unsqueeze(2)

    def normalize(self, latents: Tensor) -> Tensor:
        x = latents[:, :, 0]
        return (x - self.statistic("latents_mean", x)) / self.statistic("latents_std", x)

    def statistic(self, name: str, x: Tensor) -> Tensor:
        """Of each channel, (C, 1, 1)."""
        return x.new_tensor(self.vae.config[name]).view(-1, 1, 1)


class QwenImage(PackedLatents):
    """A QwenImageTransformer2DModel on patches of 2 x 2 latents, for prompts that Qwen2.5-VL encodes.

    A condition has states (B, L, D) and their mask: the prompt within the pipeline's template, without the template's
    first tokens. Padding is masked, so that its length does not matter.
    """

    title = "Qwen-Image"
    pipelines = ("QwenImagePipeline", "QwenImageImg2ImgPipeline", "QwenImageInpaintPipeline")
    tokenizers = ("tokenizer",)
    most_tokens = 1024
    preset = "qwen_image"
    codec = QwenImageVAE

    def classes(self) -> Classes:
        import diffusers
        import transformers

        networks = {
            "transformer": diffusers.QwenImageTransformer2DModel,
            "vae": diffusers.AutoencoderKLQwenImage,
            "text_encoder": transformers.Qwen2_5_VLForConditionalGeneration,
        }
        return Classes(diffusers.QwenImagePipeline, networks)

    def encode(self, pipeline: Any, prompt: str, device: torch.device, max_length: int) -> Condition:
        states, _ = pipeline.encode_prompt([prompt], device=device, max_sequence_length=max_length)
        return padded(states, max_length)

    def count_tokens(self, pipeline: Any, prompt: str, max_length: int) -> Sequence[TokenCount]:
        tokens = pipeline.tokenizer(pipeline.prompt_template_encode.format(prompt)).input_ids
        return [TokenCount("Qwen2.5-VL", len(tokens) - pipeline.prompt_template_encode_start_idx, max_length)]

    def inputs(self, x: Tensor, condition: Condition, guidance: Tensor | None) -> dict[str, Any]:
        frames, height, width = 1, x.shape[-2] // 2, x.shape[-1] // 2
        return {
            "encoder_hidden_states": required(condition.states),
            "encoder_hidden_states_mask": required(condition.mask),
            "img_shapes": [[(frames, height, width)]] * len(x),
        }
