"""Benchmarks run: those of a GPU with a tiny network on a CPU, and the loops that ditexp is compared with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.gaps import busy
from benchmarks.gpu.parts import Part
from docs import make_performance

FACTS = {"steps", "dry_run", "matmul_teraflops", "driver", "left_out", "command", "provenance"}


def run(monkeypatch, out: Path, *arguments: str) -> dict[str, dict]:
    """The records of the parts, by their names."""
    monkeypatch.setattr("sys.argv", ["benchmarks.gpu", *arguments, "--dry-run", f"--out={out}"])
    gpu.main()
    return {path.stem.removeprefix("gpu_"): json.loads(path.read_text()) for path in out.glob("gpu_*.json")}


def test_a_part_of_the_gpu_benchmark_runs_with_a_tiny_network(monkeypatch, tmp_path):
    (record,) = run(monkeypatch, tmp_path, "throughput").values()
    assert record.keys() >= FACTS and record["provenance"]["torch"] == torch.__version__
    (row,) = record["rows"]
    # 2 images in 2 steps with guidance are 8 evaluations.
    assert row["forwards_per_second"] == pytest.approx(4 * row["images_per_second"])
    assert row["share_of_matmul"] == pytest.approx(row["teraflops"] / record["matmul_teraflops"], rel=1e-6)


@pytest.mark.slow
def test_every_part_of_the_gpu_benchmark_runs(monkeypatch, tmp_path):
    records = run(monkeypatch, tmp_path, "all")
    assert records.keys() == gpu.PARTS.keys()
    for name, record in records.items():
        assert record["rows"] and not record["left_out"], name
        assert not [row for row in record["rows"] if "failed" in row], name
    skipped = {
        row["precision"]: row["skipped"] for name in records for row in records[name]["rows"] if "skipped" in row
    }
    assert "no kernels" in skipped.pop("bf16") and skipped.keys() <= {"fp8", "int8"}
    errors = {row["precision"]: row["error"] for row in records["precision"]["rows"] if "error" in row}
    assert errors["fp32"] == 0 < errors["bf16"] < 0.1


def test_what_fails_or_comes_too_late_is_written_down(tmp_path):
    def too_large() -> dict:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    part = Part("some", tmp_path, tmp_path, seconds=100, dry_run=True)
    part.row({"batch": 1}, too_large)
    part.row({"batch": 2}, lambda: {"error": 1 / 0})
    part.deadline = 0.0
    part.row({"batch": 3}, dict)
    record = json.loads((tmp_path / "gpu_some.json").read_text())
    assert record["rows"][0]["skipped"] == "out of memory: CUDA out of memory. Tried to allocate 9 GiB"
    assert record["rows"][1]["failed"] == "ZeroDivisionError: division by zero"
    assert len(record["rows"]) == 2 and record["left_out"] == [{"batch": 3}]


def test_gaps_between_kernels_count_once_where_kernels_overlap():
    found = busy([(6000, 8000), (0, 2000), (1000, 3000), (1500, 1700)])
    assert found == {"milliseconds": 8.0, "share_without_a_kernel": pytest.approx(3 / 8)}


def test_the_page_has_the_tables_of_the_results(monkeypatch, tmp_path):
    assert make_performance.PAGE.read_text(encoding="utf-8") == make_performance.page(), "run: make docs"
    run(monkeypatch, tmp_path, "throughput")
    monkeypatch.setattr(make_performance, "RESULTS", tmp_path)
    (row,) = [line for line in make_performance.page().splitlines() if line.startswith("| tiny")]
    assert row.startswith("| tiny | 2 | bf16 | false | ")


@pytest.mark.slow
def test_the_loops_beside_ditexp_make_its_samples(monkeypatch, tmp_path):
    """The benchmark itself compares the samples of each loop with ditexp's, and counts SiT's evaluations."""
    from benchmarks import sampling

    out = tmp_path / "sampling.json"
    monkeypatch.setattr("sys.argv", ["benchmarks.sampling", "--dry-run", f"--out={out}"])
    sampling.main()
    cases = json.loads(out.read_text())["cases"]
    assert {"ditexp", "bare loop", "diffusers", "torchdiffeq", "ditexp, again"} <= cases[
        "digits, euler, 8 steps"
    ].keys()
    calls = {name: row.get("network_calls_a_sample") for name, row in cases["digits, SDE, 8 steps"].items()}
    assert calls == {"ditexp": 8, "SiT's loop": 16, "ditexp, again": None}
