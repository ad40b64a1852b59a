"""A DiT conditioned on text by cross-attention, like PixArt (Chen et al. 2023, arXiv 2310.00426, section 2.3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ditexp.core import Walk
from ditexp.model.dit import BlockLayers, Transformer
from ditexp.model.layers import BlockOptions, modulate
from ditexp.model.positions import Rope
from ditexp.model.text_encoder import TextEncoder


class CrossAttention(nn.Module):
    """Queries from x (B, N, D); keys and values from text (B, L, D) where mask (B, L) is true."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(hidden_size, hidden_size)
        self.kv = nn.Linear(hidden_size, 2 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        def heads(tensor: Tensor) -> Tensor:
            return tensor.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

        q, (k, v) = heads(self.q(x)), map(heads, self.kv(text).chunk(2, dim=-1))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        return self.proj(attended.transpose(1, 2).flatten(2))


class TextBlock(BlockLayers):
    """A block with cross-attention to the text between self-attention and MLP; only time modulates it."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float, options: BlockOptions) -> None:
        super().__init__(hidden_size, num_heads, mlp_ratio, options)
        self.cross_attn = CrossAttention(hidden_size, num_heads)

    def forward(self, x: Tensor, c: Tensor, rope: Rope | None, text: Tensor, mask: Tensor) -> Tensor:
        return self.computed(x, c, rope, text, mask)[0]

    def computed(
        self, x: Tensor, c: Tensor, rope: Rope | None, text: Tensor, mask: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The tokens after the block, and the outputs (B, N, D) of its three branches before their gates."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c)
        attended = self.attn(modulate(self.norm1(x), shift1, scale1), rope)
        x = x + gate1 * attended
        read = self.cross_attn(x, text, mask)
        x = x + read
        transformed = self.mlp(modulate(self.norm2(x), shift2, scale2))
        return x + gate2 * transformed, (attended, read, transformed)

    def completed(self, x: Tensor, c: Tensor, branches: Sequence[Tensor]) -> Tensor:
        """The tokens after the block if these are the outputs of its branches before their gates."""
        attended, read, transformed = branches
        _, _, gate1, _, _, gate2 = self.modulation(c)
        return x + gate1 * attended + read + gate2 * transformed


class TextDiT(Transformer):
    """Velocity v(x, t, text). text_width: the width of the encoder's hidden states. The rest as in Transformer.

    text_encoder: trained together with the network; None if the states come from elsewhere. Raises ValueError if
    neither it nor text_width is given.
    """

    block = TextBlock

    def __init__(
        self,
        *,
        input_size: int,
        patch_size: int,
        in_channels: int,
        hidden_size: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        learn_sigma: bool = False,
        text_width: int | None = None,
        text_encoder: TextEncoder | None = None,
    ) -> None:
        super().__init__(
            input_size=input_size,
            patch_size=patch_size,
            in_channels=in_channels,
            hidden_size=hidden_size,
            depth=depth,
            num_heads=num_heads,
            num_classes=0,
            mlp_ratio=mlp_ratio,
            learn_sigma=learn_sigma,
        )
        self.has_null = True  # the empty prompt
        width = text_width or (text_encoder.width if text_encoder else None)
        if width is None:
            raise ValueError("TextDiT needs text_width or text_encoder: give one of them")
        self.text_embedder = nn.Linear(width, hidden_size)
        nn.init.xavier_uniform_(self.text_embedder.weight)
        nn.init.zeros_(self.text_embedder.bias)
        for block in self.blocks:
            if isinstance(block, TextBlock):
                nn.init.zeros_(block.cross_attn.proj.weight)
        self.text_encoder = text_encoder

    def drop(self, captions: Sequence[str], dropped: Tensor) -> list[str]:
        """The captions of a training batch, replaced by the empty one where dropped (B,) is true."""
        return ["" if is_dropped else caption for caption, is_dropped in zip(captions, dropped.tolist())]

    def forward(self, x: Tensor, t: Tensor, captions: Sequence[str]) -> Tensor:
        """x (B, C, H, W), t (B,) in [0, 1] with 1 = data, B captions -> velocity (B, C, H, W)."""
        if self.text_encoder is None:
            raise ValueError("this TextDiT has no text encoder: give `velocity` the states of one")
        return self.velocity(x, t, *self.text_encoder(captions))

    def velocity(self, x: Tensor, t: Tensor, states: Tensor, mask: Tensor, walk: Walk | None = None) -> Tensor:
        """As `forward`, for captions that are encoded: states (B, L, text_width) and mask (B, L) bool."""
        outputs = self.transform(x, self.t_embedder(t), walk=walk, text=self.text_embedder(states), mask=mask)
        return outputs[:, : self.in_channels]

    def weights(self) -> dict[str, Tensor]:
        """All weights but those of the text encoder."""
        return {key: value for key, value in self.state_dict().items() if not key.startswith("text_encoder.")}
