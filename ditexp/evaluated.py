"""A model as a device evaluates it: its matrices in the compute type or quantized, and its blocks compiled.

The model itself stays as it is, in float32, for whoever needs it so: other cells of a process, metric=trajectory.
"""

from __future__ import annotations

import copy
import functools
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ditexp.core import FlowModel, ModuleModel, TransformerBlock
from ditexp.files.hash_cache import cache_folder
from ditexp.files.libraries import silence_torchao
from ditexp.precision import Precision

N = TypeVar("N", bound=nn.Module)

# Matrices of adaLN by name: ditexp's adaLN_modulation.1; diffusers' norm1.linear, norm1_context.linear and img_mod.1.
MODULATION = re.compile(r"adaLN|norm\w*\.linear$|_mod\.\d$")

# Compiled variants of one function: by batch size, kind of block, precision of inputs. torch's own limit is 8.
VARIANTS = 64


def evaluated(model: FlowModel, *, precision: Precision, compile: bool | str, device: torch.device) -> FlowModel:
    """The model on the device as it is evaluated; itself where it can be, or else a twin.

    A twin shares with the model what it does not change. Beside a twin of lower precision, the model's own weights
    leave the device. Raises ValueError for a quantized precision if the model has no blocks.
    """
    model.to(device)
    keeps_weights = precision.dtype == torch.float32
    if not isinstance(model, ModuleModel):
        if precision.quantized:
            raise ValueError(f"precision={precision.quantized} needs a model of transformer blocks: choose bf16")
        return model
    if keeps_weights and compile is not True:
        return model
    with torch.inference_mode(False), torch.no_grad():
        made = model.with_network(twin(model.network, precision.dtype))
        if not keeps_weights:
            model.network.to("cpu")
        if precision.quantized:
            quantize(made.blocks, precision.quantized)
    if compile is True:
        for number, block in enumerate(made.blocks):
            made.blocks[number] = CompiledBlock(block)
    return made


def twin(network: N, dtype: torch.dtype) -> N:
    """A copy of a network that shares its weights, but those of matrices, which are of this type.

    They are those that autocast would cast at each evaluation, so that outputs under autocast are the same bits.
    """
    matrices = [layer for layer in network.modules() if isinstance(layer, nn.Linear | _ConvNd)]
    cast = {id(weight) for layer in matrices for weight in layer.parameters(recurse=False)}
    made: dict[int, Any] = {id(buffer): buffer for buffer in network.buffers()}
    for weight in network.parameters():
        data = weight.detach().to(dtype if id(weight) in cast else weight.dtype)
        made[id(weight)] = nn.Parameter(data, requires_grad=False)
    return copy.deepcopy(network, made)


def quantize(blocks: nn.ModuleList, kind: str) -> None:
    """Quantize the weights of the matrices that tokens are multiplied by, a scale for each row, and their inputs, a
    scale for each token at each evaluation.

    The matrices of adaLN, one product for each sample, stay as they are, as do embeddings and the head.
    """
    silence_torchao()
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig as Float8  # its import takes seconds
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig as Int8
    from torchao.quantization import PerRow
    from torchao.quantization.quant_api import quantize_

    config = (
        Float8(granularity=PerRow(), set_inductor_config=False) if kind == "fp8" else Int8(set_inductor_config=False)
    )
    quantize_(blocks, config, filter_fn=multiplies_tokens)
    for name, layer in blocks.named_modules():
        if multiplies_tokens(layer, name):
            layer.register_forward_pre_hook(in_compute_type)


def multiplies_tokens(layer: nn.Module, name: str) -> bool:
    """Whether a layer of a block is a matrix that tokens are multiplied by."""
    return isinstance(layer, nn.Linear) and not MODULATION.search(name)


def in_compute_type(layer: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """torchao's products are reached before autocast, which would cast their inputs."""
    return inputs[0].to(torch.bfloat16)


class CompiledBlock(nn.Module):
    """A transformer block that runs compiled. Blocks of one class share what is compiled: it is done once for all."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *inputs: Any, **given: Any) -> Any:
        return compiled(type(self.block).forward)(self.block, *inputs, **given)

    def computed(self, *inputs: Any, **given: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See TransformerBlock in ditexp/core."""
        return compiled(cast(type[TransformerBlock], type(self.block)).computed)(self.block, *inputs, **given)

    def completed(self, tokens: Tensor, c: Tensor, branches: Sequence[Tensor]) -> Tensor:
        """See TransformerBlock in ditexp/core."""
        return compiled(cast(type[TransformerBlock], type(self.block)).completed)(self.block, tokens, c, branches)


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a block, compiled for each shape of its inputs."""
    return torch.compile(function, dynamic=False)


def compiled_whole(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A network's evaluation, compiled as one with the fastest kernels that a search finds; on CUDA as one graph."""
    tuned = torch.compile(function, mode="max-autotune", dynamic=False)

    def network(*inputs: Any) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        return tuned(*inputs).clone()  # the next evaluation overwrites a graph's output

    return network


def begin_compiling() -> None:
    """Forget what this process has compiled, and keep what it compiles from now on for other processes.

    Otherwise kernels would depend on the cells before this one, and there would be too many variants.
    """
    torch._dynamo.reset()
    torch._dynamo.config.load_config({"recompile_limit": VARIANTS})
    # torch's own place is a temporary folder, which a restart of the machine empties.
    with suppress(RuntimeError):  # the user has no home
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))
