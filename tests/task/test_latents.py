"""Tasks on models of latents: if the autoencoder is a rotation, they do the same as on the model of pixels."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ditexp.condition.labels import Balanced
from ditexp.condition.original import Original
from ditexp.condition.unconditional import Unconditional
from ditexp.data import Digits, ImageFolder
from ditexp.files.content import digest
from ditexp.guidance.autoguidance import Autoguidance
from ditexp.metric.trajectory import Trajectory
from ditexp.model.analytic import GaussianMixture
from ditexp.model.pretrained import PretrainedDiT
from ditexp.noise import slerp
from ditexp.optimize.search import Flow, search
from ditexp.pixels import Undecoded, to_pixels
from ditexp.run.identity import identify
from ditexp.run.judge import as_numbers
from ditexp.sampler import Sampler
from ditexp.samples.store import SampleStore
from ditexp.solver.ddpm import DDPM
from ditexp.solver.dopri5 import Dopri5
from ditexp.solver.euler import Euler
from ditexp.solver.euler_maruyama import EulerMaruyama
from ditexp.solver.heun import Heun
from ditexp.solver.rk4 import RK4
from ditexp.task.edit import Edit
from ditexp.task.generate import Generate
from ditexp.task.inpaint import Inpaint
from ditexp.task.interpolate import Interpolate, InterpolateImages
from ditexp.task.originals import originals
from ditexp.task.progressive import Progressive
from tests.helpers.codecs import Blocks
from tests.helpers.errors import rms
from tests.helpers.networks import saved, tiny_dit
from tests.helpers.paths import WEIGHTS
from tests.helpers.refusals import refused
from tests.helpers.sample_sets import Samples
from tests.helpers.samplers import sampler_of
from tests.helpers.vaes import saved_kl

EXACT, LOSSY = Blocks((8, 8, 1)), Blocks((8, 8, 1), levels=4)
SHAPE = (4, 4, 4)  # of latents, for images of 8 x 8
ROUNDING = 1e-5  # float32 in two bases: sums of a few hundred terms of order 1


class Pictures:
    """Twelve images of 8-bit grey levels, of three classes in turn: of the mixture, hence smooth in no way."""

    num_classes, class_names = 3, ()
    identity = {"data": "pictures"}  # noqa: RUF012

    def __init__(self, model: GaussianMixture, count: int = 12):
        draw = torch.Generator().manual_seed(1)
        self.labels = torch.arange(count) % 3
        images = model.means[self.labels, 0] + model.std * torch.randn(count, 1, 8, 8, generator=draw).double()
        self.pixels = to_pixels(images)
        self.images = self.pixels.float() / 127.5 - 1

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]


def models(**settings) -> tuple[GaussianMixture, GaussianMixture]:
    """A mixture of images, and the same one in the rotated basis of the latents, where its codec is None."""
    of_pixels, of_latents = (
        GaussianMixture(num_classes=3, components=2, shape=shape, **settings) for shape in ((1, 8, 8), SHAPE)
    )
    of_latents.means = EXACT.encode(of_pixels.means.flatten(0, 1)).unflatten(0, of_pixels.means.shape[:2])
    of_latents.codec = None
    return of_pixels, of_latents


PIXELS, LATENTS = models()
DATA = Pictures(PIXELS)


def on_latents(task, *, solver=None, codec=EXACT, model=LATENTS, **parts) -> Sampler:
    return sampler_of(model, solver or Heun(), task=task, vae=codec, **{"conditioner": Unconditional(), **parts})


class RotatedNoise(Sampler):
    """The sampler of pixels from the noise that the sampler of latents has."""

    def noise(self, indices):
        return EXACT.decode(replace_class(self, Sampler, model=LATENTS).noise(indices))

    def extra_noise(self, indices, number, shape=None):
        drawn = Sampler.extra_noise(self, indices, number, SHAPE)
        return EXACT.decode(drawn)


def replace_class(sampler: Sampler, cls: type[Sampler], **parts) -> Sampler:
    return cls(**vars(sampler) | parts)


def on_pixels(task, *, solver=None, **parts) -> Sampler:
    made = sampler_of(PIXELS, solver or Heun(), task=task, **{"conditioner": Unconditional(), **parts})
    return replace_class(made, RotatedNoise)


# The same in either space


TASKS = {
    "edit": lambda: Edit(data=DATA, source=Original(DATA)),
    "class direction": lambda: Edit(data=DATA, source=Unconditional(), direction={0: 1}, count=3),
    "inpaint": lambda: Inpaint(data=DATA),
    "inpaint, naive": lambda: Inpaint(data=DATA, mask="box", known="naive"),
    "inpaint, three passes": lambda: Inpaint(data=DATA, mask="box", passes=3),
    "interpolate images": lambda: InterpolateImages(data=DATA, frames=3),
}


@pytest.mark.parametrize("name", TASKS)
def test_with_an_exact_autoencoder_latents_change_nothing(name):
    found = []
    for made in (on_pixels(TASKS[name]()), on_latents(TASKS[name]())):
        if name == "edit":
            made = replace(made, conditioner=Original(DATA, shift=1))
        made.task.check(made)
        made.task.prepare(made)
        found.append((made.codec.decode(made.task(made, range(14))[0]), made.images(range(14))))
    (x, (pixels, labels)), (other, (others, their_labels)) = found
    assert x.shape == other.shape == (14, 1, 8, 8)
    assert (x - other).abs().max() < ROUNDING * 20
    assert (pixels.int() - others.int()).abs().max() <= 1
    assert labels is their_labels is None or torch.equal(labels, their_labels)


class Unusable(Blocks):
    def encode(self, images):
        raise AssertionError

    decode = encode


def test_evaluations_are_counted_without_the_autoencoder():
    for name, velocities in (("edit", 16), ("inpaint", 8), ("interpolate images", 24)):
        made = on_latents(TASKS[name](), codec=Unusable((8, 8, 1)))
        assert made.evaluations() == (velocities, velocities)


def test_a_second_model_needs_no_autoencoder():
    made = on_latents(Generate(), guidance=Autoguidance(weak=models(std=0.5)[1], weight=1))
    assert made.images(range(2))[0].shape == (2, 1, 8, 8)


# Edit


def test_what_the_autoencoder_loses_is_not_the_inversions_error():
    made = on_latents(TASKS["edit"](), solver=RK4(), steps=60, codec=LOSSY)
    pixels = made.images(range(12))[0]
    made.take_cost()
    scores = as_numbers(made.task.scores(made, Samples.of_pixels(pixels, len(pixels)), None, None))
    assert made.take_cost().network_rows == 0
    decoded = to_pixels(LOSSY.decode(LOSSY.encode(DATA.images)))
    lost = rms((decoded.double() - DATA.pixels.double()) / 127.5)
    # A quarter of a unit is rounded off evenly, and the codec keeps lengths.
    assert lost == pytest.approx(0.25 / 12**0.5, rel=0.1)
    assert scores["vae_rmse"] == pytest.approx(lost, rel=1e-12)
    x = LOSSY.encode(DATA.images)
    assert scores["reconstruction_rmse"] == pytest.approx(rms(made.task.reconstructed(made, x, range(12))[1] - x))
    assert scores["reconstruction_rmse"] < lost / 20
    change = rms((pixels.double() - DATA.pixels.double()) / 127.5)
    assert scores["change_rmse"] == pytest.approx(change, rel=1e-12)

    exact = on_latents(TASKS["edit"](), solver=RK4(), steps=60)
    assert exact.task.round_trips(exact, 12)["vae_rmse"].max() == 0
    of_pixels = on_pixels(TASKS["edit"](), solver=RK4(), steps=60)
    assert "vae_rmse" not in of_pixels.task.round_trips(of_pixels, 12)


def test_the_sheet_shows_what_the_autoencoder_makes_of_the_originals():
    made = on_latents(TASKS["edit"](), codec=LOSSY)
    pixels = made.images(range(6))[0]
    sheet = made.task.sheet(made, pixels)
    assert sheet.columns == ["image", "encoded, decoded", "noise", "nothing changed", "edited"]
    first, second, *_, last = sheet.images.unbind(1)
    assert torch.equal(first, DATA.pixels[:6]) and torch.equal(last, pixels)
    assert torch.equal(second, to_pixels(LOSSY.decode(LOSSY.encode(DATA.images[:6]))))


def test_a_given_direction_has_the_shape_of_latents(tmp_path):
    np.save(tmp_path / "pixels.npy", np.ones((1, 8, 8), np.float32))
    np.save(tmp_path / "latents.npy", np.ones(SHAPE, np.float32))
    edit = Edit(data=DATA, source=Unconditional(), direction=str(tmp_path / "pixels.npy"))
    with refused(("1 x 8 x 8", "samples 4 x 4 x 4")):
        edit.check(on_latents(edit))
    edit = Edit(data=DATA, source=Unconditional(), direction=str(tmp_path / "latents.npy"))
    made = on_latents(edit)
    edit.check(made)
    edit.prepare(made)
    assert torch.equal(edit.moves[0], torch.ones(SHAPE))


# Inpaint


def test_a_latent_is_known_if_all_its_pixels_are(tmp_path):
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[3, 4] = mask[6:, 6:] = True
    Image.fromarray(mask.numpy().astype(np.uint8) * 255).save(tmp_path / "mask.png")
    task = Inpaint(data=DATA, mask=str(tmp_path / "mask.png"))
    made = on_latents(task)
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[1, 2] = expected[3, 3] = True
    assert torch.equal(task.unknown(made, [0])[0, 0], expected)
    x, _ = task(made, range(5))
    image = EXACT.encode(DATA.images[:5])
    changed = (x != image).all(1)
    assert torch.equal(changed, expected.expand(5, -1, -1))


def test_random_masks_fill_whole_latents():
    task = Inpaint(data=DATA, mask="random", share=0.25)
    fill = task.fill(on_latents(task), range(3))
    assert fill.shape == (3, 1, 8, 8) and fill.flatten(1).sum(1).tolist() == [16] * 3
    blocks = fill.unflatten(3, (4, 2)).unflatten(2, (4, 2))
    assert (blocks.amax((3, 5)) == blocks.amin((3, 5))).all() and not torch.equal(fill[0], fill[1])


@pytest.mark.parametrize("solver", [Euler(), EulerMaruyama(), DDPM(variance="fixed_small")])
def test_known_pixels_are_pasted_in_pixel_space(solver):
    box = {"mask": "box", "box": [1, 2, 5, 5]}
    pasted = on_latents(Inpaint(data=DATA, **box), codec=LOSSY, solver=solver)
    plain = on_latents(Inpaint(data=DATA, **box, paste=False), codec=LOSSY, solver=solver)
    (ours, _), (theirs, _) = pasted.images(range(10, 15)), plain.images(range(10, 15))
    fill = pasted.task.fill(pasted, [0]).expand(5, 1, 8, 8)
    own = DATA.pixels[[10, 11, 0, 1, 2]]
    assert torch.equal(ours[~fill], own[~fill]) and torch.equal(ours[fill], theirs[fill])
    decoded = to_pixels(LOSSY.decode(plain.task(plain, range(10, 15))[0]))
    assert torch.equal(theirs, decoded) and not torch.equal(theirs[~fill], own[~fill])


def test_scores_of_pasting():
    """known_error of what is stored; and the edge of a mask along which results are 10 levels above their images."""
    task = Inpaint(data=DATA)  # the left half is known
    made, plain = on_latents(task, codec=LOSSY), on_latents(replace(task, mask="half", paste=False), codec=LOSSY)
    decoded = plain.images(range(12))[0]
    error = (decoded.int() - DATA.pixels.int()).abs()[..., :4].max().item()
    assert as_numbers(plain.task.scores(plain, Samples.of_pixels(decoded, 12), None, None))["known_error"] == error > 5
    assert (
        as_numbers(task.scores(made, Samples.of_pixels(made.images(range(12))[0], 12), None, None))["known_error"] == 0
    )

    flat = Pictures(PIXELS)
    flat.pixels = torch.full_like(flat.pixels, 100)
    flat.images = flat.pixels.float() / 127.5 - 1
    results = flat.pixels.clone()
    results[..., 4:] += 10
    results[0, 0, 0, 4] -= 8  # one of the eight rows has a jump of 2 there
    seam = Inpaint(data=flat).scores(made, Samples.of_pixels(results, 12), None, None)["seam"]
    assert seam.values.tolist() == [9] + [10] * 11


def test_masks_that_leave_no_latent():
    def refuse(words, **settings):
        task = Inpaint(data=DATA, mask="box", **settings)
        with refused(words):
            task.check(on_latents(task))

    refuse(("no latent known", "2 x 2 pixels", "larger known part"), box=[0, 1, 8, 7])
    refuse(("nothing known of 8 x 8 pixels",), box=[0, 0, 8, 8])
    refuse(("task.box=[0, 0, 9, 8]", "bottom <= 8"), box=[0, 0, 9, 8])
    refuse(("no latent known",), box=[0, 0, 7, 7])


def test_it_is_said_how_a_mask_becomes_one_of_latents(caplog):
    for paste, words in ((True, "known pixels are pasted"), (False, "nothing is pasted")):
        task = Inpaint(data=DATA, paste=paste)
        task.check(on_latents(task))
        assert f"each latent, 2 x 2 pixels, that is not known as a whole; {words}" in caplog.text
    caplog.clear()
    task.check(on_pixels(task))
    assert not caplog.text


def test_ids_of_sets_without_pasting_stay():
    """The digest is of a set made before `paste` was added."""
    facts = identify(Inpaint(data=DATA))
    assert "paste" not in facts and identify(Inpaint(data=DATA, paste=False))["paste"] is False
    assert digest(facts | {"data": None}) != digest(identify(Inpaint(data=DATA, paste=False)) | {"data": None})


# Interpolation of images


def test_paths_between_images_are_paths_between_their_noises():
    """Of one Gaussian per class, x_1 = m + s x_0: so are the frames, of the noises between those of the images."""
    model = GaussianMixture(num_classes=3, components=1, shape=SHAPE, std=0.4)
    model.codec = None
    task = InterpolateImages(data=DATA, frames=5)
    made = on_latents(task, model=model, solver=RK4(), steps=200, conditioner=Balanced([1]))
    task.check(made)
    x, labels = task(made, range(10))
    mean = model.means[1, 0].float()
    noise = (EXACT.encode(DATA.images) - mean) / 0.4
    first, last = noise[[0] * 5 + [2] * 5], noise[[1] * 5 + [3] * 5]
    between = slerp(first, last, torch.linspace(0, 1, 5).repeat(2))
    # Noises up to 4, each rounded to float32 in some 200 steps of some 5 operations, twice.
    assert (x - mean - 0.4 * between).abs().max() < 2 * 200 * 5 * 4 * 2**-24
    assert labels.tolist() == [1] * 10


@pytest.mark.parametrize("made_on", [on_pixels, on_latents])
def test_ends_come_back_as_the_images(made_on):
    """Paths 5 and 6 are of images 10 and 11, and of 0 and 1 again."""
    task = InterpolateImages(data=DATA, frames=3)
    made = made_on(task, solver=RK4(), steps=60)
    pixels = made.images(range(21))[0]
    ends = pixels.unflatten(0, (7, 3))[:, [0, 2]].flatten(0, 1)
    assert (ends.int() - DATA.pixels[[*range(12), 0, 1]].int()).abs().max() <= 2
    assert not torch.equal(pixels[1], pixels[0]) and task.units(range(15, 21)) == [5, 5, 5, 0, 0, 0]
    scores = task.scores(made, Samples.of_pixels(pixels, len(pixels)), None, None)
    assert scores["ends_rmse"].score == pytest.approx(
        rms((ends.double() - DATA.pixels[[*range(12), 0, 1]].double()) / 127.5), rel=1e-12
    )
    assert scores["ends_rmse"].values.isnan().tolist() == [False, True, False] * 7
    assert scores["path_ratio"].score > 1


def test_conditions_go_from_label_to_label():
    """Each end is inverted under its own label with of=both, and under the first one's with of=noise."""
    digits, data = PretrainedDiT(checkpoint=str(WEIGHTS / "digits_dit.safetensors")), Digits()
    for of, labels in (("both", [0, 1, 1, 2, 3, 3]), ("noise", [0, 0, 0, 2, 2, 2])):
        task = InterpolateImages(data=data, frames=3, of=of)
        made = sampler_of(digits, Heun(), steps=50, task=task, conditioner=Original(data))
        task.check(made)
        with torch.inference_mode():
            x, found = task(made, range(6))
        assert found.tolist() == labels
        # As close as the same steps of the same solver come in test_edit.py::test_real_digits_come_back
        assert rms(x[[0, 2, 3, 5]] - originals(data, range(4))) < 1e-2


def test_what_paths_between_images_need():
    def refuse(words, *, data=DATA, solver=None, frames=3, **settings):
        with refused(words):
            task = InterpolateImages(data=data, frames=frames, **settings)
            task.check(on_latents(task, solver=solver))

    refuse(("task=interpolate_images", "EulerMaruyama adds noise"), solver=EulerMaruyama())
    refuse(("two images or more",), data=Pictures(PIXELS, count=1))
    refuse(("task.of=condition", "noise, both"), of="condition")
    refuse(("task.of=both", "no conditions between two"), of="both")
    with refused(("task.of=images", "task=interpolate_images")):
        Interpolate(of="images")
    assert identify(InterpolateImages(data=DATA))["class"] == "InterpolateImages"


# Progressive


@dataclass
class Resizable:
    """A model of latents of several sizes: every element is N(m, d^2)."""

    sample_shape, codec, size_multiple = SHAPE, None, 1
    start, start_std = 0.0, 1.0
    num_classes, class_names, has_null, m, d = 0, (), False, 0.25, 0.5
    identity = {"model": "resizable"}  # noqa: RUF012

    def __call__(self, x, t, condition):
        t = t.view(-1, 1, 1, 1)
        return self.m + (t * self.d**2 - (1 - t)) / (t**2 * self.d**2 + (1 - t) ** 2) * (x - t * self.m)

    def null(self, condition):
        return condition

    def to(self, device):
        return self


def test_sizes_are_those_of_the_images():
    task = Progressive(sizes=[4], restart=0.5)
    made = on_latents(task, model=Resizable())
    task.check(made)
    (start, end), (_, last) = task.stages(made, made.condition([0, 1]), [0, 1])
    assert start.shape == end.shape == (2, 4, 2, 2) and last.shape == (2, *SHAPE)
    pixels = made.images([0, 1])[0]
    sheet = task.sheet(made, pixels)
    assert sheet.columns == ["4 x 4", "t = 0.5", "8 x 8", "direct"]
    small = to_pixels(EXACT.decode(end))
    assert torch.equal(sheet.images[:, 0, :, ::2, ::2], small) and torch.equal(sheet.images[:, 2], pixels)
    for sizes in ([3], [8], [2, 5]):
        odd = Progressive(sizes=sizes, restart=0.5)
        with refused((f"task.sizes={sizes}", "multiples of 2 below this model's 8 pixels")):
            odd.check(on_latents(odd, model=Resizable()))


# What never decodes


def test_trajectories_and_optimized_grids_need_no_autoencoder(tmp_path: Path):
    made = on_latents(Generate(), codec=Undecoded(), steps=4)
    metric = Trajectory(samples=4, reference=Dopri5(), tolerance=1e-4)
    scores, _ = metric.compare(made, batch_size=4, identity={}, cache=tmp_path, advance=lambda count: None)
    assert as_numbers(scores).keys() == {"trajectory_rmse", "round_trip_rmse", "trajectory_order"}
    flow = Flow(made, Dopri5(rtol=1e-4, atol=1e-4), first=0, count=4)
    assert [steps for steps, _ in search(flow, 2)] == [1, 2]


def test_a_trajectory_is_drawn_in_pixels():
    made = on_latents(Generate(), codec=LOSSY, steps=8)
    sheet = made.task.trajectory(made, [0, 1])
    assert sheet.images.shape == (2, 9, 1, 8, 8)
    assert torch.equal(sheet.images[:, -1], made.images([0, 1])[0])


def test_data_of_another_size_name_the_size_of_the_images():
    larger = replace(EXACT, image_shape=(16, 16, 3))
    for task in (Edit(data=DATA, source=Unconditional()), Inpaint(data=DATA), InterpolateImages(data=DATA)):
        with refused(("1 x 8 x 8", "3 x 16 x 16", "data.size=16 data.channels=3 data.resize=true")):
            model = GaussianMixture(num_classes=3, shape=(12, 8, 8))
            model.codec = None
            task.check(on_latents(task, model=model, codec=larger))
    assert torch.equal(originals(DATA, [13]), DATA.images[[1]])


# The command


@pytest.mark.slow
def test_a_sweep_over_tasks_of_a_latent_dit_and_a_vae(ditexp, tmp_path):
    """A SiT and an AutoencoderKL of diffusers, both with random weights."""
    checkpoint = saved(tmp_path / "sit" / "sit.pt", {"ema": tiny_dit(input_size=8, in_channels=4).state_dict()})
    vae = saved_kl(tmp_path / "vae")
    draw = np.random.default_rng(0)
    pictures = draw.integers(256, size=(10, 16, 16, 3), dtype=np.uint8)
    for number, picture in enumerate(pictures):
        folder = tmp_path / "photos" / str(number % 5)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number}.png")
    data = ImageFolder(path=str(tmp_path / "photos"), size=16)
    model = ("model=sit", f"model.checkpoint={checkpoint}", "model.num_heads=3", "vae=folder", f"vae.path={vae}")
    photos = ("data=folder", f"data.path={tmp_path / 'photos'}", "data.size=16")
    small = ("solver=heun", "steps=3", "num_samples=11", "batch_size=11", "metric=[]", "store=both")
    command = ditexp("-m", "task=inpaint,edit,interpolate_images,progressive", *model, *photos, *small)
    assert command.code == 0, command.output
    assert "fills each latent, 2 x 2 pixels" in command.output
    results = {}
    for path in (tmp_path / "outputs" / "results").glob("*.json"):
        result = json.loads(path.read_text())
        results[result["settings"]["task"]] = result["metrics"]
        assert path.with_suffix(".png").exists()
        if result["settings"]["task"] == "inpaint":
            ours = to_pixels(originals(data, range(11)))
            stored, _ = SampleStore.open(tmp_path / "outputs" / "samples" / result["sample_id"]).read(0)
            known, filled = torch.from_numpy(stored).permute(0, 3, 1, 2).split(8, dim=3)
            assert torch.equal(known, ours[..., :8]) and not torch.equal(filled, ours[..., 8:])
    assert results["inpaint"].keys() == {"known_error", "seam"} and results["inpaint"]["known_error"] == 0
    assert results["edit"].keys() == {"reconstruction_rmse", "vae_rmse", "change_rmse"}
    assert results["interpolate_images"].keys() == {"ends_rmse", "path_ratio"}
    assert results["progressive"] == {}
