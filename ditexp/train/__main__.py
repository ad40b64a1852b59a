"""Train a network: python -m ditexp.train network=dit_s_2 data=folder data.path=... (see conf/train.yaml).

Seeded, with an exponential moving average of the weights, and resumable: the same command goes on from the last
checkpoint, and a finished run only says so.
"""

from __future__ import annotations

import copy
import errno
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ditexp.checks import ConfigError
from ditexp.cli.command import command
from ditexp.cli.components import instantiate
from ditexp.cli.numbers import not_whole_numbers
from ditexp.cli.shortage import SHARED_MEMORY, chain, shortage
from ditexp.core import class_names
from ditexp.data import ShuffledBatches
from ditexp.files.atomic import check_writable, remove_abandoned
from ditexp.terminal.notices import notice
from ditexp.terminal.progress import progress_bar
from ditexp.train.checkpoint import Checkpoint, first_not_finite, write_model

# The numbers of the configuration that need not be whole: whether one will do, and what to give instead.
NUMBERS = {
    "learning_rate": (lambda value: value > 0, "a number above 0"),
    "weight_decay": (lambda value: value >= 0, "a number of at least 0"),
    "clip_gradient": (lambda value: value >= 0, "a norm above 0, or null for no clipping"),
    "ema": (lambda value: 0 <= value < 1, "a decay of at least 0 and below 1, such as 0.999"),
}
MAX_SEED = 10**13  # beyond it, the seeds of single steps don't fit into 64 bits


@command("train")
def main(cfg: DictConfig) -> None:
    if mistakes := wrong_numbers(cfg):
        raise ConfigError("\n".join(mistakes))
    device = choose_device(cfg.device)
    data, objective = instantiate(cfg.data), instantiate(cfg.objective)
    torch.manual_seed(cfg.seed)
    network = instantiate(cfg.network)
    check(network, objective, data)
    tell_what_is_odd(cfg, network, data)
    network.to(device)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=cfg.learning_rate, weight_decay=cfg.weight_decay)

    folder = Path(cfg.folder)
    trained = folder / "model.safetensors"
    checkpoint = Checkpoint(folder / "checkpoint.pt", OmegaConf.to_container(cfg, resolve=True), facts_of(data))
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
    if text_encoder := getattr(average, "text_encoder", None):
        text_encoder.save(folder)
        weights = average.weights()
    names = checkpoint.data["class_names"] if classes_of(network) else ()
    write_model(trained, weights, checkpoint=checkpoint, class_names=names, loss=loss)
    print(f"trained: {trained} (loss {loss:.4f})")


def train(
    checkpoint: Checkpoint, data, objective, network: nn.Module, average: nn.Module, optimizer, *, start: int, loss
) -> float:
    """Go on from step `start` and write checkpoints; the loss, averaged over about 100 steps.

    Raises RuntimeError as soon as a loss, a gradient or a weight is not finite; the last checkpoint stays as it is.
    """
    cfg, device = SimpleNamespace(**checkpoint.config), next(network.parameters()).device
    batches = ShuffledBatches(length=len(data), batch_size=cfg.batch_size, seed=cfg.seed, start=start, stop=cfg.steps)
    loader = DataLoader(data, batch_sampler=batches, num_workers=cfg.workers)
    with progress_bar("training", total=cfg.steps, completed=start, unit="steps") as bar:
        for step, (images, labels) in enumerate(plain_errors(loader, workers=cfg.workers), start):
            for group in optimizer.param_groups:
                group["lr"] = cfg.learning_rate * rate(step, steps=cfg.steps, warmup=cfg.warmup)
            generator = torch.Generator().manual_seed(cfg.seed * 1_000_003 + step)
            with bf16_where_native(device):
                labels = labels.to(device) if isinstance(labels, Tensor) else labels  # or captions
                batch_loss = objective(network, images.to(device), labels, generator)
            optimizer.zero_grad()
            batch_loss.backward()
            norm = nn.utils.clip_grad_norm_(network.parameters(), cfg.clip_gradient or math.inf)
            failed = next((name for name, x in (("loss", batch_loss), ("gradient", norm)) if not x.isfinite()), None)
            if failed:
                raise RuntimeError(failure(f"the {failed} of step {step + 1}", optimizer, checkpoint))
            optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(average.parameters(), network.parameters()):
                    slow.lerp_(fast, 1 - decay(step, ema=cfg.ema, warmup=cfg.ema_warmup))
            loss = batch_loss.item() if loss is None else 0.99 * loss + 0.01 * batch_loss.item()
            bar.advance(1, note=f"loss {loss:.4f}")
            if (step + 1) % cfg.save_every == 0 or step + 1 == cfg.steps:
                if lost := first_not_finite(network.state_dict()) or first_not_finite(average.state_dict()):
                    raise RuntimeError(failure(f"after step {step + 1}, {lost}", optimizer, checkpoint))
                checkpoint.save(step=step + 1, loss=loss, network=network, average=average, optimizer=optimizer)
    return loss


def failure(what: str, optimizer, checkpoint: Checkpoint) -> str:
    kept, where = "no checkpoint was written", ""
    if checkpoint.path.exists():
        kept, where = f"the last good checkpoint is kept: {checkpoint.path}", ", in another folder=..."
    return (
        f"{what} is not finite, at a learning rate of {optimizer.param_groups[0]['lr']:g}; {kept}. Lower learning_rate "
        f"or clip_gradient{where}, or check the images"
    )


def decay(step: int, *, ema: float, warmup: bool) -> float:
    """The share of itself that the average keeps in step `step`, from 0: with warmup, little in the first steps.

    Else 0.999^300 = 74% of the average is the random start after 300 steps. (1 + step) / (10 + step) is that of
    TensorFlow's ExponentialMovingAverage with num_updates.
    """
    return min(ema, (1 + step) / (10 + step)) if warmup else ema


def wrong_numbers(cfg: DictConfig) -> list[str]:
    """A mistake for each plain value of the configuration that no training can have."""
    mistakes = not_whole_numbers(cfg, seed=0, steps=1, batch_size=1, save_every=1, warmup=0, workers=0)
    if not mistakes and cfg.seed > MAX_SEED:
        mistakes.append(f"seed={cfg.seed}: give a whole number of at most {MAX_SEED:,}")
    for key, (will_do, choices) in NUMBERS.items():
        value = cfg[key]
        if value is None and key == "clip_gradient":
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not will_do(value):
            mistakes.append(f"{key}={value}: give {choices}")
    if not isinstance(cfg.ema_warmup, bool):
        mistakes.append(f"ema_warmup={cfg.ema_warmup}: choose true or false")
    return mistakes


def tell_what_is_odd(cfg: DictConfig, network: nn.Module, data) -> None:
    if cfg.warmup >= cfg.steps > 1:
        notice(f"warmup={cfg.warmup}: the learning rate still rises when steps={cfg.steps} end")
    if cfg.batch_size > len(data):
        notice(f"batch_size={cfg.batch_size}: there are {len(data)} images, so that a batch holds some of them twice")
    if 0 < data.num_classes < classes_of(network):
        notice(
            f"the network has {classes_of(network)} classes, the data {data.num_classes}: labels from "
            f"{data.num_classes} on are never trained"
        )


def facts_of(data) -> dict:
    """JSON-able facts that tell these images and labels from others; of a data set of one's own, what it tells.

    labels: the classes that have images.
    """
    labels = np.unique(getattr(data, "labels", ())).tolist()
    facts = {"images": len(data), "class_names": list(class_names(data)), "labels": labels}
    return json.loads(json.dumps(facts | {"identity": getattr(data, "identity", {})}))


def classes_of(network: nn.Module) -> int:
    return getattr(network, "num_classes", 0)


def check(network: nn.Module, objective, data) -> None:
    """Raise ValueError unless this objective can train this network on these images and labels."""
    classes = classes_of(network)
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
        if shortage(error):
            raise
        raise ValueError(
            f"{type(network).__name__} cannot be trained by {type(objective).__name__} on images of "
            f"{' x '.join(map(str, image.shape))} in {data.num_classes} classes ({error}): "
            f"choose another network=... or objective=..., or set network.* to the data's"
        ) from error


def plain_errors(batches: Iterable, *, workers: int) -> Iterator:
    """A loader's batches; errors of its processes come out without their tracebacks, or as what was short."""
    try:
        yield from batches
    except (ValueError, RuntimeError, OSError) as error:
        if workers and (short := shortage_of_loading(error, workers)):
            raise short from None
        if "DataLoader worker process" not in str(error):
            raise
        kind = ValueError if isinstance(error, ValueError) else RuntimeError
        raise kind(str(error).strip().splitlines()[-1].removeprefix(f"{kind.__name__}: ")) from error


def shortage_of_loading(error: Exception, workers: int) -> Exception | None:
    """What loading processes were short of, of which torch gives the text alone; None where nothing tells of any."""
    text = "\n".join(map(str, chain(error)))
    if re.search("Bus error|shared memory|No space left on device", text):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), SHARED_MEMORY)
    if "Too many open files" in text or "items of ancdata" in text:
        return OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    if "killed by signal: Killed" in text:
        return RuntimeError(
            f"a process that loads images was killed by SIGKILL: most likely the machine is out of memory; take fewer "
            f"than workers={workers}, or a smaller batch_size"
        )
    return None


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
