"""FLUX.2 (Black Forest Labs 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ditexp.model.pipelines.kind import Classes, TokenCount
from ditexp.model.pipelines.latents import PackedLatents
from ditexp.model.pipelines.vae import PipelineVAE
from ditexp.values import Condition, required


class BatchNormVAE(PipelineVAE):
    """The VAE of FLUX.2: x are patches of 2 x 2 latents, normalized by the running statistics of a BatchNorm."""

    def denormalize(self, x: Tensor) -> Tensor:
        mean, std = self.statistics(x)
        return torch.nn.functional.pixel_shuffle(x * std + mean, 2)

    def normalize(self, latents: Tensor) -> Tensor:
        mean, std = self.statistics(latents)
        return (torch.nn.functional.pixel_unshuffle(latents, 2) - mean) / std

    def statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and the standard deviation (4 C, 1, 1)."""
        bn = self.vae.bn
        std = torch.sqrt(bn.running_var.view(-1, 1, 1) + self.vae.config.batch_norm_eps)
        return bn.running_mean.view(-1, 1, 1).to(like), std.to(like)


class Flux2(PackedLatents):
    """A Flux2Transformer2DModel on patches of 2 x 2 latents, for prompts that Mistral Small 3 encodes.

    x (B, 128, H, W) are the patches. A condition has states (B, L, D), of three layers of the encoder. Guidance is an
    input of the network.
    """

    title = "FLUX.2"
    pipelines = ("Flux2Pipeline",)
    tokenizers = ("tokenizer",)
    preset = "flux2"
    mu = "empirical"
    codec = BatchNormVAE

    def classes(self) -> Classes:
        import diffusers
        import transformers

        networks = {
            "transformer": diffusers.Flux2Transformer2DModel,
            "vae": diffusers.AutoencoderKLFlux2,
            "text_encoder": transformers.Mistral3ForConditionalGeneration,
        }
        return Classes(diffusers.Flux2Pipeline, networks)

    def sample_shape(self, pipeline: Any, side: int) -> tuple[int, int, int]:
        side //= self.side_multiple(pipeline)
        return pipeline.transformer.config.in_channels, side, side

    def size_multiple(self, network: Any) -> int:
        return 1

    def encode(self, pipeline: Any, prompt: str, device: torch.device, max_length: int) -> Condition:
        states, _ = pipeline.encode_prompt([prompt], device=device, max_sequence_length=max_length)
        return Condition(states=states)

    def count_tokens(self, pipeline: Any, prompt: str, max_length: int) -> Sequence[TokenCount]:
        from diffusers.pipelines.flux2.pipeline_flux2 import format_input

        messages = format_input([prompt], system_message=pipeline.system_message)
        tokens = pipeline.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)
        return [TokenCount("Mistral", len(tokens["input_ids"][0]), max_length)]

    def blocks(self, network: Any) -> Sequence[torch.nn.ModuleList]:
        return [network.transformer_blocks, network.single_transformer_blocks]

    def default_guidance(self, network: Any) -> float | None:
        return 4.0 if network.config.guidance_embeds else None

    def pack(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)

    def unpack(self, output: Tensor, x: Tensor) -> Tensor:
        return output.transpose(1, 2).reshape(x.shape)

    def inputs(self, x: Tensor, condition: Condition, guidance: Tensor | None) -> dict[str, Any]:
        states = required(condition.states)
        lengths = (1, *x.shape[-2:], states.shape[1])
        zero, rows, columns, words = (torch.arange(length, device=states.device) for length in lengths)
        return {
            "encoder_hidden_states": states,
            "txt_ids": torch.cartesian_prod(zero, zero, zero, words),
            "img_ids": torch.cartesian_prod(zero, rows, columns, zero),
            "guidance": guidance,
        }


class Flux2Klein(Flux2):
    """FLUX.2 klein: prompts are encoded by Qwen3, and the network has no guidance among its inputs."""

    title = "FLUX.2 klein"
    pipelines = ("Flux2KleinPipeline",)
    preset = "flux2_klein"

    def classes(self) -> Classes:
        import diffusers
        import transformers

        networks = {
            "transformer": diffusers.Flux2Transformer2DModel,
            "vae": diffusers.AutoencoderKLFlux2,
            "text_encoder": transformers.Qwen3ForCausalLM,
        }
        return Classes(diffusers.Flux2KleinPipeline, networks)

    def count_tokens(self, pipeline: Any, prompt: str, max_length: int) -> Sequence[TokenCount]:
        text = pipeline.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return [TokenCount("Qwen3", len(pipeline.tokenizer(text).input_ids), max_length)]

    def default_guidance(self, network: Any) -> float | None:
        return None
