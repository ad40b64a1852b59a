"""DiT in diffusers: the folder of a DiTPipeline, and the arithmetic of its DiTTransformer2DModel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ditexp.files.reading import read_facts, read_json
from ditexp.model.architecture import NoDiT
from ditexp.model.dit import BlockLayers, DiT
from ditexp.model.positions import sincos_position_embedding

INDEX, CONFIG, WEIGHTS = "model_index.json", "config.json", "diffusion_pytorch_model"
PIPELINE, NETWORKS = "DiTPipeline", ("DiTTransformer2DModel", "Transformer2DModel")  # the second, of early folders
ANCHOR = "proj_out_2.weight"  # every such network has it
MOST_SIDE = 1024  # of samples
REMEDY = "give the folder of a DiTPipeline"
# What the network computes whatever its config says, or refuses to.
FIXED = {"activation_fn": "gelu-approximate", "attention_bias": True, "norm_type": "ada_norm_zero", "norm_eps": 1e-5}

LAYERS = {
    "pos_embed.proj": "x_embedder.proj",
    "proj_out_1": "final_layer.adaLN_modulation.1",
    "proj_out_2": "final_layer.linear",
}
OF_A_BLOCK = {
    "attn1.to_out.0": "attn.proj",
    "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2",
    "norm1.linear": "adaLN_modulation.1",
}
EMBEDDERS = {  # a copy in each block
    "norm1.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "norm1.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "norm1.emb.class_embedder.embedding_table": "y_embedder.embedding_table",
}
QUERY, KEY, VALUE = "attn1.to_q", "attn1.to_k", "attn1.to_v"


class DiffusersDiT(DiT):
    """DiT as diffusers' DiTTransformer2DModel computes it, with the same weights.

    The frequencies of its timestep embedding are 10000^(-i / 127) where DiT's are 10000^(-i / 128), i = 0 ... 127, and
    the norm before the MLP has an eps of 1e-5 for 1e-6. The weights were trained with DiT's.
    """

    kind = "dit_diffusers"

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.t_embedder.divisor = 127
        for block in self.blocks:
            assert isinstance(block, BlockLayers)
            block.norm2 = nn.LayerNorm(self.hidden_size, elementwise_affine=False, eps=1e-5)


@dataclass(frozen=True)
class Folder:
    """A folder with a DiT of diffusers.

    weights: its file, or that of its index. config: of the network. class_names: of the pipeline, if it has them all.
    """

    weights: Path
    config: Mapping[str, Any]
    class_names: tuple[str, ...]


def dit_folder(checkpoint: str) -> Folder | None:
    """What a DiTPipeline, or the transformer in it, consists of; None if this is neither. Raises ValueError."""
    place = Path(checkpoint)
    index = place / INDEX
    if not place.is_dir():
        return None
    facts = read_facts(index, "the index of a pipeline", remedy=REMEDY, needed={}) if index.is_file() else {}
    folder = place / "transformer" if facts.get("_class_name") == PIPELINE else place
    if not (folder / CONFIG).is_file():
        return None
    needed = {"num_attention_heads": int, "sample_size": int, "patch_size": int, "num_embeds_ada_norm": int}
    config = read_json(folder / CONFIG, "the config of a network", remedy=REMEDY)
    if not isinstance(config, dict) or config.get("_class_name") not in NETWORKS:
        return None
    read_facts(folder / CONFIG, "the config of a DiT", remedy=REMEDY, needed=needed)
    found = [
        path
        for end in ("safetensors", "safetensors.index.json", "bin")
        if (path := folder / f"{WEIGHTS}.{end}").is_file()
    ]
    weights = found[0] if found else folder / f"{WEIGHTS}.safetensors"
    return Folder(weights, config, names_of(facts.get("id2label"), config["num_embeds_ada_norm"]))


def names_of(id2label: object, count: int) -> tuple[str, ...]:
    """The names of classes 0, 1, ...; empty unless all are known."""
    named = id2label if isinstance(id2label, dict) else {}
    return tuple(str(named[str(label)]) for label in range(count)) if all(str(n) in named for n in range(count)) else ()


def in_dits_layout(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of a DiTTransformer2DModel by DiT's own names, with the positions, which its files do not have.

    A weight that it should not have keeps its name. Raises NoDiT for a network that is no DiT.
    """
    for name, value in FIXED.items():
        if config.get(name, value) != value:
            raise NoDiT(f"its config has {name}={config[name]}, not {value}")
    side, patch_size = config["sample_size"], config["patch_size"]
    if not 1 <= patch_size <= side <= MOST_SIDE:
        raise NoDiT(f"its config has sample_size={side} and patch_size={patch_size}")
    found: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}  # queries, keys and values of a block
    for key, value in tensors.items():
        layer, _, kind = key.rpartition(".")
        top, number, inner = [*layer.split(".", 2), "", ""][:3]
        if layer in LAYERS:
            found[f"{LAYERS[layer]}.{kind}"] = value
        elif top != "transformer_blocks":
            found[key] = value
        elif inner in OF_A_BLOCK:
            found[f"blocks.{number}.{OF_A_BLOCK[inner]}.{kind}"] = value
        elif inner in EMBEDDERS:
            name = f"{EMBEDDERS[inner]}.{kind}"
            if not torch.equal(found.setdefault(name, value), value):
                raise NoDiT(f"block {number} has another {EMBEDDERS[inner]} than other blocks")
        elif inner in (QUERY, KEY, VALUE):
            parts.setdefault(f"blocks.{number}.attn.qkv.{kind}", {})[inner] = value
        else:
            found[key] = value
    for name, three in parts.items():
        if missing := {QUERY, KEY, VALUE} - three.keys():
            raise NoDiT(f"it lacks the {min(missing)} of {name}")
        found[name] = torch.cat([three[QUERY], three[KEY], three[VALUE]])
    if (patches := found.get("x_embedder.proj.weight")) is not None and len(patches) % 4 == 0:
        found["pos_embed"] = sincos_position_embedding(len(patches), side // patch_size)
    return found
