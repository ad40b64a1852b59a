"""Prompts of a benchmark's file: their ids, seeds and classes."""

from __future__ import annotations

import pytest
import torch

from ditexp.condition.base import Conditioner
from ditexp.condition.labels import Balanced
from ditexp.condition.prompts import Prompts
from ditexp.model.analytic import GaussianMixture
from ditexp.solver.euler_maruyama import EulerMaruyama
from ditexp.values import Condition, Prompt
from tests.helpers.refusals import refused
from tests.helpers.samplers import sampler_of

TABLE = "id,prompt,seed,label\na,seven,5,7\nb,one,,1\na,seven,6,7\n"


def prompts(tmp_path, text: str = TABLE, name: str = "x.csv") -> Prompts:
    (tmp_path / name).write_text(text)
    return Prompts(file=str(tmp_path / name))


def test_a_table_gives_ids_seeds_and_classes(tmp_path):
    found = prompts(tmp_path)
    assert found.rows == [Prompt("a", "seven", 7, 5), Prompt("b", "one", 1), Prompt("a", "seven", 7, 6)]
    assert found.label_meaning(GaussianMixture()).classes == (1, 7)
    assert found.captions([4, 3]) == ["one", "seven"]
    with refused(["a label for some prompts, but none for number 1"]):
        prompts(tmp_path, "prompt,label\nseven,7\none,\n")


def test_prompts_without_seeds_identify_a_set_as_before(tmp_path):
    """Sets of lists and text files keep their ids, wherever the prompts come from."""
    pairs = [(0, "seven"), (1, "one")]
    for same in (Prompts(["seven", "one"]), prompts(tmp_path, "id,prompt\nx,seven\ny,one\n")):
        assert same.identity == {"class": "Prompts", "prompts": pairs}
    many = Prompts([f"prompt {number}" for number in range(101)])
    assert many.identity == {"class": "Prompts", "prompts": "18d4932b84bfc9fe"}
    assert prompts(tmp_path).identity["seeds"] == [5, None, 6]


class Seeded(Conditioner):
    """What Prompts does with seeds, for a model without text."""

    def __init__(self, found: Prompts) -> None:
        self.rows, self.noise_keys = found.rows, found.noise_keys

    def __call__(self, model, seed, indices) -> Condition:
        return Condition(torch.zeros(len(indices), dtype=torch.int64))


def test_a_prompt_with_a_seed_has_the_noise_of_a_run_with_that_seed(tmp_path):
    """Image j of a prompt with seed s is drawn as sample j of a run with seed s; prompts without one as ever."""
    found = prompts(tmp_path)
    assert found.noise_keys(0, range(5)) == ((5, 0, 6, 5, 0), (0, 1, 0, 1, 4))
    assert found.noise_keys(10, [3]) == ((15,), (1,))
    plain = prompts(tmp_path, "prompt\nseven\none\n")
    assert plain.noise_keys(3, range(4)) == (3, range(4))
    solver = EulerMaruyama()
    seeded = sampler_of(GaussianMixture(), solver, conditioner=Seeded(found))
    of_five = sampler_of(GaussianMixture(), solver, conditioner=Balanced([0]), seed=5)
    of_zero = sampler_of(GaussianMixture(), solver, conditioner=Balanced([0]))
    images = seeded.images(range(6))[0]
    assert torch.equal(images[[0, 3]], of_five.images(range(2))[0])  # initial noise, and that of each step
    assert torch.equal(images[[1, 4]], of_zero.images(range(6))[0][[1, 4]])
    assert torch.equal(seeded.extra_noise([3], 2), of_five.extra_noise([1], 2))
    assert not torch.equal(images[0], images[2])
    assert torch.equal(images[2:4], seeded.images(range(2, 4))[0])  # whatever the batch


@pytest.mark.parametrize("text", ["prompt,seed\nseven,18446744073709551616\n", "prompt,seed\nseven,abc\n"])
def test_no_seed_is_beyond_a_generator(text, tmp_path):
    with refused(["as seed at line 2"]):
        prompts(tmp_path, text)
