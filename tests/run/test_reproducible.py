"""A sample depends on its seed and index, not on batches, workers or interruptions."""

from __future__ import annotations

import signal
from functools import partial

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from ditexp.condition.labels import Balanced, Random
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.none import NoGuidance
from ditexp.model.pretrained import PretrainedDiT
from ditexp.solver.heun import Heun
from tests.helpers.errors import rms
from tests.helpers.holds import blocks_in, wait_for, with_blocks
from tests.helpers.paths import WEIGHTS
from tests.helpers.sample_sets import files_of
from tests.helpers.samplers import sampler_of

sampler = partial(sampler_of, solver=Heun(), steps=20)


@pytest.fixture(scope="module")
def model() -> PretrainedDiT:
    return PretrainedDiT(checkpoint=str(WEIGHTS / "digits_dit.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [NoGuidance(), ClassifierFree(weight=2)])
def test_batch_size_changes_nothing_but_last_bits(model, guidance):
    made = {}
    for batch_size in (1, 7, 64):
        s = sampler(model, guidance=guidance, conditioner=Random())
        batches = [range(64)[i : i + batch_size] for i in range(0, 64, batch_size)]
        start = torch.cat([s.noise(batch) for batch in batches])
        images, labels = (torch.cat(parts) for parts in zip(*[s.images(batch) for batch in batches]))
        made[batch_size] = start, labels, images.int()
        assert s.meter.cost.images == 64 and s.meter.cost.velocity_rows == 64 * 40
        assert s.meter.cost.network_rows == s.meter.cost.velocity_rows * (1 if guidance == NoGuidance() else 2)
    for batch_size in (1, 7):
        assert torch.equal(made[batch_size][0], made[64][0])
        assert torch.equal(made[batch_size][1], made[64][1])
        assert (made[batch_size][2] - made[64][2]).abs().max() <= 1


@pytest.mark.slow
def test_the_same_bytes_however_many_workers_and_processes(ditexp, tmp_path):
    """Also in two slices, and killed and continued."""
    cell = ("solver=heun", "steps=3", "num_samples=520", "batch_size=130", "metric=[]")

    def made(*names: str, devices: str) -> dict[str, bytes]:
        outputs = tmp_path / names[0]
        started = [ditexp.start(*cell, f"devices={devices}", f"outputs={outputs}") for _ in names]
        assert [command.wait().code for command in started] == [0] * len(names)
        return files_of(outputs / "samples")

    one = made("one", devices="cpu:1")
    assert len(one) == 4
    assert made("four", devices="cpu:4") == one
    assert made("two processes", "at once", devices="cpu:1") == one
    half = ditexp(*cell, "slice=1/2", f"outputs={tmp_path / 'half'}")
    assert half.code == 0 and len(files_of(tmp_path / "half" / "samples")) == 2
    assert made("half", devices="cpu:2") == one
    samples = tmp_path / "killed" / "samples"
    killed = ditexp.start(*cell, "devices=cpu:1", f"outputs={tmp_path / 'killed'}", patches=with_blocks(samples, 1))
    wait_for(lambda: blocks_in(samples), killed)
    killed.process.kill()
    assert killed.wait().code == -signal.SIGKILL
    assert made("killed", devices="cpu:2") == one


@pytest.mark.slow
def test_the_same_bytes_of_an_adaptive_solver(ditexp, tmp_path):
    """Whose samples leave the batch at steps of their own: by one worker, and by several in two commands."""
    cell = ("solver=dopri5", "solver.rtol=0.1", "solver.atol=0.1", "num_samples=390", "batch_size=130", "metric=[]")
    assert ditexp(*cell, "devices=cpu:1", f"outputs={tmp_path / 'one'}").code == 0
    assert ditexp(*cell, "devices=cpu:1", "slice=1/2", f"outputs={tmp_path / 'others'}").code == 0
    assert ditexp(*cell, "devices=cpu:2", f"outputs={tmp_path / 'others'}").code == 0
    one = files_of(tmp_path / "one" / "samples")
    assert len(one) == 3 and files_of(tmp_path / "others" / "samples") == one


@pytest.mark.slow
def test_samples_show_the_digit_asked_for(model):
    """According to an SVC on pixels, independent of ditexp. The model card has the number for 5,000 samples."""
    images, labels = sampler(model, steps=25).images(range(300))
    digits = load_digits()
    judge = SVC(gamma="scale", C=10.0).fit(digits.images.reshape(-1, 64) / 16, digits.target)
    predicted = judge.predict(images.flatten(1).double().numpy() / 255)
    assert (predicted == labels.numpy()).mean() >= 0.97


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_keeps_a_float32_state_and_stays_close(model, precision):
    exact = sampler(model).integrate(sampler(model).noise(range(8)), Balanced()(model, 0, range(8)), range(8))
    low = sampler(model, precision=precision)
    x = low.integrate(low.noise(range(8)), low.condition(range(8)), range(8))
    assert x.dtype == torch.float32
    assert 0 < rms(x - exact) < 0.05


def test_counted_evaluations_are_those_of_a_real_run(model):
    s = sampler(model, guidance=ClassifierFree(scale=2.5), steps=3)
    assert s.evaluations() == (6.0, 12.0)
    s.images(range(4))
    assert (s.meter.cost.velocity_rows / 4, s.meter.cost.network_rows / 4) == (6.0, 12.0)
