"""batch_size=auto: the smallest batch size that this device is fast with, measured once and remembered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from omegaconf import DictConfig

from ditexp.cli.nodes import resolve
from ditexp.cli.shortage import is_out_of_memory, power_of_two_below
from ditexp.files import hash_cache
from ditexp.files.content import digest
from ditexp.meter import Meter, peak_memory_mb, reset_peak_memory, synchronize
from ditexp.network import Network
from ditexp.provenance import device_name
from ditexp.run.components import bind_components
from ditexp.run.configuration import AUTO, with_value
from ditexp.run.identity import identify
from ditexp.sampler import Sampler
from ditexp.terminal.notices import notice

UNMEASURED = 128  # in plans and checks before the first measurement
LARGEST = 1024
GAIN = 1.05  # a size must be faster by this factor than a smaller one
MEMORY = 0.8  # of what is free on a GPU
SECONDS = {"cpu": 1.5, "cuda": 20.0}  # after this time no larger size is tried


def with_batch_size(cfg: DictConfig, parts: Mapping[str, Any], device: torch.device, *, measure: bool) -> DictConfig:
    """The configuration with a number for batch_size=auto; without auto, the configuration as it is.

    The number is remembered by all that decides it, and at most num_samples. parts: the components. measure: whether to
    measure what is not remembered; otherwise UNMEASURED is assumed.
    """
    if cfg.batch_size != AUTO:
        return cfg
    key = key_of(cfg, parts["model"], device)
    known = hash_cache.CACHE.recall([key])
    if not known and not measure:
        notice(f"batch_size=auto is measured when a cell runs; {UNMEASURED} is assumed until then")
        return with_value(cfg, "batch_size", min(UNMEASURED, cfg.num_samples))
    if not known:
        sampler, _ = bind_components(with_value(cfg, "batch_size", 1), parts, device)
        known = remember(key, measured(sampler))
    size = int(known[key])
    notice(f"batch_size=auto is {size} for this network on {device_name(device)}")
    return with_value(cfg, "batch_size", min(size, cfg.num_samples))


def key_of(cfg: DictConfig, model: Any, device: torch.device) -> bytes:
    """What the batch size is remembered by: all that decides how fast a batch is and how much memory it needs."""
    guidance = {name: value for name, value in cfg.guidance.items() if name in ("_target_", "weak")}
    settings = {name: resolve(cfg[name]) for name in ("precision", "compile", "cache", "vae")}
    facts = {**settings, "model": identify(model), "guidance": resolve(guidance), "device": device_name(device)}
    return hash_cache.key_of("batch_size", digest(facts))


def remember(key: bytes, size: int) -> dict[bytes, str]:
    hash_cache.CACHE.remember({key: str(size)}, on_disk=True)
    return {key: str(size)}


def lower(cfg: DictConfig, sampler: Sampler, *, size: int) -> int:
    """Remember that a batch of this size did not fit in memory: returns the size that is taken from now on."""
    smaller = power_of_two_below(size)
    remember(key_of(cfg, sampler.model, sampler.device), smaller)
    return smaller


@torch.inference_mode()
def measured(sampler: Sampler) -> int:
    """The smallest power of two within GAIN of the most samples a second; evaluations are full and not compiled.

    Sizes are doubled until two in a row are no faster, or memory or time does not allow more.
    """
    device, meter = sampler.device, Meter(sampler.device)
    assert isinstance(sampler.network, Network)
    network = replace(sampler.network, meter=meter, compile=False)
    sampler = replace(sampler, network=network, meter=meter, cache=None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if device.type == "cpu" else threads)  # as in a worker
    try:
        sampler.load(1)
        rates = rates_of(sampler)
    finally:
        torch.set_num_threads(threads)
        if device.type == "cuda":  # what follows in this process needs no network
            sampler.model.to("cpu")
            network.forward = sampler.model.__call__
            torch.cuda.empty_cache()
    return fast(rates)


def fast(rates: Mapping[int, float]) -> int:
    """The smallest size within GAIN of the most samples a second."""
    return next(size for size, rate in rates.items() if rate * GAIN >= max(rates.values()))


def rates_of(sampler: Sampler) -> dict[int, float]:
    """Samples a second by batch size, in ascending order. Raises what a batch of one raises."""
    rates: dict[int, float] = {}
    begun, size, slower = time.perf_counter(), 1, 0
    while size <= LARGEST and slower < 2:
        try:
            seconds, share = seconds_of(sampler, size)
        except (RuntimeError, MemoryError) as error:
            if not rates or not is_out_of_memory(error):
                raise
            break
        best = max(rates.values(), default=0)
        rates[size] = size / seconds
        slower = 0 if rates[size] > best * GAIN else slower + 1
        if 2 * share > MEMORY or time.perf_counter() - begun + 6 * seconds > SECONDS[sampler.device.type]:
            break
        size *= 2
    return rates


def seconds_of(sampler: Sampler, size: int) -> tuple[float, float]:
    """The seconds of one guided evaluation of a batch, the shorter of two, and the share of free memory that it needs.

    On a CPU they are of processor time, which other processes do not change.
    """
    device, clock = sampler.device, time.perf_counter if sampler.device.type == "cuda" else time.thread_time
    free, before = free_memory_mb(device)
    x, velocity = sampler.noise(range(size)), sampler.field(sampler.condition(range(size)))
    low, high = sampler.guidance.interval or (0, 1)
    reset_peak_memory(device)
    found = []
    for _ in range(3):  # the first one is slower
        synchronize(device)
        start = clock()
        velocity(x, x.new_full((size,), (low + high) / 2))
        synchronize(device)
        found.append(clock() - start)
    return max(min(found[1:]), 1e-9), (peak_memory_mb(device) - before) / free if free else 0.0


def free_memory_mb(device: torch.device) -> tuple[float, float]:
    """What is free on a GPU, and what torch has allocated there, in 10^6 bytes; zeros on a CPU."""
    if device.type != "cuda":
        return 0.0, 0.0
    return torch.cuda.mem_get_info(device)[0] / 1e6, torch.cuda.memory_allocated(device) / 1e6
