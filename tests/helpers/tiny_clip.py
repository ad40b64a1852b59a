"""A CLIP of transformers with random weights, tiny, in a folder as its library saves it."""

from __future__ import annotations

from pathlib import Path

import torch

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def save_tiny_clip(folder: Path) -> Path:
    """Its tokenizer spells words letter by letter; images are 32 pixels wide, embeddings have 24 elements."""
    import transformers

    vocabulary = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    numbers = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = transformers.CLIPTokenizer(vocab=numbers, merges=[], model_max_length=77)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    config = transformers.CLIPConfig(
        projection_dim=24,
        text_config={"vocab_size": len(tokenizer), **tower, **ends},
        vision_config={"image_size": 32, "patch_size": 8, **tower},
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = transformers.CLIPModel(config)
    network.save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    transformers.CLIPProcessor(transformers.CLIPImageProcessor(**sizes), tokenizer).save_pretrained(folder)
    return folder
