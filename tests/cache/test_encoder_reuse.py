"""cache=ddt: the encoder's output is reused, at its cost. The samples are compared with DDT's own in tests/golden."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ditexp.cache.ddt import EncoderReuse
from ditexp.cache.delta import Delta
from ditexp.cache.fora import FORA
from ditexp.cache.work import share_of_work
from ditexp.guidance.cfg import ClassifierFree
from ditexp.sampler import Sampler
from ditexp.solver.euler import Euler
from ditexp.solver.heun import Heun
from ditexp.values import Condition
from tests.helpers.networks import model_of, tiny_ddt, tiny_dit
from tests.helpers.refusals import refused
from tests.helpers.samplers import sampler_of

INDICES = range(3)
INTERVAL = ClassifierFree(weight=1.0, interval=(0.3, 0.8))


def drawn(sampler: Sampler) -> Tensor:
    return sampler.samples(INDICES)[0]


def test_with_interval_1_nothing_changes():
    model = model_of(tiny_ddt())
    plain, cached, reusing = (
        drawn(sampler_of(model, Heun(), guidance=INTERVAL, cache=cache))
        for cache in (None, EncoderReuse(interval=1), EncoderReuse())
    )
    assert torch.equal(plain, cached) and not torch.allclose(plain, reusing, atol=1e-3)


def test_the_decoder_is_computed_at_its_own_x_with_the_encoders_older_output():
    """Its last layer, too, is modulated by the older output; nothing of the encoder is evaluated again."""
    network = tiny_ddt()
    state = EncoderReuse().begin(model_of(network))
    x, later, labels = torch.randn(2, 3, 6, 6), torch.randn(2, 3, 6, 6), torch.tensor([1, 4])
    times = torch.full((2,), 0.3), torch.full((2,), 0.4)
    with torch.no_grad():
        network(x, times[0], labels, state.evaluation(0.3, 2))
        found = network(later, times[1], labels, state.evaluation(0.4, 2))
        for layer in (*network.blocks[:2], network.s_embedder, network.t_embedder, network.y_embedder):
            for parameter in layer.parameters():
                parameter.zero_()
        assert torch.equal(network(later, times[1], labels, state.partial(0.4)), found)
        assert not torch.allclose(network(later, times[1], labels), found, atol=1e-3)


def test_an_evaluation_of_the_decoder_costs_its_share():
    """By the matrix products: two of three blocks, whose modulation is one for all tokens, and one, whose is not."""
    model = model_of(tiny_ddt())
    width, tokens, patch, hidden = 24, 9, 12, 40
    ends = 256 * width + width * width + tokens * patch * width  # time; x
    head = tokens * (2 * width * width + width * patch)
    layers = tokens * (4 * width * width + 3 * hidden * width + 2 * tokens * width)
    encoder = tokens * patch * width + 2 * (6 * width * width + layers)
    decoder = ends + tokens * 6 * width * width + layers + head
    x, condition = torch.zeros(2, 3, 6, 6), Condition(torch.zeros(2, dtype=torch.int64))
    share = share_of_work(EncoderReuse(), model, x, condition)
    assert share == pytest.approx(decoder / (encoder + decoder))
    sampler = sampler_of(model, Euler(), steps=10, guidance=INTERVAL, cache=EncoderReuse())
    plan = sampler.evaluations()
    drawn(sampler)
    # 3, 5 and 2 evaluations of 1, 2 and 1 rows, each part beginning with a full one.
    expected = 2 + share + 2 * (3 + 2 * share) + 1 + share
    assert plan is not None and plan[1] == pytest.approx(expected)
    assert sampler.take_cost().network_rows / len(INDICES) == pytest.approx(expected)


def test_what_has_no_encoder_is_refused_and_what_has_one_is_no_row_of_blocks():
    with refused(("cache=ddt", "encoder", "cache=fora")):
        sampler_of(model_of(tiny_dit()), Euler(), cache=EncoderReuse())
    with refused(("Delta", "cache=fora")):
        sampler_of(model_of(tiny_ddt()), Euler(), cache=Delta())
    drawn(sampler_of(model_of(tiny_ddt()), Euler(), steps=4, cache=FORA()))
