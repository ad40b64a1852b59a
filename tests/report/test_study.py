"""Published numbers beside measured ones: every verdict, what the format refuses, and the recipes in experiments/."""

from __future__ import annotations

import copy
import csv
import io
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from ditexp.checks import ConfigError
from ditexp.cli.command import register_with_hydra
from ditexp.report.studies import comparison as study
from ditexp.report.studies.published import Published, PublishedRow, load, parse
from ditexp.report.tables.printing import print_table
from ditexp.result import SETTING_GROUPS
from ditexp.run.cell import build
from ditexp.run.settings import resolved, settings_of
from ditexp.terminal.console import Terminal
from tests.helpers.family_files import save_family
from tests.helpers.networks import saved, tiny_dit
from tests.helpers.paths import CONF, ROOT
from tests.helpers.refusals import refused
from tests.helpers.results import cell, recorded, results_of
from tests.helpers.vaes import saved_kl, saved_rae

FILES = sorted(ROOT.glob("experiments/*/published.yaml"))
SWEEPS = [path for path in sorted(ROOT.glob("experiments/*/sweep.yaml")) if path.with_name("published.yaml") in FILES]

ROW = {
    "name": "Heun",
    "source": "paper",
    "where": "Table 7",
    "settings": {"solver": "heun", "steps": 20},
    "numbers": {"fid": 2.0, "precision": 0.8},
}
STUDY = {
    "title": "A study",
    "sources": {
        "paper": {"title": "A paper", "read": "its text", "authors": "A. Author", "year": 2024, "url": "http://x"}
    },
    "protocol": {"feature": "inception", "num_samples": 500},
    "tolerance": {
        "fid": {"percent": 5, "because": "re-runs differ by it"},
        "precision": {"within": 0.01, "because": "two decimals are printed"},
        "forwards": {"within": 0, "because": "they are counted"},
    },
    "rows": [ROW],
}


def published(*rows: dict, **changes) -> Published:
    rows = [{**ROW, "name": f"row {number}", **row} for number, row in enumerate(rows)] or [ROW]
    return parse(copy.deepcopy({**STUDY, "rows": rows, **changes}))


def run(*, solver="heun", fid=2.0, precision=0.8, seed=0, checkpoint=None, settings=(), **changes) -> dict:
    """A cell's result, as the helpers make them up, with a seed."""
    result = cell(solver=solver, id=f"{solver} {fid} {seed} {changes}", **changes)
    result["metrics"] |= {"fid": fid, "precision": precision}
    result["settings"] |= {"seed": seed, "model.checkpoint": checkpoint} | dict(settings)
    return result


def outcome(results: list[dict], row: dict | None = None, **changes) -> study.Outcome:
    (found,) = study.compare(published(row or {}, **changes), results_of(results))
    return found


def test_reproduced_up_to_the_tolerance_and_not_beyond():
    assert outcome([run()]).verdict == "reproduced"
    assert outcome([run(fid=2.1, precision=0.81)]).verdict == "reproduced"  # 0.81 - 0.8 is 0.010000000000000009
    assert outcome([run(fid=1.9, precision=0.79)]).verdict == "reproduced"
    beyond = outcome([run(fid=2.11)])
    assert (beyond.verdict, beyond.why) == ("not reproduced", "FID")
    assert beyond.difference == {"fid": pytest.approx(0.11), "precision": 0}
    both = outcome([run(fid=1.89, precision=0.811)])
    assert (both.verdict, both.why) == ("not reproduced", "FID, Precision")


def test_a_row_has_tolerances_and_facts_of_its_own():
    tolerance = {"fid": {"within": 1, "because": "few samples"}}
    row = {"tolerance": tolerance, "protocol": {"num_samples": 100}}
    assert outcome([run(fid=2.9, num_samples=100)], row).verdict == "reproduced"
    assert outcome([run(fid=2.9)], row).verdict == "not comparable"


def test_not_comparable_tells_which_facts_differ_and_shows_the_number():
    found = outcome([run(fid=2.0, num_samples=512, feature="digits")])
    assert (found.verdict, found.here["fid"]) == ("not comparable", 2.0)
    assert found.why == "feature digits, not inception; num_samples 512, not 500"
    row = {"protocol": {"solver.norm": 2, "compile": [False, None]}}
    assert outcome([run(settings={"solver.norm": 2.0})], row).verdict == "reproduced"
    assert outcome([run(settings={"solver.norm": 1.0})], row).why == "solver.norm 1, not 2"
    assert outcome([run(settings={"compile": True})], row).why == "solver.norm –, not 2; compile true, not false or –"


def test_a_protocol_that_was_changed_is_another_one():
    usual = run()["protocol"] | {"protocol": "adm"}
    row = {"protocol": {"protocol": "adm", "reference": "digits"}}
    assert outcome([run(protocol=usual)], row).verdict == "reproduced"
    changed = outcome([run(protocol=usual | {"changed": ["metric.precision_recall.k=5"]})], row)
    assert changed.why == "protocol adm, metric.precision_recall.k=5, not adm"


def test_a_number_that_was_not_measured_reproduces_nothing():
    result = run()
    del result["metrics"]["precision"]
    found = outcome([result])
    assert (found.verdict, found.why) == ("not comparable", "Precision was not measured")
    assert found.here == {"fid": 2.0}
    assert outcome([run(fid=float("nan"))]).why == "FID was not measured"


def test_not_run_and_why():
    assert outcome([]).verdict == outcome([run(solver="euler"), run(steps=50)]).verdict == "not run"
    assert outcome([run(solver="euler")]).why == "no cell has these settings"
    needs = {"VAE": "to decode latents", "checkpoint": "its weights"}
    assert outcome([], needs=needs).why == "needs VAE, checkpoint"
    assert outcome([], {"needs": ["VAE"]}, needs=needs).why == "needs VAE"
    assert outcome([run()], needs=needs).verdict == "reproduced"  # whoever ran it had what it needs
    failed = {key: value for key, value in run().items() if key not in ("metrics", "cost")}
    failed |= {"status": "failed", "error": "out of memory"}
    assert outcome([failed], needs=needs).why == "its cell is failed: out of memory"
    assert outcome([failed, run()]).verdict == "reproduced"


def test_settings_match_as_hydra_spells_them():
    row = {"settings": {"guidance.interval": [0.3, 1], "guidance.scale": 2, "solver.last": None}}
    matching = {"guidance.interval": "[0.3, 1]", "guidance.scale": 2.0}
    assert outcome([run(settings=matching)], row).verdict == "reproduced"
    for other in ({"guidance.interval": "[0.3, 0.9]"}, {"guidance.scale": 2.5}, {"solver.last": "mean"}):
        assert outcome([run(settings=matching | other)], row).verdict == "not run"


def test_a_checkpoint_goes_by_its_files_name():
    row = {"checkpoint": ["SiT-XL-2-256x256.pt", "SiT-XL-2-256.pt"]}
    assert outcome([run(checkpoint="/weights/SiT-XL-2-256.pt")], row).verdict == "reproduced"
    assert outcome([run(checkpoint="/weights/tiny.pt")], row).verdict == "not run"
    assert outcome([run()], row).verdict == "not run"
    assert outcome([run(checkpoint="/weights/tiny.pt")], {"checkpoint": "tiny.pt"}).verdict == "reproduced"


def test_seeds_become_a_mean_and_a_deviation():
    fids = (1.9, 2.0, 2.1, 1.9, 2.1)
    found = outcome([run(fid=fid, seed=seed) for seed, fid in enumerate(fids)])
    assert found.here["fid"] == pytest.approx(2.0) and found.spread["fid"] == pytest.approx(0.1)
    assert "precision" not in found.spread and len(found.cells) == 5  # five equal values show no spread
    few = [run(fid=fid, seed=seed) for seed, fid in enumerate(fids[:3])]
    assert outcome(few).spread == {} and outcome(few).here["fid"] == pytest.approx(2.0)
    for result in few:
        result["deviations"] = {"fid": recorded(0.03, 0.0, -0.03)}
    for results in (few, few[:1]):
        assert outcome(results).spread == {"fid": pytest.approx(0.03)}


def test_of_several_cells_the_comparable_one_then_the_newest_counts():
    newest, older, comparable = run(fid=5.0, num_samples=64), run(fid=4.0, num_samples=64), run(fid=2.0)
    older["settings"]["compile"] = True
    assert outcome([newest, older, comparable]).here["fid"] == 2.0
    assert outcome([newest, older]).here["fid"] == 5.0
    assert outcome([older, newest]).here["fid"] == 4.0
    again = run(fid=9.0)
    assert outcome([comparable, again]).here["fid"] == 2.0  # the same seed, made anew


def test_numbers_may_be_multiples_of_a_rows():
    fast = {"name": "fast", "settings": {"solver": "euler"}, "numbers": {"forwards": 1}, "protocol": {}}
    best = {"name": "best", "settings": {"solver": "rk4"}, "numbers": {"forwards": 10}}
    numbers = published(fast, best, relative_to="fast")
    results = [run(solver="euler", steps=10), run(solver="rk4", steps=400)]
    one, forty = study.compare(numbers, results_of(results))
    assert (one.verdict, one.here) == ("reproduced", {"forwards": 1.0})
    assert (forty.verdict, forty.here, forty.difference) == ("not reproduced", {"forwards": 40.0}, {"forwards": 30.0})
    _, alone = study.compare(numbers, results_of(results[1:]))
    assert (alone.verdict, alone.why) == ("not run", "the row that it is relative to has no forwards")
    headers = [column.header for column in study.study_table(numbers, [one, forty]).columns]
    assert headers[2:5] == ["forwards / fast published", "forwards / fast here", "forwards / fast difference"]


def test_the_table_shows_published_here_and_difference_as_far_as_there_is_any():
    rows = [{}, {"settings": {"solver": "rk4"}, "numbers": {"fid": 12.34}, "unverified": {"fid": "B quotes it"}}]
    numbers = published(*rows)
    table = study.study_table(numbers, study.compare(numbers, []))
    assert [column.header for column in table.columns] == [
        "",
        "source",
        "FID published",
        "Precision published",
        "verdict",
    ]
    assert table.column("fid/published").texts == ["2.00", "12.34†"]
    outcomes = study.compare(
        numbers, results_of([run(fid=2.5, seed=0), run(fid=2.7, seed=1), run(solver="rk4", fid=12.0)])
    )
    table = study.study_table(numbers, outcomes)
    assert table.column("fid/here").texts == ["2.60", "12.00"]
    assert table.column("fid/difference").texts == ["0.60", "-0.34"]
    assert table.column("precision/here").values == (0.8, None)
    assert table.column("verdict").texts == ["not reproduced: FID", "reproduced"]
    assert table.column("source").texts == ["paper, Table 7"] * 2


def test_footnotes_tell_the_sources_tolerances_needs_and_what_is_second_hand():
    row = {"unverified": {"fid": "B quotes it"}, "note": "by the code's default"}
    numbers = published(row, needs={"VAE": "to decode latents", "weights": "not released"})
    text = " ".join(study.study_table(numbers, study.compare(numbers, [])).caption)
    for words in (
        "A study. Of 1: 1 not run.",
        "paper: A. Author, 2024, A paper, http://x. Read: its text.",
        "† not read at its source: B quotes it.",
        "FID: reproduced within 5 %: re-runs differ by it.",
        "Needs VAE: to decode latents.",
        "row 0: by the code's default.",
    ):
        assert words in text, words
    assert "Needs" not in " ".join(study.study_table(numbers, study.compare(numbers, results_of([run()]))).caption)


def test_every_format_holds_every_row_and_csv_the_exact_numbers():
    numbers = published({"name": "Heun | 20 % & _more_"}, {"settings": {"solver": "rk4"}})
    table = study.study_table(numbers, study.compare(numbers, results_of([run(fid=1 / 3)])))
    terminal = Terminal(width=240, file=io.StringIO())
    print_table(terminal, table, file="published.csv")
    for text in ("Heun | 20 % & _more_", "no cell has these settings"):
        assert text in terminal.file.getvalue()
    assert r"Heun \| 20 % & \_more\_" in table.markdown()
    assert r"Heun \textbar{} 20 \% \& \_more\_" in table.latex() and r"\bottomrule" in table.latex()
    first, second = csv.DictReader(io.StringIO(table.csv()))
    assert float(first["fid/here"]) == 1 / 3 and first["verdict"] == "not reproduced: FID"
    assert second["fid/here"] == "" and second["fid/published"] == "2.0"


def broken(path: str, value: object) -> dict:
    """The study with one key changed, or without it where the value is None; path: as rows.0.numbers.fid."""
    node = copy.deepcopy(STUDY)
    *inner, last = path.split(".")
    part = node
    for key in inner:
        part = part[int(key)] if isinstance(part, list) else part.setdefault(key, {})
    if value is None:
        del part[last]
    else:
        part[last] = value
    return node


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("sorces", {}, ["the file", "'sorces' is unknown", "did you mean sources?"]),
        ("title", None, ["the file has no title"]),
        ("title", ["x"], ["title is ['x']: give text"]),
        ("rows", [], ["rows is empty"]),
        ("rows", {}, ["rows is {}: give a list"]),
        ("rows", ["Heun"], ["row 1 is 'Heun'"]),
        ("rows", [ROW, ROW], ["row 'Heun' is there 2 times"]),
        ("rows.0.source", None, ["row 1 has no source"]),
        ("rows.0.source", "", ["row 1 has no source"]),
        ("rows.0.source", "papr", ["row 'Heun', source 'papr' is unknown; did you mean paper?"]),
        ("rows.0.where", None, ["row 1 has no where"]),
        ("rows.0.wher", "Table 1", ["row 1, key 'wher' is unknown; did you mean where?"]),
        ("rows.0.numbers", {}, ["row 'Heun' has no numbers"]),
        ("rows.0.numbers.fdi", 2.0, ["metric 'fdi' is unknown; did you mean fid?"]),
        ("rows.0.numbers.fid", "2.0 or so", ["fid is '2.0 or so': give a number"]),
        ("rows.0.numbers.fid", float("nan"), ["fid is nan: give a number"]),
        ("rows.0.numbers.fid", True, ["fid is True: give a number"]),
        ("rows.0.numbers.sfid", 4.5, ["sfid has no tolerance"]),
        ("rows.0.settings.sovler", "heun", ["settings 'sovler' is unknown; did you mean solver?"]),
        ("rows.0.settings.gidance.scale", 2, ["settings 'gidance' is unknown; did you mean guidance?"]),
        ("rows.0.unverified.recall", "B", ["unverified 'recall' is unknown; there are fid, precision"]),
        ("rows.0.needs", ["VAE"], ["needs 'VAE' is unknown; there are none"]),
        ("rows.0.protocol.nm_samples", 5, ["protocol 'nm_samples' is unknown; did you mean num_samples?"]),
        ("rows.0.tolerance.fid", {"within": 1}, ["tolerance.fid has no because"]),
        ("tolerance.fid.within", 1, ["tolerance.fid: give either within or percent"]),
        ("tolerance.fid.percent", -1, ["tolerance.fid: give either within or percent, at least 0"]),
        ("tolerance.fid.percent", "5", ["tolerance.fid, percent is '5': give a number or null"]),
        ("tolerance.fdi", {"within": 1, "because": "x"}, ["tolerance 'fdi' is unknown; did you mean fid?"]),
        ("sources.paper.read", None, ["sources.paper has no read"]),
        ("sources.paper.year", True, ["sources.paper, year is True: give a whole number or null"]),
        ("sources.paper.year", "2024", ["sources.paper, year is '2024': give a whole number or null"]),
        ("relative_to", "Hein", ["relative_to 'Hein' is unknown; did you mean Heun?"]),
    ],
)
def test_a_mistake_in_the_file_is_one_line(path, value, words, tmp_path):
    if path == "rows.0.settings.gidance.scale":
        node = copy.deepcopy(STUDY)
        node["rows"][0]["settings"]["gidance.scale"] = value
    else:
        node = broken(path, value)
    file = tmp_path / "published.yaml"
    OmegaConf.save(OmegaConf.create(node), file)
    with refused([str(file), *words]):
        load(file)


@pytest.mark.parametrize("text", ["title: [", "title: a\ntitle: b", "just words", ""])
def test_what_is_no_such_file_is_one_line(text, tmp_path):
    (tmp_path / "published.yaml").write_text(text)
    with refused(["published.yaml"]):
        load(tmp_path / "published.yaml")
    with refused(["nowhere.yaml"]):
        load(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_every_published_file_loads_and_is_not_run_yet(file):
    numbers = load(file)
    outcomes = study.compare(numbers, [])
    assert {found.verdict for found in outcomes} == {"not run"}
    assert all(row.needs for row in numbers.rows) or file.parent.name == "digits_presets"
    assert all(source.url for name, source in numbers.sources.items() if name != "seed")
    assert study.study_table(numbers, outcomes).markdown().count("not run: ") == len(numbers.rows)


def test_the_example_of_the_docs_loads(tmp_path):
    text = (ROOT / "docs/studies.md").read_text()
    (tmp_path / "published.yaml").write_text(text.split("```yaml")[1].split("```")[0])
    (row,) = load(tmp_path / "published.yaml").rows
    assert row.numbers == {"fid": 2.15} and row.needs == ["checkpoint"] and row.protocol["condition"] == "random"


def commands_of(sweep: Path) -> list[list[str]]:
    """The arguments of the commands at the top of a sweep."""
    lines = [line for line in sweep.read_text().splitlines() if line.startswith("# ditexp run -m ")]
    return [shlex.split(line)[4:] for line in lines]


def cells_of(sweep: Path, arguments: list[str]) -> list:
    """The configurations that Hydra's sweeper makes of a command."""
    swept = OmegaConf.select(OmegaConf.load(sweep), "hydra.sweeper.params") or {}
    given = {argument.partition("=")[0] for argument in arguments}
    arguments = arguments + [f"{name}={values}" for name, values in swept.items() if name not in given]
    (batch,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(arguments), None)
    return [compose("config", overrides=overrides, return_hydra_config=True) for overrides in batch]


@pytest.fixture(scope="module")
def cells_of_study() -> dict[str, list]:
    register_with_hydra()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return {
            sweep.parent.name: [cfg for arguments in commands_of(sweep) for cfg in cells_of(sweep, arguments)]
            for sweep in SWEEPS
        }


def is_there(row: PublishedRow) -> bool:
    """Whether ditexp has everything that the row's settings name."""
    options = [(name, value) for name, value in row.settings.items() if name in SETTING_GROUPS]
    return all((CONF / name / f"{value}.yaml").exists() for name, value in options)


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda path: path.parent.name)
def test_the_commands_of_a_study_make_the_cells_of_its_rows(sweep, cells_of_study):
    cells = cells_of_study[sweep.parent.name]
    assert cells and all(cfg.study == sweep.parent.name for cfg in cells)
    settings = [settings_of(resolved(cfg), cfg.hydra) for cfg in cells]
    for row in filter(is_there, load(sweep.with_name("published.yaml")).rows):
        names = [row.checkpoint] if isinstance(row.checkpoint, str) else row.checkpoint or [None]
        checkpoint = {"model.checkpoint": names[0]}
        results = results_of({**run(), "settings": found | checkpoint} for found in settings)
        cells, _ = study.chosen(row, results)
        assert len(cells) == 1, row.name
        for name in row.protocol.keys() & {"num_samples", "condition", "precision", "vae", "rounding"}:
            choices = row.protocol[name] if isinstance(row.protocol[name], list) else [row.protocol[name]]
            assert cells[0].settings[name] in choices, name


@pytest.fixture(scope="module")
def files_of_recipes(tmp_path_factory) -> Path:
    """A folder with small files in place of the published ones, with random weights: <family>.pt and vae-<channels>."""
    folder = tmp_path_factory.mktemp("files")
    for family in ("sit", "dit", "repa", "repa_e", "lightningdit", "jit", "ddt", "meanflow", "imf", "pmf", "rae"):
        save_family(folder / f"{family}.pt", family)
    saved_rae(folder / "rae")
    for channels in (4, 32):
        saved_kl(folder / f"vae-{channels}", latent_channels=channels)
    torch.save({"mean": torch.zeros(1, 32, 1, 1), "std": torch.ones(1, 32, 1, 1)}, folder / "latents_stats.pt")
    saved(folder / "pixels.pt", tiny_dit(hidden_size=384, num_heads=6).state_dict())
    return folder


RECIPES = [path for path in SWEEPS if "digits" not in path.parent.name]


@pytest.mark.slow
@pytest.mark.parametrize("sweep", RECIPES, ids=lambda path: path.parent.name)
def test_a_recipe_is_ready_but_for_its_files(sweep, cells_of_study, files_of_recipes, tmp_path):
    """With a small model of the family in the family's own format, a small VAE, and random images as the reference."""
    for cfg in cells_of_study[sweep.parent.name]:
        cfg = copy.deepcopy(cfg)
        OmegaConf.set_struct(cfg, False)
        side = with_files(cfg, files_of_recipes)
        reference = tmp_path / f"{side}.npz"
        np.savez(reference, np.random.default_rng(0).integers(0, 256, (16, side, side, 3), dtype=np.uint8))
        cfg.reference = {"_target_": "ditexp.reference.npz.NpzReference", "path": str(reference)}
        cfg.outputs, cfg.devices = str(tmp_path), "cpu:1"
        assert build(cfg).sampler.codec.image_shape == (side, side, 3)


def with_files(cfg: DictConfig, folder: Path) -> int:
    """Name the files in a recipe's configuration; returns the side of its images."""
    if cfg.model.family in ("imf", "pmf"):  # no published model of this size tells how it is guided
        cfg.model.omega, cfg.model.interval = 2.0, [0.2, 0.8]
    if cfg.model.family == "pmf":
        cfg.model.checkpoint, cfg.model.noise_scale = str(folder / "pmf.pt"), 1.0
        return 8
    if cfg.vae is None:
        is_jit = cfg.model.family == "jit"
        cfg.model.checkpoint = str(folder / ("jit.pt" if is_jit else "pixels.pt"))
        if is_jit:
            cfg.model.in_context_start = 0  # which no published model of this width tells
        return 8 if is_jit else 6
    if cfg.model.family == "rae":
        cfg.model.checkpoint = cfg.guidance.weak.checkpoint = str(folder / "rae.pt")
        cfg.vae.path, cfg.vae.statistics = str(folder / "rae/model.pt"), str(folder / "rae/stat.pt")
        return 16
    if cfg.model.family == "ddt":  # nothing in its file tells either
        cfg.model.encoder_depth, cfg.model.input_size = 1, 4
    channels = 32 if cfg.model.family == "lightningdit" else 4
    cfg.model.checkpoint, cfg.vae.path = str(folder / f"{cfg.model.family}.pt"), str(folder / f"vae-{channels}")
    if channels == 32:
        cfg.vae.statistics = str(folder / "latents_stats.pt")
    return {"lightningdit": 4, "imf": 64}.get(cfg.model.family, 8)


@pytest.mark.slow
def test_a_recipe_without_its_files_says_what_is_missing(cells_of_study):
    cfg = copy.deepcopy(cells_of_study["sit_ode_sde"][0])
    cfg.model.checkpoint = cfg.reference.path = "???"
    cfg.vae = None  # which is downloaded, or there is a line for it, too
    with pytest.raises(ConfigError) as error:
        build(cfg)
    assert str(error.value).splitlines() == [
        "model.checkpoint has no default: give model.checkpoint=...",
        "reference.path has no default: give reference.path=...",
    ]
