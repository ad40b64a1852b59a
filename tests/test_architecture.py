"""Who may import whom, read off the syntax trees; and configs that mirror the code."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import OmegaConf

from ditexp.cli.command import register_with_hydra
from ditexp.cli.nodes import resolve
from ditexp.cli.signatures import arguments_of
from tests.helpers.paths import CONF, ROOT

LEAVES = ("model", "vae", "solver", "schedule", "guidance", "cache", "condition", "task", "feature", "metric")
COMPONENTS = (*LEAVES, "tracker")
DIFFUSION = ("variance_preserving",)  # what models, schedules and solvers of diffusions share
COMMANDS = tuple(
    f"ditexp.{name}.__main__"
    for name in ("run", "samples", "inspect", "train", "evaluate", "optimize", "reference", "report")
)


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(file): file for file in sorted((ROOT / "ditexp").rglob("*.py"))}
TESTS = {name_of(file): file for file in sorted((ROOT / "tests").rglob("*.py"))}


class Import(NamedTuple):
    module: str
    lazy: bool  # within a function, or only for type checkers
    typing: bool  # only for type checkers

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]


@cache
def imports(module: str) -> frozenset[Import]:
    def walk(node: ast.AST, lazy: bool, typing: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, lazy, typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            for alias in node.names:  # `from ditexp import sweep` imports a module, other names belong to one
                inner = f"{node.module}.{alias.name}"
                yield Import(inner if inner in FILES | TESTS else node.module, lazy, typing)
        typing |= isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        lazy |= typing or isinstance(node, ast.FunctionDef)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, lazy, typing)

    return frozenset(walk(ast.parse((FILES | TESTS)[module].read_text()), False, False))


def uses(module: str) -> set[str]:
    """The modules of ditexp that one imports, without the sampler where only its type is needed.

    The package itself imports nothing: it names what it offers to type checkers, and loads it when it is used.
    """
    found = {found for found in imports(module) if found.package == "ditexp"}
    return {
        one.module for one in found if not (one.typing and "ditexp" in (module, one.module.removesuffix(".sampler")))
    }


def reachable(module: str) -> set[str]:
    found, new = set(), {module}
    while new:
        found |= new
        new = set().union(*map(uses, new)) - found
    return found


def within(module: str, *places: str) -> bool:
    """Whether a module is, or lies in, one of the places below ditexp; "" is ditexp itself, without what is below."""
    return any(module == f"ditexp.{place}".rstrip(".") or module.startswith(f"ditexp.{place}.") for place in places)


def test_protocols_and_values_import_torch_alone():
    protocols = [module for module in FILES if within(module, "core")]
    assert len(protocols) > 1
    for module, ours in [("ditexp.values", set()), *((module, {"ditexp.values", *protocols}) for module in protocols)]:
        assert uses(module) <= ours
        assert {found.package for found in imports(module)} - sys.stdlib_module_names - {"ditexp"} <= {"torch"}


def test_leaves_know_the_core_and_their_own_group():
    for module in FILES:
        for group in LEAVES:
            if within(module, group):
                shared = (
                    "core",
                    "values",
                    "checks",
                    "noise",
                    "pixels",
                    "precision",
                    "transfer",
                    "files",
                    "checkpoint",
                    "terminal.notices",
                )
                strangers = {other for other in uses(module) if not within(other, *shared, *DIFFUSION, group)}
                assert not strangers, f"{module} imports {strangers}"


def test_sets_and_numbers_know_nothing_of_how_samples_are_made():
    for module in FILES:
        if within(module, "samples", "images", "reference", "evaluate", "metric", "feature", "report"):
            makers = {m for m in reachable(module) if within(m, "solver", "sampler", "guidance", "model", "task")}
            assert not makers, f"{module} leads to {makers}"


def test_imports_run_in_one_direction():
    order = list(TopologicalSorter({module: uses(module) for module in FILES}).static_order())
    assert len(order) == len(FILES)
    assert (
        order.index("ditexp.values")
        < order.index("ditexp.core")
        < order.index("ditexp.sampler")
        < order.index("ditexp.run.job")
    )
    for module in FILES:
        assert uses(module).isdisjoint(COMMANDS), f"{module} imports a command"


@pytest.mark.parametrize(
    ("package", "places", "lazily"),
    [
        ("hydra", ("cli", "run.current", "run.__main__", "_plugins"), False),
        (
            "omegaconf",
            (
                "cli",
                "run",
                "train",
                "evaluate",
                "optimize",
                "files.reading",
                "reference",
                "report",
                "_plugins",
            ),
            False,
        ),
        ("wandb", ("tracker",), True),
        ("wandb_workspaces", ("tracker",), True),
        ("matplotlib", ("report",), True),
        ("pandas", ("report", "api"), True),
        ("pytorch_fid", ("feature.inception",), True),
        ("torchvision", ("images",), True),
        ("scipy", ("metric", "schedule", "optimize", "report"), True),
        ("diffusers", ("model", "vae", "files.libraries"), True),
        ("transformers", ("model", "files.libraries"), True),
        ("tokenizers", ("model",), True),
        ("torchdiffeq", ("solver.torchdiffeq",), True),
    ],
)
def test_a_package_stays_where_it_belongs(package, places, lazily):
    for module in FILES:
        for found in imports(module):
            if found.package == package:
                assert within(module, *places), f"{module} imports {found.module}"
                assert found.lazy or not lazily, f"{module} imports {found.module} as soon as it is imported"


def test_running_loads_nothing_that_it_may_not_need():
    heavy = ["wandb", "matplotlib", "sklearn", "scipy", "pytorch_fid", "diffusers", "transformers", "tokenizers"]
    code = f"import sys, ditexp.run.__main__; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"


def test_importing_ditexp_loads_no_other_package():
    code = "import sys; before = set(sys.modules); import ditexp; print(*(set(sys.modules) - before))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout
    assert {name.partition(".")[0] for name in out.split()} <= {"ditexp", *sys.stdlib_module_names}


def test_no_module_imports_a_test():
    """What several tests share lies in tests/helpers."""
    for module in TESTS:
        tests = {found.module for found in imports(module) if found.module.rpartition(".")[2].startswith("test_")}
        assert not tests, f"{module} imports {tests}"


def nodes(group: str) -> Iterator[tuple[str, dict]]:
    """(file, node) of everything a group's files instantiate; with the defaults list of its file."""
    for file in sorted((CONF / group).glob("*.yaml")):
        found = OmegaConf.to_container(OmegaConf.load(file))
        for node in (found, *found.values()):
            if isinstance(node, dict) and "_target_" in node:
                yield f"{group}/{file.name}", {"defaults": found.get("defaults", ()), **node}


def target_of(node: dict) -> type:
    return get_object(node["_target_"])


@pytest.mark.parametrize("group", [*COMPONENTS, "network", "data", "objective", "reference"])
def test_yaml_keys_are_constructor_parameters(group):
    assert list(nodes(group))
    for _, node in nodes(group):  # what the source says, without importing it
        if node["_target_"] != "ditexp.model.text_encoder.TextEncoder.new":  # no class, and no function of a module
            assert list(arguments_of(node["_target_"])) == list(inspect.signature(target_of(node)).parameters)
    for file, node in nodes(group):
        parameters = inspect.signature(target_of(node)).parameters
        needed = {p.name for p in parameters.values() if p.default is p.empty}
        groups = {next(iter(entry)) for entry in node.get("defaults", ()) if isinstance(entry, dict)}
        groups = {group for group in groups if not group.startswith("override ")}  # another group's choice
        keys = set(node) - {"_target_", "defaults"} | {re.split("[@.]", group)[-1] for group in groups}
        assert needed <= keys <= set(parameters), f"{file}: {sorted(keys ^ set(parameters))}"


@pytest.mark.parametrize("group", COMPONENTS)
def test_a_group_of_configs_mirrors_a_folder_of_code(group):
    for file, node in nodes(group):
        assert within(node["_target_"], group), f"{file} -> {node['_target_']}"


@pytest.mark.parametrize("group", ["solver", "schedule", "guidance", "cache", "condition", "task", "metric"])
def test_every_piece_has_a_config(group):
    bases = (
        "base",
        "adaptive",
        "embedded",
        "runge_kutta",
        "interval",
        "log_snr",
        "sde",
        "diffusion",
        "manifold",
        "exact",
        "parts",
        "mask",
        "direction",
        "originals",
        "tensor_file",
        "branches",
        "work",
    )
    shared = {f"ditexp.{group}", *(f"ditexp.{group}.{base}" for base in bases)}
    pieces = {module for module in FILES if within(module, group)} - shared
    assert pieces == {node["_target_"].rpartition(".")[0] for _, node in nodes(group)}


def choices(config: str) -> list[list[str]]:
    """Overrides that make every choice that a command offers: of different groups together, to compose less often.

    An option that chooses those of other groups, such as compat=sit, is alone.
    """
    defaults = OmegaConf.load(CONF / f"{config}.yaml").defaults
    groups = [group for entry in defaults if OmegaConf.is_dict(entry) for group in entry]
    options = {group: [f"{group}={file.stem}" for file in sorted((CONF / group).glob("*.yaml"))] for group in groups}
    if "experiment" in groups:
        options["experiment"] = [f"experiment={file.parent.name}" for file in ROOT.glob("experiments/*/sweep.yaml")]
    alone = [[option] for group in ("compat", "preset", "experiment") for option in options.pop(group, [])]
    together = itertools.zip_longest(*options.values())
    return alone + [[option for option in some if option] for some in together]


@pytest.fixture(scope="module")
def hydra_of_the_checkout():
    register_with_hydra()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("config", [file.stem for file in sorted(CONF.glob("*.yaml"))])
def test_every_choice_composes(config, hydra_of_the_checkout, monkeypatch):
    assert choices(config) or config == "report"
    defaults = OmegaConf.load(CONF / f"{config}.yaml").defaults
    mandatory = [
        group for entry in defaults if OmegaConf.is_dict(entry) for group in entry if OmegaConf.is_missing(entry, group)
    ]
    for overrides in choices(config):
        chosen_groups = {override.partition("=")[0] for override in overrides}
        given = [f"{group}=none" for group in mandatory if group not in chosen_groups]
        cfg = compose(config, overrides=[*given, *overrides], return_hydra_config=True)
        monkeypatch.setattr(HydraConfig.instance(), "cfg", cfg)
        chosen = cfg.copy()
        OmegaConf.set_struct(chosen, False)
        del chosen["hydra"]  # complete only within a command
        resolve(chosen)  # every ${...} leads somewhere, if only to a value that is missing
