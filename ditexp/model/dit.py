"""The Diffusion Transformer (Peebles & Xie 2023, arXiv 2212.09748) as SiT uses it for velocities.

State-dict keys and arithmetic are those of the official checkpoints, which therefore load unchanged.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ditexp.values import required


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (B, N, D), scaled and shifted for each sample by (B, D)."""
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class PatchEmbed(nn.Module):
    """(B, C, H, W) -> (B, H W / p^2, D)."""

    def __init__(self, in_channels: int, hidden_size: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, hidden_size, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class TimestepEmbedder(nn.Module):
    """t (B,) in [0, 1], unscaled as in SiT -> (B, D) through 256 sinusoids [cos, sin] of periods up to 10,000."""

    num_frequencies = 128

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(2 * self.num_frequencies, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size)
        )

    def forward(self, t: Tensor) -> Tensor:
        exponents = torch.arange(self.num_frequencies, dtype=torch.float32, device=t.device)
        frequencies = torch.exp(-math.log(10_000) * exponents / self.num_frequencies)
        angles = t.float()[:, None] * frequencies
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1).to(t.dtype))


class LabelEmbedder(nn.Module):
    """labels (B,) int64 -> (B, D). If there is a null class, row `num_classes` is the empty condition."""

    def __init__(self, num_classes: int, hidden_size: int, has_null: bool) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(num_classes + has_null, hidden_size)

    def forward(self, labels: Tensor) -> Tensor:
        return self.embedding_table(labels)


class Attention(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.num_heads, width // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape))


class Mlp(nn.Module):
    def __init__(self, hidden_size: int, mlp_ratio: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, int(hidden_size * mlp_ratio))
        self.fc2 = nn.Linear(int(hidden_size * mlp_ratio), hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class BlockLayers(nn.Module):
    """The layers of a transformer block with adaLN-Zero conditioning.

    adaLN_modulation: (B, D) -> shift, scale and gate for the attention, then for the MLP.
    """

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(hidden_size, num_heads)
        self.norm2 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(hidden_size, mlp_ratio)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))


class Block(BlockLayers):
    """The block of DiT: self-attention and MLP on tokens x (B, N, D), modulated by c (B, D)."""

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=1)
        x = x + gate1.unsqueeze(1) * self.attn(modulate(self.norm1(x), shift1, scale1))
        return x + gate2.unsqueeze(1) * self.mlp(modulate(self.norm2(x), shift2, scale2))


class FinalLayer(nn.Module):
    def __init__(self, hidden_size: int, patch_size: int, out_channels: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(hidden_size, patch_size**2 * out_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 2 * hidden_size))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class Transformer(nn.Module):
    """What the networks share, whatever their condition.

    input_size: height = width of x. num_classes: 0 if there are no labels. has_null: keep an embedding for "no class",
    which label dropout trains and classifier-free guidance needs. learn_sigma: the checkpoint has twice as many output
    channels (DiT's variance head); the second half is dropped, as in SiT.
    """

    block: ClassVar[type[BlockLayers]]

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
        has_null: bool = True,
        mlp_ratio: float = 4.0,
        learn_sigma: bool = False,
    ) -> None:
        super().__init__()
        if input_size % patch_size or hidden_size % num_heads or hidden_size % 4:
            raise ValueError(
                f"DiT: input_size={input_size} must be a multiple of patch_size={patch_size}, and "
                f"hidden_size={hidden_size} one of num_heads={num_heads} and of 4"
            )
        self.input_size, self.patch_size, self.in_channels = input_size, patch_size, in_channels
        self.num_classes, self.has_null = num_classes, has_null and num_classes > 0
        out_channels = in_channels * (2 if learn_sigma else 1)
        self.x_embedder = PatchEmbed(in_channels, hidden_size, patch_size)
        self.t_embedder = TimestepEmbedder(hidden_size)
        if num_classes:
            self.y_embedder = LabelEmbedder(num_classes, hidden_size, has_null)
        positions = sincos_position_embedding(hidden_size, input_size // patch_size)
        self.pos_embed = nn.Parameter(positions, requires_grad=False)
        self.blocks = nn.ModuleList(self.block(hidden_size, num_heads, mlp_ratio) for _ in range(depth))
        self.final_layer = FinalLayer(hidden_size, patch_size, out_channels)
        self.initialize_weights()

    def initialize_weights(self) -> None:
        """Xavier for linear layers, N(0, 0.02) for embeddings, zero for every gate and for the output."""
        for layer in linear_layers(self):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        patches = self.x_embedder.proj
        nn.init.xavier_uniform_(patches.weight.view(patches.weight.shape[0], -1))
        assert patches.bias is not None
        nn.init.zeros_(patches.bias)
        for layer in linear_layers(self.t_embedder):
            nn.init.normal_(layer.weight, std=0.02)
        if self.num_classes:
            nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, BlockLayers | FinalLayer):
                for layer in linear_layers(module.adaLN_modulation):
                    nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.final_layer.linear.weight)

    def transform(self, x: Tensor, c: Tensor, **given: Tensor) -> Tensor:
        """x (B, C, H, W) through all blocks, modulated by c (B, D). given: further inputs of each block."""
        height, width = (side // self.patch_size for side in x.shape[2:])
        tokens = self.x_embedder(x) + self.positions(height, width)
        for block in self.blocks:
            tokens = block(tokens, c, **given)
        return self.unpatchify(self.final_layer(tokens, c), height, width)[:, : self.in_channels]

    def positions(self, height: int, width: int) -> Tensor:
        """The position embedding (1, height width, D) of a grid of patches, interpolated from the trained grid."""
        side = self.input_size // self.patch_size
        if (height, width) == (side, side):
            return self.pos_embed
        trained = self.pos_embed.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        return F.interpolate(trained, (height, width), mode="bicubic").flatten(2).transpose(1, 2)

    def unpatchify(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """(B, h w, p p C) -> (B, C, h p, w p)."""
        p = self.patch_size
        x = tokens.view(tokens.shape[0], height, width, p, p, -1)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(tokens.shape[0], -1, height * p, width * p)


class DiT(Transformer):
    """Velocity v(x, t, label). DiT-S/B/L/XL have width 384/768/1024/1152, depth 12/12/24/28, heads 6/12/16/16."""

    block = Block

    def drop(self, labels: Tensor, dropped: Tensor) -> Tensor:
        """The labels (B,) of a training batch, replaced by the null class where dropped (B,) is true."""
        return torch.where(dropped, self.num_classes, labels)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), t (B,) in [0, 1] with 1 = data, labels (B,) int64 -> velocity (B, C, H, W).

        H and W are input_size, or other multiples of patch_size: then the position embedding is interpolated.
        labels may also be embeddings (B, D), rows of the table or between them.
        """
        c = self.t_embedder(t)
        if self.num_classes:
            labels = required(labels)
            c = c + (labels if labels.is_floating_point() else self.y_embedder(labels))
        return self.transform(x, c)


def linear_layers(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def sincos_position_embedding(width: int, side: int) -> Tensor:
    """(1, side^2, width) float32, computed in float64: half the channels for the column, then half for the row."""

    def embed(position: np.ndarray) -> np.ndarray:
        angles = position.reshape(-1, 1) * 10_000 ** -(np.arange(width // 4) / (width / 4))
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    rows, columns = np.mgrid[:side, :side].astype(np.float64)
    return torch.from_numpy(np.concatenate([embed(columns), embed(rows)], axis=1)).float().unsqueeze(0)
