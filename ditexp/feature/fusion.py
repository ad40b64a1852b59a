"""A faster Inception network: the same function in fewer, larger operations."""

from __future__ import annotations

import operator
from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse(network: nn.Module) -> fx.GraphModule:
    """A network in evaluation mode as fewer operations; outputs differ by rounding only. It has no gradients.

    Batch norms are folded into the convolutions before them. Average pooling moves behind the 1x1 convolution that
    follows it, where there are fewer channels: one is linear in space, the other in channels, and a mean keeps the
    constant bias. 1x1 convolutions with the same input become one convolution.
    """
    fused = fx.symbolic_trace(network)
    for node in fused.graph.nodes:
        if isinstance(_module(node, fused), nn.BatchNorm2d):
            _fold(node, fused)
    for node in fused.graph.nodes:
        if node.target is F.avg_pool2d:
            _pool_later(node)
    siblings: dict[fx.Node, list[fx.Node]] = defaultdict(list)
    for node in fused.graph.nodes:
        module = _module(node, fused)
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            siblings[_input(node)].append(node)
    for convolutions in siblings.values():
        if len(convolutions) > 1:
            _merge(convolutions, fused)
    fused.delete_all_unused_submodules()
    fused.recompile()
    return fused


def _module(node: fx.Node, network: fx.GraphModule) -> nn.Module | None:
    """The module that a node calls; None if the node does something else."""
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def _convolution(node: fx.Node, network: fx.GraphModule) -> nn.Conv2d:
    module = _module(node, network)
    assert isinstance(module, nn.Conv2d), f"{node} is not a convolution"
    return module


def _input(node: fx.Node) -> fx.Node:
    first = node.args[0]
    assert isinstance(first, fx.Node), f"{node} has no input"
    return first


def _fold(norm: fx.Node, network: fx.GraphModule) -> None:
    """Fold a batch norm into the convolution before it."""
    node, module = _input(norm), _module(norm, network)
    assert isinstance(module, nn.BatchNorm2d)
    network.set_submodule(str(node.target), fuse_conv_bn_eval(_convolution(node, network), module))
    norm.replace_all_uses_with(node)
    network.graph.erase_node(norm)


def _pool_later(pool: fx.Node) -> None:
    """x -> pool -> convolution becomes x -> convolution -> pool."""
    (convolution,), x = pool.users, _input(pool)
    convolution.replace_all_uses_with(pool)
    convolution.replace_input_with(pool, x)
    pool.replace_input_with(x, convolution)
    convolution.append(pool)


def _merge(nodes: list[fx.Node], network: fx.GraphModule) -> None:
    """Replace 1x1 convolutions with the same input by one, whose output is split."""
    convolutions = [_convolution(node, network) for node in nodes]
    sizes = [convolution.out_channels for convolution in convolutions]
    biases = [convolution.bias for convolution in convolutions if convolution.bias is not None]
    merged = nn.Conv2d(convolutions[0].in_channels, sum(sizes), 1)
    assert merged.bias is not None and len(biases) == len(nodes)  # folded batch norms have left a bias in each
    merged.weight.data = torch.cat([convolution.weight for convolution in convolutions])
    merged.bias.data = torch.cat(biases)
    name = f"merged_{nodes[0].name}"
    network.add_submodule(name, merged)
    with network.graph.inserting_before(nodes[0]):
        whole = network.graph.call_module(name, nodes[0].args)
        split = network.graph.call_method("split", (whole, sizes, 1))
        parts = [network.graph.call_function(operator.getitem, (split, index)) for index in range(len(nodes))]
    for node, part in zip(nodes, parts):
        node.replace_all_uses_with(part)
        network.graph.erase_node(node)
