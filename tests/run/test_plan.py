"""hydra/launcher=plan: what is missing, what a sweep costs, and how many hours that is."""

from __future__ import annotations

import json

import pytest

from ditexp.provenance import device_name
from ditexp.run import rate
from tests.helpers.family_files import save_family
from tests.helpers.results import cell

PLAN = ("hydra/launcher=plan", "tracker=none", "devices=cpu:1")
STUDY = ("-m", "experiment=sit_ode_sde", *PLAN)


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines() if line.startswith(" guidance.scale=")]


def test_missing_files_are_listed_and_the_rest_is_planned(in_process):
    given = in_process(*STUDY, "model.checkpoint=my.pt", "reference.path=nowhere.npz", "num_samples=512")
    assert given.code is None, given.err
    assert [row[1:6] for row in rows(given.out)] == [["125", "250", f, "512", "512"] for f in ("250", "500")]
    missing = [line for line in given.out.splitlines() if line.startswith("missing: ")]
    names = [line.split(": ")[1] for line in missing]
    assert names == ["model.checkpoint=my.pt", "vae.path=stabilityai/sd-vae-ft-ema", "reference.path=nowhere.npz"]
    assert "GB" in missing[0] and "https://" in missing[0]
    assert "2 cells need 384,000 network evaluations; nothing was run" in given.out
    without = in_process(*STUDY, "num_samples=512")
    assert "missing: model.checkpoint=...: " in without.out and "missing: reference.path=...: " in without.out


def test_other_mistakes_still_fail_the_plan(in_process):
    wrong = in_process(*STUDY, "model.checkpoint=my.pt", "precision=fp33")
    assert wrong.code == 2 and wrong.complaints == ["precision=fp33: choose from fp32, tf32, bf16, fp16, fp8, int8"]


def test_without_a_reference_the_samples_are_planned(in_process):
    """The model is there, so the set, its size on disk and what is there of it are known."""
    plan = in_process(*PLAN, "reference=npz", "reference.path=nowhere.npz", "num_samples=64", "steps=3")
    assert plan.code is None, plan.err
    assert "missing: reference.path=nowhere.npz" in plan.out and "128 " in plan.out and "files missing" in plan.out


def test_a_vae_that_is_missing_hides_no_other_cost(in_process, tmp_path):
    checkpoint = save_family(tmp_path / "my.pt", "sit")
    plan = in_process(*STUDY, f"model.checkpoint={checkpoint}", "vae.path=nowhere", "num_samples=512", "rate=1")
    assert plan.code is None, plan.err
    assert [row[1:6] for row in rows(plan.out)] == [["125", "250", f, "512", "512"] for f in ("250", "500")]
    assert "missing: vae.path=nowhere: " in plan.out and "missing: model" not in plan.out


def test_a_study_of_ddpm_is_planned_without_its_weights(in_process):
    plan = in_process("-m", "experiment=dit", *PLAN, "num_samples=512")
    assert plan.code is None, plan.err
    assert [row[1:6] for row in rows(plan.out)] == [["250", "250", f, "512", "512"] for f in ("250", "500", "500")]


@pytest.mark.slow
def test_the_reuse_of_an_encoder_is_planned_on_a_published_network(in_process):
    """250 steps, 172 of them guided: 422 evaluations, of which 39 + 86 points compute the encoder of DDT-XL/2.

    A decoder has 6 of 28 blocks, whose modulation is one of each token: (6 x 18) / (22 x 12 + 6 x 18) = 0.29 of the
    multiplications of all blocks, without those of attention itself.
    """
    plan = in_process("-m", "experiment=ddt", *PLAN, "num_samples=512")
    assert plan.code is None, plan.err
    forwards = [float(line.split()[3]) for line in plan.out.splitlines() if line.startswith(" cache=")]
    assert forwards[0] == 422 and forwards[1] == pytest.approx(211 * 1.29, rel=0.01)


@pytest.mark.slow
def test_a_vae_in_the_models_file_is_missed_with_it(in_process):
    plan = in_process("-m", "experiment=repa_e", *PLAN, "num_samples=512")
    assert plan.code is None, plan.err
    assert [row[1:6] for row in rows(plan.out)] == [["250", "250", f, "512", "512"] for f in ("250", "409")]
    missing = [line.split(": ")[1] for line in plan.out.splitlines() if line.startswith("missing: ")]
    assert missing == ["model.checkpoint=...", "reference.path=..."]
    alone = in_process(
        "compat=repa_e", "model.checkpoint=my.pt", "vae.path=vae.pt", *PLAN, "reference=none", "metric=[]"
    )
    assert "missing: vae.path=vae.pt" in alone.out
    refused = in_process("compat=repa_e", "model=analytic", "tracker=none")
    assert refused.code == 2 and "vae.path refers to model.checkpoint" in refused.err


@pytest.mark.slow
def test_jumps_are_planned_without_their_weights(in_process):
    cells = ("compat=meanflow,imf,pmf", "steps=1,4", "model.checkpoint=no.pt", "reference=npz", "reference.path=no.npz")
    plan = in_process("-m", *cells, "num_samples=512", *PLAN)
    assert plan.code is None and "6 cells need 7,680 network evaluations" in plan.out, plan.err
    guided = in_process("-m", *cells, "guidance=cfg", "guidance.scale=2", *PLAN)
    assert guided.code == 2 and "guidance is inside the network: choose guidance=none" in guided.err


@pytest.mark.slow
def test_hours_come_from_a_rate_that_is_given(in_process):
    small = ("-m", "steps=5,10", "num_samples=512", *PLAN)
    plan = in_process(*small, "rate=2")
    assert [line.split()[-1] for line in plan.out.splitlines() if line.startswith(" steps=")] == ["0.356", "0.711"]
    assert "1.07 hours of one device, divided by the number of devices (rate=2)" in plan.out
    assert "hours: rate=measure measures this device" in in_process(*small).out
    for wrong in ("0", "-3", "fast", "nan"):
        refused = in_process(*small, f"rate={wrong}")
        assert refused.code == 2 and refused.complaints == [f"rate={wrong}: give a number above 0, or rate=measure"]


def test_hours_are_measured_when_asked(in_process, monkeypatch):
    """On the real network in batches of the run; cells that differ in their steps share one measurement."""
    made = []
    monkeypatch.setattr(rate, "per_second", lambda work, device: made.append(work()) or 100.0)
    plan = in_process("-m", "steps=10,20", "num_samples=512", "rate=measure", *PLAN, "guidance=cfg", "guidance.scale=2")
    assert plan.code is None, plan.err
    # of 3 guided evaluations of a batch, its 128 images decoded, and their features
    assert made == [3 * 2 * 128, 128, 128]
    hours = [(512 * forwards / 100 + 512 * (1 / 100 + 1 / 100)) / 3600 for forwards in (20, 40)]
    assert [line.split()[-1] for line in plan.out.splitlines() if line.startswith(" steps=")] == [
        f"{each:.3g}" for each in hours
    ]
    assert "(measured now on " in plan.out and "100 evaluations a second in batches of 128" in plan.out


def test_nothing_is_measured_without_files(in_process):
    plan = in_process(*STUDY, "model.checkpoint=my.pt", "reference.path=no.npz", "num_samples=512", "rate=measure")
    assert plan.code is None and "hours: nothing can be measured while files are missing" in plan.out, plan.err


@pytest.mark.parametrize(("change", "found"), [({}, True), ({"precision": "bf16"}, False), ({"batch_size": 7}, False)])
def test_or_from_a_result_of_the_same_network_here(change, found, in_process, tmp_path):
    """2,000 evaluations of the network in a second: 2 forwards a step, 0.001 seconds an image and step."""
    import torch
    from hydra import compose, initialize_config_dir

    from ditexp.run.settings import resolved
    from tests.helpers.paths import CONF

    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        config = resolved(compose("config")) | change
    result = cell(id="0123", config=config, provenance={"device": device_name(torch.device("cpu"))})
    result["cost"] |= {"seconds_per_image": 0.02}
    (tmp_path / "outputs/results").mkdir(parents=True)
    (tmp_path / "outputs/results/0123.json").write_text(json.dumps(result))
    plan = in_process("-m", "steps=45,90", "num_samples=4096", *PLAN)
    assert plan.code is None, plan.err
    assert ("(measured in 0123: 2e+03 a second on " in plan.out) is found
    assert ("0.0768 hours of one device" in plan.out) is found
