"""Rows of progress: when a tracker shows one, and what is in it."""

from __future__ import annotations

from ditexp.progress import Progress

SOON, SECONDS_BETWEEN_ROWS = 10, 30  # between rows: in the first minute, and later


def is_due(progress: Progress, latest: Progress | None) -> bool:
    """Whether to show this, after the latest that was shown: in each new phase, and when some time has passed."""
    if latest is None or latest.phase != progress.phase or progress.seconds < latest.seconds:
        return True
    return progress.seconds - latest.seconds >= (SOON if progress.seconds < 60 else SECONDS_BETWEEN_ROWS)


def row_of(progress: Progress) -> dict[str, str | float]:
    """By names that start with "progress/"; without numbers that are not known."""
    left = progress.seconds_left
    row = {
        "phase": progress.phase,
        "minutes": progress.seconds / 60,
        "images": round(progress.images + progress.images_in_progress),
        "percent": 100 * progress.images / progress.total_images if progress.total_images else None,
        "images_per_second": progress.images_per_second,
        "forwards": progress.forwards,
        "minutes_left": None if left is None else left / 60,
        "failed_blocks": progress.failed_blocks,
    }
    return {f"progress/{name}": value for name, value in row.items() if value is not None}
