"""The arguments of diffusers' autoencoders in a config.json, checked before a network is built from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ditexp.terminal.notices import in_line

Check = Callable[[Any], bool]
ACTIVATIONS = ("silu", "swish", "mish", "gelu", "relu")


def between(low: int, high: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def several(check: Check, most: int = 8) -> Check:
    return lambda value: isinstance(value, list) and 1 <= len(value) <= most and all(map(check, value))


def one_of(*choices: str) -> Check:
    return lambda value: isinstance(value, str) and value in choices


def real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def positive(value: Any) -> bool:
    return real(value) and value > 1e-9


def flag(value: Any) -> bool:
    return isinstance(value, bool)


def optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


channels, blocks = between(1, 2**14), between(1, 32)
IMAGES = {"in_channels": lambda value: value in (1, 3), "out_channels": lambda value: value in (1, 3)}

# The arguments of each class that decide what it computes, and what they may be.
NETWORKS: dict[str, dict[str, Check]] = {
    "AutoencoderKL": {
        **IMAGES,
        "latent_channels": channels,
        "block_out_channels": several(channels),
        "layers_per_block": blocks,
        "down_block_types": several(one_of("DownEncoderBlock2D", "AttnDownEncoderBlock2D")),
        "up_block_types": several(one_of("UpDecoderBlock2D", "AttnUpDecoderBlock2D")),
        "norm_num_groups": channels,
        "act_fn": one_of(*ACTIVATIONS),
        "use_quant_conv": flag,
        "use_post_quant_conv": flag,
        "mid_block_add_attention": flag,
    },
    "AutoencoderTiny": {
        **IMAGES,
        "latent_channels": channels,
        "encoder_block_out_channels": several(channels),
        "decoder_block_out_channels": several(channels),
        "num_encoder_blocks": several(between(0, 32)),
        "num_decoder_blocks": several(between(0, 32)),
        "upsampling_scaling_factor": lambda value: value == 2,
        "act_fn": one_of(*ACTIVATIONS),
        "upsample_fn": one_of("nearest", "bilinear", "bicubic"),
    },
    "AutoencoderRAE": {  # without its encoder
        "num_channels": lambda value: value == 3,
        "encoder_hidden_size": channels,
        "encoder_input_size": between(1, 2**12),
        "encoder_patch_size": between(1, 2**8),
        "decoder_hidden_size": channels,
        "decoder_num_hidden_layers": between(1, 64),
        "decoder_num_attention_heads": channels,
        "decoder_intermediate_size": channels,
        "patch_size": between(1, 2**8),
        "reshape_to_2d": lambda value: value is True,
    },
}

# What a config.json may say of the latents, and the value where it says nothing.
LATENTS: dict[str, tuple[Check, Any]] = {
    "scaling_factor": (positive, None),
    "shift_factor": (optional(real), None),
    "latents_mean": (optional(several(real, 2**14)), None),
    "latents_std": (optional(several(positive, 2**14)), None),
    "force_upcast": (flag, False),
}


def arguments_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the network of a config.json; those that it lacks keep diffusers' defaults.

    Raises ValueError with the first value that such a network cannot have.
    """
    return {key: checked(config, key, check) for key, check in NETWORKS[config["_class_name"]].items() if key in config}


def latents_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config.json says of the latents. Raises ValueError with the first value that is none."""
    return {key: checked(config, key, check) if key in config else default for key, (check, default) in LATENTS.items()}


def checked(config: Mapping[str, Any], key: str, check: Check) -> Any:
    if not check(config[key]):
        raise ValueError(f"its {key} is {in_line(repr(config[key]), 40)}")
    return config[key]
