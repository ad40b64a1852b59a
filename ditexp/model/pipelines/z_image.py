"""Z-Image (Tongyi-MAI 2025, arXiv 2511.22699)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ditexp.model.pipelines.kind import Classes, PipelineKind, TokenCount, padded
from ditexp.values import Condition, required


class ZImage(PipelineKind):
    """A ZImageTransformer2DModel, for prompts that Qwen3 encodes as a user's message of a chat.

    Its network has our time, and its output is our velocity. A condition has states (B, L, D) and their mask. The
    network is given the states of the tokens alone: it fills up each prompt to a multiple of 32 by tokens of its own,
    which are attended to.
    """

    title = "Z-Image"
    pipelines = ("ZImagePipeline", "ZImageImg2ImgPipeline", "ZImageInpaintPipeline")
    tokenizers = ("tokenizer",)
    preset = "z_image"
    sign = 1

    def classes(self) -> Classes:
        import diffusers
        import transformers

        networks = {
            "transformer": diffusers.ZImageTransformer2DModel,
            "vae": diffusers.AutoencoderKL,
            "text_encoder": transformers.Qwen3Model,
        }
        return Classes(diffusers.ZImagePipeline, networks)

    def own_side(self, pipeline: Any) -> int:
        return min(1024, self.most_side(pipeline))

    def side_multiple(self, pipeline: Any) -> int:
        return 2 * pipeline.vae_scale_factor

    def most_side(self, pipeline: Any) -> int:
        _, rows, columns = pipeline.transformer.config.axes_lens
        return self.side_multiple(pipeline) * min(rows, columns)

    def sample_shape(self, pipeline: Any, side: int) -> tuple[int, int, int]:
        side //= pipeline.vae_scale_factor
        return pipeline.transformer.config.in_channels, side, side

    def size_multiple(self, network: Any) -> int:
        return 2

    def encode(self, pipeline: Any, prompt: str, device: torch.device, max_length: int) -> Condition:
        (states,), _ = pipeline.encode_prompt(
            [prompt], device=device, do_classifier_free_guidance=False, max_sequence_length=max_length
        )
        return padded(states[None], max_length)

    def count_tokens(self, pipeline: Any, prompt: str, max_length: int) -> Sequence[TokenCount]:
        message = [{"role": "user", "content": prompt}]
        text = pipeline.tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True, enable_thinking=True
        )
        return [TokenCount("Qwen3", len(pipeline.tokenizer(text).input_ids), max_length)]

    def blocks(self, network: Any) -> Sequence[torch.nn.ModuleList]:
        return [network.noise_refiner, network.context_refiner, network.layers]

    def time(self, network: Any, t: Tensor) -> Tensor:
        return t

    def inputs(self, x: Tensor, condition: Condition, guidance: Tensor | None) -> dict[str, Any]:
        pairs = zip(required(condition.states), required(condition.mask))
        return {"cap_feats": [states[mask] for states, mask in pairs]}

    def velocity(self, network: Any, x: Tensor, t: Tensor, condition: Condition, guidance: Tensor | None) -> Tensor:
        frames = list(x.unsqueeze(2))  # of videos with one frame
        inputs = self.inputs(x, condition, guidance)
        output = network(frames, self.time(network, t), **inputs, return_dict=False)[0]
        return self.sign * torch.stack(output).squeeze(2)
