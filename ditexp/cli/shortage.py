"""What a machine runs out of when a run fails: disk, memory, open files, processes; where, and the remedy."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
from collections.abc import Iterator

FREE_DISK = "free some space, for example by `python -m ditexp.samples gc`, or choose another disk"
FREE_MEMORY = "use a smaller batch_size (or feature.batch_size), or fewer workers"
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

# What the end of a sampling worker most likely means, by its exit code.
NO_THREADS = os.EX_OSERR
ENDINGS = {
    NO_THREADS: f"too few processes and threads are allowed (`ulimit -u`); {MORE_PROCESSES}",
    -signal.SIGKILL: f"most likely the machine is out of memory; {FEWER_WORKERS} or a smaller batch_size",
    -signal.SIGBUS: "most likely a file that it reads was cut short, or the disk below it is full",
    -signal.SIGXCPU: "it has used up its processor time (`ulimit -t`): raise the limit, and run again",
}


def shortage(error: BaseException) -> str | None:
    """What ran out, where, and the remedy, in one line; None for an error of another kind.

    The causes of an error are searched too: a file that cannot be opened for lack of memory is reported as damaged.
    """
    for cause in chain(error):
        if isinstance(cause, OSError) and cause.errno in REMEDIES:
            place = f"{cause.filename}: " if cause.filename else ""
            remedy = MORE_SHARED_MEMORY if cause.filename == SHARED_MEMORY else REMEDIES[cause.errno]
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"{place}{cause.strerror}: {remedy.format(open_files=limit)}"
    if not isinstance(error, RuntimeError | MemoryError | BlockingIOError):
        return None
    text = " ".join(str(error).split())
    if (isinstance(error, BlockingIOError) and not error.filename) or "can't start new thread" in text:
        limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        allowed = "" if limit == resource.RLIM_INFINITY else f" (`ulimit -u` is {limit})"
        return f"no further process or thread may be started{allowed}: {MORE_PROCESSES}"
    if re.search("CUDA.* out of memory|CUBLAS_STATUS_ALLOC_FAILED", text):
        return f"the GPU is out of memory{in_brackets(text)}: use a smaller batch_size (or feature.batch_size)"
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return f"out of memory{in_brackets(text)}: {FREE_MEMORY}"
    return None


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
