"""Tiny pipelines of diffusers with random weights, saved to disk; and the samples of diffusers' own pipelines."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

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


def save_flux2_klein(path: Path) -> Path:
    """The parts of FLUX.2 klein that is not distilled; its encoder has the 28 layers that the pipeline reads from."""
    import diffusers
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.Qwen3Config(
            vocab_size=len(chat_tokenizer()),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=28,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
        )
        transformer, vae = flux2_transformer(embeds_guidance=False), flux2_autoencoder()
        strengthen(transformer, vae)
        pipeline = diffusers.Flux2KleinPipeline(
            transformer=transformer,
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
            vae=vae,
            text_encoder=transformers.Qwen3ForCausalLM(config),
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


def save_qwen_image(path: Path) -> Path:
    """The parts of Qwen-Image, whose template has 34 tokens before the prompt in this tokenizer, too."""
    import diffusers
    import transformers

    words = qwen_tokenizer()
    text = {
        "vocab_size": len(words),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = transformers.Qwen2_5_VLForConditionalGeneration(
            transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)
        )
        transformer = diffusers.QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(4, 6, 6),
        )
        vae = diffusers.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[-0.7, 0.4, 0.1, -0.2],
            latents_std=[2.8, 1.4, 2.3, 0.6],
        )
        strengthen(transformer)
        pipeline = diffusers.QwenImagePipeline(
            transformer=transformer,
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
                use_dynamic_shifting=True, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
            ),
            vae=vae,
            text_encoder=encoder,
            tokenizer=words,
        )
    pipeline.save_pretrained(path)
    return path


def save_z_image(path: Path) -> Path:
    """The parts of Z-Image, with padding tokens that are not zero."""
    import diffusers
    import transformers

    words = qwen_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = transformers.Qwen3Model(
            transformers.Qwen3Config(
                vocab_size=len(words),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=3,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
            )
        )
        transformer = diffusers.ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[4, 6, 6],
            axes_lens=[1024, 64, 64],
        )
        for token in (transformer.x_pad_token, transformer.cap_pad_token):
            token.data.normal_()
        vae = autoencoder()
        strengthen(vae)
        pipeline = diffusers.ZImagePipeline(
            transformer=transformer,
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=vae,
            text_encoder=encoder,
            tokenizer=words,
        )
    pipeline.save_pretrained(path)
    return path


def save_sana(path: Path) -> Path:
    """The parts of Sana 1.5, whose network is given a thousandth of its scheduler's times."""
    import diffusers
    import transformers

    words = qwen_tokenizer(starts=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = transformers.Gemma2Model(
            transformers.Gemma2Config(
                vocab_size=len(words),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
            )
        )
        transformer = diffusers.SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=4,
            attention_head_dim=8,
            num_layers=2,
            num_cross_attention_heads=2,
            cross_attention_head_dim=16,
            cross_attention_dim=32,
            caption_channels=16,
            sample_size=8,
            qk_norm="rms_norm_across_heads",
            timestep_scale=0.001,
        )
        vae = diffusers.AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            encoder_layers_per_block=(1, 1, 1),
            decoder_layers_per_block=(1, 1, 1),
            encoder_qkv_multiscales=((), (), ()),
            decoder_qkv_multiscales=((), (), ()),
            scaling_factor=0.41407,
        )
        strengthen(transformer)
        pipeline = diffusers.SanaPipeline(
            transformer=transformer,
            scheduler=diffusers.DPMSolverMultistepScheduler(
                use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction"
            ),
            vae=vae,
            text_encoder=encoder,
            tokenizer=words,
        )
    pipeline.save_pretrained(path)
    return path


def save_dit(path: Path) -> Path:
    """The parts of DiT. The network returns about its input, as a trained one does at noise."""
    import diffusers

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        transformer = diffusers.DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            sample_size=8,
            num_embeds_ada_norm=1000,
        )
        embedders = transformer.transformer_blocks[0].norm1.emb.state_dict()
        transformer.transformer_blocks[1].norm1.emb.load_state_dict(embedders)
        patches, head = transformer.pos_embed.proj.weight, transformer.proj_out_2.weight
        patches.zero_()
        head.mul_(0.2)
        for element in range(16):
            channel, place = divmod(element, 4)
            patches[element, channel, place // 2, place % 2] = 4
            head[8 * place + channel, element] += 0.7
        vae = autoencoder()
        vae.register_to_config(scaling_factor=0.18215, shift_factor=None)
        strengthen(vae)
        pipeline = diffusers.DiTPipeline(
            transformer=transformer,
            scheduler=diffusers.DDIMScheduler(clip_sample=False),
            vae=vae,
        )
    pipeline.save_pretrained(path)
    index = json.loads((path / "model_index.json").read_text())  # which diffusers writes without the names of classes
    names = {str(label): f"class {label}, number {label}" for label in range(1000)}
    (path / "model_index.json").write_text(json.dumps(index | {"id2label": names}))
    return path


def qwen_tokenizer(*, starts: bool = False) -> Any:
    """Words, punctuation marks, line breaks and the marks of Qwen's chat. starts: a first token, as in Gemma's."""
    import transformers
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    end, marks = "<|endoftext|>", ["<|im_start|>", "<|im_end|>"]
    known = [end, "<unk>", *marks, "\n", *WORDS, "system", "user", "assistant", "image"]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(known)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\n|\w+|[^\w\s]"), "isolated"), pre_tokenizers.Split(" ", "removed")]
    )
    if starts:
        made.post_processor = processors.TemplateProcessing(single=f"{end} $A", special_tokens=[(end, 0)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=2048,
        pad_token=end,
        unk_token="<unk>",
        additional_special_tokens=marks,
    )
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}<|im_start|>assistant\n"
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


class Tiny(NamedTuple):
    """A tiny pipeline.

    save: writes it to a folder. guided: the arguments of a scale and of negative prompts for the guidance by a null
    condition. pack: noise x (B, C, H, W) as the argument `latents`. unpack: the latents after a step in the shape of x.
    """

    save: Callable[[Path], Path]
    guided: Callable[[float, list[str]], dict[str, Any]] = lambda scale, negative: {}
    pack: Callable[[Any, torch.Tensor], torch.Tensor] = lambda pipeline, x: x
    unpack: Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor] = lambda pipeline, latents, x: latents


def pack_flux(pipeline: Any, x: torch.Tensor) -> torch.Tensor:
    return pipeline._pack_latents(x, *x.shape)


def unpack_flux(pipeline: Any, latents: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    factor = pipeline.vae_scale_factor
    return pipeline._unpack_latents(latents, factor * x.shape[-2], factor * x.shape[-1], factor)


def unpack_qwen(pipeline: Any, latents: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return unpack_flux(pipeline, latents, x).squeeze(2)


def unpack_flux2(pipeline: Any, latents: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return pipeline._unpack_latents_with_ids(latents, pipeline._prepare_latent_ids(x))


def true_cfg(scale: float, negative: list[str]) -> dict[str, Any]:
    return {"true_cfg_scale": scale, "negative_prompt": negative}


# By the names of the kinds.
TINY: Mapping[str, Tiny] = {
    "sd3": Tiny(save_sd3, lambda scale, negative: {"guidance_scale": scale, "negative_prompt": negative}),
    "flux": Tiny(save_flux, true_cfg, pack_flux, unpack_flux),
    "flux_schnell": Tiny(save_flux_schnell, true_cfg, pack_flux, unpack_flux),
    "flux2": Tiny(save_flux2, unpack=unpack_flux2),
    "qwen_image": Tiny(save_qwen_image, true_cfg, pack_flux, unpack_qwen),
    "z_image": Tiny(save_z_image, lambda scale, negative: {"guidance_scale": scale - 1, "negative_prompt": negative}),
    "sana": Tiny(
        save_sana,
        lambda scale, negative: {
            "guidance_scale": scale,
            "negative_prompt": negative,
            "use_resolution_binning": False,
        },
    ),
    "flux2_klein": Tiny(save_flux2_klein, lambda scale, negative: {"guidance_scale": scale}, unpack=unpack_flux2),
}


def sampled_by_diffusers(
    name: str,
    pipeline: Any,
    x: torch.Tensor,
    *,
    side: int,
    steps: int,
    scale: float = 1.0,
    negative: str = "",
    **given: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents in the shape of the noise x, and images (B, C, H, W) in [0, 1], for PROMPTS in turn.

    side: of the images in pixels. scale, negative: of the guidance by a null condition; off at 1. given: other
    arguments of the pipeline.
    """
    tiny, latents = TINY[name], []

    def record(pipeline: Any, step: int, time: torch.Tensor, tensors: dict[str, torch.Tensor]) -> dict:
        latents.append(tensors["latents"])
        return {}

    images = pipeline(
        prompt=[PROMPTS[index % len(PROMPTS)] for index in range(len(x))],
        latents=tiny.pack(pipeline, x),
        num_inference_steps=steps,
        max_sequence_length=TOKENS,
        height=side,
        width=side,
        output_type="pt",
        callback_on_step_end=record,
        **tiny.guided(scale, [negative] * len(x)),
        **given,
    ).images
    return tiny.unpack(pipeline, latents[-1], x), images
