"""ditexp beside SiT's script and diffusers' DiT, on a DiT-XL/2 with random weights."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.parts import SCALE, Part, Row
from benchmarks.loops import torchdiffeq
from benchmarks.random_models import Size
from ditexp.pixels import to_pixels

Draw = Callable[[], Tensor]


def peers(part: Part) -> None:
    """For each batch: ditexp; SiT's script; SiT's with bfloat16 weights and torch.compile by hand; diffusers' DiT."""
    (size,) = part.sizes("XL")
    modes: tuple[Any, ...] = (False,) if part.dry_run else (True, "max")
    by_hand: tuple[str | None, ...] = (None,) if part.dry_run else ("default", "max-autotune")
    for batch in part.batches(8, 64, 256):
        facts: Row = {"size": size, "batch": batch}
        for mode in modes:
            ours = {"way": "ditexp", "precision": "bf16", "compile": mode}
            part.row({**facts, **ours}, lambda b=batch, m=mode: through_ditexp(part, size, b, m))
        part.row({**facts, "way": "SiT's script"}, lambda b=batch: as_sit(part, size, b, by_hand=False, mode=None))
        for mode in by_hand:
            row = {**facts, "way": "SiT's script, bf16 and compiled by hand", "compile": mode}
            part.row(row, lambda b=batch, m=mode: as_sit(part, size, b, by_hand=True, mode=m))
            row = {**facts, "way": "diffusers' DiT, bf16", "compile": mode}
            part.row(row, lambda b=batch, m=mode: as_diffusers(part, size, b, mode=m))


def through_ditexp(part: Part, size: str, batch: int, mode: Any) -> Row:
    return part.sampling(size, batch, part.sampler(size, precision="bf16", compile=mode))


@torch.no_grad()
def as_sit(part: Part, size: str, batch: int, *, by_hand: bool, mode: str | None) -> Row:
    """The operations of sample.py in github.com/willisma/SiT with `ODE --sampling-method Euler`.

    float32 weights with TF32 products as it sets them, torchdiffeq's Euler on a doubled batch whose halves are the same
    noise, and guidance of the first three channels as in `forward_with_cfg`. num_sampling_steps are points of the grid
    there; here the steps are those of ditexp. by_hand: bfloat16 weights; mode: of torch.compile, None for none.
    """
    network = part.size(size).network().to(part.device, torch.bfloat16 if by_hand else torch.float32).eval()
    compiled = network if mode is None else torch.compile(network, mode=mode)
    labels = torch.arange(batch, device=part.device) % 1000
    both = torch.cat([labels, torch.full_like(labels, 1000)])
    loop = torchdiffeq("euler")

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        half = x[: len(x) // 2]
        given = torch.cat([half, half])
        if by_hand:
            output = compiled(given.bfloat16(), t.bfloat16(), both).float()
        else:
            output = compiled(given, t, both)
        guided, rest = output[:, :3], output[:, 3:]
        better, worse = guided.chunk(2)
        combined = worse + SCALE * (better - worse)
        return torch.cat([torch.cat([combined, combined]), rest], dim=1)

    def draw() -> Tensor:
        z = torch.randn(batch, 4, *[part.size(size).side] * 2, device=part.device)
        samples = loop(velocity, torch.cat([z, z]), part.steps)
        return to_pixels(samples[:batch, :3]).cpu()

    with tf32():
        return part.speed(size, batch, draw)


@torch.no_grad()
def as_diffusers(part: Part, size: str, batch: int, *, mode: str | None) -> Row:
    """The loop of diffusers' DiTPipeline with its DiTTransformer2DModel in bfloat16, stepped by its Euler scheduler."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    network = diffusers_dit(part.size(size)).to(part.device, torch.bfloat16).eval()
    compiled = network if mode is None else torch.compile(network, mode=mode)
    labels = torch.arange(batch, device=part.device) % 1000
    both = torch.cat([labels, torch.full_like(labels, 1000)])
    scheduler = FlowMatchEulerDiscreteScheduler()

    def draw() -> Tensor:
        x = torch.randn(batch, 4, *[part.size(size).side] * 2, device=part.device, dtype=torch.bfloat16)
        scheduler.set_timesteps(sigmas=[1 - step / part.steps for step in range(part.steps)], device=part.device)
        x = torch.cat([x, x])
        for time in scheduler.timesteps:
            half = x[: len(x) // 2]
            given = torch.cat([half, half])
            times = time.expand(len(given)).long()
            noise = compiled(given, timestep=times, class_labels=both, return_dict=False)[0]
            better, worse = noise.chunk(2)
            combined = worse + SCALE * (better - worse)
            x = scheduler.step(torch.cat([combined, combined]), time, x, return_dict=False)[0]
        return to_pixels(x[:batch, :3]).cpu()

    return part.speed(size, batch, draw)


def diffusers_dit(size: Size) -> nn.Module:
    from diffusers import DiTTransformer2DModel

    return DiTTransformer2DModel(
        num_attention_heads=size.num_heads,
        attention_head_dim=size.hidden_size // size.num_heads,
        num_layers=size.depth,
        in_channels=4,
        out_channels=4,
        sample_size=size.side,
        patch_size=2,
        num_embeds_ada_norm=1000,
    )


@contextmanager
def tf32() -> Generator[None]:
    """As SiT's sample.py sets it, and afterwards as before."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
