"""The main command as users run it: what it writes, what it reuses, how it fails."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ditexp.extraction import extract
from ditexp.feature.digits import DigitsFeature
from ditexp.files.tensors import load_tensors
from ditexp.model.dit import DiT
from ditexp.samples.store import SampleStore
from tests.helpers import commands
from tests.helpers.components import options
from tests.helpers.sample_sets import files_of

SMALL = ("num_samples=64", "batch_size=32", "steps=4")


def results(outputs: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((outputs / "results").glob("*.json"))]


def test_a_sweep_from_nothing_to_its_report(ditexp, tmp_path):
    arguments = ("-m", "solver=euler,rk4", "num_samples=64", "batch_size=32", "steps=2,4", "resamples=4")
    first = ditexp(*arguments)
    assert first.code == 0, first.output
    outputs = tmp_path / "outputs"
    found = results(outputs)
    assert len(found) == 4
    for result in found:
        steps, solver = result["settings"]["steps"], result["settings"]["solver"]
        stages = {"euler": 1, "rk4": 4}[solver]
        assert result["cost"]["nfe"] == result["cost"]["forwards"] == stages * steps
        assert result["cost"]["seconds_per_image"] > 0 and result["cost"]["peak_memory_mb"] > 0
        assert result["protocol"]["feature"]["name"] == "digits" and result["protocol"]["reference"]["count"] == 1797
        assert set(result["metrics"]) == {"fid", "inception_score", "precision", "recall"}
        assert {name: len(found["halves"]) for name, found in result["deviations"].items()} == dict.fromkeys(
            result["metrics"], 4
        )
        assert result["protocol"]["protocol"] == "adm" and not result["protocol"]["changed"]
        assert Path(result["grid"]).is_file()
        assert result["provenance"]["torch"] == torch.__version__
        images, labels = SampleStore.open(outputs / "samples" / result["sample_id"]).read(0)
        assert images.shape == (64, 8, 8, 1) and images.dtype == np.uint8
        assert labels.tolist() == [index % 10 for index in range(64)]
    (report,) = filter(Path.is_dir, (outputs / "reports").iterdir())
    logs = [path.read_text() for path in outputs.glob("runs/*/*/ditexp.log")]
    assert len(logs) == 4 and all("INFO command: " in log and "INFO done " in log for log in logs)
    assert len(list(outputs.glob("runs/*/*/preview.png"))) == 4 and first.output.count(": scoring") == 4
    assert {file.name for file in report.iterdir()} == {
        "table.md",
        "table.csv",
        "table.tex",
        "cells.csv",
        "cells.parquet",
        "report.json",
        "quality_vs_cost.png",
        "heat_map.png",
        "report.html",
        "samples.png",
    }
    rows = list(csv.DictReader((report / "table.csv").open()))
    assert len(rows) == 4
    assert str(report / "quality_vs_cost.png") in first.output

    again = ditexp(*arguments)
    assert again.code == 0 and again.output.count("cached") == 4
    assert results(outputs) == found  # all files are unchanged


@pytest.mark.slow
def test_the_same_samples_whatever_is_done_with_them(ditexp, tmp_path):
    """More samples, other metrics or another folder change no image, and no image is made twice."""
    samples = tmp_path / "outputs" / "samples"
    assert ditexp("num_samples=256", "batch_size=32", "steps=2").code == 0
    small = files_of(samples)
    times = {path: path.stat().st_mtime_ns for path in samples.rglob("*.npy.gz")}
    assert ditexp("num_samples=700", "batch_size=32", "steps=2").code == 0
    grown = files_of(samples)
    assert len(small) == 1 and len(grown) == 3 and small.items() < grown.items()
    assert ditexp("num_samples=700", "batch_size=32", "steps=2", "metric=[fid]", "study=other").code == 0
    assert files_of(samples) == grown
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    elsewhere = tmp_path / "elsewhere"
    assert ditexp("num_samples=700", "batch_size=32", "steps=2", f"outputs={elsewhere}").code == 0
    assert files_of(elsewhere / "samples") == grown
    assert {r["num_samples"] for r in results(tmp_path / "outputs")} == {256, 700}


@pytest.mark.slow
def test_guidance_costs_two_forwards_and_both_spellings_are_one_set(ditexp, tmp_path):
    assert ditexp("-m", *SMALL, "guidance=cfg", "guidance.weight=0,2").code == 0
    assert ditexp(*SMALL, "guidance=cfg", "guidance.scale=3").code == 0
    found = results(tmp_path / "outputs")
    costs = {r["settings"]["guidance.weight"]: (r["cost"]["nfe"], r["cost"]["forwards"]) for r in found}
    assert costs == {0: (4, 4), 2: (4, 8)}  # the scale's cell was cached: same set, same result


def test_relative_outputs_begin_at_the_working_directory(ditexp, tmp_path):
    """Although Hydra changes to a folder of each cell's own, where its first workers start."""
    sweep = (
        "-m",
        "outputs=out",
        "hydra.job.chdir=true",
        "solver=euler,heun",
        "num_samples=16",
        "batch_size=16",
        "steps=2",
    )
    command = ditexp(*sweep, "metric=[]", folder=tmp_path)
    assert command.code == 0 and command.output.count("done ") == 2, command.output
    assert "hydra.job.chdir=true has no effect" in command.output
    assert len(list((tmp_path / "out" / "samples").glob("*/*.npy.gz"))) == len(list(tmp_path.rglob("*.npy.gz"))) == 2


def test_presets_are_what_they_say(in_process):
    plan = in_process("-m", "preset=fast,balanced,best", "hydra/launcher=plan", "num_samples=32", "batch_size=32")
    assert plan.code is None, plan.err
    cells = [line.split() for line in plan.out.splitlines() if "preset=" in line]
    assert [(cell[0], *cell[-7:-3]) for cell in cells] == [
        ("preset=fast", "20", "20", "20", "32"),
        ("preset=balanced", "50", "100", "200", "32"),
        ("preset=best", "100", "400", "800", "32"),
    ]


@pytest.mark.slow
def test_a_plan_runs_nothing_and_shows_all_mistakes(ditexp, tmp_path):
    outputs = tmp_path / "outputs"
    for flags in (["-m"], []):
        plan = ditexp(*flags, "solver=heun", *SMALL, "hydra/launcher=plan")
        assert plan.code == 0 and "8" in plan.output and "nothing was run" in plan.output
    assert not (outputs / "samples").exists() and not (outputs / "results").exists()
    assert ditexp("solver=heun", *SMALL).code == 0
    assert "cached" in ditexp("solver=heun", *SMALL, "hydra/launcher=plan").output
    wrong = ditexp("-m", "steps=0,4", "condition.classes=[12]", "hydra/launcher=plan")
    assert wrong.code == 2 and len(wrong.complaints) == 2
    assert "steps=0" in wrong.complaints[0] + wrong.complaints[1] and "[12]" in wrong.output


def test_samples_of_some_classes(ditexp, tmp_path):
    command = ditexp(*SMALL, "solver=euler", "condition.classes=[1,7]")
    assert command.code == 0, command.output
    (folder,) = (tmp_path / "outputs" / "samples").iterdir()
    _, labels = SampleStore.open(folder).read(0)
    assert set(labels.tolist()) == {1, 7}


def test_settings_go_with_the_group_that_is_swept(in_process):
    """Even if the default option lacks them; an option that lacks them runs without."""
    plan = ("hydra/launcher=plan", "guidance.weight=1", "guidance.interval=[0.5,1]")
    guided = in_process("-m", "guidance=cfg,apg", "steps=10", *plan)
    assert guided.code is None, guided.err
    rows = [line.split() for line in guided.out.splitlines() if "guidance=" in line]
    assert [row[1:4] for row in rows] == [["10", "10", "15"]] * 2
    mixed = in_process("-m", "guidance=cfg,none", "steps=10", *plan)
    rows = [line.split() for line in mixed.out.splitlines() if "guidance=" in line]
    assert [row[-7:-4] for row in rows] == [["10", "10", "15"], ["10", "10", "10"]]


def test_help_lists_the_groups(in_process):
    output = " ".join(in_process("--help").out.split())
    for group, default in (("solver", "euler"), ("schedule", "uniform")):
        others = [option for option in options(group) if option != default]
        assert f"{group}={default} {', '.join(others)}" in output
    assert "preset balanced, best, fast" in output


@pytest.mark.parametrize("flags", [[], pytest.param(["-m"], marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["solver=eulr"], "unknown solver 'eulr'; did you mean solver=euler?; choices: ab2, ab3, "),
        (["stepz=3"], "unknown key 'stepz'; did you mean steps?"),
        (
            ["guidance.weight=3"],
            "unknown key 'guidance.weight'; guidance has no settings here: choose another guidance=",
        ),
        (
            ["metric=[fids]"],
            "unknown metric 'fids'; did you mean metric=fid?; choices: clip_score, density_coverage, fid, ",
        ),
        (["heun"], "heun: give <key>=<value>, such as solver=heun"),
        (
            ["model.checkpoint=a=b.pt"],
            "model.checkpoint=a=b.pt: a value with = in it needs quotes; as text, write \"model.checkpoint='a=b.pt'\"",
        ),
        (["steps=0"], "steps=0: give a whole number of at least 1"),
        (["resamples=-1"], "resamples=-1: give a whole number of at least 0"),
        (["tracker=wandb", "tracker.mode=sometimes"], "unknown W&B mode 'sometimes'; choices: auto, online, offline"),
        (["steps=-3"], "steps=-3: give a whole number of at least 1"),
        (["steps=2.5"], "steps=2.5: give a whole number of at least 1"),
        (["num_samples=0"], "num_samples=0: give a whole number of at least 1"),
        (["batch_size=many"], "batch_size=many: give a whole number of at least 1"),
        (["seed=-1"], "seed=-1: give a whole number of at least 0"),
        (["precision=fp33"], "precision=fp33: choose from fp32, tf32, bf16, fp16, fp8, int8"),
        (["devices=tpu0"], "devices=tpu0: choose auto, a number of GPUs, a list of them as [0,2], cpu or cpu:N"),
        (["guidance=cfg"], "neither is given"),
        (["guidance=cfg", "guidance.weight=2", "guidance.scale=3"], "both are given"),
        (["condition.classes=[10]"], "condition.classes=[10]: labels of this model run from 0 to 9"),
        (["condition.classes=7"], "condition.classes=7: give a list of labels, as [0,7], or null for all"),
        (["model=sit"], "model.checkpoint has no default: give model.checkpoint=..."),
        (["model=sit", "model.checkpoint=/missing.pt"], "model.checkpoint=/missing.pt does not exist"),
        (["reference=none"], "fid, precision_recall need a reference: choose reference=digits, folder"),
        (["num_samples=3"], "precision_recall with k=3 needs 4 images or more, got 3 in the samples"),
        (["metric=[fid]", "metric.fid.k=3"], "unknown key 'metric.fid.k'"),
        (["reference=folder", "reference.path=/missing"], "/missing is not a folder"),
    ],
)
def test_a_wrong_configuration_is_one_line_before_any_work(flags, arguments, complaint, in_process):
    ended = in_process(*flags, "tracker=none", *arguments)
    assert ended.code == 2
    assert any(complaint in line for line in ended.complaints), ended.err
    assert (ended.out + ended.err).splitlines() == [f"ditexp: {line}" for line in ended.complaints]
    assert not Path("outputs/samples").exists()


def test_all_mistakes_of_a_sweep_are_shown_at_once(in_process):
    ended = in_process("-m", "tracker=none", "solver=euler,heun", "steps=0,4", "precision=fp33")
    assert ended.code == 2 and len(ended.complaints) == 2
    assert "in solver=euler steps=0" in ended.err and "and 1 more cell" in ended.err


def test_a_wandb_that_cannot_be_used_is_no_mistake_of_a_plan(in_process):
    assert in_process("hydra/launcher=plan", "tracker=wandb", *SMALL).code is None


def test_workers_extract_features_while_they_sample(ditexp, tmp_path):
    """A slice is not scored, yet its blocks' features are there, equal to those extracted afterwards."""
    sampling = ("num_samples=512", "batch_size=64", "steps=2", "slice=1/2")
    assert ditexp(*sampling, "metric=[inception_score]").code == 0
    (made,) = (tmp_path / "outputs" / "cache" / "features").rglob("*.safetensors")
    assert made.name == "000000.safetensors"
    (folder,) = (tmp_path / "outputs" / "samples").iterdir()
    images = SampleStore.open(folder)
    afterwards = extract(images, DigitsFeature(), tmp_path / "afterwards")
    for name, tensor in load_tensors(made).items():
        torch.testing.assert_close(tensor, getattr(afterwards, name), rtol=1e-5, atol=1e-5)
    assert ditexp(*sampling, "metric=[]", "seed=1").code == 0
    assert len(list((tmp_path / "outputs" / "cache" / "features").rglob("*.safetensors"))) == 1


@pytest.mark.slow
def test_an_exported_set_scores_the_same(ditexp, tmp_path):
    """As an npz that other evaluators read, cut to the number of samples, and evaluated by ditexp."""
    assert ditexp("num_samples=300", "batch_size=32", "steps=4").code == 0
    (result,) = results(tmp_path / "outputs")
    outputs, out = tmp_path / "outputs", tmp_path / "out.npz"

    def export(*arguments: str) -> commands.Command:
        arguments = ("export", *arguments, "--outputs", str(outputs))
        return commands.start(commands.unused_name(tmp_path / "logs"), "ditexp.samples", *arguments).wait()

    assert export(result["sample_id"], str(out), "--num-samples", "300").code == 0
    with np.load(out) as arrays:
        assert arrays["arr_0"].shape == (300, 8, 8, 1) and arrays["arr_0"].dtype == np.uint8
        assert arrays["arr_1"].tolist() == [index % 10 for index in range(300)]
    judged_by = ("feature=digits", "reference=digits")
    evaluated = tmp_path / "evaluated"
    assert ditexp(f"images={out}", f"outputs={evaluated}", *judged_by, module="ditexp.evaluate").code == 0
    (alone,) = results(evaluated)
    # The block size changes the last bits of float32 features.
    assert alone["metrics"] == pytest.approx(result["metrics"], rel=1e-6)
    from_set = (f"images={result['sample_id']}", "num_samples=300", f"outputs={outputs}")
    assert ditexp(*from_set, *judged_by, module="ditexp.evaluate").code == 0
    (file,) = (outputs / "results").glob("evaluate-*.json")
    assert json.loads(file.read_text())["metrics"] == result["metrics"]

    assert export("nosuchset", str(out)).complaints == [
        f"{outputs / 'samples' / 'nosuchset'} is no sample set; there are: {result['sample_id']}"
    ]
    assert "holds 512 whole samples, not 600" in export(result["sample_id"], str(out), "--num-samples", "600").output


def save_dit(path: Path, **changes) -> dict:
    settings = {
        "input_size": 8,
        "patch_size": 2,
        "in_channels": 1,
        "hidden_size": 32,
        "depth": 1,
        "num_heads": 2,
    }
    torch.manual_seed(0)
    state = DiT(**settings, num_classes=10).state_dict() | changes
    torch.save({"model": state, "ema": state}, path)
    return state


@pytest.mark.slow
def test_checkpoints_that_cannot_be_used(ditexp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # so that paths are short, and messages whole

    def complaint(path: Path, *more: str) -> str:
        command = ditexp(*SMALL, "model=sit", f"model.checkpoint={path.name}", *more)
        assert command.code == 2 and len(command.complaints) == 1, command.output
        return command.complaints[0]

    good = tmp_path / "good.pt"
    save_dit(good)
    assert "model.num_heads is needed" in complaint(good)
    truncated = tmp_path / "truncated.pt"
    truncated.write_bytes(good.read_bytes()[:5000])
    assert "cannot be read" in complaint(truncated)
    (tmp_path / "truncated.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    assert "is not a checkpoint" in complaint(tmp_path / "truncated.safetensors")
    code = tmp_path / "code.pt"
    torch.save({"model": Path("a pickled object")}, code)
    assert "holds no state dict" in complaint(code)  # but an inert record of the object
    other = tmp_path / "other.pt"
    torch.save({"conv.weight": torch.zeros(3)}, other)
    assert "is not a DiT: it has no 'final_layer.linear.weight'" in complaint(other)
    shape = tmp_path / "shape.pt"
    save_dit(shape, **{"blocks.0.attn.proj.weight": torch.zeros(7, 7)})
    assert "is not a SiT: blocks.0.attn.proj.weight is (7, 7), not (" in complaint(shape, "model.num_heads=2")


def test_an_unconditional_model_cannot_be_guided(ditexp, in_process, tmp_path):
    state = save_dit(tmp_path / "labelled.pt")
    torch.save({key: value for key, value in state.items() if not key.startswith("y_")}, tmp_path / "plain.pt")
    arguments = (
        *SMALL,
        "model=sit",
        f"model.checkpoint={tmp_path / 'plain.pt'}",
        "model.num_heads=2",
        "metric=[]",
    )
    assert ditexp(*arguments).code == 0
    guided = in_process(*arguments, "guidance=cfg", "guidance.weight=2")
    assert guided.code == 2 and "is unconditional: use guidance=none" in guided.complaints[0]


def test_a_failed_cell_is_reported_and_the_others_continue(ditexp, tmp_path):
    """A sweep over a network of NaNs and a good one: the step is named, the exit code 1, the table complete."""
    bad = tmp_path / "bad.pt"
    save_dit(bad, **{"final_layer.linear.bias": torch.full((4,), torch.nan)})
    good = tmp_path / "good.pt"
    save_dit(good)
    command = ditexp("-m", *SMALL, "model=sit", f"model.checkpoint={bad},{good}", "model.num_heads=2")
    assert command.code == 1, command.output
    assert "block 0 (samples 0 to 63): the state became NaN or Inf in step 1 of 4" in command.output
    assert command.complaints == ["1 of 2 cells failed; the same command tries it again"]
    assert len(files_of(tmp_path / "outputs" / "samples")) == 1
    assert len(results(tmp_path / "outputs")) == 1
    (table,) = (tmp_path / "outputs" / "reports").rglob("table.md")
    assert "NaN or Inf" in table.read_text()


def test_outputs_that_cannot_be_written(in_process, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    command = in_process(*SMALL, f"outputs={tmp_path / 'file' / 'outputs'}", "tracker=none")
    assert command.code == 2 and len(command.complaints) == 1
    assert str(tmp_path / "file") in command.complaints[0]
