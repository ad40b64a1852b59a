"""A model as it is evaluated: weights in the compute type give the bits of autocast, blocks are compiled once."""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch
import torch._dynamo
from torch.utils._python_dispatch import TorchDispatchMode

import ditexp.evaluated
from ditexp.cache.fora import FORA
from ditexp.core import FlowModel
from ditexp.guidance.cfg import ClassifierFree
from ditexp.meter import Meter
from ditexp.model.analytic import GaussianMixture
from ditexp.model.pretrained import PretrainedDiT
from ditexp.network import Network
from ditexp.precision import PRECISIONS, check_precision, library_of
from ditexp.solver.euler import Euler
from ditexp.values import Condition
from tests.helpers.family_files import FAMILIES, save_family
from tests.helpers.paths import WEIGHTS
from tests.helpers.samplers import sampler_of

CPU = torch.device("cpu")
DIGITS = str(WEIGHTS / "digits_dit.safetensors")
MODELS = ["digits", *(family for family in FAMILIES if family != "repa_e")]  # which has REPA's network


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
        given = {"jit": {"in_context_start": 0}, "ddt": {"encoder_depth": 1, "input_size": 4}}.get(name, {})
        model = PretrainedDiT(checkpoint=str(save_family(tmp_path / "model.pt", name)), family=name, **given)
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


def test_a_precision_that_this_machine_lacks_is_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"^precision=fp8 needs an NVIDIA GPU, .*: choose int8 or bf16$"):
        check_precision("fp8", CPU)
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with pytest.raises(
        ValueError, match=r"^precision=fp8 .* 8\.9 .* NVIDIA A100-SXM4-80GB: choose int8 or bf16$"
    ) as error:
        check_precision("fp8", gpu)
    assert len(str(error.value)) <= 200
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    for name, device in (("fp8", gpu), ("int8", CPU)):
        with pytest.raises(ValueError, match=rf"^precision={name} needs torchao: pip install 'ditexp\[torchao\]'"):
            check_precision(name, device)
    for name in ("fp32", "tf32", "bf16", "fp16"):
        check_precision(name, CPU)


def test_what_is_compiled_is_kept_unless_the_user_has_a_place_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setenv("DITEXP_CACHE", str(tmp_path))
    for place, expected in (("", str(tmp_path / "compiled")), ("/elsewhere", "/elsewhere")):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", place)
        if not place:
            monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
        ditexp.evaluated.begin_compiling()
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == expected


@pytest.mark.slow
@pytest.mark.parametrize(("cache", "graphs"), [(None, 1), (FORA(interval=2), 2)], ids=["no cache", "cache"])
def test_blocks_are_compiled_once_for_all_of_them(cache, graphs, monkeypatch):
    """By dynamo alone, which decides how often torch compiles; a cache also completes blocks from kept outputs."""

    def compiled(function):
        return torch.compile(function, dynamic=False, backend="eager")

    monkeypatch.setattr(ditexp.evaluated, "compiled", compiled)
    images = []
    for compile in (False, True):
        model = PretrainedDiT(checkpoint=DIGITS)
        made = sampler_of(model, Euler(), guidance=ClassifierFree(weight=1.0), cache=cache, compile=compile)
        torch._dynamo.utils.counters.clear()
        made.prepare(4)
        images.append(made.images(range(4))[0])
    assert len(model.blocks) > 1 and torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    assert torch.equal(*images)


@pytest.mark.slow
def test_int8_quantizes_the_matrices_of_tokens():
    model = PretrainedDiT(checkpoint=DIGITS)
    given, made = inputs(model), network(model, "int8")
    exact = network(model, "fp32")(*given)
    made.load(3)
    error = (made(*given) - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert 1e-4 < error < 0.02
    weights = made.forward.__self__.network.named_parameters()
    quantized = {name.split(".", 2)[-1] for name, weight in weights if type(weight).__name__ == "Int8Tensor"}
    assert quantized == {"attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight"}
    assert library_of("int8").keys() == {"torchao"} and not library_of("bf16")
