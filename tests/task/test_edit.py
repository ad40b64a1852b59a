"""Images to noise and back: on mixtures whose flow is known, on the bundled digits, and by the command."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ditexp.condition.labels import Balanced
from ditexp.condition.original import Original
from ditexp.condition.prompts import Prompts
from ditexp.condition.unconditional import Unconditional
from ditexp.data import CaptionedDigits, Digits, ImageFolder
from ditexp.files.content import digest
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.cfg_zero import CFGZero
from ditexp.model.analytic import GaussianMixture
from ditexp.model.pretrained import PretrainedDiT
from ditexp.run.identity import identify
from ditexp.sampler import Sampler
from ditexp.solver.dopri5 import Dopri5, Dopri5Fixed
from ditexp.solver.euler import Euler
from ditexp.solver.heun import Heun
from ditexp.solver.rk4 import RK4
from ditexp.task.edit import Edit, to_change
from ditexp.task.originals import originals
from ditexp.values import Condition
from tests.helpers.codecs import Blocks
from tests.helpers.components import SOLVERS, component
from tests.helpers.errors import rms
from tests.helpers.paths import WEIGHTS
from tests.helpers.refusals import refused
from tests.helpers.sample_sets import Samples
from tests.helpers.samplers import sampler_of

ODE = [solver for solver in SOLVERS if not solver.stochastic]


class Images:
    """x_1 = m + s x_0 of a mixture with one component per class: `count` images, the classes in turn."""

    def __init__(self, model: GaussianMixture, count: int, dtype: torch.dtype = torch.float64):
        self.num_classes, self.class_names, self.identity = model.num_classes, (), {"data": "of the mixture"}
        self.labels = torch.arange(count) % model.num_classes
        draw = torch.Generator().manual_seed(1)
        self.noise = torch.randn(count, *model.sample_shape, generator=draw, dtype=torch.float64)
        self.images = (model.means[self.labels, 0] + model.std * self.noise).to(dtype)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        return self.images[index], self.labels[index]


class TextMixture:
    """The mixture under prompts: each word is a class, the empty prompt is none."""

    num_classes, class_names, has_null = 0, (), True
    identity = {"model": "text mixture"}  # noqa: RUF012

    def __init__(self, model: GaussianMixture, words: list[str]):
        self.model, self.words = model, [*words, ""]
        self.sample_shape, self.codec = model.sample_shape, model.codec
        self.start, self.start_std = 0.0, 1.0

    def encode(self, prompts) -> Condition:
        numbers = [self.words.index(prompt) for prompt in prompts]
        return Condition(states=torch.tensor(numbers)[:, None, None], mask=torch.ones(len(prompts), 1).bool())

    def notice_truncation(self, prompts) -> None:
        pass

    def to(self, device) -> TextMixture:
        return self

    def null(self, condition: Condition) -> Condition:
        return self.encode([""] * len(condition.states))

    def __call__(self, x, t, condition):
        return self.model(x, t, Condition(condition.states[:, 0, 0]))


def narrow(**settings) -> GaussianMixture:
    """One component per class."""
    return GaussianMixture(components=1, **{"num_classes": 3, "shape": (1, 2, 2), "std": 0.4} | settings)


def two_peaks() -> GaussianMixture:
    """Peaks at -0.8 and 0.8 on a line, so narrow that the sign of the noise alone decides which one it flows to."""
    model = narrow(num_classes=2, shape=(1, 1, 1), std=0.02)
    model.means = torch.tensor([-0.8, 0.8], dtype=torch.float64).view(2, 1, 1, 1, 1)
    return model


def sampler(model, edit, conditioner, *, solver=RK4(), steps=64, **parts) -> Sampler:  # noqa: B008
    return sampler_of(model, solver, steps=steps, conditioner=conditioner, task=edit, **parts)


def round_trip(model, data, **settings) -> float:
    """The error of the round trip of the first images, eight at most."""
    edit = Edit(data=data, source=Original(data))
    indices = range(min(8, len(data)))
    x = originals(data, indices)
    _, back = edit.reconstructed(sampler(model, edit, Original(data), **settings), x, indices)
    return rms(back - x)


def test_another_class_is_as_far_from_its_mean():
    """x_1 = m + s x_0 for each class, so an image of class a becomes x_1 + m_b - m_a. Indices wrap around the data."""
    model = narrow()
    data = Images(model, 6)
    edit, indices = Edit(data=data, source=Original(data)), [0, 4, 11, 2]
    edited, labels = edit(sampler(model, edit, Original(data, shift=1), steps=200), indices)
    before = [index % 6 for index in indices]
    after = (data.labels[before] + 1) % 3
    assert labels.tolist() == after.tolist()
    expected = data.images[before] + model.means[after, 0] - model.means[data.labels[before], 0]
    assert (edited - expected).abs().max() < 1e-8  # as close as RK4 comes in test_one_gaussian_has_the_closed_form_flow


@pytest.fixture(scope="module")
def smooth() -> tuple[GaussianMixture, Images, Edit, torch.Tensor]:
    """A mixture on which orders show, images, their edit, and their noise to 1e-12 or so."""
    model = GaussianMixture(num_classes=3, components=2, shape=(1, 2, 2), std=0.8)
    data = Images(model, 12)
    edit = Edit(data=data, source=Original(data))
    fine = sampler(model, edit, edit.source, solver=Dopri5Fixed(), steps=300)
    return model, data, edit, edit.to_noise(fine, data.images, range(12))


@pytest.mark.parametrize("name", ["euler", "midpoint", "heun", "ralston", "heun3", "kutta3", "rk4", "rk4_38"])
def test_orders_of_the_noise_and_of_the_round_trip(name, smooth):
    """The error of the noise falls at the solver's order p; that of the round trip too if p is odd, else at p + 1.

    By backward error analysis (Hairer, Lubich & Wanner, "Geometric Numerical Integration", IX.1) a method with steps h
    follows the field f + h^p f_p + h^(p+1) f_(p+1) + ..., and on the way back, with steps -h, f + (-h)^p f_p + ... What
    is missing in the end is the integral of their difference: 2 h^p f_p for odd p, 2 h^(p+1) f_(p+1) for even p.
    """
    model, data, edit, exact = smooth
    solver, errors = component("solver", name), []
    for steps in (64, 128):
        noise, back = edit.reconstructed(
            sampler(model, edit, edit.source, solver=solver, steps=steps), data.images, range(12)
        )
        errors.append((rms(noise - exact), rms(back - data.images)))
    of_noise, of_trip = (math.log2(coarse / fine) for coarse, fine in zip(*errors))
    print(f"{name}: order {solver.order}, of the noise {of_noise:.3f}, of the round trip {of_trip:.3f}")
    assert of_noise == pytest.approx(solver.order, abs=0.2)
    assert of_trip == pytest.approx(solver.order + (solver.order % 2 == 0), abs=0.2)


@pytest.mark.parametrize("solver", ODE, ids=lambda solver: repr(solver)[:40])
def test_every_solver_of_the_ode_comes_back(solver):
    """The closer, the finer its steps."""
    model = narrow()
    data = Images(model, 12)
    if solver.adaptive:
        tries = [replace(solver, rtol=tolerance, atol=tolerance) for tolerance in (1e-3, 1e-6)]
        missing = [round_trip(model, data, solver=each) for each in tries]
    else:
        missing = [round_trip(model, data, solver=solver, steps=steps) for steps in (16, 64)]
    assert missing[1] < missing[0] / 3


def test_a_class_direction_moves_noise_by_the_means_difference():
    """On two peaks images of the upper one have noise of a half-normal distribution, with mean sqrt(2 / pi).

    So the direction is d = 2 sqrt(2 / pi), and strength a takes an image of the lower one, whose noise is -|z|, to the
    upper if |z| < a d: a share of erf(a d / sqrt(2)), 0.58 and 0.89 for strengths of 0.5 and 1. Both are held to four
    standard errors of 400 images.
    """
    model = two_peaks()
    data = Images(model, 800)
    for strength in (0.5, 1):
        edit = Edit(data=data, source=Unconditional(), direction={0: 1}, strength=strength, count=400)
        made = sampler(model, edit, Unconditional(), steps=24)
        made.task.check(made)
        made.task.prepare(made)
        d = edit.moves[0].item() / strength
        assert edit.moves[1].item() == 0
        # Of a half-normal the variance is 1 - 2 / pi; there are two means.
        assert d == pytest.approx(2 * (2 / math.pi) ** 0.5, abs=4 * (2 * (1 - 2 / math.pi) / 400) ** 0.5)
        x, labels = edit(made, range(800))
        assert (labels == 1).all()
        upper = (x.flatten() > 0)[data.labels == 0].double().mean().item()
        share = math.erf(strength * d / 2**0.5)
        assert upper == pytest.approx(share, abs=4 * (share * (1 - share) / 400) ** 0.5)
        stay = data.labels == 1
        assert rms((x - data.images)[stay]) < 0.01


def test_a_prompt_direction_is_that_of_what_prompts_draw():
    """Images drawn with a prompt are images of its class, so the direction is the one between classes."""
    model = TextMixture(two_peaks(), ["low", "high"])
    data = Images(two_peaks(), 10)
    edit = Edit(data=data, source=Unconditional(), direction={"low": "high"}, count=400)
    made = sampler(model, edit, Unconditional(), steps=24)
    made.task.check(made)
    made.task.prepare(made)
    assert len(edit.moves) == 2 and edit.moves[0] == edit.moves[1]  # all images move
    assert edit.moves[0].item() == pytest.approx(2 * (2 / math.pi) ** 0.5, abs=4 * (2 * (1 - 2 / math.pi) / 400) ** 0.5)
    x, labels = edit(made, range(10))
    assert labels is None and (x > 0).double().mean() > 0.8


def test_prompts_say_what_becomes_of_images():
    model, data = TextMixture(narrow(), ["zero", "one", "two"]), Images(narrow(), 3)
    source = Prompts({0: "zero", 1: "one", 2: "two"})
    edit = Edit(data=data, source=source)
    made = sampler(model, edit, Prompts({2: "two"}), steps=200)
    made.task.check(made)
    edited, labels = edit(made, range(3))
    assert labels.tolist() == [2, 2, 2]
    expected = data.images + narrow().means[2, 0] - narrow().means[data.labels, 0]
    assert (edited - expected).abs().max() < 1e-8
    assert edit.sheet(made, made.decode(edited)).rows == ["two"] * 2  # what is one already stays


def test_a_given_tensor_is_added_to_the_noise(tmp_path):
    """From any of the three kinds of file; `strength` times."""
    model, given = narrow(), torch.randn(1, 2, 2, generator=torch.Generator().manual_seed(2))
    np.save(tmp_path / "d.npy", given.numpy())
    torch.save(given, tmp_path / "d.pt")
    save_file({"d": given}, tmp_path / "d.safetensors")
    data = Images(model, 6)
    for name in ("d.npy", "d.pt", "d.safetensors"):
        edit = Edit(data=data, source=Original(data), direction=str(tmp_path / name), strength=-0.5)
        made = sampler(model, edit, Original(data), steps=100)
        made.task.check(made)
        made.task.prepare(made)
        x, labels = edit(made, range(6))
        assert labels.tolist() == data.labels.tolist()
        # The noise is scaled by s on the way to the data.
        assert (x - data.images - 0.4 * -0.5 * given.double()).abs().max() < 1e-6
    unlabelled = Images(model, 6)
    unlabelled.num_classes, unlabelled.labels = 0, torch.full((6,), -1)
    edit = Edit(data=unlabelled, source=Unconditional(), direction=str(tmp_path / "d.pt"))
    edit.prepare(made)
    assert torch.equal(edit.moves[unlabelled.labels], given.expand(6, 1, 2, 2))


def test_the_settings_tell_sets_apart(tmp_path):
    """A file is identified by its content, not its name."""
    data, identities = Images(narrow(), 6), []
    for name, values in (("a.npy", [0.0, 1.0]), ("b.npy", [0.0, 1.0]), ("c.npy", [0.0, 2.0])):
        np.save(tmp_path / name, np.array(values))
        identities.append(digest(identify(Edit(data=data, source=Original(data), direction=str(tmp_path / name)))))
    assert identities[0] == identities[1] != identities[2]
    settings = [
        {},
        {"direction": {0: 1}},
        {"direction": {1: 0}},
        {"direction": {0: 1}, "strength": 2},
        {"guided": True},
    ]
    whole = [identify(Edit(data=data, source=Original(data), **setting)) for setting in settings]
    assert len({digest(each) for each in whole}) == len(settings)
    assert all(digest(json.loads(json.dumps(each))) == digest(each) for each in whole)  # as set.json gives it back


@pytest.mark.parametrize("solver", [Heun(), Dopri5()], ids=repr)
def test_a_sample_is_the_same_in_any_batch(solver):
    model = GaussianMixture(num_classes=3, components=2, shape=(1, 2, 2))
    data = Images(model, 7, torch.float32)
    edit = Edit(data=data, source=Unconditional(), direction={0: 1, 2: 0})
    made = sampler(model, edit, Unconditional(), solver=solver, steps=8)
    edit.prepare(made)
    together, labels = edit(made, range(10))
    apart = [edit(made, indices) for indices in ([9, 3], [0, 1, 2], [8], [4, 5, 6, 7])]
    x, their_labels = (torch.cat(parts) for parts in zip(*apart))
    order = torch.tensor([9, 3, 0, 1, 2, 8, 4, 5, 6, 7])
    assert torch.equal(x, together[order]) and torch.equal(their_labels, labels[order])
    assert together.dtype == torch.float32 and not torch.equal(together[0], together[3])


def test_costs_are_the_two_ways_and_nothing_else():
    model = narrow()
    data = Images(model, 6, torch.float32)
    edit = Edit(data=data, source=Unconditional(), direction={0: 1})
    made = sampler(model, edit, Unconditional(), solver=Heun(), steps=5, guidance=ClassifierFree(weight=1))
    assert made.evaluations() == (20, 30)  # 10 velocities each way; guided on the way back alone
    assert edit.moves is None  # which a model that stands still would have put wrong
    made.prepare(4)
    assert edit.moves is not None and made.evaluations() == (20, 30)
    made.images(range(4))
    cost = made.take_cost()
    assert (cost.images, cost.velocity_rows, cost.network_rows) == (4, 80, 120)
    guided = Edit(data=data, source=Unconditional(), guided=True)
    both = sampler(model, guided, Unconditional(), solver=Heun(), steps=5, guidance=ClassifierFree(weight=1))
    assert both.evaluations() == (20, 40)


def test_guidance_acts_on_the_way_back_alone_unless_asked_for():
    """Both ways are then guided, so the round trip changes nothing."""
    model = narrow()
    data, indices = Images(model, 6), range(6)
    for guidance in (ClassifierFree(weight=2), CFGZero(weight=2, zero_init=0.25, zero_init_in="t")):
        noises, changes = [], []
        for guided in (False, True):
            edit = Edit(data=data, source=Original(data), guided=guided)
            made = sampler(model, edit, Original(data), guidance=guidance, steps=60)
            noise, back = edit.reconstructed(made, data.images, indices)
            assert rms(back - data.images) < 1e-3
            noises.append(noise)
            changes.append(rms(edit(made, indices)[0] - data.images))
        # x_1 = m + s x_0 has this noise, without guidance; RK4's 1e-8 with 200 steps is (200 / 60)^4 times that.
        assert (noises[0] - data.noise).abs().max() < 1e-5
        assert rms(noises[1] - data.noise) > 0.1
        assert changes[0] > 0.01 and changes[1] < 1e-3


def test_figures_and_picture():
    """Every result is 51 grey levels, 0.4 in [-1, 1], above its original, and half of them hit the target."""
    model = narrow(spread=0.1, std=0.1)
    data = Images(model, 5)
    edit = Edit(data=data, source=Original(data))
    made = sampler(model, edit, Original(data, shift=1))
    pixels = made.decode(data.images[[0, 1, 2, 3, 4, 0, 1, 2]]) + 51
    classes = torch.tensor([1, 2, 0, 0, 0, 0])  # 1, 2, 0, 1, 2, 1 would be right
    scores = edit.scores(made, Samples.of_pixels(pixels, 6), classes, None)
    assert scores["target_share"].score == 0.5
    assert scores["change_rmse"].score == pytest.approx(0.4)
    assert 0 < scores["reconstruction_rmse"].score < 1e-6
    assert [len(scores[name].values) for name in ("target_share", "change_rmse", "reconstruction_rmse")] == [6, 6, 5]
    assert made.take_cost().network_rows == 0
    assert "target_share" not in edit.scores(made, Samples.of_pixels(pixels, 6), None, None)
    nowhere = sampler(model, edit, Unconditional())
    assert "target_share" not in edit.scores(nowhere, Samples.of_pixels(pixels, 6), classes, None)

    sheet = edit.sheet(made, pixels)
    assert sheet.images.shape == (8, 4, 1, 2, 2)
    assert sheet.rows == [f"{label} -> {(label + 1) % 3}" for label in (0, 1, 2, 0, 1, 0, 1, 2)]
    before, _, back, after = sheet.images.unbind(1)
    assert torch.equal(before, back) and torch.equal(after, pixels)


def test_only_images_that_are_to_change_count():
    labels, targets = torch.tensor([0, 1, 2]), torch.tensor([0, 2, 2])
    assert to_change(labels, targets).tolist() == [False, True, False]
    assert to_change(labels, labels).tolist() == to_change(labels, None).tolist() == [True, True, True]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strength": math.nan, "direction": {0: 1}}, ("task.strength=nan", "give a number")),
        ({"strength": "much", "direction": {0: 1}}, ("task.strength=much", "give a number")),
        ({"strength": 2}, ("task.strength=2", "give task.direction")),
        ({"count": 0, "direction": {0: 1}}, ("task.count=0", "at least 1")),
        ({"guided": "yes"}, ("task.guided=yes", "true or false")),
        ({"direction": {}}, ("task.direction={}", "{3: 8}", ".npy")),
        ({"direction": {0: "one"}}, ("task.direction", "{3: 8}", ".npy")),
        ({"direction": {"a": "b", "c": "d"}}, ("task.direction", "two prompts")),
        ({"direction": "smile"}, ("task.direction=smile", ".safetensors")),
        ({"direction": "nowhere.npy"}, ("task.direction=nowhere.npy does not exist", "a file of one tensor")),
    ],
)
def test_settings_that_cannot_be(settings, words):
    data = Images(narrow(), 3)
    with refused(words):
        Edit(data=data, source=Original(data), **settings)


def test_files_that_are_no_direction(tmp_path):
    def refuse(name: str, words: tuple[str, ...]) -> None:
        with refused((f"task.direction={tmp_path / name}", *words)):
            data = Images(narrow(), 3)
            edit = Edit(data=data, source=Unconditional(), direction=str(tmp_path / name))
            edit.check(sampler(narrow(), edit, Unconditional()))

    for suffix in ("npy", "pt", "safetensors"):
        (tmp_path / f"damaged.{suffix}").write_bytes(b"no tensor")
        refuse(f"damaged.{suffix}", ("save one tensor",))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    refuse("objects.npy", ("holds code",))
    torch.save(Prompts, tmp_path / "code.pt")
    refuse("code.pt", ("no single tensor",))
    torch.save([1, 2], tmp_path / "list.pt")
    refuse("list.pt", ("no single tensor",))
    save_file({"a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "two.safetensors")
    refuse("two.safetensors", ("no single tensor",))
    np.save(tmp_path / "nan.npy", np.array([1, np.nan]))
    refuse("nan.npy", ("NaN",))
    np.save(tmp_path / "other.npy", np.ones((1, 3, 2)))
    refuse("other.npy", ("1 x 3 x 2", "samples 1 x 2 x 2"))


def test_what_a_model_or_its_images_do_not_allow(tmp_path):
    model = narrow()
    data = Images(model, 6)

    def refuse(words, *, model=model, data=data, source=None, condition=None, solver=Heun(), **settings) -> None:  # noqa: B008
        edit = Edit(data=data, source=source or Unconditional(), **settings)
        with refused(words):
            edit.check(sampler(model, edit, condition or Unconditional(), solver=solver))

    refuse(("EulerMaruyama adds noise", "solver=heun"), solver=component("solver", "euler_maruyama"))
    refuse(("1 x 8 x 8", "1 x 2 x 2", "data.size=2", "data.resize=true"), data=Digits())
    refuse(("captions", "data=digits"), model=GaussianMixture(), data=CaptionedDigits())
    latents = narrow(shape=(4, 2, 2))
    latents.codec = Blocks((4, 4, 1))
    refuse(("data are 1 x 2 x 2", "this model's 1 x 4 x 4", "data.size=4"), model=latents)
    refuse(("task.source: ", "classes"), source=Original(Images(narrow(num_classes=5), 5)))
    refuse(("{0: 7}", "no image is of class 7", "0 to 2"), direction={0: 7})
    refuse(("{a: b}", "takes no text"), direction={"a": "b"})
    for source, condition in ((Original(data), Unconditional()), (Unconditional(), Balanced())):
        refuse(("{0: 1}", "task=edit_direction"), source=source, condition=condition, direction={0: 1})

    Image.new("L", (3, 2)).save(tmp_path / "image.png")
    with refused(("image.png is 3 x 2", "data.resize=true")):
        ImageFolder(path=str(tmp_path), size=2, channels=1)
    folder = ImageFolder(path=str(tmp_path), size=2, channels=1, resize=True)
    refuse(("{0: 1}", "no labels"), data=folder, direction={0: 1})
    Edit(data=folder, source=Unconditional()).check(sampler(model, None, Unconditional()))


def test_real_digits_come_back():
    """Heun stays within the promised error at 50 steps; Euler with two steps does not."""
    model, data = PretrainedDiT(checkpoint=str(WEIGHTS / "digits_dit.safetensors")), Digits()
    with torch.inference_mode():
        missing = [
            round_trip(model, data, solver=solver, steps=steps) for solver, steps in ((Heun(), 50), (Euler(), 2))
        ]
    assert missing[0] < 1e-2 < missing[1]


@pytest.mark.slow
def test_the_command(ditexp, tmp_path):
    """Sweeps over task and condition: a given condition overrides the task's default."""
    small = ("solver=midpoint", "steps=5", "num_samples=16", "batch_size=16", "metric=[]", "resamples=4")
    command = ditexp("-m", "task=edit", "condition=next,original", *small)
    assert command.code == 0, command.output
    for heading in ("reconstruction", "change", "target class"):
        assert heading in command.output
    results = {}
    for path in (tmp_path / "outputs" / "results").glob("*.json"):
        result = json.loads(path.read_text())
        results[result["settings"]["condition"]] = result
        picture = Image.open(path.with_suffix(".png"))
        assert picture.height > 10 * 48  # ten rows
    after, same = results["next"], results["original"]
    assert after["cost"]["forwards"] == same["cost"]["forwards"] == 20
    assert after["metrics"]["reconstruction_rmse"] == same["metrics"]["reconstruction_rmse"] < 0.1
    assert same["metrics"]["change_rmse"] < 0.1 < 0.5 < after["metrics"]["change_rmse"]
    assert set(after["deviations"]) == {"reconstruction_rmse", "change_rmse", "target_share"}
    assert after["metrics"]["target_share"] >= 0.8 and same["metrics"]["target_share"] >= 0.8

    wrong = ditexp("task=edit", "task.direction={3:8}", *small)
    assert wrong.code == 2 and "task=edit_direction" in wrong.output
