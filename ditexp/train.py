"""Train a network: python -m ditexp.train network=dit_s_2 data=folder data.path=... (see conf/train.yaml).

Seeded, with an exponential moving average of the weights, and resumable: the same command goes on from the last
checkpoint, and a finished run only says so.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ditexp.cli import ConfigError, command, instantiate, not_whole_numbers
from ditexp.data import ShuffledBatches
from ditexp.files import atomic, remove_abandoned
from ditexp.progress import progress_bar


@command("train")
def main(cfg: DictConfig) -> None:
    if mistakes := not_whole_numbers(cfg, steps=1, batch_size=1, save_every=1):
        raise ConfigError("\n".join(mistakes))
    folder = Path(cfg.folder)
    device = choose_device(cfg.device)
    data, objective = instantiate(cfg.data), instantiate(cfg.objective)
    torch.manual_seed(cfg.seed)
    network = instantiate(cfg.network)
    check(network, objective, data)
    network.to(device)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=cfg.learning_rate, weight_decay=cfg.weight_decay)

    # Where and on what it ran is no part of what was trained.
    kept = {
        k: v for k, v in OmegaConf.to_container(cfg, resolve=True).items() if k not in ("folder", "device", "workers")
    }
    settings = json.dumps(kept, sort_keys=True)
    checkpoint, trained = folder / "checkpoint.pt", folder / "model.safetensors"
    remove_abandoned(folder)
    start, recent = 0, None
    if checkpoint.exists():
        start, recent = resume(checkpoint, settings, network, average, optimizer)
    if start == cfg.steps and trained.exists():
        print(f"already trained: {trained}")
        return

    batches = ShuffledBatches(length=len(data), batch_size=cfg.batch_size, seed=cfg.seed, start=start, stop=cfg.steps)
    loader = DataLoader(data, batch_sampler=batches, num_workers=cfg.workers)
    with progress_bar("training", total=cfg.steps, completed=start, unit="steps") as bar:
        for step, (images, labels) in enumerate(plain_errors(loader), start):
            for group in optimizer.param_groups:
                group["lr"] = cfg.learning_rate * rate(step, steps=cfg.steps, warmup=cfg.warmup)
            generator = torch.Generator().manual_seed(cfg.seed * 1_000_003 + step)
            with bf16_where_native(device):
                labels = labels.to(device) if isinstance(labels, Tensor) else labels  # or captions
                loss = objective(network, images.to(device), labels, generator)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), cfg.clip_gradient)
            optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(average.parameters(), network.parameters()):
                    slow.lerp_(fast, 1 - cfg.ema)
            recent = loss.item() if recent is None else 0.99 * recent + 0.01 * loss.item()
            bar.advance(1, note=f"loss {recent:.4f}")
            if (step + 1) % cfg.save_every == 0 or step + 1 == cfg.steps:
                state = {
                    "settings": settings,
                    "step": step + 1,
                    "loss": recent,
                    "optimizer": optimizer.state_dict(),
                }
                state |= {"model": network.state_dict(), "ema": average.state_dict()}
                with atomic(checkpoint) as temporary:
                    torch.save(state, temporary)

    architecture = OmegaConf.to_container(cfg.network, resolve=True)
    metadata = {"architecture": json.dumps(architecture), "training": settings, "loss": f"{recent:.5f}"}
    weights = average.state_dict()
    if text_encoder := getattr(average, "text_encoder", None):
        text_encoder.save(folder)
        weights = average.weights()
    with atomic(trained) as temporary:
        save_file({key: value.cpu().contiguous() for key, value in weights.items()}, temporary, metadata)
    print(f"trained: {trained} (loss {recent:.4f})")


def check(network: nn.Module, objective, data) -> None:
    """Raise ValueError unless this objective can train this network on these images and labels."""
    classes = getattr(network, "num_classes", 0)
    if 0 < classes < data.num_classes:
        raise ValueError(f"the data has {data.num_classes} classes, the network {classes}: set network.num_classes")
    image, label = data[0]
    side = getattr(network, "input_size", image.shape[-1])
    if image.shape[1:] != (side, side):  # which a network of several resolutions would take
        sides = " x ".join(map(str, image.shape[1:]))
        raise ValueError(f"the images are {sides}, the network {side} x {side}: set network.input_size")
    labels = [label] if isinstance(label, str) else torch.tensor([data.num_classes - 1])
    try:
        with torch.no_grad():
            objective(network, image[None], labels, torch.Generator())
    except (RuntimeError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{type(network).__name__} cannot be trained by {type(objective).__name__} on images of "
            f"{' x '.join(map(str, image.shape))} in {data.num_classes} classes ({error}): "
            f"choose another network=... or objective=..., or set network.* to the data's"
        ) from error


def resume(checkpoint: Path, settings: str, network: nn.Module, average: nn.Module, optimizer) -> tuple[int, float]:
    """Restore everything; the step to go on from and the loss so far."""
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    if state["settings"] != settings:
        old, new = json.loads(state["settings"]), json.loads(settings)
        others = ", ".join(sorted(key for key in old | new if old.get(key) != new.get(key)))
        raise ValueError(f"{checkpoint} was made with other settings ({others}): give another folder=..., or delete it")
    network.load_state_dict(state["model"])
    average.load_state_dict(state["ema"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["loss"]


def plain_errors(loader: DataLoader) -> Iterator:
    """The loader's batches; a mistake in the data comes out as it was raised, without its worker's traceback."""
    try:
        yield from loader
    except ValueError as error:
        raise ValueError(str(error).strip().splitlines()[-1].removeprefix("ValueError: ")) from error


def rate(step: int, *, steps: int, warmup: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup))


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


def bf16_where_native(device: torch.device) -> torch.autocast:
    native = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=native)


if __name__ == "__main__":
    main()
