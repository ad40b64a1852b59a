"""The training loop: seeded, with a moving average of the weights, and resumable from any checkpoint."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from ditexp.data import ShuffledBatches
from ditexp.terminal.progress import progress_bar
from ditexp.train.checkpoint import Checkpoint, first_not_finite
from ditexp.train.data import TrainingData
from ditexp.train.loading import plain_errors
from ditexp.train.objective import Objective


def train(
    checkpoint: Checkpoint,
    data: TrainingData,
    objective: Objective,
    network: nn.Module,
    average: nn.Module,
    optimizer: Optimizer,
    *,
    start: int,
    loss: float | None,
) -> float:
    """Train from step `start` to the last, with checkpoints; the loss, averaged over about 100 steps.

    average: the moving average of the network's weights. loss: of the steps before `start`.

    Raises RuntimeError as soon as a loss, a gradient or a weight is not finite; the last checkpoint stays as it is.
    """
    cfg, device = SimpleNamespace(**checkpoint.config), next(network.parameters()).device
    batches = ShuffledBatches(length=len(data), batch_size=cfg.batch_size, seed=cfg.seed, start=start, stop=cfg.steps)
    dataset = cast(Dataset[Any], data)  # any map-style data set will do, torch's type or not
    loader = DataLoader(dataset, batch_sampler=batches, num_workers=cfg.workers)
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
    if loss is None:
        raise ValueError(f"start={start}: there are only {cfg.steps} steps")
    return loss


def failure(what: str, optimizer: Optimizer, checkpoint: Checkpoint) -> str:
    """The error for something that is not finite, with the remedies."""
    kept, where = "no checkpoint was written", ""
    if checkpoint.path.exists():
        kept, where = f"the last good checkpoint is kept: {checkpoint.path}", ", in another folder=..."
    return (
        f"{what} is not finite, at a learning rate of {optimizer.param_groups[0]['lr']:g}; {kept}. Lower learning_rate "
        f"or clip_gradient{where}, or check the images"
    )


def decay(step: int, *, ema: float, warmup: bool) -> float:
    """The fraction of the average that step `step` (from 0) keeps; small in the first steps with warmup.

    Without warmup, 0.999^300 = 74 % of the average is still the random start after 300 steps. (1 + step) / (10 + step)
    is the warmup of TensorFlow's ExponentialMovingAverage with num_updates.
    """
    return min(ema, (1 + step) / (10 + step)) if warmup else ema


def rate(step: int, *, steps: int, warmup: int) -> float:
    """The learning rate of a step, as a fraction of the largest: linear warmup, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup))


def bf16_where_native(device: torch.device) -> torch.autocast:
    """Autocast to bfloat16 on GPUs that have it in hardware; elsewhere, no autocast."""
    native = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=native)
