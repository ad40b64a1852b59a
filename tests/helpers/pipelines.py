"""Tiny pipelines of diffusers with random weights, saved to disk; and the samples of diffusers' own pipelines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ditexp.model.text_encoder import word_tokenizer

PROMPTS = ["a red seven", "two", "a handwritten one"]
TOKENS = 12  # of the encoder with the longest prompts, T5 or a language model
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["a", "handwritten", "red", "one", "two", "seven"]


def save_sd3(path: Path) -> Path:
    """The parts of Stable Diffusion 3.5 medium, with its kinds of attention and normalisation."""
    import diffusers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=3,
            num_attention_heads=2,
            attention_head_dim=8,
            joint_attention_dim=32,
            caption_projection_dim=16,
            pooled_projection_dim=8 + 12,
            pos_embed_max_size=12,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        )
        vae, t5 = autoencoder(), t5_encoder()
        strengthen(transformer, vae)
        pipeline = diffusers.StableDiffusion3Pipeline(
            transformer=transformer,
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=vae,
            text_encoder=clip_encoder(8),
            tokenizer=clip_tokenizer(),
            text_encoder_2=clip_encoder(12),
            tokenizer_2=clip_tokenizer(),
            text_encoder_3=t5,
            tokenizer_3=word_tokenizer(WORDS, 512),
        )
    pipeline.save_pretrained(path)
    return path


def save_flux(path: Path, *, embeds_guidance: bool = True) -> Path:
    """The parts of FLUX.1 dev; those of FLUX.1 schnell, with its scheduler, if guidance is no input of the network."""
    import diffusers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = diffusers.FluxTransformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            guidance_embeds=embeds_guidance,
            axes_dims_rope=(4, 6, 6),
        )
        vae, t5 = autoencoder(), t5_encoder()
        strengthen(transformer, vae)
        pipeline = diffusers.FluxPipeline(
            transformer=transformer,
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
                shift=3.0 if embeds_guidance else 1.0, use_dynamic_shifting=embeds_guidance
            ),
            vae=vae,
            text_encoder=clip_encoder(8, projects=False),
            tokenizer=clip_tokenizer(),
            text_encoder_2=t5,
            tokenizer_2=word_tokenizer(WORDS, 512),
        )
    pipeline.save_pretrained(path)
    return path


def save_flux_schnell(path: Path) -> Path:
    return save_flux(path, embeds_guidance=False)


def save_flux2(path: Path) -> Path:
    """The parts of FLUX.2 dev; its encoder has the 30 layers that the pipeline reads from, and a chat template."""
    import diffusers
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = transformers.MistralConfig(
            vocab_size=len(chat_tokenizer()),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=30,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
        )
        vision = transformers.PixtralVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
        )
        encoder = transformers.Mistral3ForConditionalGeneration(
            transformers.Mistral3Config(text_config=text, vision_config=vision)
        )
        transformer, vae = flux2_transformer(embeds_guidance=True), flux2_autoencoder()
        strengthen(transformer, vae)
        pipeline = diffusers.Flux2Pipeline(
            transformer=transformer,
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
            vae=vae,
            text_encoder=encoder,
            tokenizer=chat_tokenizer(),
        )
    pipeline.save_pretrained(path)
    return path


def flux2_transformer(*, embeds_guidance: bool) -> torch.nn.Module:
    import diffusers

    return diffusers.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * 16,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=embeds_guidance,
    )


def flux2_autoencoder() -> torch.nn.Module:
    """Its statistics are not those of a new layer, and its eps is not small beside them."""
    import diffusers

    vae = diffusers.AutoencoderKLFlux2(
        latent_channels=4,
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        batch_norm_eps=0.05,
    )
    vae.bn.running_mean.normal_(0, 0.5)
    vae.bn.running_var.uniform_(0.2, 2)
    return vae


def chat_tokenizer() -> Any:
    """Words, with a chat template that reads a system message and the prompt."""
    tokenizer = word_tokenizer([*WORDS, "[sys]", "[user]"], 512)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ '[user] ' if message['role'] == 'user' else '' }}"
        "{% if message['content'] is string %}{{ message['content'] }}"
        "{% elif message['role'] == 'user' %}{{ message['content'][0]['text'] }}{% endif %}{% endfor %}"
    )
    return tokenizer


def clip_tokenizer() -> Any:
    """Spells its prompts."""
    import transformers

    vocabulary = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    numbers = {token: number for number, token in enumerate(vocabulary)}
    return transformers.CLIPTokenizer(vocab=numbers, merges=[], model_max_length=77)


def clip_encoder(projection_dim: int, *, projects: bool = True) -> torch.nn.Module:
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=len(clip_tokenizer()),
        hidden_size=16,
        intermediate_size=32,
        projection_dim=projection_dim,
        num_hidden_layers=2,
        num_attention_heads=2,
        eos_token_id=clip_tokenizer().eos_token_id,
    )
    return (transformers.CLIPTextModelWithProjection if projects else transformers.CLIPTextModel)(config)


def t5_encoder() -> torch.nn.Module:
    import transformers

    vocab_size = len(word_tokenizer(WORDS, 512))
    config = transformers.T5Config(vocab_size=vocab_size, d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4)
    return transformers.T5EncoderModel(config)


def autoencoder() -> torch.nn.Module:
    import diffusers

    return diffusers.AutoencoderKL(
        latent_channels=4,
        block_out_channels=(8, 8, 8),
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        norm_num_groups=4,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def strengthen(*networks: torch.nn.Module) -> None:
    """So that time and text matter more than they do to a new network."""
    for network in networks:
        for parameter in network.parameters():
            parameter.data *= 1.5


# What saves a tiny pipeline in a folder, by the names of the kinds.
TINY: Mapping[str, Callable[[Path], Path]] = {
    "sd3": save_sd3,
    "flux": save_flux,
    "flux_schnell": save_flux_schnell,
    "flux2": save_flux2,
}
