"""The Diffusion Transformer (Peebles & Xie 2023, arXiv 2212.09748), and the options of the models after it.

One network serves DiT, SiT, REPA, LightningDiT (Yao et al. 2025, arXiv 2501.01423) and JiT (Li & He 2025, arXiv
2511.13720). State-dict keys and arithmetic are those of the official checkpoints, which therefore load unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from ditexp.core import TransformerBlock, Walk
from ditexp.model.architecture import check_rotations
from ditexp.model.label_network import LabelNetwork
from ditexp.model.layers import (
    MLPS,
    Attention,
    BlockOptions,
    BottleneckPatchEmbed,
    FinalLayer,
    LabelEmbedder,
    PatchEmbed,
    TimestepEmbedder,
    modulate,
    of_tokens,
    token_norm,
    unpatchify,
)
from ditexp.model.positions import Rope, image_rope, interpolated, sincos_position_embedding, unrotated
from ditexp.values import required


class BlockLayers(nn.Module):
    """The layers of a transformer block with adaLN-Zero conditioning.

    adaLN_modulation: c, (B, D) of samples or (B, N, D) of tokens -> shift, scale and gate for the attention, then for
    the MLP.
    """

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float, options: BlockOptions) -> None:
        super().__init__()
        self.norm1 = token_norm(options.norm, hidden_size)
        self.attn = Attention(hidden_size, num_heads, options)
        self.norm2 = token_norm(options.norm, hidden_size)
        self.mlp = MLPS[options.mlp](hidden_size, round(hidden_size * mlp_ratio))
        self.shifts = options.shifts
        width = (6 if options.shifts else 4) * hidden_size
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, width))

    def modulation(self, c: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor | None, Tensor, Tensor]:
        """Shift, scale and gate for the attention, then for the MLP; a shift is None if there is none.

        They are (B, 1, D) for c of samples, and (B, N, D) for c of tokens.
        """
        parts = of_tokens(self.adaLN_modulation(c))
        if self.shifts:
            shift1, scale1, gate1, shift2, scale2, gate2 = parts.chunk(6, dim=-1)
            return shift1, scale1, gate1, shift2, scale2, gate2
        scale1, gate1, scale2, gate2 = parts.chunk(4, dim=-1)
        return None, scale1, gate1, None, scale2, gate2


class Block(BlockLayers):
    """The block of DiT: self-attention and MLP on tokens x (B, N, D), modulated by c, (B, D) or (B, N, D)."""

    def forward(self, x: Tensor, c: Tensor, rope: Rope | None = None) -> Tensor:
        return self.computed(x, c, rope)[0]

    def computed(self, x: Tensor, c: Tensor, rope: Rope | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The tokens after the block, and the outputs (B, N, D) of attention and MLP before their gates."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c)
        attended = self.attn(modulate(self.norm1(x), shift1, scale1), rope)
        x = x + gate1 * attended
        transformed = self.mlp(modulate(self.norm2(x), shift2, scale2))
        return x + gate2 * transformed, (attended, transformed)

    def completed(self, x: Tensor, c: Tensor, branches: Sequence[Tensor]) -> Tensor:
        """The tokens after the block if these are the outputs of attention and MLP before their gates."""
        attended, transformed = branches
        _, _, gate1, _, _, gate2 = self.modulation(c)
        return x + gate1 * attended + gate2 * transformed


class Transformer(nn.Module):
    """What the networks share, whatever their condition.

    input_size: height = width of x. num_classes: 0 if there are no labels. has_null: keep an embedding for "no class",
    which label dropout trains and classifier-free guidance needs. learn_sigma: there are twice as many output channels
    (DiT's variance head), of which `forward` drops the second half, as in SiT.
    options: of the blocks. rope: rotate queries and keys by their positions, besides the added position embedding.
    bottleneck: the width of the linear layer that patches are embedded through, if any. in_context_tokens: how many
    tokens of the label with trained positions join the image's before block `in_context_start`, as in JiT.
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
        options: BlockOptions = BlockOptions(),  # noqa: B008 (immutable)
        rope: bool = False,
        bottleneck: int | None = None,
        in_context_tokens: int = 0,
        in_context_start: int = 0,
    ) -> None:
        super().__init__()
        if input_size % patch_size or hidden_size % num_heads or hidden_size % 4:
            raise ValueError(
                f"DiT: input_size={input_size} must be a multiple of patch_size={patch_size}, and "
                f"hidden_size={hidden_size} one of num_heads={num_heads} and of 4"
            )
        self.input_size, self.patch_size, self.in_channels = input_size, patch_size, in_channels
        self.num_classes, self.has_null = num_classes, has_null and num_classes > 0
        self.hidden_size, self.head_width, self.rope = hidden_size, hidden_size // num_heads, rope
        if bottleneck:
            self.x_embedder = BottleneckPatchEmbed(in_channels, hidden_size, patch_size, bottleneck)
        else:
            self.x_embedder = PatchEmbed(in_channels, hidden_size, patch_size)
        self.t_embedder = TimestepEmbedder(hidden_size)
        if num_classes:
            self.y_embedder = LabelEmbedder(num_classes, hidden_size, has_null)
        positions = sincos_position_embedding(hidden_size, input_size // patch_size)
        self.pos_embed = nn.Parameter(positions, requires_grad=False)
        self.in_context_tokens, self.in_context_start = in_context_tokens, in_context_start
        if in_context_tokens:
            self.in_context_posemb = nn.Parameter(torch.empty(1, in_context_tokens, hidden_size))
            nn.init.normal_(self.in_context_posemb, std=0.02)
        self.blocks = nn.ModuleList(self.block(hidden_size, num_heads, mlp_ratio, options) for _ in range(depth))
        out_channels = in_channels * (2 if learn_sigma else 1)
        self.final_layer = FinalLayer(hidden_size, patch_size, out_channels, options.norm)
        self.initialize_weights()

    def initialize_weights(self) -> None:
        """Xavier for linear layers, N(0, 0.02) for embeddings, zero for every gate and for the output."""
        for layer in linear_layers(self):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in self.x_embedder.children():
            assert isinstance(layer, nn.Conv2d)
            nn.init.xavier_uniform_(layer.weight.view(layer.weight.shape[0], -1))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        for layer in linear_layers(self.t_embedder):
            nn.init.normal_(layer.weight, std=0.02)
        if self.num_classes:
            nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, BlockLayers | FinalLayer):
                for layer in linear_layers(module.adaLN_modulation):
                    nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.final_layer.linear.weight)

    def transform(
        self, x: Tensor, c: Tensor, in_context: Tensor | None = None, walk: Walk | None = None, **given: Tensor
    ) -> Tensor:
        """x (B, C, H, W) through all blocks, modulated by c (B, D): all output channels.

        in_context: tokens (B, M, D) that are among the others, without rotations, from block `in_context_start` to the
        last. walk: computes the blocks in place of themselves. given: further inputs of each block.
        """
        height, width = (side // self.patch_size for side in x.shape[2:])
        side = self.input_size // self.patch_size
        tokens = self.x_embedder(x) + interpolated(self.pos_embed, side, height, width)
        rope = self.rotations(height, width, x.device) if self.rope else None
        for number, block in enumerate(self.blocks):
            if in_context is not None and number == self.in_context_start:
                tokens = torch.cat([in_context, tokens], dim=1)
                rope = rope and unrotated(in_context.shape[1], rope)
            if walk is None:
                tokens = block(tokens, c, rope, **given)
            else:
                tokens = walk(number, cast(TransformerBlock, block), tokens, c, rope, **given)
        return unpatchify(self.final_layer(tokens[:, -height * width :], c), height, width, self.patch_size)

    def rotations(self, height: int, width: int, device: torch.device) -> Rope:
        side = self.input_size // self.patch_size
        return image_rope(height, width, trained_side=side, head_width=self.head_width, device=device)


class DiT(Transformer, LabelNetwork):
    """Velocity v(x, t, label). DiT-S/B/L/XL have width 384/768/1024/1152, depth 12/12/24/28, heads 6/12/16/16."""

    kind = "dit"
    block = Block

    @property
    def label_table(self) -> Tensor:
        return self.y_embedder.embedding_table.weight

    def check_file(self, weights: Mapping[str, Tensor]) -> None:
        """Raise NoDiT if a file has other tables of rotations than this network computes."""
        if not self.rope:
            return
        side = self.input_size // self.patch_size
        expected = self.rotations(side, side, torch.device("cpu"))
        check_rotations(weights, "feat_rope", expected, side)

    def drop(self, labels: Tensor, dropped: Tensor) -> Tensor:
        """The labels (B,) of a training batch, replaced by the null class where dropped (B,) is true."""
        return torch.where(dropped, self.num_classes, labels)

    def outputs(self, x: Tensor, t: Tensor, labels: Tensor | None = None, walk: Walk | None = None) -> Tensor:
        """x (B, C, H, W), t (B,), labels (B,) int64 -> (B, C, H, W), with the variance head's channels (B, 2 C, H, W).

        H and W are input_size, or other multiples of patch_size: then the position embedding is interpolated.
        labels may also be embeddings (B, D), rows of the table or between them. walk: see `transform`.
        """
        c = self.t_embedder(t)
        if not self.num_classes:
            return self.transform(x, c, walk=walk)
        labels = required(labels)
        y = labels if labels.is_floating_point() else self.y_embedder(labels)
        in_context = y.unsqueeze(1) + self.in_context_posemb if self.in_context_tokens else None
        return self.transform(x, c + y, in_context, walk)


def linear_layers(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
