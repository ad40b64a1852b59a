"""task=inpaint: masks, known pixels, resampling; on the analytic model, where the truth is known, and on digits."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from ditexp.cli.command import register_with_hydra
from ditexp.condition.unconditional import Unconditional
from ditexp.model.analytic import GaussianMixture
from ditexp.pixels import to_pixels
from ditexp.run.identity import identify
from ditexp.run.judge import as_numbers
from ditexp.sampler import Sampler
from ditexp.samples.store import SampleStore
from ditexp.solver.adams import AdamsBashforth
from ditexp.solver.dopri5 import Dopri5
from ditexp.solver.euler import Euler
from ditexp.solver.euler_maruyama import EulerMaruyama
from ditexp.solver.heun import Heun
from ditexp.task.generate import Generate
from ditexp.task.inpaint import Inpaint, diffused
from tests.helpers.codecs import Blocks
from tests.helpers.components import ONE_TIME, component
from tests.helpers.errors import rms
from tests.helpers.paths import CONF
from tests.helpers.refusals import refused
from tests.helpers.sample_sets import Samples
from tests.helpers.samplers import in_float64, sampler_of

MODEL = GaussianMixture()  # 10 classes of 2 components each, 1 x 8 x 8
ONE = GaussianMixture(num_classes=1, components=1)  # in which pixels are independent


class Drawn:
    """Images of a mixture, and which component each is of."""

    num_classes = 0
    identity = {"data": "drawn"}  # noqa: RUF012

    def __init__(self, count: int = 6, model: GaussianMixture = MODEL):
        draw = torch.Generator().manual_seed(1)
        means = model.means.flatten(0, 1)
        self.components = torch.randint(len(means), (count,), generator=draw)
        images = torch.randn(count, *model.sample_shape, generator=draw, dtype=torch.float64)
        self.images = (means[self.components] + model.std * images).float()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        return self.images[index], torch.tensor(-1)


def sampler(task, solver=Euler(), *, model=MODEL, **parts) -> Sampler:  # noqa: B008
    return sampler_of(model, solver, conditioner=Unconditional(), task=task, **parts)


def inpaint(**settings) -> Inpaint:
    return Inpaint(**{"data": Drawn(), **settings})


def save(pixels, path: Path, mode: str = "L") -> str:
    Image.fromarray(np.asarray(pixels, np.uint8)).convert(mode).save(path)
    return str(path)


@pytest.fixture
def picture(tmp_path) -> str:
    """A mask image of the model's size: the two topmost rows are white."""
    return save([[255 * (row < 2)] * 8 for row in range(8)], tmp_path / "mask.png")


MASKS = ({"mask": "half", "side": "bottom"}, {"mask": "box"}, {"mask": "random", "share": 0.3}, {})


@pytest.mark.parametrize("solver", [Euler(), Heun(), AdamsBashforth(), EulerMaruyama()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("known", ["renoised", "naive"])
@pytest.mark.parametrize("passes", [1, 3])
def test_known_pixels_end_as_the_images_and_the_others_dont(solver, known, passes, picture):
    if passes > 1 and isinstance(solver, AdamsBashforth):
        pytest.skip("is refused")
    for mask in MASKS:
        task = inpaint(**(mask or {"mask": picture}), known=known, passes=passes)
        s = sampler(task, solver)
        task.check(s)
        indices = range(4, 9)  # the data go round after 6
        x, labels = task(s, indices)
        fill = task.mask(s, indices).expand_as(x)
        image = task.data.images[[4, 5, 0, 1, 2]]
        assert torch.equal(x[~fill], image[~fill]) and torch.isfinite(x).all()
        assert not (x[fill] == image[fill]).any() and fill.any() and not fill.all()
        assert labels.tolist() == [10] * 5  # the null class
        assert torch.equal(to_pixels(x)[~fill], to_pixels(image)[~fill])


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("start", [0.0, 0.25])  # 0.25: of a guidance that leaves the first steps out
@pytest.mark.parametrize("known", ["renoised", "naive"])
def test_the_network_sees_known_pixels_on_their_path(known, passes, start):
    """They are (1 - t) noise + t image at every evaluation of Euler's method, or the image itself.

    The noise is the sample's own in the first pass, and fresh in every further one.
    """
    task, seen = inpaint(known=known, passes=passes), []
    s = replace(sampler(task), grid=[start, 0.5, 0.75, 1.0])
    s.network.forward = lambda x, t, c: seen.append((x, t[0].item())) or s.model(x, t, c)
    task(s, range(3))
    image, fill = task.data.images[:3], task.mask(s, [0]).expand(3, -1, -1, -1)
    assert [t for _, t in seen] == [t for t in s.grid[:-1] for _ in range(passes if t else 1)]
    noise = s.noise(range(3))
    for number, (x, t) in enumerate(seen):
        if number and t == seen[number - 1][1]:
            noise = s.extra_noise(range(3), number)
        path = image if known == "naive" else (1 - t) * noise + t * image
        assert torch.equal(x[~fill], path[~fill])
    filled = [x[fill] for x, _ in seen]
    assert not any(torch.equal(one, other) for one, other in pairwise(filled))


@pytest.mark.parametrize("solver", [Euler(), Heun(), AdamsBashforth(), EulerMaruyama()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("known", ["renoised", "naive"])
def test_where_pixels_are_independent_known_ones_change_nothing(solver, known):
    """With one Gaussian, filled pixels are exactly those of plain sampling from the same noise, with an SDE too."""
    task = inpaint(data=Drawn(model=ONE), known=known)
    s = sampler(task, solver, model=ONE)
    fill = task.mask(s, [0]).expand(5, -1, -1, -1)
    assert torch.equal(task(s, range(5))[0][fill], Generate()(s, range(5))[0][fill])


def test_orders_under_projection():
    """A solver that evaluates only at points of the grid keeps its order; in stages between, known pixels drift.

    Within a step these go where the network takes them, which is O(h) off their path: so Heun's order is 1.
    """
    smooth = GaussianMixture(num_classes=3, shape=(1, 2, 2), std=0.8)
    task = inpaint(data=Drawn(model=smooth))

    def completed(solver, steps: int) -> torch.Tensor:
        s = in_float64(sampler(task, solver, steps=steps, model=smooth))
        return task(s, range(6))[0]

    truth = completed(AdamsBashforth(order=3), 300)  # far nearer to it than the others
    for solver, order in ((Euler(), 1), (Heun(), 1), (AdamsBashforth(), 2)):
        coarse, fine = (rms(completed(solver, steps) - truth) for steps in (64, 128))
        print(
            f"\n{type(solver).__name__}: {fine:.2g} from the truth with 128 steps, order {math.log2(coarse / fine):.2f}"
        )
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(("t0", "t1"), [(0.0, 0.1), (0.2, 0.25), (0.4, 0.9), (0.98, 1.0), (0.0, 1.0)])
def test_going_back_leads_to_the_path(t0, t1):
    """t1 data + (1 - t1) z becomes t0 data + (1 - t0) z': the share of data and the variance of noise, to rounding."""
    one, none = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    a, b = diffused(one, t1, t0, none).item(), diffused(none, t1, t0, one).item()
    assert a * t1 == pytest.approx(t0, abs=1e-15)
    assert (a * (1 - t1)) ** 2 + b**2 == pytest.approx((1 - t0) ** 2, abs=1e-15)


def test_resampled_samples_are_distributed_as_the_recursion_tells():
    """With one Gaussian, N(m, s^2), every step is linear, so that mean and variance follow without any sampling.

    Euler's step multiplies what is beyond the mean by 1 + h c, where v = m + c (x - t m).
    """
    steps, passes, count = 6, 3, 1500
    task = inpaint(data=Drawn(model=ONE), passes=passes)
    s = sampler(task, steps=steps, model=ONE)
    variance = 1.0
    for t0, t1 in pairwise(s.grid):
        c = (t0 * ONE.std**2 - (1 - t0)) / ((t0 * ONE.std) ** 2 + (1 - t0) ** 2)
        for again in range(passes if t0 else 1):
            if again:
                a = t0 / t1
                variance = a**2 * variance + (1 - t0) ** 2 - (a * (1 - t1)) ** 2
            variance *= (1 + (t1 - t0) * c) ** 2
    fill = task.mask(s, [0])[0]
    x = (task(s, range(count))[0].double() - ONE.means[0, 0])[:, fill]
    spread = math.sqrt(variance)
    # Five standard errors: of a mean, sigma / sqrt(n), and of a standard deviation, sigma / sqrt(2 n).
    assert abs(x.mean().item()) < 5 * spread / x.numel() ** 0.5
    assert abs(x.std().item() - spread) < 5 * spread / (2 * x.numel()) ** 0.5


def test_every_pass_has_noise_of_its_own():
    """Noise for going back and for the steps of the SDE is never drawn twice, nor shared with the mask."""
    back, steps = [], []

    class Recording(Sampler):
        def extra_noise(self, indices, number, *shape):
            back.append(number)
            return super().extra_noise(indices, number, *shape)

        def integrate(self, *inputs, first_step, **options):
            steps.append(first_step)
            return super().integrate(*inputs, first_step=first_step, **options)

    task = inpaint(mask="random", passes=3)
    task(Recording(**vars(sampler(task, EulerMaruyama()))), [0, 1])
    assert steps == list(range(10))  # once from 0, three times from the three other points
    assert len(set(back)) == len(back) == 1 + 2 * 3


@pytest.mark.parametrize(("solver", "passes", "nfe"), [(Euler(), 1, 8), (Euler(), 5, 36), (Heun(), 5, 72)])
def test_what_passes_cost(solver, passes, nfe):
    """The step from pure noise is taken once, the others `passes` times."""
    assert sampler(inpaint(passes=passes), solver, steps=8).evaluations() == (nfe, nfe)


@pytest.mark.parametrize("mask", ["half", "random"])
def test_a_sample_is_the_same_in_any_batch(mask):
    task = inpaint(mask=mask, passes=2)
    s = sampler(task, EulerMaruyama())
    together = task(s, range(10))[0]
    assert torch.equal(together, torch.cat([task(s, [index])[0] for index in reversed(range(10))]).flip(0))


def test_resampling_makes_more_of_what_is_known():
    """The known half tells the component for sure; the other half should come out of the same one.

    Of as many evaluations: one pass shows the known half under one noise only, nine under many.
    """
    data = Drawn(200)
    means = MODEL.means.flatten(0, 1)
    shares = {}
    for known in ("renoised", "naive"):
        for steps, passes in ((64, 1), (8, 9)):
            task = inpaint(data=data, known=known, passes=passes)
            s = sampler(task, steps=steps)
            assert s.evaluations()[1] == 64
            with torch.inference_mode():
                x = task(s, range(200))[0].double()
            fill = task.mask(s, [0])[0]
            nearest = [(x[:, None] - means)[:, :, part].square().sum(-1).argmin(1) for part in (~fill, fill)]
            assert torch.equal(nearest[0], data.components)
            shares[known, passes] = (nearest[1] == data.components).double().mean().item()
    print(f"\nsame component as the known half, 64 evaluations: {shares}")
    # The difference of two shares of 200 has a standard deviation of at most 0.05.
    assert shares["renoised", 9] > shares["renoised", 1] + 0.25
    assert shares["renoised", 1] > 1 / 20 + 0.25  # chance


# masks


def filled(task: Inpaint, shape=(1, 4, 5), indices=(0,)) -> list:
    """1 where the mask of the first sample is filled."""
    return task.mask(sampler(task, model=GaussianMixture(num_classes=1, shape=shape)), indices)[0, 0].int().tolist()


def test_halves_and_boxes():
    assert filled(inpaint()) == filled(inpaint(side="left")) == [[0, 0, 1, 1, 1]] * 4
    assert filled(inpaint(side="right")) == [[1, 1, 1, 0, 0]] * 4
    assert filled(inpaint(side="top")) == [[0] * 5] * 2 + [[1] * 5] * 2
    assert filled(inpaint(side="bottom")) == [[1] * 5] * 2 + [[0] * 5] * 2
    assert filled(inpaint(mask="box", box=[1, 0, 3, 2])) == [[0] * 5, [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0] * 5]
    assert filled(inpaint(mask="box")) == [[0] * 5, [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0] * 5]


def test_random_pixels_belong_to_the_sample():
    task = inpaint(mask="random", share=0.25)
    s = sampler(task)
    fill = task.mask(s, range(500))
    assert fill.shape == (500, 1, 8, 8) and (fill.flatten(1).sum(1) == 16).all()
    assert torch.equal(fill[7:8], task.mask(s, [7])) and len(fill.flatten(1).unique(dim=0)) == 500
    # How often a pixel is to be filled in 500 samples has a standard deviation of 0.019; 5 of these for all 64.
    assert (fill.float().mean(0) - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 500)
    assert not torch.equal(fill, task.mask(replace(s, seed=1), range(500)))


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA"])
def test_white_pixels_of_an_image_are_filled(mode, tmp_path):
    path = save([[0, 255, 0], [255, 255, 0]], tmp_path / f"mask_{mode}.png", mode)
    assert filled(inpaint(mask=path), (1, 2, 3)) == [[0, 1, 0], [1, 1, 0]]


def test_what_the_mask_is_enters_the_id_and_not_where_it_came_from(tmp_path, picture):
    assert identify(inpaint()) == identify(inpaint(side="left")) != identify(inpaint(side="top"))
    json.dumps([identify(inpaint(**mask)) for mask in MASKS])
    elsewhere = tmp_path / "copy.png"
    elsewhere.write_bytes(Path(picture).read_bytes())
    before = identify(inpaint(mask=picture))
    assert before == identify(inpaint(mask=str(elsewhere))) and "copy" not in json.dumps(before)
    save([[255] + [0] * 7] * 8, elsewhere)
    assert identify(inpaint(mask=str(elsewhere))) != before


# bad input


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"known": "noised"}, ("task.known=noised", "renoised, naive")),
        ({"passes": 0}, ("task.passes=0", "at least 1")),
        ({"passes": 1.5}, ("task.passes=1.5", "whole number")),
        ({"side": "west"}, ("task.side=west", "left, right, top, bottom")),
        ({"mask": "box", "box": [1, 2, 3]}, ("task.box=[1, 2, 3]", "[top,left,bottom,right]")),
        ({"mask": "box", "box": [0, 0, 2.5, 4]}, ("task.box=[0, 0, 2.5, 4]", "in pixels")),
        ({"mask": "box", "box": 4}, ("task.box=4", "[top,left,bottom,right]")),
        ({"mask": "random", "share": 0}, ("task.share=0", "give a number above 0 and below 1")),
        ({"mask": "random", "share": "half"}, ("task.share=half", "give a number above 0 and below 1")),
        ({"share": 0.3}, ("task.share=0.3", "task.mask=random alone")),
        ({"mask": "random", "side": "top"}, ("task.side=top", "task.mask=half alone")),
        ({"mask": "hlaf"}, ("task.mask=hlaf", "half, box or random", "path")),
        ({"mask": "nowhere/mask.png"}, ("task.mask=nowhere/mask.png", "path of a black and white image")),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with refused(words):
        inpaint(**settings)


def test_mask_images_that_cannot_be(tmp_path):
    """Grey, 0 and 1 for 0 and 255, partly transparent; no image; of another size."""
    cut = Image.new("LA", (8, 8), (255, 0))
    cut.save(tmp_path / "cut.png")
    grey = np.full((8, 8), 255)
    grey[0, :4] = 128
    for name, share in ((save(grey, tmp_path / "grey.png"), "6.2%"), (str(tmp_path / "cut.png"), "100.0%")):
        with refused((f"task.mask={name}", f"{share} of the pixels", "neither black (known) nor white (to be filled)")):
            inpaint(mask=name)
    with refused(("12.5% of the pixels",)):
        inpaint(mask=save([[1] + [0] * 7] * 8, tmp_path / "bits.png"))
    (tmp_path / "text.png").write_text("no image")
    with refused((f"task.mask={tmp_path / 'text.png'}", "cannot be read (no image is in it)")):
        inpaint(mask=str(tmp_path / "text.png"))
    task = inpaint(mask=save([[0, 255, 0]] * 8, tmp_path / "small.png"))
    with refused(("small.png is 3 x 8", "samples are 8 x 8", "resize it")):
        task.check(sampler(task))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mask": "box", "box": [0, 0, 8, 8]}, ("nothing known", "8 x 8")),
        ({"mask": "random", "share": 0.001}, ("nothing to be filled", "8 x 8")),
        ({"mask": "random", "share": 0.999}, ("nothing known",)),
        ({"mask": "box", "box": [0, 0, 9, 8]}, ("task.box=[0, 0, 9, 8]", "bottom <= 8")),
        ({"mask": "box", "box": [4, 0, 4, 8]}, ("task.box=[4, 0, 4, 8]", "top < bottom")),
    ],
)
def test_masks_that_dont_fit_the_model(settings, words):
    task = inpaint(**settings)
    with refused(words):
        task.check(sampler(task))


def test_all_white_and_all_black(tmp_path):
    for level, words in ((255, "nothing known"), (0, "nothing to be filled")):
        task = inpaint(mask=save(np.full((8, 8), level), tmp_path / f"{level}.png"))
        with refused((words,)):
            task.check(sampler(task))


def test_solvers_models_and_data_that_cannot_be():
    task = inpaint()
    with refused(("Dopri5", "solver of fixed steps", "solver=heun")):
        task.check(sampler(task, Dopri5()))
    other = GaussianMixture(num_classes=1, shape=(1, 4, 4))
    with refused(("the images of the data are 1 x 8 x 8", "this model's 1 x 4 x 4", "data.size=4", "data.resize=true")):
        task.check(sampler(task, model=other))
    assert sampler(task, model=other).evaluations() == (4, 4)  # it is tried out before it is checked, for forwards=
    latent = GaussianMixture(num_classes=1, shape=(4, 8, 8))
    latent.codec = Blocks((16, 16, 1))
    with refused(("the data are 1 x 8 x 8", "this model's 1 x 16 x 16", "data.size=16")):
        task.check(sampler(task, model=latent))
    with refused(("task.passes=2", "AdamsBashforth", "solver=heun", "task.passes=1")):
        task = inpaint(passes=2)
        task.check(sampler(task, AdamsBashforth()))


def looks_back(solver) -> bool:
    """Whether a step depends on the steps before it: on dx/dt = e^t, in one integration and step by step."""
    grid, start = [step / 8 for step in range(9)], torch.zeros(1, 1, dtype=torch.float64)

    def integrate(x: torch.Tensor, grid: list[float]) -> torch.Tensor:
        return solver.integrate(lambda x, t: torch.full_like(x, math.exp(t)), x, grid, None, lambda step: 0 * start).x

    x = start
    for step in pairwise(grid):
        x = integrate(x, list(step))
    return not torch.equal(x, integrate(start, grid))


def test_which_solvers_look_back():
    """What they declare is what they do."""
    solvers = {name: component("solver", name) for name in ONE_TIME if name != "ddpm"}
    solvers["ddpm"] = component("solver", "ddpm", variance="fixed_small")  # without a model's variance head
    found = {name for name, solver in solvers.items() if not solver.adaptive and looks_back(solver)}
    assert found == {"ab2", "ab3", "ab4", "abm", "ipndm", "dpmpp_2m", "dpmpp_3m", "unipc"}
    assert found == {name for name, solver in solvers.items() if solver.history}


# what is told and shown


def test_scores_are_measured_on_the_images():
    task = inpaint()
    s = sampler(task)
    image = to_pixels(task.data.images)
    completed = image.clone()
    completed[1:, ..., 4:] += 9  # to be filled
    scores = task.scores(s, Samples.of_pixels(completed, 5), None, lambda images: images.flatten(1).sum(1))
    assert as_numbers(scores) == {"known_error": 0, "agreement": 1 / 5}
    assert scores["agreement"].values.tolist() == [1, 0, 0, 0, 0]
    completed[5] += 50  # made, but not asked for
    assert task.scores(s, Samples.of_pixels(completed, 5), None, None) == {"known_error": 0}
    completed[4, 0, 3, 3] -= 3
    assert task.scores(s, Samples.of_pixels(completed, 5), None, None) == {"known_error": 3}


@pytest.mark.parametrize(("side", "columns"), [(8, 10), (256, 5), (2000, 1)])
def test_the_picture_shows_original_given_completed(side, columns):
    class Grey:
        num_classes = 0

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return torch.zeros(1, 4, side), torch.tensor(-1)

    task = inpaint(data=Grey())
    s = sampler(task, model=GaussianMixture(num_classes=1, components=1, shape=(1, 4, side)))
    sheet = task.sheet(s, torch.full((12, 1, 4, side), 7, dtype=torch.uint8))
    original, given, completed = sheet.images
    assert sheet.images.shape == (3, columns, 3, 4, side) and sheet.rows == ("original", "given", "completed")
    assert (original == 128).all() and (completed == 7).all()
    known = side // 2
    assert torch.equal(given[..., :known], original[..., :known])
    assert given[0, :, 0, -1].tolist() == [255, 150, 60] and not sheet.moving


@pytest.mark.slow
def test_a_sweep_of_the_command(ditexp, tmp_path):
    sizes = ("num_samples=40", "batch_size=20", "steps=3")
    command = ditexp("-m", "task=inpaint", "task.mask=half,box", "solver=euler", *sizes)
    assert command.code == 0, command.output
    outputs = tmp_path / "outputs"
    results = [json.loads(path.read_text()) for path in (outputs / "results").glob("*.json")]
    assert {result["settings"]["task.mask"] for result in results} == {"half", "box"}
    for result in results:
        assert result["config"]["condition"]["_target_"].endswith("Unconditional")
        assert result["metrics"]["known_error"] == 0 and 0.1 < result["metrics"]["agreement"] < 1
        assert set(result["deviations"]) == set(result["metrics"]) - {"known_error"}
        assert {found["units"] for found in result["deviations"].values()} == {40}
        assert {"fid", "precision"} < set(result["metrics"]) and result["cost"]["nfe"] == 3
        with Image.open(result["grid"]) as drawn:  # ten digits of 48 pixels in three rows, and captions
            assert drawn.mode == "RGB" and drawn.width > 10 * 50 and drawn.height == 3 * 50 - 2
        images, labels = SampleStore.open(outputs / "samples" / result["sample_id"]).read(0)
        assert images.shape == (40, 8, 8, 1) and set(labels.tolist()) == {10}
    assert "known error" in command.output and "agreement" in command.output


def test_what_is_refused_leaves_nothing_behind(in_process):
    inpaint = ("tracker=none", "task=inpaint", "num_samples=8")
    ended = in_process(*inpaint, "solver=dopri5", "task.mask=box", "task.box=[0,0,9,9]")
    assert ended.code == 2 and len(ended.complaints) == 1 and "solver=heun" in ended.complaints[0]
    ended = in_process(*inpaint, "task.side=west", "task.known=clean")
    assert ended.code == 2 and "task.known=clean" in ended.complaints[0]
    assert not Path("outputs/samples").exists()


def test_it_is_unconditional_unless_told_otherwise():
    register_with_hydra()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        chosen = {
            overrides: compose("config", overrides=list(overrides)).condition["_target_"].rpartition(".")[2]
            for overrides in ((), ("task=inpaint",), ("task=inpaint", "condition=original"))
        }
    assert list(chosen.values()) == ["Balanced", "Unconditional", "Original"]
