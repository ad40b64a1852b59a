"""Several ways to do the same, in one process, in turn."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Way = Callable[[], object]


def in_turn(ways: Mapping[str, Way], *, rounds: int = 5, first: str = "ditexp") -> dict[str, Any]:
    """Time each way once a round, beginning with another one in each round, after one round that is not timed.

    Gives of each way the median seconds, by the clock and of the processor, and both over those of `first`: the ratio
    of medians, and the median of the ratios within a round, which a machine that drifts disturbs less. `first` runs
    twice a round; the second is listed as "<first>, again", and its ratios say how much is noise.
    """
    ways = {**ways, f"{first}, again": ways[first]}
    names = list(ways)
    for way in ways.values():
        way()
    seconds: dict[str, dict[str, list[float]]] = {name: {"clock": [], "processor": []} for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            for kind, value in timed(ways[name]).items():
                seconds[name][kind].append(value)
    return {name: compared(found, seconds[first]) for name, found in seconds.items()}


def timed(way: Way) -> dict[str, float]:
    """Seconds by the clock, and of the processor in this process and its workers."""
    clock, processor = time.perf_counter(), processor_seconds()
    way()
    return {"clock": time.perf_counter() - clock, "processor": processor_seconds() - processor}


def processor_seconds() -> float:
    return time.process_time() + sum(seconds_of(child.pid) for child in multiprocessing.active_children() if child.pid)


def seconds_of(process: int) -> float:
    """User and system seconds of another process, from Linux."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compared(ours: Mapping[str, list[float]], first: Mapping[str, list[float]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for kind in ("clock", "processor"):
        median = statistics.median(ours[kind])
        ratios = [one / other for one, other in zip(ours[kind], first[kind])]
        row[f"{kind}_seconds"] = round(median, 5)
        row[f"{kind}_ratio"] = round(median / statistics.median(first[kind]), 4)
        row[f"{kind}_ratio_in_a_round"] = round(statistics.median(ratios), 4)
    return row


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    width = max(map(len, rows))
    lines = [f"{'':{width}}  clock s  x ditexp  processor s  x ditexp"]
    for name, row in rows.items():
        clock, processor = row["clock_ratio"], row["processor_ratio"]
        lines.append(
            f"{name:{width}}  {row['clock_seconds']:7.3f}  {clock:8.3f}  {row['processor_seconds']:11.3f}  "
            f"{processor:8.3f}"
        )
    return "\n".join(lines)
