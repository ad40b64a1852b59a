"""What a file or folder is, in facts: the dispatch over all kinds that ditexp can use."""

from __future__ import annotations

from pathlib import Path

from ditexp.checkpoint.container import Container, read_checkpoint
from ditexp.checkpoint.networks import tensor_names
from ditexp.files.reading import read_facts
from ditexp.inspect.facts import Card, file_facts
from ditexp.inspect.others import card_of_npz, card_of_statistics, card_of_vae
from ditexp.inspect.transformer import card_of_text_folder, card_of_transformer

PIPELINE = "model_index.json"  # of diffusers
CONFIG = "config.json"
NAMED = 6  # tensors that the card of an unknown network lists


def card_of(path: Path) -> Card:
    """Raises ValueError, in one line, for what cannot be read."""
    if path.is_dir():
        return card_of_folder(path)
    if path.suffix.lower() in (".npz", ".npy", ".pkl", ".pickle"):
        return card_of_npz(path)
    return card_of_container(path, read_checkpoint(path, name=str(path)))


def card_of_folder(path: Path) -> Card:
    if (path / "text_encoder").is_dir() and (path / "model.safetensors").exists():
        return card_of_text_folder(path)
    if (path / PIPELINE).exists():
        return card_of_pipeline(path)
    if (path / CONFIG).exists() or list(path.glob("*decoder*")):
        return card_of_vae(path)
    return card_of_container(path, read_checkpoint(path, name=str(path)))


def card_of_container(path: Path, container: Container) -> Card:
    for look in (card_of_transformer, card_of_statistics):
        if card := look(path, container):
            return card
    names = tensor_names(container.state)
    if any(name.endswith(("decoder.conv_in.weight", "decoder_pred.weight")) for name in names):
        return card_of_vae(path)
    facts = {**file_facts(container), "tensors": len(names), "first": names[:NAMED]}
    return Card(path, "weights of no model that ditexp knows", facts)


def card_of_pipeline(path: Path) -> Card:
    """A folder of diffusers."""
    index = read_facts(path / PIPELINE, "a pipeline's index", remedy="give its folder", needed={"_class_name": str})
    parts = {name: value[-1] for name, value in index.items() if isinstance(value, list) and value and value[-1]}
    commands = ()
    if index["_class_name"] == "StableDiffusion3Pipeline":
        commands = (f"ditexp run model=sd3 model.path={path} condition=prompts",)
    elif (path / "vae" / CONFIG).exists():
        commands = (f"ditexp run vae=folder vae.path={path} model.checkpoint=...",)
    return Card(path, f"a pipeline of diffusers, {index['_class_name']}", {"parts": parts}, commands)
