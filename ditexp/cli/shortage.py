"""What a machine runs out of when a run fails: disk, memory, open files, processes; where, and the remedy."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
from collections.abc import Iterator, Mapping
from typing import Any

FREE_DISK = "free some space, for example by `ditexp samples gc`, or choose another disk"
FREE_MEMORY = "use a smaller batch_size (or feature.batch_size), or fewer workers"
FREE_GPU_MEMORY = "use a smaller batch_size (or feature.batch_size)"
MEMORY_PAGE = "docs/troubleshooting.md"
FEWER_WORKERS = "use fewer workers (devices=cpu:1)"
MORE_PROCESSES = "use fewer workers, end other processes, or raise the limit"

SHARED_MEMORY = "/dev/shm"  # where processes that load images put them
MORE_SHARED_MEMORY = "use fewer workers (workers=0 needs none of it), a smaller batch_size, or docker's --shm-size"

# Remedies by the error's number, each after a place and the system's own words.
REMEDIES = {
    errno.ENOSPC: f"{FREE_DISK} (`df -h` and `df -i` show what is left)",
    errno.EDQUOT: f"{FREE_DISK} (`quota -s` shows what is left)",
    errno.EFBIG: "allow larger files (`ulimit -f unlimited`), or choose another disk",
    errno.EMFILE: "allow more open files (`ulimit -n 4096`; it is {open_files}), or use fewer workers",
    errno.ENFILE: "all processes together have too many open files: end some",
    errno.ENOMEM: FREE_MEMORY,
}

ON_GPU = re.compile("CUDA.* out of memory|CUBLAS_STATUS_ALLOC_FAILED")
OUT_OF_MEMORY = re.compile(f"{ON_GPU.pattern}|can't allocate memory")

# What the end of a sampling worker most likely means, by its exit code.
NO_THREADS = os.EX_OSERR
ENDINGS = {
    NO_THREADS: f"too few processes and threads are allowed (`ulimit -u`); {MORE_PROCESSES}",
    -signal.SIGKILL: f"most likely the machine is out of memory; {FEWER_WORKERS} or a smaller batch_size",
    -signal.SIGBUS: "most likely a file that it reads was cut short, or the disk below it is full",
    -signal.SIGXCPU: "it has used up its processor time (`ulimit -t`): raise the limit, and run again",
}


def shortage(error: BaseException, settings: Mapping[str, Any] | None = None) -> str | None:
    """What ran out, where, and the remedy, in one line; None for an error of another kind.

    settings: those that memory depends on, see `less_memory`. The causes of an error are searched too: a file that
    cannot be opened for lack of memory is reported as damaged.
    """
    for cause in chain(error):
        if isinstance(cause, OSError) and cause.errno in REMEDIES:
            place = f"{cause.filename}: " if cause.filename else ""
            remedy = MORE_SHARED_MEMORY if cause.filename == SHARED_MEMORY else REMEDIES[cause.errno]
            if remedy == FREE_MEMORY:
                remedy = less_memory(settings) or FREE_MEMORY
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"{place}{cause.strerror}: {remedy.format(open_files=limit)}"
    if not isinstance(error, RuntimeError | MemoryError | BlockingIOError):
        return None
    text = " ".join(str(error).split())
    if (isinstance(error, BlockingIOError) and not error.filename) or "can't start new thread" in text:
        limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        allowed = "" if limit == resource.RLIM_INFINITY else f" (`ulimit -u` is {limit})"
        return f"no further process or thread may be started{allowed}: {MORE_PROCESSES}"
    if ON_GPU.search(text):
        return f"the GPU is out of memory{in_brackets(text)}: {less_memory(settings, on_gpu=True) or FREE_GPU_MEMORY}"
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return f"out of memory{in_brackets(text)}: {less_memory(settings) or FREE_MEMORY}"
    return None


def less_memory(settings: Mapping[str, Any] | None, *, on_gpu: bool = False) -> str:
    """What to change in these settings, in the order to try, so that a run needs less memory; "" if nothing helps.

    settings: by their names, as `ditexp.run.memory` gives them.
    """
    smaller = {name: smaller_value(name, value, on_gpu=on_gpu) for name, value in (settings or {}).items()}
    changes = [f"{name}={value}" for name, value in smaller.items() if value is not None]
    return f"try {', then '.join(changes)} ({MEMORY_PAGE})" if changes else ""


def smaller_value(name: str, value: Any, *, on_gpu: bool) -> str | None:
    """A value of a setting that needs less memory; None if there is none."""
    if name.endswith("batch_size"):
        return "1" if value is None else str(power_of_two_below(value)) if value > 1 else None
    if name == "precision":
        return "bf16" if on_gpu and value in ("fp32", "tf32") else None
    if name == "devices":
        return None if on_gpu or value in ("cpu", "cpu:1") else "cpu:1"
    return "false" if value is True else None  # compile


def power_of_two_below(size: int) -> int:
    """The largest power of two below a batch size of at least 2: what most likely fits if the size did not."""
    return 1 << ((size - 1).bit_length() - 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device lacks the memory for a batch, so that a smaller one may fit."""
    return any(isinstance(cause, MemoryError) or OUT_OF_MEMORY.search(str(cause)) for cause in chain(error))


def in_brackets(text: str) -> str:
    """The amount that the error says was asked for, or nothing."""
    found = re.search(r"(?i)(?:tried|unable) to allocate ([\d.]+ ?\w+)", text)
    return f" ({found[1]} more were requested)" if found else ""


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes, each once: a cause that is raised again makes the chain a circle."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__
