"""The networks of iMF (Geng et al. 2025, arXiv 2512.02012) and of pMF (Lu et al. 2026, arXiv 2601.22158).

Everything but x is a group of tokens before the image's: the label, the guidance's strength and interval, and the span
between the two times. Nothing is modulated. State-dict keys and arithmetic are those of https://github.com/Lyy-iiis,
imeanflow and pMF, branch torch, but for the names of blocks, see `renamed` in families/known.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ditexp.model.architecture import NoDiT, holds
from ditexp.model.flow_map_network import FlowMapNetwork, InnerGuidance
from ditexp.model.layers import BottleneckPatchEmbed, LabelEmbedder, PatchEmbed, RMSNorm, TimestepEmbedder, unpatchify
from ditexp.model.positions import Rope, image_rope, rotate, sequence_rope, unrotated
from ditexp.values import required

UNGUIDED = InnerGuidance()


class SplitAttention(nn.Module):
    """Self-attention on tokens (B, N, D) with a matrix for each of queries, keys and values, and norms of heads."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.k_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.v_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.out_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.q_norm = RMSNorm(hidden_size // num_heads, weight_in_float32=False)
        self.k_norm = RMSNorm(hidden_size // num_heads, weight_in_float32=False)

    def forward(self, x: Tensor, rope: Rope) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(self.q_norm(q), rope), rotate(self.k_norm(k), rope)
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class SplitSwiGLU(nn.Module):
    """An MLP with a matrix for the gates and one for the values that they gate (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(hidden_size, width, bias=False)
        self.w3 = nn.Linear(hidden_size, width, bias=False)
        self.w2 = nn.Linear(width, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class GatedBlock(nn.Module):
    """Attention and MLP, each with a trained gate for each channel and without modulation."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_width: int) -> None:
        super().__init__()
        self.norm1 = RMSNorm(hidden_size, weight_in_float32=False)
        self.attn = SplitAttention(hidden_size, num_heads)
        self.norm2 = RMSNorm(hidden_size, weight_in_float32=False)
        self.mlp = SplitSwiGLU(hidden_size, mlp_width)
        self.attn_scale = nn.Parameter(torch.zeros(hidden_size))
        self.mlp_scale = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, x: Tensor, rope: Rope) -> Tensor:
        x = x + self.attn(self.norm1(x), rope) * self.attn_scale
        return x + self.mlp(self.norm2(x)) * self.mlp_scale


class Head(nn.Module):
    """Tokens (B, N, D) -> patches (B, N, p p C)."""

    def __init__(self, hidden_size: int, patch_size: int, out_channels: int) -> None:
        super().__init__()
        self.norm = RMSNorm(hidden_size, weight_in_float32=False)
        self.linear = nn.Linear(hidden_size, patch_size**2 * out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x))


class ImprovedMeanFlow(FlowMapNetwork):
    """iMF's average velocity u(x, span, label, guidance), noise - data. Of the times it is given the span alone.

    input_size: height = width of x. mlp_width: of each MLP's hidden values. has_null: whether the last row of the label
    table is the empty condition. class_tokens, omega_tokens, interval_tokens (for each end of the interval),
    time_tokens: how many tokens a condition has. bottleneck: the width of the layer that patches go through, if any.
    """

    kind = "imf"
    leading: ClassVar[tuple[int, ...]] = ()  # axes of tokens before (tokens, D)

    def __init__(
        self,
        *,
        input_size: int,
        patch_size: int,
        in_channels: int,
        hidden_size: int,
        depth: int,
        num_heads: int,
        num_classes: int,
        has_null: bool,
        mlp_width: int,
        class_tokens: int,
        omega_tokens: int,
        interval_tokens: int,
        time_tokens: int,
        bottleneck: int | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.patch_size, self.in_channels = input_size, patch_size, in_channels
        self.hidden_size, self.head_width = hidden_size, hidden_size // num_heads
        self.num_classes, self.has_null = num_classes, has_null
        if bottleneck:
            self.x_embedder = BottleneckPatchEmbed(in_channels, hidden_size, patch_size, bottleneck, bias=True)
        else:
            self.x_embedder = PatchEmbed(in_channels, hidden_size, patch_size)
        self.h_embedder, self.omega_embedder, self.cfg_t_start_embedder, self.cfg_t_end_embedder = (
            TimestepEmbedder(hidden_size) for _ in range(4)
        )
        self.y_embedder = LabelEmbedder(num_classes, hidden_size, has_null)
        self.class_tokens, self.omega_tokens, self.t_min_tokens, self.t_max_tokens, self.time_tokens = (
            trained_tokens(*self.leading, count, hidden_size, std=hidden_size**-0.5)
            for count in (class_tokens, omega_tokens, interval_tokens, interval_tokens, time_tokens)
        )
        self.prefix = class_tokens + omega_tokens + 2 * interval_tokens + time_tokens
        self.blocks = nn.ModuleList(GatedBlock(hidden_size, num_heads, mlp_width) for _ in range(depth))
        self.u_final_layer = Head(hidden_size, patch_size, in_channels)

    @property
    def label_table(self) -> Tensor:
        return self.y_embedder.embedding_table.weight

    def average(
        self, x: Tensor, t: Tensor, span: Tensor, labels: Tensor | None = None, guidance: InnerGuidance | None = None
    ) -> Tensor:
        given = guidance or UNGUIDED
        y = required(labels)
        conditions = (
            (self.class_tokens, y if y.is_floating_point() else self.y_embedder(y)),
            (self.omega_tokens, self.omega_embedder(torch.full_like(span, 1 - 1 / given.omega))),
            (self.t_min_tokens, self.cfg_t_start_embedder(torch.full_like(span, given.start))),
            (self.t_max_tokens, self.cfg_t_end_embedder(torch.full_like(span, given.end))),
            (self.time_tokens, self.h_embedder(span)),
        )
        tokens = torch.cat([*(own + embedded.unsqueeze(1) for own, embedded in conditions), self.x_embedder(x)], dim=1)
        tokens, rope = self.positioned(tokens), self.rotations(x.device)
        for block in self.blocks:
            tokens = block(tokens, rope)
        side = self.input_size // self.patch_size
        return unpatchify(self.u_final_layer(tokens[:, self.prefix :]), side, side, self.patch_size)

    def positioned(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) with their position embedding, if there is one."""
        return tokens

    def rotations(self, device: torch.device) -> Rope:
        """Of all tokens, numbered from the first of the condition's."""
        count = self.prefix + (self.input_size // self.patch_size) ** 2
        return sequence_rope(count, head_width=self.head_width, device=device)


class PixelMeanFlow(ImprovedMeanFlow):
    """pMF's: the image that x moves towards, from which the average velocity follows, u = (x - image) / max(t, 0.05).

    Every token has a trained position embedding, and those of the image are rotated by row and column.
    """

    kind = "pmf"
    leading = (1,)

    def __init__(self, **arguments) -> None:
        super().__init__(**arguments)
        count = self.prefix + (self.input_size // self.patch_size) ** 2
        self.pos_embed = trained_tokens(1, count, self.hidden_size, std=0.02)

    def positioned(self, tokens: Tensor) -> Tensor:
        return tokens + self.pos_embed

    def rotations(self, device: torch.device) -> Rope:
        side = self.input_size // self.patch_size
        rope = image_rope(side, side, trained_side=side, head_width=self.head_width, device=device)
        return unrotated(self.prefix, rope)

    def check_file(self, weights: Mapping[str, Tensor]) -> None:
        """Raise NoDiT if a file has other rotations than this network computes."""
        cosines, sines = (part[self.prefix :, ::2] for part in self.rotations(torch.device("cpu")))
        expected = torch.complex(cosines, sines)
        if not holds(weights.get("rope_freqs", expected), expected):
            raise NoDiT("rope_freqs holds other rotations than those of its patches")


def trained_tokens(*shape: int, std: float) -> nn.Parameter:
    tokens = nn.Parameter(torch.empty(shape))
    nn.init.normal_(tokens, std=std)
    return tokens
