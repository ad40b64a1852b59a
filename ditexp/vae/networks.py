"""Autoencoders of diffusers from files: a folder of its own, a file of latent diffusion or of RAE, halves of a TAESD.

No file is read by diffusers, and no code in one is run: names and shapes are checked, then the weights are assigned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ditexp.checkpoint.weights import misfit
from ditexp.files.content import digest
from ditexp.files.libraries import import_diffusers
from ditexp.files.reading import read_facts, unfit
from ditexp.vae import ldm, rae, taesd
from ditexp.vae.architecture import NETWORKS, arguments_in, latents_in
from ditexp.vae.place import CONFIG, WEIGHTS
from ditexp.vae.weights import Weights, file_of, read_weights

REMEDY = "give a folder of AutoencoderKL, AutoencoderTiny or AutoencoderRAE"
OTHER_WEIGHTS, OTHER_CONFIG = "give the weights of such a VAE", "give that of the weights"
# diffusers before 0.18 named the layers of attention so; the released SD VAEs still do.
FORMER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class Loaded(NamedTuple):
    """A network on the CPU in float32, ready to run.

    factor: the side of an image over that of its latents. channels: of the latents. latents: what its config says of
    them, see LATENTS; their mean and std may also be tensors (C, 1, 1) or (C, H, W). identity: JSON-able facts that
    determine what the network computes. side: of the latents, if it decodes no others.
    """

    network: Any
    factor: int
    channels: int
    image_channels: int
    latents: dict[str, Any]
    identity: dict[str, Any]
    side: int | None = None


def load(path: Path, name: str) -> Loaded:
    """name: of the setting, in messages. Raises ValueError for files that are no autoencoder."""
    if not path.is_dir():
        return from_file(path, name)
    if (path / CONFIG).exists():
        return from_folder(path, name)
    if (path / "vae" / CONFIG).exists():  # of a pipeline
        return from_folder(path / "vae", name)
    halves = [(file, taesd.ANCHORS[half]) for half in taesd.ANCHORS if (file := file_of(path, f"*{half}"))]
    if len(halves) == len(taesd.ANCHORS):
        encoder, decoder = (read_weights(file, f"{name}: {file.name}", anchor) for file, anchor in halves)
        tensors = taesd.diffusers_keys(encoder.tensors, decoder.tensors)
        return from_taesd(Weights(tensors, digest([encoder.sha256, decoder.sha256])), name)
    raise unfit(name, f"has no {CONFIG}, and no *encoder and *decoder files", REMEDY)


def from_folder(folder: Path, name: str) -> Loaded:
    """A folder that save_pretrained of diffusers wrote."""
    config = read_facts(folder / CONFIG, "a VAE's config", remedy=REMEDY, needed={"_class_name": str})
    kind = config["_class_name"]
    if kind not in NETWORKS:
        raise unfit(name, f"is of the class {kind}", REMEDY)
    of_elements = ("latents_mean", "latents_std") if kind == rae.KIND else ()  # which are also among the weights
    config = {key: value for key, value in config.items() if key not in of_elements}
    try:
        arguments, latents = arguments_in(config), latents_in(config)
    except ValueError as error:
        raise unfit(f"{name}: {CONFIG}", f"is no config of {kind}: {error}", OTHER_CONFIG) from None
    # A variant, such as .fp16.safetensors, is read only if there are no others.
    file = file_of(folder, WEIGHTS) or file_of(folder, f"{WEIGHTS}.*")
    if file is None:
        raise unfit(name, f"has no {WEIGHTS}.safetensors", REMEDY)
    shown = name if file.name.endswith(".json") else f"{name}: {file.name}"  # a shard is named beside it
    tensors, sha256 = read_weights(file, shown, ANCHORS[kind])
    if kind == rae.KIND:
        try:
            parts = rae.parts_of_folder(config, tensors, name)
        except ValueError as error:
            raise unfit(name, f"is no {kind}: {error}", OTHER_CONFIG) from None
        return build_decoder(parts, latents, sha256, name)
    return build(kind, arguments, modern(tensors), sha256, name, latents)


# Weights that every such network has.
ANCHORS = {
    "AutoencoderKL": "decoder.conv_in.weight",
    "AutoencoderTiny": "decoder.layers.0.weight",
    rae.KIND: rae.ANCHOR,
}


def from_file(path: Path, name: str) -> Loaded:
    """One file of weights, which say what the network is."""
    weights = read_weights(path, name, ANCHORS["AutoencoderKL"], ANCHORS["AutoencoderTiny"], rae.MARK)
    if ANCHORS["AutoencoderTiny"] in weights.tensors:
        return from_taesd(weights, name)
    if rae.MARK in weights.tensors:
        try:
            parts = rae.parts_of_file(weights.tensors)
        except (LookupError, ValueError) as error:
            raise unfit(name, f"is no decoder of RAE: {error}", OTHER_WEIGHTS) from None
        return build_decoder(parts, latents_in({"scaling_factor": 1.0}), weights.sha256, name)
    if ldm.MARK not in weights.tensors:
        raise unfit(name, f"is no VAE of latent diffusion: it has no {ldm.MARK}", OTHER_WEIGHTS)
    try:
        arguments = arguments_in({"_class_name": "AutoencoderKL", **ldm.architecture_of(weights.tensors)})
    except (LookupError, ValueError) as error:
        raise unfit(name, f"is no VAE of latent diffusion: {error}", OTHER_WEIGHTS) from None
    latents = latents_in({"scaling_factor": 1.0})
    return build("AutoencoderKL", arguments, ldm.diffusers_keys(weights.tensors), weights.sha256, name, latents)


def from_taesd(weights: Weights, name: str) -> Loaded:
    try:
        arguments, latents = taesd.architecture_of(weights.tensors), latents_in({"scaling_factor": 1.0})
    except LookupError:
        raise unfit(name, "has no first layer of a tiny autoencoder's decoder", OTHER_WEIGHTS) from None
    return build("AutoencoderTiny", arguments, weights.tensors, weights.sha256, name, latents)


def modern(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an AutoencoderKL by today's names."""

    def name(key: str) -> str:
        if found := re.fullmatch(r"(.*\.attentions\.\d+\.)(query|key|value|proj_attn)(\..*)", key):
            return f"{found[1]}{FORMER[found[2]]}{found[3]}"
        return key

    return {name(key): value for key, value in tensors.items()}


def build(
    kind: str,
    arguments: dict[str, Any],
    tensors: Mapping[str, Tensor],
    sha256: str,
    name: str,
    latents: dict[str, Any],
) -> Loaded:
    """The network of diffusers with these weights. Raises ValueError if they do not fit."""
    try:
        with torch.device("meta"):
            network = classes()[kind](**arguments)
            if kind == "AutoencoderTiny":
                taesd.add_branches(network, tensors)
    except (ValueError, RuntimeError, TypeError, IndexError) as error:
        raise unfit(name, f"is no {kind} that can be: {error}", OTHER_CONFIG) from None
    if wrong := misfit(tensors, network.state_dict()):
        raise unfit(name, f"does not fit {kind}: {wrong}", OTHER_WEIGHTS)
    network.load_state_dict(tensors, assign=True)
    network.eval().requires_grad_(False)
    config = network.config
    levels = config["block_out_channels"]  # of the decoder, for a tiny one
    identity = {"network": kind, "arguments": digest(arguments), "weights": sha256}
    scale = latents["scaling_factor"] or config.scaling_factor
    return Loaded(
        network,
        factor=2 ** (len(levels) - 1),
        channels=int(config.latent_channels),
        image_channels=int(config.out_channels),
        latents={**latents, "scaling_factor": scale},
        identity=identity,
    )


def build_decoder(parts: rae.Parts, latents: dict[str, Any], sha256: str, name: str) -> Loaded:
    """The decoder of an AutoencoderRAE. Raises ValueError if the weights do not fit."""
    arguments, tensors = parts.arguments, parts.tensors
    try:
        with torch.device("meta"):
            decoder = classes()["RAEDecoder"](**arguments)
    except (ValueError, RuntimeError, TypeError) as error:
        raise unfit(name, f"is no {rae.KIND} that can be: {error}", OTHER_CONFIG) from None
    if wrong := misfit(tensors, decoder.state_dict()):
        raise unfit(name, f"does not fit {rae.KIND}: {wrong}", OTHER_WEIGHTS)
    decoder.load_state_dict(tensors, assign=True)
    own = rae.positions_of_diffusers(arguments["decoder_hidden_size"], parts.side)
    decoder.decoder_pos_embed = own if parts.positions is None else parts.positions
    network = rae.RepresentationDecoder(decoder, parts.image_mean, parts.image_std)
    return Loaded(
        network.eval().requires_grad_(False),
        factor=arguments["patch_size"],
        channels=arguments["hidden_size"],
        image_channels=arguments["num_channels"],
        latents={
            **latents,
            "scaling_factor": latents["scaling_factor"] or 1.0,
            "latents_mean": parts.mean,
            "latents_std": parts.std,
        },
        identity={"network": rae.KIND, "arguments": digest(arguments), "weights": sha256},
        side=parts.side,
    )


def classes() -> dict[str, Any]:
    """diffusers' autoencoders by their names. Imported here alone: it takes seconds, and pixels need none."""
    import_diffusers()
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_rae import RAEDecoder
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    return {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny, "RAEDecoder": RAEDecoder}
