"""The documentation: links lead somewhere, the reference matches conf/, and the commands work.

Every command of README.md and docs/*.md is composed, and its components are built and checked, as the command itself
does before any work. A sweep is tried with the fewest cells that show each of its values once. The fixture makes files
with the names that the pages use.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig
from PIL import Image
from safetensors.torch import save_file

from ditexp.cli.arguments import read
from ditexp.cli.command import register_with_hydra
from ditexp.cli.components import instantiate
from ditexp.cli.flags import with_outputs
from ditexp.cli.paths import with_options
from ditexp.cli.subcommands import SUBCOMMANDS
from ditexp.env import __main__ as env
from ditexp.evaluate.evaluator import Evaluator
from ditexp.evaluate.images import open_images
from ditexp.evaluate.protocol import protocol_of
from ditexp.inspect import __main__ as inspect
from ditexp.model.dit import DiT
from ditexp.optimize import finding
from ditexp.outputs import Outputs
from ditexp.run import cell
from ditexp.samples import __main__ as samples
from ditexp.train import training
from docs import make_reference
from tests.helpers.documentation import commands_of
from tests.helpers.paths import CONF, ROOT, WEIGHTS

PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}
OTHER_PAGES = (*ROOT.glob("experiments/*/README.md"), WEIGHTS / "README.md")
LINKED = PAGES | {str(path.relative_to(ROOT)): path for path in sorted(OTHER_PAGES)}

# Commands with these parts are not tried, or only composed, for the reason beside them.
NOT_TRIED = {
    "...": "is a choice of the reader",
    "--config-dir mine/conf": "tests/test_extending.py runs it, with the files on the page",
}
ONLY_COMPOSED = {
    "DiT-XL-2-256x256.pt": "needs released weights",
    "experiment=sit_ode_sde": "tests/test_published_models.py runs it, with a VAE",
    "compat=": "needs released weights; tests/golden runs the presets with others",
    "vae=sd_vae_ft_ema": "needs released weights",
    "model=digits_text": "tests/model/test_text.py runs it; importing transformers takes longer than all the rest",
    "network=digits_text": "the same",
    "devices=4": "needs GPUs",
    "'devices=[0,2]'": "needs GPUs",
    "optimized": "needs grids found by ditexp optimize",
    "images=<id>": "needs a sample set",
    "reference=mine.safetensors": "the same as reference=statistics",
    "reference=statistics": "needs a file that ditexp.reference makes with Inception's weights",
    "ditexp report": "needs results; tests/report/test_report.py runs it",
}


MISTAKES = re.compile(r"^\| you type \| ditexp says \|\n(\|.*\n)+", re.MULTILINE)  # tests/test_first_sweep.py has them
COMMANDS = {line: name for name, path in PAGES.items() for line in commands_of(MISTAKES.sub("", path.read_text()))}
COMMANDS |= {line: f"ditexp {name} --help" for name, command in SUBCOMMANDS.items() for line in command.examples}


@pytest.fixture(scope="module", autouse=True)
def files_of_the_reader(tmp_path_factory) -> Iterator[None]:
    """The current folder has the files that the commands read."""
    register_with_hydra()
    with (
        pytest.MonkeyPatch.context() as patch,
        initialize_config_dir(version_base="1.3", config_dir=str(CONF)),
    ):
        patch.chdir(tmp_path_factory.mktemp("reader"))
        patch.setenv("SLURM_ARRAY_TASK_ID", "1")
        write_files()
        yield


def write_files() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    for folder in ("images/cats", "images/dogs", "photos"):
        Path(folder).mkdir(parents=True)
        for number, image in enumerate(pixels):
            Image.fromarray(image).save(f"{folder}/{number}.png")
    np.savez("samples.npz", pixels)
    shutil.copy("samples.npz", "VIRTUAL_imagenet256_labeled.npz")
    network = DiT(input_size=64, patch_size=4, in_channels=3, hidden_size=384, depth=1, num_heads=6, num_classes=2)
    for name in ("my.pt", "weak.pt"):
        torch.save({"model": network.state_dict(), "ema": network.state_dict()}, name)
    Path("outputs/train/dit_s_2").mkdir(parents=True)
    save_file(network.state_dict(), "outputs/train/dit_s_2/model.safetensors", {"architecture": "{}"})


def cells(config: str, words: list[str]) -> Iterator[DictConfig]:
    """The configurations that a command composes; cell i of a sweep has value i of every swept setting."""
    arguments = get_args_parser().parse_args(words)
    if not arguments.multirun:
        yield compose(config, arguments.overrides)
        return
    swept = [values_of(override) for override in arguments.overrides]
    given = {override.partition("=")[0] for override in arguments.overrides}
    study = [override for override in arguments.overrides if override.startswith("experiment=")]
    params = compose(config, study, return_hydra_config=True).hydra.sweeper.params if study else None
    first = [values_of(f"{key}={value}")[0] for key, value in (params or {}).items() if key not in given]
    for number in range(max(map(len, swept))):
        yield compose(config, first + [values[number % len(values)] for values in swept])


def values_of(override: str) -> list[str]:
    """The single overrides of an override that may sweep."""
    (batch,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides([override]), max_batch_size=None)
    return [value for (value,) in batch]


def check_evaluate(cfg: DictConfig) -> None:
    metrics = {name: instantiate(metric) for name, metric in cfg.metric.items()}
    evaluator = Evaluator(instantiate(cfg.feature), instantiate(cfg.reference), metrics, protocol_of(cfg))
    images = open_images(cfg.images, channels=evaluator.channels, outputs=Outputs(cfg.outputs))
    assert list(evaluator.mistakes(images, len(images))) == []


def check_reference(cfg: DictConfig) -> None:
    assert instantiate(cfg.feature) and instantiate(cfg.reference)


def check_train(cfg: DictConfig) -> None:
    training.check(instantiate(cfg.network), instantiate(cfg.objective), instantiate(cfg.data))


# The configuration of each command, and the check that the command makes before any work.
CHECKS = {
    "run": ("config", cell.build),
    "evaluate": ("evaluate", check_evaluate),
    "reference": ("prepare_reference", check_reference),
    "optimize": ("optimize", finding.build),
    "train": ("train", check_train),
    "report": ("report", None),
}


PARSERS = {"samples": samples.parser, "inspect": inspect.parser, "env": env.parser}


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: f"{COMMANDS[line]}: {line}")
def test_a_command_works(line, monkeypatch):
    named = re.sub(r"<(\w+)>", r"\1", os.path.expandvars(line))  # <sweep> is the reader's name
    words = shlex.split(named, comments=True)
    command, *words = words[words.index("ditexp") + 1 :]
    if command in PARSERS:
        PARSERS[command]().parse_args(with_outputs(words))
        return
    if why := [reason for part, reason in NOT_TRIED.items() if part in line]:
        pytest.skip(why[0])
    config, check = CHECKS[command]
    if "--help" in words:
        with pytest.raises(SystemExit):
            read(words, config_name=config)
        return
    for cfg in cells(config, with_options(words, config, is_sweep="-m" in words)):
        if not any(part in line for part in ONLY_COMPOSED):
            check(cfg)


def test_every_exception_is_of_a_command():
    for part in (*NOT_TRIED, *ONLY_COMPOSED):
        assert any(part in line for line in COMMANDS), part


@pytest.mark.parametrize("name", LINKED)
def test_links_lead_somewhere(name):
    """To a file that exists, and to one of its headings if the link names one."""
    page = LINKED[name]
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, heading = target.partition("#")
        if not path.startswith("https://"):
            file = page.parent / path if path else page
            assert file.exists(), target
            assert not heading or file.suffix != ".md" or heading in headings(file.read_text()), target


def headings(page: str) -> set[str]:
    """As GitHub names them in links."""
    titles = re.findall(r"^#+ (.*)", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_index_has_every_page():
    index = PAGES["docs/README.md"].read_text()
    for name in PAGES:
        page = Path(name).name
        assert page == "README.md" or f"]({page})" in index, page


def test_the_reference_matches_the_configs():
    assert make_reference.REFERENCE.read_text() == make_reference.reference(), "out of date: run `make docs`"
