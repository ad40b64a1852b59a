"""Parts that measure ditexp alone: by size and batch, precision, compilation and cache."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from benchmarks.gpu.parts import Part, Row
from ditexp.cli.components import instantiate
from ditexp.cli.packaged import options_of, packaged

BATCH = 64


def throughput(part: Part) -> None:
    """Sizes and batches, in bfloat16 and compiled."""
    settings = {"precision": "bf16", "compile": not part.dry_run}
    for size in part.sizes("XL", "S", "B", "L"):
        for batch in part.batches(1, 2, 4, 8, 16, 32, 64, 128, 256):
            drawn(part, {"size": size, "batch": batch, **settings})


def compilation(part: Part) -> None:
    """Compile modes by batch, with the seconds that compiling takes; in bfloat16."""
    (size,) = part.sizes("XL")
    for batch in part.batches(1, 8, 64, 256):
        for mode in (False,) if part.dry_run else (False, True, "max"):
            drawn(part, {"size": size, "batch": batch, "precision": "bf16", "compile": mode})


def precision(part: Part) -> None:
    """Each precision, as it is and compiled, with how far its samples are from those of float32."""
    (size,), (batch,) = part.sizes("XL"), part.batches(BATCH)
    exact: list[Tensor] = []
    for chosen in ("fp32", "tf32", "bf16", "fp16", "fp8", "int8"):
        for mode in (False,) if part.dry_run else (False, True):
            drawn(part, {"size": size, "batch": batch, "precision": chosen, "compile": mode}, exact=exact)


def cache(part: Part) -> None:
    """Each cache of conf/cache as it is there, with how far its samples are from those without; in bfloat16."""
    (size,), (batch,) = part.sizes("XL"), part.batches(BATCH)
    settings = {"precision": "bf16", "compile": not part.dry_run}
    exact: list[Tensor] = []
    names = [name for name in options_of("cache") if name != "ddt"]  # which needs an encoder, and a DiT has none
    for name in sorted(names, key=lambda name: name != "none"):
        file = OmegaConf.load(packaged("conf") / "cache" / f"{name}.yaml")
        chosen = None if name == "none" else instantiate(file)
        drawn(part, {"size": size, "batch": batch, **settings, "cache": name}, exact=exact, cache=chosen)


def drawn(part: Part, facts: Row, *, exact: list[Tensor] | None = None, **objects: Any) -> None:
    """A row with these settings. exact: the samples that its samples are compared with, or a place for them.

    objects: settings that are no words.
    """

    @torch.inference_mode()
    def measured() -> Row:
        size, batch, settings = facts["size"], facts["batch"], {**facts, **objects}
        sampler = part.sampler(**{key: value for key, value in settings.items() if key != "batch"})
        row = part.sampling(size, batch, sampler)
        if exact is None:
            return row
        samples = sampler.samples(range(batch))[0].double()
        exact[:] = exact or [samples]
        return {**row, "error": relative_error(samples, exact[0])}

    part.row(facts, measured)


def relative_error(samples: Tensor, exact: Tensor) -> float:
    """The root mean square of the difference, over the standard deviation of the exact samples."""
    return ((samples - exact).square().mean().sqrt() / exact.std()).item()
