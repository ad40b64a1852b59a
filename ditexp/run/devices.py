"""Which devices a run samples on."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

import torch

MAX_AUTO_WORKERS = 8  # CPU workers that `auto` starts
MAX_CPU_WORKERS = 1024


def choose_devices(devices: str | int | Sequence[int]) -> list[torch.device]:
    """The devices that a setting names: one worker runs on each.

    auto: all CUDA devices or, without any, CPU workers. N: the first N CUDA devices. [0, 2]: these CUDA devices. cpu,
    cpu:N: 1 or N CPU workers, each with one thread, so that the last bits of a sample do not depend on their number.
    Raises ValueError for devices that do not exist.
    """
    available = torch.cuda.device_count()
    if devices == "auto":
        return choose_devices(available or f"cpu:{min(cores(), MAX_AUTO_WORKERS)}")
    if devices == "cpu":
        return choose_devices("cpu:1")
    if isinstance(devices, str) and re.fullmatch("cpu:0*[1-9][0-9]*", devices):
        if len(devices) > 9 or int(devices[4:]) > MAX_CPU_WORKERS:
            raise ValueError(f"devices={devices}: choose cpu:N with N up to {MAX_CPU_WORKERS:,}")
        return [torch.device("cpu")] * int(devices[4:])
    numbers = gpu_numbers(devices, available)
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"devices={devices}: choose auto, a number of GPUs, a list of them as [0,2], cpu or cpu:N")
    if max(numbers) >= available:
        raise ValueError(f"devices={devices}: this machine has {available} CUDA devices; choose auto or cpu:N")
    return [torch.device("cuda", number) for number in numbers]


def gpu_numbers(devices: object, available: int) -> list[int]:
    """The numbers of the CUDA devices that a setting names; empty if it names none."""
    if isinstance(devices, int) and not isinstance(devices, bool):
        return list(range(min(devices, available + 1)))  # one more than there are stands for any larger number
    if not isinstance(devices, Sequence) or isinstance(devices, str):
        return []
    numbers = [number for number in devices if isinstance(number, int) and number >= 0]
    return numbers if len(numbers) == len(devices) else []


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
