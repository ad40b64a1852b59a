"""DiT against a second derivation from the paper's description, and what is read off its checkpoints."""

from __future__ import annotations

import math

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn import functional as F

from ditexp.cli.components import instantiate
from ditexp.model.dit import DiT
from ditexp.model.loading import SkipInitialization
from ditexp.model.positions import sincos_position_embedding
from ditexp.model.pretrained import PretrainedDiT
from ditexp.values import Condition
from tests.helpers.networks import TINY, saved, tiny_dit
from tests.helpers.paths import CONF


def inputs(batch: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 3, 6, 6, generator=draw)
    return x, torch.rand(batch, generator=draw), torch.arange(batch) + 2  # 2, 3, 4 and the null class


def positions(width: int, side: int) -> Tensor:
    """The column's sines, then cosines, then the row's, of 10000^(-k / (width / 4)); token by token."""
    rows = []
    for token in range(side * side):
        values = []
        for place in (token % side, token // side):
            angles = [place / 10_000 ** (4 * k / width) for k in range(width // 4)]
            values += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
        rows.append(values)
    return torch.tensor(rows)


def velocity(
    w: dict[str, Tensor], x: Tensor, t: Tensor, labels: Tensor | None, *, heads: int = 3, p: int = 2
) -> Tensor:
    """DiT once more, from a state dict, sample by sample and head by head."""

    def linear(name: str, h: Tensor) -> Tensor:
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def normalised(h: Tensor) -> Tensor:
        h = h - h.mean(-1, keepdim=True)
        return h / (h.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def attention(name: str, h: Tensor) -> Tensor:
        q, k, v = linear(f"{name}.qkv", h).chunk(3, dim=-1)
        each = [part.chunk(heads, dim=-1) for part in (q, k, v)]
        scale = (h.shape[-1] // heads) ** -0.5
        return linear(f"{name}.proj", torch.cat([(q @ k.T * scale).softmax(-1) @ v for q, k, v in zip(*each)], -1))

    def one(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        channels, side = x.shape[0], x.shape[1] // p
        patches = [x[:, i * p : (i + 1) * p, j * p : (j + 1) * p].flatten() for i in range(side) for j in range(side)]
        h = torch.stack(patches) @ w["x_embedder.proj.weight"].flatten(1).T + w["x_embedder.proj.bias"]
        h = h + positions(h.shape[1], side)
        angles = torch.tensor([t.item() * 10_000 ** (-k / 128) for k in range(128)], dtype=x.dtype)
        c = linear("t_embedder.mlp.2", F.silu(linear("t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()]))))
        if label is not None:
            c = c + w["y_embedder.embedding_table.weight"][label]
        c = c * c.sigmoid()
        for i in range(TINY["depth"]):
            name = f"blocks.{i}"
            shift1, scale1, gate1, shift2, scale2, gate2 = linear(f"{name}.adaLN_modulation.1", c).chunk(6)
            h = h + gate1 * attention(f"{name}.attn", normalised(h) * (1 + scale1) + shift1)
            hidden = linear(f"{name}.mlp.fc1", normalised(h) * (1 + scale2) + shift2)
            hidden = hidden / 2 * (1 + torch.tanh((2 / math.pi) ** 0.5 * (hidden + 0.044715 * hidden**3)))
            h = h + gate2 * linear(f"{name}.mlp.fc2", hidden)
        shift, scale = linear("final_layer.adaLN_modulation.1", c).chunk(2)
        h = linear("final_layer.linear", normalised(h) * (1 + scale) + shift)
        out = h.new_empty(h.shape[1] // p**2, side * p, side * p)
        for token, values in enumerate(h):
            i, j = token // side * p, token % side * p
            out[:, i : i + p, j : j + p] = values.view(p, p, -1).permute(2, 0, 1)  # channels are innermost
        return out[:channels]

    labels = [None] * len(x) if labels is None else labels
    return torch.stack([one(*sample) for sample in zip(x, t, labels)])


@pytest.mark.parametrize("changes", [{}, {"learn_sigma": True}, {"num_classes": 0}], ids=str)
@torch.no_grad()
def test_forward_agrees_with_a_second_derivation(changes):
    dit = tiny_dit(**changes)
    x, t, labels = (value.double() if value.is_floating_point() else value for value in inputs())
    dit.double()  # where only what differs differs: the network amplifies float32's rounding
    expected = velocity(dit.state_dict(), x, t, None if dit.num_classes == 0 else labels)
    assert expected.std() > 0.5
    assert (dit(x, t, labels) - expected).abs().max() < 1e-6


def test_every_weight_matters():
    """So that the test above sees them all."""
    dit = tiny_dit()
    x, t, labels = inputs()
    dit(x, t, labels).square().sum().backward()
    assert [name for name, p in dit.named_parameters() if p.requires_grad and not p.grad.any()] == []


def test_keys_are_the_official_ones():
    each = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "adaLN_modulation.1"]
    layers = ["x_embedder.proj", "t_embedder.mlp.0", "t_embedder.mlp.2", "final_layer.linear"]
    layers += ["final_layer.adaLN_modulation.1", *(f"blocks.{i}.{name}" for i in range(2) for name in each)]
    expected = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")} | {"pos_embed"}
    assert set(tiny_dit(num_classes=0).state_dict()) == expected
    labelled = tiny_dit().state_dict()
    assert set(labelled) == expected | {"y_embedder.embedding_table.weight"}
    assert labelled["y_embedder.embedding_table.weight"].shape == (6, 24)
    assert len(tiny_dit(has_null=False).state_dict()["y_embedder.embedding_table.weight"]) == 5


@pytest.mark.parametrize(("size", "millions"), [("s", 33.0), ("b", 130.5), ("l", 458.1), ("xl", 675.1)])
def test_sizes_are_the_papers(size, millions):
    cfg = OmegaConf.load(CONF / "network" / f"dit_{size}_2.yaml")
    for learn_sigma in (False, True):
        with torch.device("meta"), SkipInitialization():
            count = sum(parameter.numel() for parameter in instantiate(cfg, learn_sigma=learn_sigma).parameters())
        assert round(count / 1e6, 1) == millions
    if size == "xl":
        assert count == 675_129_632  # what DiT's own script prints, with its variance head


def test_positions_are_exact():
    assert (sincos_position_embedding(24, 3)[0] - positions(24, 3)).abs().max() < 1e-7


@torch.no_grad()
def test_a_checkpoint_of_every_kind_gives_its_network(tmp_path):
    dit, other = tiny_dit(), {key: 2 * value for key, value in tiny_dit().state_dict().items()}
    state = dit.state_dict()
    files = {
        saved(tmp_path / "bare.pt", state): None,
        saved(tmp_path / "weights.safetensors", state): None,
        saved(tmp_path / "training.pt", {"model": other, "ema": state, "args": None}): None,
        saved(tmp_path / "swapped.pt", {"model": state, "ema": other, "opt": {"lr": 1.0}}): "model",
    }
    x, t, labels = inputs()
    for file, which in files.items():
        model = PretrainedDiT(checkpoint=file, family="sit", num_heads=3, weights=which)
        assert torch.equal(model(x, t, Condition(labels)), dit(x, t, labels)), file
        assert (model.sample_shape, model.num_classes, model.has_null) == ((3, 6, 6), 5, True)
        assert torch.equal(model.null(Condition(labels)).labels, torch.full((4,), 5))


@pytest.mark.parametrize(
    "changes",
    [
        {"patch_size": 1, "depth": 3, "mlp_ratio": 2.0},
        {"in_channels": 1, "learn_sigma": True},
        {"num_classes": 0, "has_null": False},
        {"hidden_size": 384, "num_heads": 6, "depth": 1},
    ],
    ids=str,
)
def test_architecture_is_read_off_the_weights(changes, tmp_path):
    architecture = {**TINY, "has_null": True, "mlp_ratio": 4.0, "learn_sigma": False, **changes}
    file = saved(tmp_path / "x.pt", DiT(**architecture).state_dict())
    heads = None if architecture["hidden_size"] == 384 else 3  # a released size tells its heads
    model = PretrainedDiT(checkpoint=file, family="sit", num_heads=heads)
    assert {key: model.identity[key] for key in architecture} == architecture


def test_a_label_table_without_null_row_must_be_announced(tmp_path):
    file = saved(tmp_path / "x.pt", tiny_dit(has_null=False).state_dict())
    model = PretrainedDiT(checkpoint=file, family="sit", num_heads=3, num_classes=5)
    assert (model.num_classes, model.has_null) == (5, False)
    with pytest.raises(ValueError, match=r"x.pt: model.num_classes=7, but there are 5 label embeddings"):
        PretrainedDiT(checkpoint=file, family="sit", num_heads=3, num_classes=7)


def test_identity_is_of_the_weights_not_of_the_path(tmp_path):
    state = tiny_dit().state_dict()
    here, there = (saved(tmp_path / name / "x.safetensors", state) for name in ("here", "there"))
    changed = saved(tmp_path / "changed.safetensors", state | {"final_layer.linear.bias": torch.zeros(12)})
    identities = [PretrainedDiT(checkpoint=file, family="sit", num_heads=3).identity for file in (here, there, changed)]
    assert identities[0] == identities[1] != identities[2]
