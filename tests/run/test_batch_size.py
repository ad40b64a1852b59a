"""batch_size=auto: a number before a set has an id, measured once, and smaller where memory ran out."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from ditexp.files import hash_cache
from ditexp.files.hash_cache import HashCache
from ditexp.model.pretrained import PretrainedDiT
from ditexp.run import batch_size
from ditexp.run.batch_size import LARGEST, MEMORY, UNMEASURED, rates_of
from ditexp.run.cell import build
from ditexp.run.components import build_component
from ditexp.run.settings import command_of
from ditexp.run.sweep import takes_less_memory
from ditexp.run.worker_process import failure
from ditexp.values import Condition
from tests.helpers.commands import Command
from tests.helpers.configurations import composed

CPU = SimpleNamespace(device=torch.device("cpu"))
OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("DITEXP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hash_cache, "CACHE", HashCache())


def auto(tmp_path, *overrides: str) -> DictConfig:
    return composed("batch_size=auto", "num_samples=512", f"outputs={tmp_path}", *overrides)


@pytest.mark.parametrize(
    ("seconds", "share", "largest", "chosen"),
    [
        (lambda size: 1e-3 * max(size, 8), 0.0, 32, 8),  # until two sizes in a row are no faster
        (lambda size: 1e-3, 0.0, LARGEST, LARGEST),
        (lambda size: 1e-3, MEMORY / 16, 16, 16),  # twice as many would need more memory than it may
        (lambda size: 1e-3 * (1 + size), 0.0, 64, 16),  # within 5 % of the fastest
    ],
)
def test_the_smallest_size_that_is_fast_is_chosen(seconds, share, largest, chosen, monkeypatch):
    monkeypatch.setattr(batch_size, "seconds_of", lambda sampler, size: (seconds(size), share * size))
    rates = rates_of(CPU)
    assert max(rates) == largest and batch_size.fast(rates) == chosen


def test_the_search_ends_where_memory_or_time_does(monkeypatch):
    def evaluate(sampler, size):
        if size > 4:
            raise OUT_OF_MEMORY
        return 1e-3, 0.0

    monkeypatch.setattr(batch_size, "seconds_of", evaluate)
    assert list(rates_of(CPU)) == [1, 2, 4]
    monkeypatch.setattr(batch_size, "seconds_of", lambda sampler, size: (10.0, 0.0))
    assert list(rates_of(CPU)) == [1]


def test_auto_is_a_number_before_a_set_has_an_id(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(batch_size, "measured", lambda sampler: asked.append(sampler.precision) or 64)
    assert build(auto(tmp_path)).batch_size == UNMEASURED and not asked  # a plan measures nothing
    cell = build(auto(tmp_path), measure=True)
    assert cell.batch_size == cell.config["batch_size"] == 64 and asked == ["fp32"]
    hash_cache.CACHE = HashCache()  # as in another process
    cells = [build(auto(tmp_path, *more), measure=True) for more in ([], ["forwards=7", "solver=heun"])]
    assert [each.batch_size for each in cells] == [64] * 2 and asked == ["fp32"]
    assert cell.store.id == build(composed("batch_size=64", "num_samples=512", f"outputs={tmp_path}")).store.id
    assert build(auto(tmp_path, "num_samples=48"), measure=True).batch_size == 48
    build(auto(tmp_path, "precision=bf16"), measure=True)
    build(auto(tmp_path, "guidance=cfg", "guidance.weight=2"), measure=True)
    assert asked == ["fp32", "bf16", "fp32"]


def test_a_measured_size_is_measured_by_few_evaluations(tmp_path, monkeypatch):
    sizes = []
    original = PretrainedDiT.__call__

    def counted(model, x: torch.Tensor, t: torch.Tensor, condition: Condition, *walk) -> torch.Tensor:
        sizes.append(len(x))
        return original(model, x, t, condition, *walk)

    monkeypatch.setattr(PretrainedDiT, "__call__", counted)
    found = build(auto(tmp_path), measure=True).batch_size
    assert found in sizes and len(sizes) <= 3 * 11 and sizes == sorted(sizes)


def test_the_command_has_the_number():
    hydra_cfg = OmegaConf.create({"runtime": {"config_sources": []}, "overrides": {"task": ["batch_size=auto"]}})
    assert command_of(hydra_cfg) == "ditexp run batch_size=auto"
    assert command_of(hydra_cfg, batch_size=32) == "ditexp run batch_size=32"


def test_a_worker_says_that_it_lacks_memory():
    failed = failure(3, OUT_OF_MEMORY, {"batch_size": 100})
    assert failed.lacks_memory and not failed.is_final
    assert failed.error.endswith("try batch_size=64 (docs/troubleshooting.md)")
    assert failure(3, MemoryError()).lacks_memory and not failure(3, RuntimeError("no")).lacks_memory


@pytest.mark.parametrize(("complete", "size", "lowered"), [(0, 100, 64), (0, 1, None), (1, 100, None)])
def test_auto_is_lowered_unless_a_block_is_complete(complete, size, lowered, tmp_path):
    cfg = auto(tmp_path)
    cell = build(composed(f"batch_size={size}", "num_samples=512", f"outputs={tmp_path}"))
    store = SimpleNamespace(missing=lambda: range(complete, 5), num_blocks=5)
    assert takes_less_memory(cfg, replace(cell, store=store)) == (lowered is not None)
    assert build(cfg).batch_size == (lowered or UNMEASURED)


MODULE = """
import torch

from ditexp.model.analytic import GaussianMixture


class Large(GaussianMixture):
    def __call__(self, x, t, condition):
        if len(x) > 32:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return super().__call__(x, t, condition)
"""


@pytest.mark.slow
def test_a_cell_that_does_not_fit_in_memory_is_made_in_smaller_batches(ditexp, tmp_path, monkeypatch):
    (tmp_path / "large.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = ["model=analytic", "model._target_=large.Large", "num_samples=64", "steps=2", "metric=[]"]
    settings += ["feature=none", "reference=none", "devices=cpu:1"]
    cfg = composed(*settings, "batch_size=auto")
    batch_size.remember(batch_size.key_of(cfg, build_component(cfg, "model"), torch.device("cpu")), 64)

    def run(size: str) -> Command:
        return ditexp(*settings, size, environment={"DITEXP_CACHE": os.environ["DITEXP_CACHE"]}, folder=tmp_path)

    fixed = run("batch_size=64")
    assert fixed.code == 1 and "the GPU is out of memory" in fixed.output and "try batch_size=32" in fixed.output
    made = run("batch_size=auto")
    assert made.code == 0, made.output
    assert "a batch of 64 does not fit in memory: batch_size=auto is 32 from now on" in made.output
    again = run("batch_size=auto")
    assert again.code == 0 and "cached" in again.output and "does not fit" not in again.output
