"""A model as it is evaluated: weights in the compute type give the bits of autocast, blocks are compiled once."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ditexp.core import FlowModel
from ditexp.meter import Meter
from ditexp.model.analytic import GaussianMixture
from ditexp.model.pretrained import PretrainedDiT
from ditexp.network import Network
from ditexp.precision import PRECISIONS
from ditexp.values import Condition
from tests.helpers.family_files import NETWORKS, save_family
from tests.helpers.paths import WEIGHTS

CPU = torch.device("cpu")
DIGITS = str(WEIGHTS / "digits_dit.safetensors")
MODELS = ["digits", *NETWORKS]


class Casts(TorchDispatchMode):
    """Counts the tensors that change their type."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._to_copy.default
        return function(*args, **kwargs or {})


def inputs(model: FlowModel, count: int = 3) -> tuple[torch.Tensor, torch.Tensor, Condition]:
    torch.manual_seed(0)
    x, t = torch.randn(count, *model.sample_shape), torch.rand(count)
    return x, t, Condition(torch.arange(count) % model.num_classes)


def network(model: FlowModel, precision: str, **settings) -> Network:
    return Network(model, Meter(CPU), PRECISIONS[precision], **settings)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_weights_in_the_compute_type_give_the_bits_of_autocast(name, precision, tmp_path):
    if name == "digits":
        model = PretrainedDiT(checkpoint=DIGITS)
    else:
        file, more = save_family(tmp_path / "model.pt", name), {"in_context_start": 0} if name == "jit" else {}
        model = PretrainedDiT(checkpoint=str(file), family=name, **more)
    given, full, made = inputs(model), network(model, "fp32"), network(model, precision)
    exact = full(*given)
    with Casts() as before:
        expected = made(*given)
    made.load(3)
    with Casts() as after:
        assert torch.equal(made(*given), expected)
    matrices = sum(weight.dtype != torch.float32 for weight in made.forward.__self__.network.parameters())
    assert matrices and before.count - after.count == matrices
    assert torch.equal(full(*given), exact)  # the model itself is as it was


def test_a_model_without_a_module_is_itself():
    model = GaussianMixture()
    made = network(model, "bf16")
    made.load(3)
    assert made.forward.__self__ is model
    with pytest.raises(ValueError, match=r"precision=int8 needs a model of transformer blocks: choose bf16"):
        network(model, "int8").load(3)
