"""Tensors between the host and a device, in pieces that do not wait for the device.

On a CPU there is nothing to wait for: tensors are where they are needed. The part for CUDA has run on a pretended
device only (tests/test_pretended_gpu.py).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Pending = Callable[[], T]  # waits for a device, if it must, and returns a value on the host


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """x on the device. The copy of a host's tensor to CUDA starts once the device has done what was launched before."""
    if device.type != "cuda" or x.device.type != "cpu":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


def to_host(x: Tensor) -> Pending[Tensor]:
    """x on the host, once the device has computed it; more work can be launched meanwhile."""
    if x.device.type != "cuda":
        return lambda: x
    copy, done = torch.empty(x.shape, dtype=x.dtype, pin_memory=True), torch.cuda.Event()
    copy.copy_(x, non_blocking=True)
    done.record(torch.cuda.current_stream(x.device))

    def wait() -> Tensor:
        done.synchronize()
        return copy

    return wait


class DrawnAhead:
    """Random draws that a thread makes while a GPU computes. On a CPU, draws are made when they are needed.

    A draw is a function of hashable arguments that returns a tensor on the host. One draw of each function is kept
    ahead, so that draws that nobody takes need little memory.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._thread: ThreadPoolExecutor | None = None
        self._ahead: dict[Callable[..., Tensor], tuple[tuple, Future[Tensor]]] = {}

    def expect(self, draw: Callable[..., Tensor], *arguments: object) -> None:
        """`take` will be called with these arguments: draw now, into memory that a GPU can read by itself."""
        if self._device.type != "cuda":
            return
        if self._thread is None:  # a thread's own first device would be GPU 0
            self._thread = ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(self._device,))
        self._ahead[draw] = arguments, self._thread.submit(lambda: draw(*arguments).pin_memory())

    def take(self, draw: Callable[..., Tensor], *arguments: object) -> Tensor:
        """The draw with these arguments, on the device."""
        expected, future = self._ahead.pop(draw, (None, None))
        host = future.result() if future is not None and expected == arguments else draw(*arguments)
        return to_device(host, self._device)
