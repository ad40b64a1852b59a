"""Networks that take their weights from a checkpoint as they are: nothing is initialized or copied."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ditexp.checkpoint.weights import misfit

N = TypeVar("N", bound=nn.Module)


def load_network(kind: Callable[..., N], arguments: Mapping[str, Any], weights: Mapping[str, Tensor]) -> N:
    """A network for inference with these very tensors. Raises Misfit if it has others."""
    network = without_values(kind, arguments)
    if wrong := misfit(weights, network.state_dict()):
        raise Misfit(wrong)
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False)


def without_values(kind: Callable[..., N], arguments: Mapping[str, Any]) -> N:
    """A network whose weights have shapes and no values."""
    with torch.device("meta"), SkipInitialization():
        return kind(**arguments)


class Misfit(ValueError):
    """Weights that a network does not have. The message follows the file's name, and begins with what is wrong."""


class SkipInitialization(TorchFunctionMode):
    """Leaves new parameters uninitialized, since a checkpoint is about to replace them."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if inspect.isfunction(func) and func.__module__ == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
