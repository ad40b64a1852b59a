"""task=progressive, and the networks of several resolutions that it needs."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ditexp.guidance.autoguidance import Autoguidance
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.cfg_zero import CFGZero
from ditexp.guidance.none import NoGuidance
from ditexp.model.analytic import GaussianMixture
from ditexp.model.dit import DiT, unpatchify
from ditexp.model.positions import interpolated
from ditexp.model.pretrained import PretrainedDiT
from ditexp.noise import noise, step_noise, task_noise
from ditexp.pixels import Pixels as PixelCodec
from ditexp.pixels import to_pixels
from ditexp.run.identity import identify
from ditexp.sampler import Sampler
from ditexp.solver.dopri5 import Dopri5
from ditexp.solver.euler import Euler
from ditexp.solver.rk4 import RK4
from ditexp.task.generate import Generate
from ditexp.task.progressive import Progressive
from ditexp.train.objective import FlowMatching
from ditexp.values import Condition, Solution
from tests.helpers.errors import rms
from tests.helpers.paths import WEIGHTS
from tests.helpers.refusals import refused
from tests.helpers.samplers import sampler_of as sampler_of_parts


class Pixels:
    """Every pixel of every size is N(m, d^2): x_t = t m + c_t z with c_t^2 = t^2 d^2 + (1 - t)^2 is the exact flow.

    All is elementwise, so that a sample's bytes are the same in any batch.
    """

    sample_shape, codec, size_multiple = (1, 8, 8), PixelCodec((8, 8, 1)), 2
    start, start_std = 0.0, 1.0
    num_classes, class_names, has_null, m, d = 10, (), True, 0.25, 0.5
    identity = {"model": "pixels"}  # noqa: RUF012

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        t = t.view(-1, 1, 1, 1)
        return self.m + (t * self.d**2 - (1 - t)) / (t**2 * self.d**2 + (1 - t) ** 2) * (x - t * self.m)

    def flow(self, x: Tensor, s: float) -> Tensor:
        """From x at s to t = 1."""
        return self.m + self.d * (x - s * self.m) / (s**2 * self.d**2 + (1 - s) ** 2) ** 0.5

    def null(self, condition: Condition) -> Condition:
        return condition

    def to(self, device) -> Pixels:
        return self


def sampler_of(task, *, model=None, solver=None, steps: int = 10, **parts) -> Sampler:
    return sampler_of_parts(model or Pixels(), solver or Euler(), steps=steps, task=task, seed=3, **parts)


@pytest.fixture(scope="module")
def digits() -> PretrainedDiT:
    return PretrainedDiT(checkpoint=str(WEIGHTS / "digits_dit.safetensors"))


# The task.


def test_it_is_its_formulas():
    """Three stages against the exact flow, each with its own noise; the last stage has the sample's."""
    model, indices, (s1, s2) = Pixels(), [4, 0, 9], (0.3, 0.6)
    sampler = sampler_of(Progressive(sizes=[4, 6], restart=[s1, s2]), solver=RK4(), steps=100)
    x, labels = sampler.task(sampler, indices)
    small, middle = (task_noise(3, indices, (1, side, side), i) for i, side in enumerate((4, 6)))
    expected = model.flow(small, 0)
    expected = model.flow((1 - s1) * middle + s1 * F.interpolate(expected, (6, 6), mode="bicubic"), s1)
    own = noise(3, indices, (1, 8, 8))
    expected = model.flow((1 - s2) * own + s2 * F.interpolate(expected, (8, 8), mode="bicubic"), s2)
    # About 210 steps, each rounded to float32 at values below 4; RK4's own error is of order 0.01^4.
    assert (x - expected).abs().max() < 210 * 4 * 2**-24
    assert labels.tolist() == [4, 0, 9]


def test_enlarging_keeps_every_part_in_its_place():
    """A bright corner stays in its corner: no flip, no shift by half a pixel, no swap of rows and columns."""
    corner = torch.zeros(1, 1, 4, 4)
    corner[..., 0, 3] = 1

    class Fixed:
        adaptive = uses_variance = uses_flow_map = False

        def integrate(self, field, x, grid, project=None, noise=None):
            return Solution(corner if x.shape[-1] == 4 else x)

    task = Progressive(sizes=[4], restart=0.5)
    sampler = sampler_of(task, solver=Fixed())
    *_, (start, _) = task.stages(sampler, Condition(torch.tensor([0])), [0])
    enlarged = (start - 0.5 * noise(3, [0], (1, 8, 8))) / 0.5
    total = enlarged.sum()
    rows, columns = (enlarged.sum(axis).squeeze() @ (torch.arange(8) + 0.5) / total for axis in (3, 2))
    assert rows < 1.5 and columns > 6.5, (rows, columns)


@pytest.mark.parametrize("solver", [Euler(), Dopri5(rtol=1e-2, atol=1e-2)], ids=["euler", "dopri5"])
def test_one_stage_is_direct_sampling_to_the_bit(solver, digits):
    one, direct = (
        sampler_of(task, model=digits, solver=solver, steps=4).images(range(8))
        for task in (Progressive(sizes=[], restart=0.5), Generate())
    )
    assert torch.equal(one[0], direct[0]) and torch.equal(one[1], direct[1])


def test_a_sample_is_the_same_in_any_batch():
    together, labels = sampler_of(Progressive(sizes=[4], restart=0.5)).images(range(7))
    for indices in ([6], [2, 1], [5, 0, 3, 4]):
        images, alone = sampler_of(Progressive(sizes=[4], restart=0.5)).images(indices)
        assert torch.equal(images, together[indices]) and torch.equal(alone, labels[indices])


@torch.inference_mode()
def test_stages_of_the_digits_network_and_resemblance_to_direct_samples(digits):
    """The smaller s, the more of the sample's own noise decides, down to the sample drawn directly."""
    direct, _ = sampler_of(Generate(), model=digits).images(range(32))
    distances = []
    for s in (0.01, 0.3, 0.7):
        sampler = sampler_of(Progressive(sizes=[4, 6], restart=s), model=digits)
        stages = list(sampler.task.stages(sampler, sampler.condition(range(32)), range(32)))
        assert [tuple(end.shape) for _, end in stages] == [(32, 1, side, side) for side in (4, 6, 8)]
        images = to_pixels(stages[-1][1])
        distances.append(rms(images.float() - direct))
    assert distances == sorted(distances)
    # At s = 0.01 x_s is 0.01 times the difference of two images off the path of the direct sample: 2 levels of 256 if
    # they differ by 1.5, of 2 at most, and the flow onto the digits contracts.
    assert distances[0] < 2


class Recorder:
    """A solver that records its calls and moves nothing."""

    adaptive = uses_variance = uses_flow_map = False

    def __init__(self):
        self.calls = []

    def integrate(self, field, x, grid, project=None, noise=None):
        self.calls.append((x.shape, grid, noise(0)))
        return Solution(x)


def test_grids_and_step_noise_go_on_from_stage_to_stage():
    recorder = Recorder()
    sampler = sampler_of(Progressive(sizes=[4, 6], restart=[0.5, 0.75]), solver=recorder, steps=4)
    sampler.task(sampler, [1, 2])
    shapes, grids, draws = zip(*recorder.calls)
    assert [tuple(shape) for shape in shapes] == [(2, 1, side, side) for side in (4, 6, 8)]
    assert grids == ([0, 0.25, 0.5, 0.75, 1], [0.5, 0.75, 1], [0.75, 1])
    for draw, shape, first in zip(draws, shapes, (0, 4, 6)):
        assert torch.equal(draw, step_noise(3, [1, 2], shape[1:], first))
    assert sampler.since(0.6) == [0.6, 0.75, 1]  # between two points of the grid


def test_what_it_costs_is_counted_through_all_stages(digits):
    """10 + 5 steps of Euler, twice the evaluations with guidance; the measured cost is the predicted one."""
    task = Progressive(sizes=[4], restart=0.5)
    for guidance, forwards in ((NoGuidance(), 15), (ClassifierFree(scale=2.0), 30)):
        sampler = sampler_of(task, model=digits, guidance=guidance)
        assert sampler.evaluations() == (15, forwards)
        sampler.images(range(4))
        assert sampler.take_cost().network_rows == 4 * forwards
    assert sampler_of(Progressive(sizes=[4, 6], restart=[0.5, 0.7])).evaluations() == (18, 18)
    adaptive = sampler_of(task, model=digits, solver=Dopri5(rtol=0.1, atol=0.1))
    adaptive.images(range(4))
    assert adaptive.meter.cost.accepted.total() == 2 * 4 and adaptive.evaluations() is None


def test_guidance_that_holds_samples_still(digits):
    """Before its start the velocity is 0: the first stage begins there, and no stage may restart earlier."""
    guidance = CFGZero(scale=2.0, zero_init=0.25, zero_init_in="t")
    recorder = Recorder()
    sampler = sampler_of(Progressive(sizes=[4], restart=0.5), solver=recorder, steps=4, guidance=guidance)
    sampler.task.check(sampler)
    sampler.task(sampler, [0])
    assert [grid for _, grid, _ in recorder.calls] == [[0.25, 0.5, 0.75, 1], [0.5, 0.75, 1]]
    early = Progressive(sizes=[4], restart=0.2)
    with refused(["task.restart=[0.2]", "until t = 0.25"]):
        early.check(sampler_of(early, steps=4, guidance=guidance))


def test_the_picture_shows_every_stage_the_result_and_the_direct_sample(digits):
    sampler = sampler_of(Progressive(sizes=[4], restart=0.5), model=digits)
    images, _ = sampler_of(Progressive(sizes=[4], restart=0.5), model=digits).images(range(12))
    direct, _ = sampler_of(Generate(), model=digits).images(range(10))
    with torch.inference_mode():
        sheet = sampler.task.sheet(sampler, images)
    assert sheet.images.shape == (10, 4, 1, 8, 8)
    assert list(sheet.columns) == ["4 x 4", "t = 0.5", "8 x 8", "direct"]
    assert torch.equal(sheet.images[:, 2], images[:10]) and torch.equal(sheet.images[:, 3], direct)
    small = sheet.images[:, 0]
    assert torch.equal(small, small[..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert sampler.meter.cost.network_rows == 0  # what it takes is no cost of the samples
    only_one = sampler_of(Progressive(sizes=[], restart=0.5), model=digits)
    with torch.inference_mode():
        assert list(only_one.task.sheet(only_one, images).columns) == ["8 x 8", "direct"]


def test_one_time_for_all_stages_is_a_list_of_it():
    """Also for the id of the sample set."""
    one, each = (Progressive(sizes=[4, 6], restart=restart) for restart in (0.5, [0.5, 0.5]))
    assert identify(one) == identify(each)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sizes": 4}, ["task.sizes=4", "give a list"]),
        ({"sizes": "4"}, ["task.sizes=4", "give a list"]),
        ({"sizes": [4.5]}, ["task.sizes=[4.5]", "whole pixels"]),
        ({"sizes": [True]}, ["task.sizes=[True]", "whole pixels"]),
        ({"sizes": [0, 4]}, ["task.sizes=[0, 4]", "whole pixels"]),
        ({"sizes": [6, 4]}, ["task.sizes=[6, 4]", "increase"]),
        ({"sizes": [4, 4]}, ["task.sizes=[4, 4]", "increase"]),
        ({"restart": 0}, ["task.restart=0", "between 0 and 1"]),
        ({"restart": 1.0}, ["task.restart=1.0", "between 0 and 1"]),
        ({"restart": float("nan")}, ["task.restart=nan", "between 0 and 1"]),
        ({"restart": True}, ["task.restart=True", "between 0 and 1"]),
        ({"restart": None}, ["task.restart=None", "between 0 and 1"]),
        ({"restart": "half"}, ["task.restart=half", "between 0 and 1"]),
        ({"restart": [0.5, 2]}, ["task.restart=[0.5, 2]", "between 0 and 1"]),
        ({"restart": [0.5, 0.6]}, ["task.restart=[0.5, 0.6]", "task.sizes=[4]", "1"]),
        ({"sizes": [4, 6], "restart": [0.5]}, ["task.restart=[0.5]", "task.sizes=[4, 6]", "2"]),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with refused(words):
        Progressive(**{"sizes": [4], "restart": 0.5} | settings)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([3], ["task.sizes=[3]", "multiples of 2"]),
        ([4, 8], ["task.sizes=[4, 8]", "8 pixels"]),
        ([16], ["task.sizes=[16]", "8 pixels"]),
    ],
)
def test_sizes_that_the_model_does_not_take(sizes, words):
    task = Progressive(sizes=sizes, restart=0.5)
    with refused(words):
        task.check(sampler_of(task))


def test_models_of_one_size_alone():
    task = Progressive(sizes=[4], restart=0.5)
    alone = GaussianMixture()
    with refused(["GaussianMixture is of 8 pixels alone", "model=digits_sizes"]):
        task.check(sampler_of(task, model=alone))
    with refused(["GaussianMixture is of 8 pixels alone"]):
        task.check(sampler_of(task, guidance=Autoguidance(weak=alone, scale=2.0)))


@pytest.mark.slow
def test_the_command_sweeps_it(ditexp, tmp_path):
    small = ("num_samples=16", "batch_size=16", "metric=[]", "task=progressive")
    command = ditexp("-m", *small, "forwards=6", "task.restart=0.5,[0.75]")
    assert command.code == 0, command.output
    results = [json.loads(path.read_text()) for path in (tmp_path / "outputs" / "results").glob("*.json")]
    # Euler with N steps takes N + N / 2 evaluations, or N + N / 4, each rounded up.
    costs = {result["settings"]["task.restart"]: result["cost"] for result in results}
    assert {s: (cost["steps"], cost["forwards"]) for s, cost in costs.items()} == {0.5: (4, 6), "[0.75]": (4, 5)}
    for result in results:
        with Image.open(result["grid"]) as picture:
            assert picture.width > 4 * 48 and picture.height > 10 * 48

    wrong = ditexp(*small, "task.sizes=[5]", "outputs=" + str(tmp_path / "none"))
    assert wrong.code == 2 and wrong.output.count("\n") == 1 and "give multiples of 2" in wrong.output
    assert not (tmp_path / "none" / "samples").exists()


# Networks of several resolutions.

TINY = {"input_size": 12, "patch_size": 3, "in_channels": 2, "hidden_size": 8, "depth": 1, "num_heads": 2}


def network() -> DiT:
    torch.manual_seed(0)
    dit = DiT(**TINY, num_classes=4)
    for parameter in dit.parameters():
        nn.init.normal_(parameter, std=0.2)
    return dit


def cubic(i: float, values: Tensor) -> Tensor:
    """Keys' cubic convolution (a = -0.75) of values (N, ...) at place i, in units of their centres; ends repeated."""

    def weight(d: float) -> float:
        d, a = abs(d), -0.75
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0

    left = int(i // 1)
    return sum(weight(i - j) * values[min(max(j, 0), len(values) - 1)] for j in range(left - 1, left + 3))


def test_positions_of_the_trained_size_are_the_trained_ones():
    dit = network()
    assert interpolated(dit.pos_embed, 4, 4, 4) is dit.pos_embed


@torch.no_grad()
@pytest.mark.parametrize("grid", [(2, 3), (3, 2), (6, 4), (2, 2)])
def test_positions_of_other_sizes_keep_rows_and_columns(grid):
    """Token by token, from an embedding without any symmetry; rows first, as the patches are counted."""
    dit = network()
    height, width = grid
    found = interpolated(dit.pos_embed, 4, height, width)
    assert found.shape == (1, height * width, 8)
    trained = dit.pos_embed[0].double().view(4, 4, 8)  # row, column
    for token in range(height * width):
        row, column = divmod(token, width)
        along_rows = cubic((row + 0.5) * 4 / height - 0.5, trained)
        expected = cubic((column + 0.5) * 4 / width - 0.5, along_rows)
        assert (found[0, token] - expected).abs().max() < 1e-6  # sums of 16 products below 1, in float32


@torch.no_grad()
def test_images_that_are_not_square_keep_their_places():
    """Patches cut out by hand, row by row, come back where they were; and the network takes such images."""
    dit, x = network(), torch.randn(2, 2, 6, 9)
    patches = [x[:, :, i : i + 3, j : j + 3].permute(0, 2, 3, 1).flatten(1) for i in (0, 3) for j in (0, 3, 6)]
    assert torch.equal(unpatchify(torch.stack(patches, 1), 2, 3, 3), x)
    t, labels = torch.full((2,), 0.5), torch.tensor([0, 3])
    v = dit(x, t, labels)
    assert v.shape == x.shape
    assert not torch.allclose(v.mT, dit(x.mT, t, labels), atol=1e-3)  # it knows rows from columns


class Still(nn.Module):
    """Notes the images that it is trained on, and says that they move as they do."""

    has_null, patch_size = False, 2

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        self.sides.append(x.shape[-1])
        return torch.zeros_like(x)


def test_training_draws_one_of_several_sizes():
    """Each about as often; on images reduced without a change of their mean; the same step the same size."""
    net, images = Still(), torch.full((64, 1, 8, 8), 3.0)
    objective, net.sides, losses = FlowMatching(label_dropout=0, sizes=[4, 6, 8]), [], []
    for step in range(300):
        losses.append(objective(net, images, torch.zeros(64), torch.Generator().manual_seed(step)).item())
    counts = [net.sides.count(side) for side in (4, 6, 8)]
    assert sum(counts) == 300 and min(counts) > 100 - 4 * (300 * 2 / 9) ** 0.5
    # E (3 - x_0)^2 = 10; each loss is of 1,024 values or more whose squares have variance 4 * 9 + 2 = 38.
    assert max(abs(loss - 10) for loss in losses) < 5 * (38 / 1024) ** 0.5
    again = objective(net, images, torch.zeros(64), torch.Generator().manual_seed(7)).item()
    assert again == losses[7] and net.sides[-1] == net.sides[7]


@pytest.mark.parametrize("sizes", [[], 4, "48", [4.0], [0], [True]])
def test_sizes_to_train_at_must_be_whole_pixels(sizes):
    with refused([f"objective.sizes={sizes}", "whole pixels"]):
        FlowMatching(sizes=sizes)


@pytest.mark.parametrize("sizes", ["[8,5]", "[4,16]"])
def test_sizes_that_the_network_does_not_take_are_refused_before_training(sizes, in_process, tmp_path):
    command = in_process(
        f"folder={tmp_path / 'trained'}",
        f"hydra.run.dir={tmp_path / 'runs'}",
        f"objective.sizes={sizes}",
        command="train",
    )
    assert command.code == 2 and not (tmp_path / "trained").exists()
    (complaint,) = command.complaints
    assert f"objective.sizes={sizes.replace(',', ', ')}: give multiples of 2" in complaint


def test_a_network_trained_at_several_sizes_samples_at_them(ditexp, tmp_path):
    trained = ditexp(
        *("network.hidden_size=16", "network.depth=1", "network.num_heads=2", "batch_size=16", "steps=6"),
        f"folder={tmp_path / 'trained'}",
        f"hydra.run.dir={tmp_path / 'runs'}",
        "objective.sizes=[4,8]",
        module="ditexp.train",
    )
    assert trained.code == 0, trained.output
    model = PretrainedDiT(checkpoint=str(tmp_path / "trained" / "model.safetensors"))
    images, _ = sampler_of(Progressive(sizes=[4], restart=0.5), model=model, steps=2).images(range(3))
    assert images.shape == (3, 1, 8, 8)
