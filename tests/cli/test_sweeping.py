"""A sweep over a group whose options have different settings."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from ditexp.cli.errors import describe
from ditexp.cli.sweeping import fitting
from tests.helpers.paths import CONF


@pytest.fixture(scope="module", autouse=True)
def hydra_of_the_checkout():
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        yield


def cells(*batch: str) -> list[str]:
    found = fitting([cell.split() for cell in batch], lambda overrides: compose("config", overrides))
    return [" ".join(cell) for cell in found]


def test_a_setting_goes_to_the_options_that_have_it(caplog):
    assert cells(
        *("guidance=none guidance.scale=1 seed=0", "guidance=none guidance.scale=2 seed=0"),
        *("guidance=cfg guidance.scale=1 seed=0", "guidance=cfg guidance.scale=2 seed=0"),
    ) == ["guidance=none seed=0", "guidance=cfg guidance.scale=1 seed=0", "guidance=cfg guidance.scale=2 seed=0"]
    assert caplog.messages == ["guidance.scale goes to the options that have it; guidance=none runs without"]


@pytest.mark.parametrize(
    ("batch", "complaint"),
    [
        (["guidance=none guidance.scal=1", "guidance=cfg guidance.scal=1"], "did you mean guidance.scale?"),
        (["guidance=none guidance.scale=1", "guidance=none guidance.scale=2"], "guidance has no settings here"),
        (["solver=euler step=1", "solver=heun step=1"], "unknown key 'step'; did you mean steps?"),
        (["solver=euler seed=x}", "solver=huen seed=0"], "seed=x}"),
    ],
)
def test_a_setting_that_no_option_has_is_refused(batch, complaint):
    with pytest.raises(HydraException) as error:
        cells(*batch)
    assert complaint in " ".join([*describe(error.value), str(error.value)])
