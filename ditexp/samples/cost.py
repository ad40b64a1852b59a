"""What an image of a sample set costs, from the costs of its blocks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from ditexp.result import CostPerImage, StepCounts
from ditexp.values import Cost


def cost_per_image(blocks: Sequence[Cost], *, steps: int | None) -> CostPerImage:
    """The mean over all images, whenever and wherever their blocks were made. steps: None for an adaptive solver.

    Seconds are one device's: with several devices, the set was ready sooner. Raises ValueError if nothing was made.
    """
    images, seconds = sum(cost.images for cost in blocks), sum(cost.seconds for cost in blocks)
    if not images or not seconds:
        raise ValueError(f"{images} images in {seconds} seconds")
    preparation = sum(cost.preparation_seconds for cost in blocks)
    return CostPerImage(
        steps=steps,
        nfe=sum(cost.velocity_rows for cost in blocks) / images,
        forwards=sum(cost.network_rows for cost in blocks) / images,
        seconds_per_image=seconds / images,
        images_per_second=images / seconds,
        preparation_seconds=None if math.isnan(preparation) else preparation,
        peak_memory_mb=max(cost.peak_memory_mb for cost in blocks),
        accepted_steps=step_counts([cost.accepted for cost in blocks]),
        rejected_steps=step_counts([cost.rejected for cost in blocks]),
    )


def step_counts(blocks: Sequence[Counter[int]]) -> StepCounts | None:
    """How many steps images needed; None on fixed grids. blocks: each {number of steps: images}."""
    images: Counter[int] = Counter()
    for counts in blocks:
        images.update(counts)
    if not images:
        return None
    return StepCounts(
        mean=sum(steps * number for steps, number in images.items()) / images.total(),
        smallest=min(images),
        largest=max(images),
        images={str(steps): number for steps, number in sorted(images.items())},
    )
