"""Sana (Xie et al. 2024, arXiv 2410.10629)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ditexp.model.pipelines.kind import Classes, TokenCount
from ditexp.model.pipelines.latents import PlainLatents
from ditexp.model.pipelines.vae import PipelineVAE
from ditexp.values import Condition, required


class DeepCompressionVAE(PipelineVAE):
    """An AutoencoderDC: no posterior, and latents x / scaling_factor."""

    def encode(self, images: Tensor) -> Tensor:
        return self.normalize(self.vae.encode(images.to(self.vae.dtype), return_dict=False)[0].float())

    def denormalize(self, x: Tensor) -> Tensor:
        return x / self.vae.config.scaling_factor

    def normalize(self, latents: Tensor) -> Tensor:
        return latents * self.vae.config.scaling_factor


class Sana(PlainLatents):
    """A SanaTransformer2DModel on latents of 32 x 32 pixels, for prompts that Gemma 2 encodes.

    A condition has states (B, L, D) and their mask. Gemma reads the pipeline's instruction to enhance the prompt, and
    then the prompt in lower case. Of its states, the first and those from the last token of the instruction on are
    kept. A negative prompt comes without the instruction.
    """

    title = "Sana"
    pipelines = ("SanaPipeline",)
    tokenizers = ("tokenizer",)
    max_length = most_tokens = 300
    preset = "sana"
    sigmas = "scheduler"
    codec = DeepCompressionVAE

    def classes(self) -> Classes:
        import diffusers
        import transformers

        networks = {
            "transformer": diffusers.SanaTransformer2DModel,
            "vae": diffusers.AutoencoderDC,
            "text_encoder": transformers.Gemma2Model,
        }
        return Classes(diffusers.SanaPipeline, networks)

    def encode(self, pipeline: Any, prompt: str, device: torch.device, max_length: int) -> Condition:
        instruction = inspect.signature(type(pipeline).__call__).parameters["complex_human_instruction"].default
        return encode(pipeline, prompt, device, max_length, instruction)

    def encode_negative(self, pipeline: Any, prompt: str, device: torch.device, max_length: int) -> Condition:
        return encode(pipeline, prompt, device, max_length, None)

    def count_tokens(self, pipeline: Any, prompt: str, max_length: int) -> Sequence[TokenCount]:
        last_of_instruction = 1
        count = len(pipeline.tokenizer(prompt.lower().strip()).input_ids) + last_of_instruction
        return [TokenCount("Gemma", count, max_length)]

    def time(self, network: Any, t: Tensor) -> Tensor:
        return 1000 * (1 - t) * network.config.timestep_scale

    def unpack(self, output: Tensor, x: Tensor) -> Tensor:
        return output[:, : x.shape[1]]

    def inputs(self, x: Tensor, condition: Condition, guidance: Tensor | None) -> dict[str, Any]:
        return {
            "encoder_hidden_states": required(condition.states),
            "encoder_attention_mask": required(condition.mask),
        }


def encode(
    pipeline: Any, prompt: str, device: torch.device, max_length: int, instruction: Sequence[str] | None
) -> Condition:
    states, mask, _, _ = pipeline.encode_prompt(
        [prompt],
        do_classifier_free_guidance=False,
        device=device,
        max_sequence_length=max_length,
        complex_human_instruction=instruction,
    )
    return Condition(states=states, mask=mask.bool())
