"""An Inception network computed faster: the same function in fewer and larger steps."""

from __future__ import annotations

import operator
from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse(network: nn.Module) -> fx.GraphModule:
    """The same function of an image as a network in evaluation mode, but for rounding; for use without gradients.

    Batch norms are folded into the convolutions before them. Average pooling waits until the 1x1 convolution behind it
    has reduced its input (one is linear in space, one in channels, and a mean keeps the constant bias). 1x1
    convolutions of the same input are computed as one.
    """
    fused = fx.symbolic_trace(network)
    for node in fused.graph.nodes:
        if _is(node, fused, nn.BatchNorm2d):
            _fold(node, fused)
    for node in fused.graph.nodes:
        if node.target is F.avg_pool2d:
            _pool_later(node)
    siblings = defaultdict(list)
    for node in fused.graph.nodes:
        if _is(node, fused, nn.Conv2d) and fused.get_submodule(node.target).kernel_size == (1, 1):
            siblings[node.args[0]].append(node)
    for convolutions in siblings.values():
        if len(convolutions) > 1:
            _merge(convolutions, fused)
    fused.delete_all_unused_submodules()
    fused.recompile()
    return fused


def _is(node: fx.Node, network: fx.GraphModule, kind: type[nn.Module]) -> bool:
    return node.op == "call_module" and isinstance(network.get_submodule(node.target), kind)


def _fold(norm: fx.Node, network: fx.GraphModule) -> None:
    """Put a batch norm into the convolution that it follows."""
    (convolution,) = norm.args
    modules = (network.get_submodule(node.target) for node in (convolution, norm))
    network.set_submodule(convolution.target, fuse_conv_bn_eval(*modules))
    norm.replace_all_uses_with(convolution)
    network.graph.erase_node(norm)


def _pool_later(pool: fx.Node) -> None:
    """x -> pool -> convolution becomes x -> convolution -> pool."""
    (convolution,), x = pool.users, pool.args[0]
    convolution.replace_all_uses_with(pool)
    convolution.replace_input_with(pool, x)
    pool.replace_input_with(x, convolution)
    convolution.append(pool)


def _merge(nodes: list[fx.Node], network: fx.GraphModule) -> None:
    """Compute convolutions of the same input by one, and split what it gives."""
    convolutions = [network.get_submodule(node.target) for node in nodes]
    sizes = [convolution.out_channels for convolution in convolutions]
    merged = nn.Conv2d(convolutions[0].in_channels, sum(sizes), 1)
    merged.weight.data = torch.cat([convolution.weight for convolution in convolutions])
    merged.bias.data = torch.cat([convolution.bias for convolution in convolutions])
    name = f"merged_{nodes[0].name}"
    network.add_submodule(name, merged)
    with network.graph.inserting_before(nodes[0]):
        whole = network.graph.call_module(name, nodes[0].args)
        split = network.graph.call_method("split", (whole, sizes, 1))
        parts = [network.graph.call_function(operator.getitem, (split, index)) for index in range(len(nodes))]
    for node, part in zip(nodes, parts):
        node.replace_all_uses_with(part)
        network.graph.erase_node(node)
