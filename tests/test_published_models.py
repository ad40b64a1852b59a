"""The walk on docs/published_models.md, from weights to verdict, with random weights and few images.

Every command of the page is run as it stands there; what a small machine without the released files needs is added.
"""

from __future__ import annotations

import csv
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import inception_weights
from tests.helpers.commands import Command
from tests.helpers.documentation import commands_of
from tests.helpers.family_files import save_family
from tests.helpers.paths import CONF, ROOT
from tests.helpers.vaes import saved_kl

PAGE = (ROOT / "docs" / "published_models.md").read_text()
WALK = commands_of(PAGE.partition("## SiT-XL/2")[2].partition("\n## ")[0])
IMAGES = 8
SMALL = (
    f"num_samples={IMAGES}",
    "resamples=0",
    "batch_size=8",
    "vae.path=sd-vae-ft-ema",
    "feature.weights=inception.pth",
)
METRICS = ("FID", "sFID", "IS", "Precision", "Recall")


@pytest.fixture
def folder(tmp_path) -> Path:
    """The files that the page names, small and random, in place of the released ones."""
    save_family(tmp_path / "SiT-XL-2-256x256.pt", "sit")
    saved_kl(tmp_path / "sd-vae-ft-ema")
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "VIRTUAL_imagenet256_labeled.npz", images)
    inception_weights.save_random(tmp_path / "inception.pth")
    return tmp_path


@pytest.fixture
def walk(ditexp, folder):
    """walk(line) runs a command of the page."""

    def run(line: str, **options) -> Command:
        name, *arguments = shlex.split(line)[1:]
        if name == "run":
            given = {argument.partition("=")[0] for argument in arguments}
            small = [one for one in SMALL if one.partition("=")[0] not in given - {"num_samples"}]
            arguments = [one for one in arguments if not one.startswith("num_samples=")] + small + ["devices=cpu:1"]
        ended = ditexp(*arguments, module=f"ditexp.{name}", folder=folder, **options)
        assert ended.code == 0, f"{line}\n{ended.output}"
        return ended

    return run


def verdicts(folder: Path) -> list[str]:
    """Of the study's rows, in the table that the report has written."""
    with open(folder / "outputs/reports/sit_ode_sde/published.csv") as file:
        return [row["verdict"] for row in csv.DictReader(file)]


@pytest.mark.slow
def test_the_walk_from_weights_to_verdict(walk, folder):
    """Each command works, and what is compared at the end are numbers of random weights.

    Not tried: a look at some samples, and the array of jobs, which are the same commands with other settings.
    """
    inspect, _, plan, rate, run, _, report = WALK
    assert "SiT or DiT" in walk(inspect).output
    planned = walk(plan).output
    assert "missing" not in planned and "(rate=100)" in planned
    walk(rate)
    assert "(measured in " in walk(plan.replace(" rate=100", "")).output
    assert walk(run).output.count("done ") == 2
    walk(report)
    assert verdicts(folder).count(f"not comparable: num_samples {IMAGES}, not 50000") == 2
    walk(report, patches={"ditexp.cli.packaged.PACKAGE": studies_with(folder / "package", IMAGES)})
    assert verdicts(folder).count(f"not reproduced: {', '.join(METRICS)}") == 2
    assert "not reproduced" in (folder / "outputs/reports/sit_ode_sde/report.html").read_text()


def studies_with(package: Path, num_samples: int) -> Path:
    """A package whose study of SiT compares sets of this size, as if the paper's numbers were of so few images."""
    package.mkdir()
    (package / "conf").symlink_to(CONF)
    shutil.copytree(ROOT / "experiments", package / "experiments")
    published = package / "experiments/sit_ode_sde/published.yaml"
    published.write_text(re.sub("num_samples: 50000", f"num_samples: {num_samples}", published.read_text()))
    return package
