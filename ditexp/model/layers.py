"""The layers that DiT (Peebles & Xie 2023, arXiv 2212.09748) and the models after it are made of.

State-dict keys and arithmetic are those of the official checkpoints, which therefore load unchanged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ditexp.model.positions import Rope, rotate


@dataclass(frozen=True, kw_only=True)
class BlockOptions:
    """How the blocks of published models differ. The defaults are those of DiT, SiT and REPA.

    norm: before attention, MLP and head: "layer", without weights; "rms" or "rms_float32", see RMSNorm.
    qk_norm: of the queries and keys of each head: None, "layer" with weights, "rms" or "rms_float32".
    mlp: "gelu" or "swiglu".
    shifts: whether adaLN shifts the attention's and the MLP's input, besides scaling and gating.
    float32_logits: whether attention logits are float32 even where autocast chooses less, as in JiT.
    """

    norm: str = "layer"
    qk_norm: str | None = None
    mlp: str = "gelu"
    shifts: bool = True
    float32_logits: bool = False


class RMSNorm(nn.Module):
    """x (..., D) over its root mean square, computed in float32 (Zhang & Sennrich 2019), times a weight.

    weight_in_float32: whether x returns to its precision after the weight (JiT) or before it (LightningDiT).
    """

    def __init__(self, width: int, *, weight_in_float32: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.weight_in_float32 = weight_in_float32

    def forward(self, x: Tensor) -> Tensor:
        normalised = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6)
        if self.weight_in_float32:
            return (self.weight * normalised).type_as(x)
        return normalised.type_as(x) * self.weight


def token_norm(kind: str, width: int) -> nn.Module:
    if kind == "layer":
        return nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
    return RMSNorm(width, weight_in_float32=kind == "rms_float32")


def head_norm(kind: str | None, width: int) -> nn.Module:
    """The norm of a head's queries or keys. LayerNorm has weights and torch's eps of 1e-5 here, as in timm."""
    if kind is None:
        return nn.Identity()
    return nn.LayerNorm(width) if kind == "layer" else RMSNorm(width, weight_in_float32=kind == "rms_float32")


def of_tokens(modulation: Tensor) -> Tensor:
    """(B, D) of samples -> (B, 1, D), which acts on all of their tokens alike. (B, N, D) of tokens stays."""
    return modulation if modulation.dim() == 3 else modulation.unsqueeze(1)


def modulate(x: Tensor, shift: Tensor | None, scale: Tensor) -> Tensor:
    """x (B, N, D), scaled and shifted by (B, 1, D) or (B, N, D)."""
    scaled = x * (1 + scale)
    return scaled if shift is None else scaled + shift


class PatchEmbed(nn.Module):
    """(B, C, H, W) -> (B, H W / p^2, D)."""

    def __init__(self, in_channels: int, hidden_size: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, hidden_size, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class BottleneckPatchEmbed(nn.Module):
    """(B, C, H, W) -> (B, H W / p^2, D) through a narrow linear layer, as in JiT. bias: of that layer, as in pMF."""

    def __init__(
        self, in_channels: int, hidden_size: int, patch_size: int, bottleneck: int, *, bias: bool = False
    ) -> None:
        super().__init__()
        self.proj1 = nn.Conv2d(in_channels, bottleneck, kernel_size=patch_size, stride=patch_size, bias=bias)
        self.proj2 = nn.Conv2d(bottleneck, hidden_size, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj2(self.proj1(x)).flatten(2).transpose(1, 2)


class TimestepEmbedder(nn.Module):
    """Time (B,), unscaled as in SiT -> (B, D) through 256 sinusoids [cos, sin] of periods up to 2 pi longest_period.

    Their frequencies are longest_period^(-i / divisor), i = 0 ... 127.
    """

    num_frequencies = 128

    def __init__(self, hidden_size: int, longest_period: float = 10_000) -> None:
        super().__init__()
        self.longest_period, self.divisor = longest_period, self.num_frequencies
        self.mlp = nn.Sequential(
            nn.Linear(2 * self.num_frequencies, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size)
        )

    def forward(self, t: Tensor) -> Tensor:
        exponents = torch.arange(self.num_frequencies, dtype=torch.float32, device=t.device)
        frequencies = torch.exp(-math.log(self.longest_period) * exponents / self.divisor)
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
    """Self-attention on tokens (B, N, D)."""

    def __init__(self, hidden_size: int, num_heads: int, options: BlockOptions, *, qkv_bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size, bias=qkv_bias)
        self.q_norm = head_norm(options.qk_norm, hidden_size // num_heads)
        self.k_norm = head_norm(options.qk_norm, hidden_size // num_heads)
        self.proj = nn.Linear(hidden_size, hidden_size)
        self.attend = attend_in_float32 if options.float32_logits else F.scaled_dot_product_attention

    def forward(self, x: Tensor, rope: Rope | None = None) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.num_heads, width // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        return self.proj(self.attend(q, k, v).transpose(1, 2).reshape(x.shape))


def attend_in_float32(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention with logits and softmax in float32, whatever autocast chooses for the rest."""
    with torch.autocast(q.device.type, enabled=False):
        logits = q.float() @ k.float().transpose(-2, -1) / math.sqrt(q.shape[-1])
    return logits.softmax(-1) @ v


class Mlp(nn.Module):
    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, width)
        self.fc2 = nn.Linear(width, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class SwiGLU(nn.Module):
    """An MLP whose first half of hidden values gates the second (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(hidden_size, 2 * width)
        self.w3 = nn.Linear(width, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        gates, values = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gates) * values)


MLPS = {"gelu": Mlp, "swiglu": SwiGLU}


class FinalLayer(nn.Module):
    """Tokens (B, N, D) -> patches (B, N, p p C), modulated by c, (B, D) of samples or (B, N, D) of tokens."""

    def __init__(self, hidden_size: int, patch_size: int, out_channels: int, norm: str) -> None:
        super().__init__()
        self.norm_final = token_norm(norm, hidden_size)
        self.linear = nn.Linear(hidden_size, patch_size**2 * out_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 2 * hidden_size))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = of_tokens(self.adaLN_modulation(c)).chunk(2, dim=-1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


def unpatchify(tokens: Tensor, height: int, width: int, patch_size: int) -> Tensor:
    """(B, h w, p p C) -> (B, C, h p, w p)."""
    p = patch_size
    x = tokens.view(tokens.shape[0], height, width, p, p, -1)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(tokens.shape[0], -1, height * p, width * p)
