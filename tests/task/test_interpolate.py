"""Spherical interpolation of noise, and task=interpolate."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from safetensors.torch import save_file

import ditexp.values
from ditexp.condition.labels import Balanced, Random
from ditexp.condition.prompts import Prompts
from ditexp.condition.unconditional import Unconditional
from ditexp.guidance.autoguidance import Autoguidance
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.none import NoGuidance
from ditexp.model.analytic import GaussianMixture
from ditexp.model.dit import DiT
from ditexp.model.pretrained import PretrainedDiT
from ditexp.noise import noise, slerp
from ditexp.report.grids import film
from ditexp.result import Result
from ditexp.run.identity import identify
from ditexp.run.judge import as_numbers
from ditexp.sampler import Sampler
from ditexp.samples.store import SampleStore
from ditexp.solver.euler_maruyama import EulerMaruyama
from ditexp.solver.heun import Heun
from ditexp.task.generate import Generate
from ditexp.task.interpolate import Interpolate
from tests.helpers.offline_wandb import read_runs
from tests.helpers.paths import WEIGHTS
from tests.helpers.refusals import refused
from tests.helpers.sample_sets import Samples
from tests.helpers.samplers import sampler_of

SHARES = torch.linspace(0, 1, 11, dtype=torch.float64)
SINGLE, DOUBLE = 2.0**-24, 2.0**-53  # the relative error of one rounding
KINDS = NoGuidance(), ClassifierFree(weight=2), ClassifierFree(weight=2, interval=[0, 0.6])


def along(a: torch.Tensor, b: torch.Tensor, shares: torch.Tensor = SHARES) -> torch.Tensor:
    """The path between two vectors (D,): (shares, D)."""
    return slerp(a.expand(len(shares), -1), b.expand(len(shares), -1), shares)


def ends_at(angle: float, dtype: torch.dtype, size: int = 3072) -> tuple[torch.Tensor, torch.Tensor]:
    """Two vectors (D,) of the length of noise, this angle apart."""
    a, b = noise(0, [0, 1], (size,)).double()
    a = a / a.norm()
    b = b - (b @ a) * a
    b = b / b.norm()
    return tuple(size**0.5 * end.to(dtype) for end in (a, math.cos(angle) * a + math.sin(angle) * b))


# slerp


@pytest.mark.parametrize("shape", [(3072,), (3, 32, 32), (4, 16, 16), (1, 8, 8)])
def test_between_noises_is_as_long_as_noise(shape):
    """Half-way, linear interpolation is 29 % too short, since noises are nearly orthogonal."""
    for pair in range(8):
        a, b = noise(0, [2 * pair, 2 * pair + 1], shape).flatten(1)
        path = along(a, b)
        assert torch.equal(path[0], a) and torch.equal(path[-1], b)
        lengths, (first, last) = path.norm(dim=1), (a.norm(), b.norm())
        wanted = (1 - SHARES) * first + SHARES * last
        # Elements and the norm's are rounded to float32 a few times.
        torch.testing.assert_close(lengths.double(), wanted, rtol=8 * SINGLE, atol=0)
        if len(a) == 3072:
            assert (lengths / first - 1).abs().max() < 0.05 and (lengths / min(first, last)).min() > 0.99
            # |a - b|^2 / 2 lies within 5 / sqrt(D) of |a|^2, by the law of large numbers.
            assert ((a + b) / 2).norm() / ((first + last) / 2) == pytest.approx(0.5**0.5, abs=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("off", [0, 1e-15, 1e-12, 2e-8, 1e-6, 1e-3, 0.1, 1.0])
@pytest.mark.parametrize("near", [0, math.pi])
def test_angles_from_0_to_pi(near, off, dtype):
    """Never NaN, exact ends, constant length and constant speed, also where acos and 1 / sin(angle) fail."""
    angle = abs(near - off)
    a, b = ends_at(angle, dtype)
    path = along(a, b, SHARES.to(dtype))
    assert path.dtype == dtype and torch.equal(path[0], a) and torch.equal(path[-1], b)
    rounding = SINGLE if dtype == torch.float32 else DOUBLE
    radius = len(a) ** 0.5
    # The elements of a, b and of the path are rounded, each moving it by rounding * radius at most, and some 30
    # operations of float64 are behind them. Within 1e-8 of pi slerp takes the angle for pi.
    slack = radius * (4 * rounding + 100 * DOUBLE)
    torch.testing.assert_close(
        path.double().norm(dim=1), torch.full((11,), radius, dtype=torch.float64), rtol=0, atol=slack
    )
    steps = path.double().diff(dim=0).norm(dim=1)
    chord = 2 * radius * math.sin(angle / 20)
    tolerance = 2 * slack + (radius * 1e-8 if near and off < 1e-8 else 0)
    torch.testing.assert_close(steps, torch.full((10,), chord, dtype=torch.float64), rtol=0, atol=tolerance)


def test_the_formula_of_the_books():
    """sin((1 - s) angle) / sin(angle) a + sin(s angle) / sin(angle) b, for ends of one length."""
    for angle in (0.3, math.pi / 2, 2.5):
        a, b = ends_at(angle, torch.float64)
        first, last = ((part * angle).sin() / math.sin(angle) for part in (1 - SHARES, SHARES))
        expected = first[:, None] * a + last[:, None] * b
        # Elements up to 4, some 20 operations, each divided by sin(2.5) or sin(0.3) > 0.25.
        torch.testing.assert_close(along(a, b), expected, rtol=0, atol=4 * 20 * 4 * DOUBLE * 4)


def test_a_noise_is_one_vector_and_not_one_a_channel():
    a, b = noise(0, [0, 2], (4, 8, 8)), noise(0, [1, 3], (4, 8, 8))
    share = torch.tensor([0.3, 0.7])
    assert torch.equal(slerp(a, b, share), slerp(a.flatten(1), b.flatten(1), share).view_as(a))
    by_channel = slerp(a.flatten(0, 1), b.flatten(0, 1), share.repeat_interleave(4)).view_as(a)
    assert not torch.allclose(slerp(a, b, share), by_channel, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_ends_stay(dtype):
    a = noise(0, [0], (3072,))[0].to(dtype)
    assert torch.equal(along(a, a, SHARES.to(dtype)), a.expand(11, -1))


def test_ends_of_other_lengths_and_zero():
    """Lengths change linearly. From zero, which has no direction, the path is straight."""
    a = noise(0, [0], (3072,))[0].double()
    torch.testing.assert_close(along(a, 3 * a), (1 + 2 * SHARES)[:, None] * a, rtol=20 * DOUBLE, atol=0)
    torch.testing.assert_close(along(0 * a, a), SHARES[:, None] * a, rtol=20 * DOUBLE, atol=0)
    torch.testing.assert_close(along(a, 0 * a), (1 - SHARES)[:, None] * a, rtol=20 * DOUBLE, atol=20 * DOUBLE)
    assert torch.equal(along(0 * a, 0 * a), torch.zeros(11, 3072).double())
    opposite = along(a, -2 * a).norm(dim=1)
    torch.testing.assert_close(opposite, (1 + SHARES) * a.norm(), rtol=100 * DOUBLE, atol=0)


def test_opposite_ends_turn_through_one_direction():
    """The plane of the turn is fixed: vectors near a take nearly the same path to its opposite."""
    a, other = noise(0, [0, 1], (3072,)).double()
    path = along(a, -a)
    middle = path[5] / a.norm()
    assert abs((middle @ a) / a.norm()) < 100 * DOUBLE and torch.equal(path, along(a, -a))
    near = a + 1e-6 * other
    # Half-way it is the fixed direction without its part along a, which changes no faster than a's direction does.
    assert (along(near, -near) - path).norm(dim=1).max() < 3 * 1e-6 * other.norm()
    for size in (1, 2, 3):  # on a line there is no direction to turn to
        axis = torch.eye(size, dtype=torch.float64)[-1]
        lengths = along(axis, -axis).norm(dim=1)
        expected = torch.ones(11).double() if size > 1 else (math.pi * SHARES).cos().abs()
        torch.testing.assert_close(lengths, expected, rtol=0, atol=10 * DOUBLE)


def test_a_path_does_not_depend_on_its_batch():
    a, b = noise(0, range(13), (3, 9, 7)), noise(1, range(13), (3, 9, 7))
    b[3], b[4], b[5] = a[3], -a[4], 0
    for dtype in (torch.float32, torch.float64):
        ends, share = (a.to(dtype), b.to(dtype)), torch.linspace(0, 1, 13, dtype=dtype)
        together = slerp(*ends, share)
        alone = torch.cat([slerp(*(end[i : i + 1] for end in ends), share[i : i + 1]) for i in range(13)])
        assert torch.equal(together, alone) and not together.isnan().any()


# The task


def sampler(model, task, *, solver=Heun(), **parts) -> Sampler:  # noqa: B008
    return sampler_of(model, solver, task=task, **parts)


@pytest.fixture(scope="module")
def digits() -> PretrainedDiT:
    return PretrainedDiT(checkpoint=str(WEIGHTS / "digits_dit.safetensors"))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A text DiT with random weights, none of them zero."""
    pytest.importorskip("transformers")
    from ditexp.model.pretrained_text import PretrainedTextDiT
    from ditexp.model.text_dit import TextDiT
    from ditexp.model.text_encoder import TextEncoder

    folder = tmp_path_factory.mktemp("text")
    torch.manual_seed(0)
    encoder = TextEncoder.new(words="a one seven written", hidden_size=16, depth=1, num_heads=2, max_length=6)
    sizes = {"input_size": 8, "patch_size": 4, "in_channels": 1, "hidden_size": 32, "depth": 1, "num_heads": 2}
    network = TextDiT(**sizes, text_encoder=encoder)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    encoder.save(folder)
    save_file(network.weights(), folder / "model.safetensors", {"architecture": json.dumps(sizes)})
    return PretrainedTextDiT(folder=str(folder))


def begun(made: Sampler, indices) -> tuple[torch.Tensor, ditexp.values.Condition, list[int]]:
    """What a task integrates from."""
    given = []

    class Recording(Sampler):
        def integrate(self, x, condition, indices):
            given.append((x, condition, list(indices)))
            return x

    made.task(Recording(**vars(made)), indices)
    return given[0]


@pytest.mark.parametrize("of", ["noise", "condition", "both"])
def test_frames_lie_between_the_ends_of_their_path(of, digits):
    """Path p from sample 2 p to sample 2 p + 1, in noise, in condition, or in both."""
    made = sampler(digits, Interpolate(frames=5, of=of))
    x, condition, indices = begun(made, range(15))
    for path in range(3):
        rows, ends = slice(5 * path, 5 * path + 5), [2 * path, 2 * path + 1]
        first, last = made.noise(ends)
        expected = first.expand(5, -1, -1, -1)
        if of != "condition":
            expected = slerp(expected, last.expand(5, -1, -1, -1), torch.linspace(0, 1, 5))
        assert torch.equal(x[rows], expected)
        labels = torch.tensor(ends)[[0, 0, 1, 1, 1] if of != "noise" else [0] * 5]
        assert torch.equal(condition.labels[rows], labels)
        assert (condition.vector is None) == (of == "noise")
        if of != "noise":
            table = digits.network.y_embedder(torch.tensor(ends)).double()
            between = table[0] + torch.linspace(0, 1, 5)[:, None].double() * (table[1] - table[0])
            torch.testing.assert_close(condition.vector[rows].double(), between, rtol=0, atol=4 * SINGLE * table.max())
    assert indices == [0] * 5 + [2] * 5 + [4] * 5


@pytest.mark.parametrize("of", ["noise", "both"])
def test_where_a_frame_begins_does_not_depend_on_its_batch(of, digits):
    made = sampler(digits, Interpolate(frames=7, of=of))
    x, condition, _ = begun(made, range(21))
    order = [13, 0, 6, 20, 7]
    for batch in ([13], order):
        part, under, _ = begun(sampler(digits, Interpolate(frames=7, of=of)), batch)
        assert torch.equal(part, x[batch])
        for one, all in zip(under.parts, condition.parts):
            assert one is all is None or torch.equal(one, all[batch])


def test_samples_do_not_depend_on_their_batch():
    """On the analytic model, whose samples don't either."""
    made = sampler(GaussianMixture(), Interpolate(frames=4))
    whole, labels = made.task(made, range(12))
    assert labels.tolist() == [0] * 4 + [2] * 4 + [4] * 4
    for batch in ([11], [5, 2, 9]):
        assert torch.equal(made.task(made, batch)[0], whole[batch])


@pytest.mark.parametrize(
    "guidance", [NoGuidance(), ClassifierFree(weight=2), ClassifierFree(weight=2, interval=[0, 0.6])]
)
@pytest.mark.parametrize("of", ["noise", "condition", "both"])
def test_the_ends_are_the_samples_themselves(of, guidance, digits):
    """Bit for bit what their noise and their label come to in a batch of that size."""
    made = sampler(digits, Interpolate(frames=5, of=of), guidance=guidance)
    path, _ = made.task(made, range(5))
    noises = [0, 0, 0, 0, 0 if of == "condition" else 1]
    labels = [0, 0, 0, 0, 0 if of == "noise" else 1]
    ends = made.integrate(made.noise(noises), made.condition(labels), noises)
    assert torch.equal(path[[0, 4]], ends[[0, 4]])
    assert not torch.allclose(path[2], path[0], atol=0.05) and not torch.allclose(path[2], path[4], atol=0.05)
    if of == "both":  # and so those of the plain set
        plain = Generate()(made, range(5))[0]
        assert torch.equal(made.decode(path[[0, 4]]), made.decode(plain[:2]))


def test_guidance_between_two_conditions(digits):
    """(1 + w) c - w u with c of the embedding in between, and u of the null class; at two forwards."""
    made = sampler(digits, Interpolate(frames=3, of="condition"), guidance=ClassifierFree(weight=2))
    x, condition, _ = begun(made, range(3))
    t = torch.full((3,), 0.3)
    found = made.field(condition)(x, t)
    assert made.take_cost().network_rows == 6
    table = digits.network.y_embedder.embedding_table.weight
    middle = torch.stack([table[0], (table[0] + table[1]) / 2, table[1]])
    c, u = digits.network(x, t, middle), digits.network(x, t, torch.full((3,), 10))
    # A batch of 6 rounds otherwise than one of 3; velocities are of order 1, and guidance triples their errors.
    torch.testing.assert_close(found, 3 * c - 2 * u, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("guidance", [NoGuidance(), ClassifierFree(weight=1)])
def test_from_one_prompt_to_another(guidance, text):
    """Prompts of different lengths: the ends are the prompts' own samples, bit for bit."""
    prompts = Prompts(["a seven", "one written written"])
    task = Interpolate(frames=5, of="condition")
    made = sampler(text, task, guidance=guidance, conditioner=prompts)
    task.check(made)
    path, labels = made.task(made, range(5))
    ends = made.integrate(made.noise([0] * 5), made.condition([0, 0, 0, 0, 1]), [0] * 5)
    assert torch.equal(path[[0, 4]], ends[[0, 4]]) and labels.tolist() == [0, 0, 1, 1, 1]
    assert len({frame.numpy().tobytes() for frame in path}) == 5


def test_frames_of_a_path_share_the_noise_of_an_sde():
    """The path begins at the plain set's sample, and frames differ only because x_0 does."""
    made = sampler(GaussianMixture(components=1), Interpolate(frames=9), solver=EulerMaruyama(), steps=16)
    path, _ = made.task(made, range(18))
    plain, _ = Generate()(made, range(3))
    assert torch.equal(path[[0, 9]], plain[[0, 2]])
    # Of one Gaussian, x_1 is a number times x_0, plus what depends on the noise alone.
    start, _, _ = begun(made, range(9))
    moved, by = path[:9].diff(dim=0), start.diff(dim=0)
    number = (moved * by).sum() / by.square().sum()
    # 16 steps of some 5 operations on numbers up to 4.
    torch.testing.assert_close(moved, number * by, rtol=0, atol=16 * 5 * 4 * SINGLE)


# Settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        *[
            ({"frames": frames}, [f"task.frames={frames}", "give a whole number of at least 2"])
            for frames in (1, 0, -3, 2.5, True, "11")
        ],
        ({"frames": 257}, ["task.frames=257", "at most 256"]),
        ({"of": "label"}, ["task.of=label", "noise, condition, both"]),
        ({"of": None}, ["task.of=None", "noise, condition, both"]),
    ],
)
def test_bad_settings(settings, words):
    with refused(words):
        Interpolate(**settings)


def test_settings_enter_the_id():
    assert identify(Interpolate()) == {
        "class": "Interpolate",
        "frames": 11,
        "of": "noise",
    }
    json.dumps(identify(Interpolate()))


@pytest.mark.parametrize("of", ["condition", "both"])
def test_conditions_between_which_there_is_nothing(of, digits, tmp_path):
    task = Interpolate(of=of)

    def check(model, **options) -> None:
        task.check(sampler(model, task, **options))

    with refused([f"task.of={of}", "this model has no conditions between two", "choose task.of=noise"]):
        check(GaussianMixture())
    same = [f"task.of={of}", "all samples have the same one", "give several classes"]
    for conditioner in (Unconditional(), Balanced([3]), Random([3])):
        with refused(same):
            check(digits, conditioner=conditioner)
    unlabelled = without_classes(tmp_path)
    with refused(same):
        check(unlabelled)
    with refused([f"task.of={of}", "autoguidance", "guidance=cfg"]):
        check(digits, guidance=Autoguidance(weak=digits, weight=1))
    for conditioner in (Balanced(), Random(), Balanced([3, 8])):
        check(digits, conditioner=conditioner)
    Interpolate(of="noise").check(sampler(unlabelled, task))


def without_classes(folder: Path) -> PretrainedDiT:
    """A model without classes."""
    network = DiT(input_size=8, patch_size=2, in_channels=1, hidden_size=32, depth=1, num_heads=2, num_classes=0)
    save_file(network.state_dict(), folder / "plain.safetensors")
    return PretrainedDiT(checkpoint=str(folder / "plain.safetensors"), family="sit", num_heads=2)


# Figures and pictures


def walk(*places: tuple[int, int]) -> list[np.ndarray]:
    """Images of 1 x 2 pixels."""
    return [np.array(place, np.uint8).reshape(1, 2, 1) for place in places]


@pytest.fixture
def told(monkeypatch) -> list[str]:
    notices: list[str] = []
    monkeypatch.setattr("ditexp.task.interpolate.notice", notices.append)
    return notices


def test_path_ratio(told):
    """Straight, round a corner, and there and back beyond: 1, 7 / 5 and 3; over the blocks' borders."""
    straight, corner = walk((0, 0), (30, 40), (60, 80)), walk((0, 0), (0, 40), (30, 40))
    beyond = walk((0, 255), (200, 255), (100, 255))
    images = np.stack([*straight, *corner, *beyond])
    task = Interpolate(frames=3)
    for count, expected in ((3, 1), (6, (1 + 7 / 5) / 2), (9, (1 + 7 / 5 + 3) / 3)):
        scores = as_numbers(task.scores(None, Samples(images, count), None, None))
        assert scores == {"path_ratio": pytest.approx(expected, rel=1e-12)}
    assert not told


def test_what_is_no_whole_path_is_left_out(told):
    images = np.stack([*walk((0, 0), (0, 40), (30, 40)), *walk((0, 0), (255, 255), (1, 1))])
    task = Interpolate(frames=3)
    for count in (3, 4, 5):
        scores = as_numbers(task.scores(None, Samples(images, count), None, None))
        assert scores == {"path_ratio": pytest.approx(7 / 5)}
    assert [line[:43] for line in told] == ["path_ratio covers 1 whole paths of 3 frames"] * 2


def test_a_path_that_ends_where_it_began_has_no_ratio(told):
    """This happens with of=condition between two samples of the same class."""
    still = walk((5, 5), (5, 5), (5, 5))
    images = np.stack([*still, *walk((0, 0), (0, 40), (30, 40))])
    task = Interpolate(frames=3)
    found = task.scores(None, Samples(images, 6), None, None)
    assert as_numbers(found) == {"path_ratio": pytest.approx(7 / 5)}
    assert found["path_ratio"].values.isnan().tolist() == [True, True, True, False, True, True]
    assert task.scores(None, Samples(images, 3), None, None) == {}
    assert told == [f"path_ratio leaves out 1 of {n} paths: both ends are the same image" for n in (2, 1)]


@pytest.mark.parametrize("of", ["noise", "both"])
def test_the_picture(of, digits):
    images = torch.arange(35, dtype=torch.uint8).view(35, 1, 1, 1).expand(-1, 1, 8, 8)
    task = Interpolate(frames=3, of=of)
    sheet = task.sheet(sampler(digits, task), images)
    assert sheet.images.shape == (9, 3, 1, 8, 8) and sheet.images[:, :, 0, 0, 0].flatten().tolist() == list(range(27))
    assert sheet.moving and list(sheet.columns) == ["0", "0.5", "1"]
    pairs = ["0 to 1", "2 to 3", "4 to 5", "6 to 7", "8 to 9"]
    assert list(sheet.rows) == ([] if of == "noise" else pairs + pairs[:4])
    assert len(task.sheet(sampler(digits, task), images[:8]).images) == 2


def test_the_film_goes_there_and_back(digits, tmp_path):
    """Frames with hard pixels of their own grey, the ends longer, for ever."""
    images = torch.randint(256, (44, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    task = Interpolate()
    sheet = task.sheet(sampler(digits, task), images)
    film(sheet, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as gif:
        assert gif.n_frames == 20 and gif.info["loop"] == 0
        frames, times = zip(*((np.array(f.convert("L")), f.info["duration"]) for f in ImageSequence.Iterator(gif)))
    assert times[0] == times[10] == 400 and set(times[1:10] + times[11:]) == {80}
    assert all(np.array_equal(frames[10 + i], frames[10 - i]) for i in range(1, 10))
    for number, frame in enumerate(frames[:11]):
        for path, (y, x) in enumerate([(0, 0), (0, 50), (50, 0), (50, 50)]):  # 48 pixels and a gutter of 2
            tile = frame[y : y + 48, x : x + 48]
            assert np.array_equal(tile[3::6, 3::6], sheet.images[path, number, 0].numpy())


# The command


@pytest.mark.slow
def test_a_sweep(ditexp, tmp_path, monkeypatch):
    """Scores, pictures and films; blocks smaller than a path; and the film at W&B."""
    sizes = ("num_samples=11", "batch_size=8", "steps=2", "metric=[]", "resamples=4")
    command = ditexp("-m", "task=interpolate", "task.of=noise,both", *sizes)
    assert command.code == 0, command.output
    outputs = tmp_path / "outputs"
    found = {r["settings"]["task.of"]: r for r in map(read, (outputs / "results").glob("*.json"))}
    assert set(found) == {"noise", "both"}
    for result in found.values():
        samples = SampleStore.open(outputs / "samples" / result["sample_id"], num_samples=11)
        assert samples.block_size == 8
        images = np.concatenate(list(samples.blocks()))[:11].astype(float).reshape(11, -1)
        steps = np.linalg.norm(np.diff(images, axis=0), axis=1)
        ratio = steps.sum() / np.linalg.norm(images[-1] - images[0])
        assert result["metrics"] == {"path_ratio": pytest.approx(ratio, rel=1e-12)} and ratio > 1
        assert result["deviations"] == {}  # one path says nothing of another
        grid = Path(result["grid"])
        with Image.open(grid.with_suffix(".gif")) as gif, Image.open(grid) as sheet:
            assert gif.n_frames == 20 and gif.size == (48, 48)
            assert sheet.height > 48 and sheet.width >= 11 * 50 - 2
    labels = SampleStore.open(outputs / "samples" / found["both"]["sample_id"]).read(0)[1]
    assert labels.tolist() == [0] * 5 + [1] * 3
    (table,) = (outputs / "reports").rglob("table.md")
    assert "path / straight" in table.read_text() and "task.of" in table.read_text()
    assert "?: unknown whether" in table.read_text()

    film = log_offline(found["both"], tmp_path / "wandb", monkeypatch)
    assert film == Path(found["both"]["grid"]).with_suffix(".gif").read_bytes()


def log_offline(result: dict, folder: Path, monkeypatch) -> bytes:
    """The film of a result as W&B got it."""
    from ditexp.tracker import destination, runs

    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):  # the tracker sets them: forget them afterwards
        monkeypatch.setenv(name, str(folder / name))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    tracker = runs.WandbRuns(destination.Options(folder=folder, mode="offline"))
    tracker.log_cell(Result.from_json(result))
    tracker.close()
    run = read_runs(folder)[result["id"]]
    assert run.summary["digits/path_ratio"] == result["metrics"]["path_ratio"]
    return run.media("film").read_bytes()


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["task.frames=1"], "task.frames=1: give a whole number of at least 2"),
        (["num_samples=10"], "num_samples=10: this task needs 11 or more"),
        (["task.of=both", "model=analytic"], "task.of=both, but this model has no conditions between two"),
    ],
)
def test_a_mistake_is_one_line_before_any_work(arguments, complaint, in_process):
    ended = in_process("tracker=none", "task=interpolate", *arguments)
    assert ended.code == 2 and len(ended.complaints) == 1 and complaint in ended.err, ended.err
    assert not Path("outputs/samples").exists()
