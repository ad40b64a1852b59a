"""The documentation: links lead somewhere, the reference is of today's configs, and the commands work.

Every command of README.md and docs/*.md is composed, and all it names is built and checked, as the command itself does
before any work: of a sweep, as many cells as show every value of it once. Files of a reader's own that the pages speak
of lie ready under the same names.
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

from ditexp.cli.command import register_with_hydra
from ditexp.cli.components import instantiate
from ditexp.evaluate import __main__ as evaluate
from ditexp.evaluate.evaluator import Evaluator, protocol_of
from ditexp.model.dit import DiT
from ditexp.optimize import __main__ as optimize
from ditexp.run import cell
from ditexp.samples import __main__ as samples
from ditexp.train import __main__ as train
from docs import make_reference

ROOT = Path(__file__).parents[1]
PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}

# Parts of commands that keep them from being tried as they stand, and why.
NOT_TRIED = {
    "...": "stands for what the reader chooses",
    "--config-dir mine/conf": "tests/test_extending.py runs it, with the files that the page shows",
}
ONLY_COMPOSED = {
    "model=sd3": "takes released weights",
    "model=digits_text": "tests/test_text.py runs it; transformers takes longer to import than all the others together",
    "network=digits_text": "the same",
    "devices=4": "takes GPUs",
    "'devices=[0,2]'": "takes GPUs",
    "karras,optimized": "takes the grids that ditexp.optimize finds",
    "reference=statistics": "takes what ditexp.reference makes with Inception's weights",
    "ditexp.report": "takes results; tests/test_report.py runs it",
}


def commands(page: str) -> list[str]:
    """Every command line of a page: of fenced and indented blocks, and of code within a line."""
    block = re.compile(r"^```.*?^```|(?:^ {4}[^\n]*\n)+", re.DOTALL | re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", "".join(block.findall(page))).splitlines()
    lines += re.findall(r"`([^`]+)`", block.sub("", page))
    lines = [" ".join(line.split()) for line in lines]
    return [line for line in lines if re.match(r"(\w+=\S+ )*(python -m ditexp\.\w+|ditexp) [^\s#]", line)]


COMMANDS = {line: name for name, path in PAGES.items() for line in commands(path.read_text())}


@pytest.fixture(scope="module", autouse=True)
def files_of_the_reader(tmp_path_factory) -> Iterator[None]:
    """A folder with the files that the commands take; it is where they are tried."""
    register_with_hydra()
    with (
        pytest.MonkeyPatch.context() as patch,
        initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")),
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
    save_file(network.state_dict(), "outputs/train/dit_s_2/model.safetensors")


def cells(config: str, words: list[str]) -> Iterator[DictConfig]:
    """The configurations that a command composes: of a sweep the first, the second, ... value of everything."""
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
    """The overrides that one stands for, if it sweeps."""
    (batch,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides([override]), max_batch_size=None)
    return [value for (value,) in batch]


def check_evaluate(cfg: DictConfig) -> None:
    metrics = {name: instantiate(metric) for name, metric in cfg.metric.items()}
    evaluator = Evaluator(instantiate(cfg.feature), instantiate(cfg.reference), metrics, protocol_of(cfg))
    images = evaluate.open_images(cfg, channels=evaluator.feature.channels)
    assert list(evaluator.mistakes(images, len(images))) == []


def check_reference(cfg: DictConfig) -> None:
    assert instantiate(cfg.feature) and instantiate(cfg.reference)


def check_train(cfg: DictConfig) -> None:
    train.check(instantiate(cfg.network), instantiate(cfg.objective), instantiate(cfg.data))


# The configuration of each command, and what it does with it before any work.
CHECKS = {
    "ditexp.run": ("config", cell.build),
    "ditexp.evaluate": ("evaluate", check_evaluate),
    "ditexp.reference": ("prepare_reference", check_reference),
    "ditexp.optimize": ("optimize", optimize.build),
    "ditexp.train": ("train", check_train),
    "ditexp.report": ("report", None),
}


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: f"{COMMANDS[line]}: {line}")
def test_a_command_works(line, monkeypatch):
    named = re.sub(r"<(\w+)>", r"\1", os.path.expandvars(line))  # <sweep> is a name of the reader's
    words = shlex.split(named, comments=True)
    words = words[words.index("-m") + 1 :] if "python" in words else ["ditexp.run", *words[1:]]
    if words[0] == "ditexp.samples":
        monkeypatch.setattr("sys.argv", words)
        samples.parse()
        return
    if why := [reason for part, reason in NOT_TRIED.items() if part in line]:
        pytest.skip(why[0])
    config, check = CHECKS[words[0]]
    for cfg in cells(config, words[1:]):
        if not any(part in line for part in ONLY_COMPOSED):
            check(cfg)


def test_every_exception_is_of_a_command():
    for part in (*NOT_TRIED, *ONLY_COMPOSED):
        assert any(part in line for line in COMMANDS), part


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    """To a file, and to a heading of it where one is named."""
    page = PAGES[name]
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, heading = target.partition("#")
        if not path.startswith("https://"):
            file = page.parent / path if path else page
            assert file.exists(), target
            assert not heading or heading in headings(file.read_text()), target


def headings(page: str) -> set[str]:
    """As GitHub names them in links."""
    titles = re.findall(r"^#+ (.*)", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_index_has_every_page():
    index = PAGES["docs/README.md"].read_text()
    for name in PAGES:
        page = Path(name).name
        assert page == "README.md" or f"]({page})" in index, page


def test_the_reference_is_of_these_configs():
    assert make_reference.REFERENCE.read_text() == make_reference.reference(), "out of date: run `make docs`"
