"""A path in place of an option is written out, and an architecture's name is no path."""

from __future__ import annotations

from pathlib import Path

import pytest

from ditexp.checks import ConfigError
from ditexp.cli.paths import with_options


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("imagenet", "digits", "pipeline", "text/text_encoder", "SiT-B/2"):
        Path(folder).mkdir(parents=True)
    Path("pipeline/model_index.json").write_text("{}")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("reference=/data/imagenet", "reference=folder reference.path=/data/imagenet"),
        ("reference=imagenet", "reference=folder reference.path=imagenet"),  # it exists
        ("reference=digits", "reference=digits"),  # an option goes before a folder
        ("reference=./digits", "reference=folder reference.path=./digits"),
        ("reference=a.npz", "reference=npz reference.path=a.npz"),
        ("reference='a=b.npz'", "reference=npz reference.path='a=b.npz'"),
        ("reference=a.safetensors", "reference=statistics reference.path=a.safetensors"),
        ("reference=/a,/b", "reference=folder reference.path=/a,/b"),
        ("reference=choice(/a,/b)", "reference=folder reference.path=choice(/a,/b)"),
        ("model=/ckpt/SiT-XL-2.pt", "model=checkpoint model.checkpoint=/ckpt/SiT-XL-2.pt"),
        ("model=x.safetensors,y.pt", "model=checkpoint model.checkpoint=x.safetensors,y.pt"),
        ("model=SiT-B/2", "model=checkpoint model.checkpoint=SiT-B/2"),
        ("model=pipeline", "model=diffusers model.path=pipeline"),
        ("model=text", "model=text_dit model.folder=text"),
        ("vae=stabilityai/sd-vae-ft-ema", "vae=folder vae.path=stabilityai/sd-vae-ft-ema"),
        ("data=imagenet", "data=folder data.path=imagenet"),
        ("solver=heun,euler", "solver=heun,euler"),
        ("reference=nonsense", "reference=nonsense"),
        ("~reference", "~reference"),
        # The option that a script's conventions choose stays.
        ("compat=sit model=x.pt vae=/v", "compat=sit model.checkpoint=x.pt vae.path=/v"),
        ("compat=sit_sde model=x.pt", "compat=sit_sde model.checkpoint=x.pt"),
        ("experiment=sit_ode_sde model=x.pt", "experiment=sit_ode_sde model.checkpoint=x.pt"),
        ("experiment=digits_steps model=x.pt", "experiment=digits_steps model=checkpoint model.checkpoint=x.pt"),
        ("compat=jit vae=/v", "compat=jit vae=folder vae.path=/v"),  # which has none
        ("compat=sit reference=/i", "compat=sit reference=folder reference.path=/i"),
    ],
)
def test_a_path_is_taken_as_one(typed, expected):
    assert " ".join(with_options(typed.split(), "config", is_sweep=True)) == expected


def test_an_option_of_ones_own_goes_before_a_folder():
    Path("own/reference").mkdir(parents=True)
    Path("own/reference/imagenet.yaml").touch()
    assert with_options(["reference=imagenet"], "config", own=Path("own")) == ["reference=imagenet"]


def test_a_command_without_the_group_has_no_paths_there():
    assert with_options(["vae=/v"], "evaluate") == ["vae=/v"]


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        (
            "model=SiT-XL/2",
            "model=SiT-XL/2 is an architecture, and sampling needs its weights: give their file, model=",
        ),
        ("model=DiT-S-4", "model=DiT-S-4 is an architecture"),
        ("reference=/a,/b.npz", "reference=/a,/b.npz: a sweep over reference takes options, or paths of one kind "),
        ("reference=digits,/b", "reference=digits,/b: a sweep over reference takes options, or paths of one kind "),
    ],
)
def test_what_cannot_be_meant(typed, complaint):
    with pytest.raises(ConfigError) as error:
        with_options([typed], "config", is_sweep=True)
    assert str(error.value).startswith(complaint) and len(str(error.value)) <= 200


def test_several_paths_without_a_sweep_stay_for_the_check():
    assert with_options(["reference=/a,/b"], "config") == ["reference=/a,/b"]
