"""A training from its configuration to the trained weights."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from omegaconf import DictConfig

from ditexp.cli.components import instantiate
from ditexp.cli.nodes import resolve
from ditexp.files.atomic import check_writable, remove_abandoned
from ditexp.model.text_dit import TextDiT
from ditexp.train.checkpoint import Checkpoint, write_model
from ditexp.train.data import check, facts_of
from ditexp.train.flow_map import FlowMapDistillation
from ditexp.train.loop import train
from ditexp.train.network import classes_of
from ditexp.train.settings import notice_oddities


def run(cfg: DictConfig) -> None:
    """Train, from the last checkpoint if there is one. cfg: checked by `mistakes_in`. Raises ValueError."""
    device = choose_device(cfg.device)
    data, objective = instantiate(cfg.data), instantiate(cfg.objective)
    torch.manual_seed(cfg.seed)
    network = instantiate(cfg.network)
    check(network, objective, data)
    if isinstance(objective, FlowMapDistillation):
        objective.begin(network)
    notice_oddities(cfg, network, data)
    network.to(device)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=cfg.learning_rate, weight_decay=cfg.weight_decay)

    folder = Path(cfg.folder)
    trained = folder / "model.safetensors"
    config = resolve(cfg)
    if isinstance(objective, FlowMapDistillation):
        config["objective"]["teacher"] = objective.teacher.identity  # and not the place of its file
    checkpoint = Checkpoint(folder / "checkpoint.pt", config, facts_of(data))
    remove_abandoned(folder)
    start, loss = 0, None
    if checkpoint.path.exists():
        start, loss = checkpoint.resume(network, average, optimizer)
    if start == cfg.steps and trained.exists():
        print(f"already trained: {trained}")
        return
    check_writable(checkpoint.path)
    loss = train(checkpoint, data, objective, network, average, optimizer, start=start, loss=loss)

    weights = average.state_dict()
    if isinstance(average, TextDiT) and average.text_encoder:
        average.text_encoder.save(folder)
        weights = average.weights()
    names = checkpoint.data["class_names"] if classes_of(network) else ()
    write_model(trained, weights, checkpoint=checkpoint, class_names=names, loss=loss)
    print(f"trained: {trained} (loss {loss:.4f})")


def choose_device(name: str) -> torch.device:
    """auto, cpu, cuda or cuda:N. Raises ValueError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ValueError(f"device={name}: choose auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={name}: this machine has {torch.cuda.device_count()} CUDA devices; try device=auto")
    return device
