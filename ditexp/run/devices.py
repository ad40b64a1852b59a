"""Which devices a run samples on."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import torch

MAX_CPU_WORKERS = 8  # that `auto` starts by itself
MOST_CPU_WORKERS = 1024


def choose_devices(devices: str | int | Sequence[int]) -> list[torch.device]:
    """auto: every CUDA device there is, else CPU workers; N: the first N CUDA devices; [0, 2]: these; cpu or cpu:N.

    A CPU worker has one thread: so the last bits of a sample don't depend on how many workers there are, and N workers
    take N cores. Raises ValueError for what is not there.
    """
    there = torch.cuda.device_count()
    if devices == "auto":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return choose_devices(there if there else f"cpu:{min(cores, MAX_CPU_WORKERS)}")
    if devices == "cpu":
        return choose_devices("cpu:1")
    if isinstance(devices, str) and re.fullmatch("cpu:0*[1-9][0-9]*", devices):
        if len(devices) > 9 or int(devices[4:]) > MOST_CPU_WORKERS:
            raise ValueError(f"devices={devices}: choose cpu:N with N up to {MOST_CPU_WORKERS:,}")
        return [torch.device("cpu")] * int(devices[4:])
    is_count = isinstance(devices, int) and not isinstance(devices, bool)
    numbers = list(range(min(devices, there + 1))) if is_count else devices
    is_list = isinstance(numbers, Sequence) and all(isinstance(number, int) and number >= 0 for number in numbers)
    if not is_list or not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"devices={devices}: choose auto, a number of GPUs, a list of them as [0,2], cpu or cpu:N")
    if max(numbers) >= there:
        raise ValueError(f"devices={devices}: this machine has {there} CUDA devices; choose auto or cpu:N")
    return [torch.device("cuda", number) for number in numbers]
