"""hydra/sweeper=optuna: searches for the best cell by what the cells' results say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ditexp.checks import ConfigError
from ditexp.result import Result
from ditexp.run.search import directions, values_of
from tests.helpers.results import cell

SEARCH = ("-m", "hydra/sweeper=optuna", "tracker=none", "devices=cpu:1")


@pytest.mark.parametrize(
    ("objectives", "given", "found"),
    [
        (["fid"], None, ["minimize"]),
        (["recall", "forwards"], None, ["maximize", "minimize"]),
        (["seam"], ["minimize"], ["minimize"]),
        (["my_metric"], ["maximize"], ["maximize"]),
    ],
)
def test_directions(objectives, given, found):
    assert directions(objectives, given, metrics=["fid", "precision_recall"]) == found


@pytest.mark.parametrize(
    ("objectives", "given", "words"),
    [
        (["fidd"], None, "objective=fidd is not known: choose fid, "),
        (["seam"], None, "objective=seam has no direction of its own: give hydra.sweeper.direction=minimize"),
        (["kid"], None, "objective=kid is not measured: add kid to metric=[fid]"),
        (["recall"], None, "add precision_recall to metric=[fid]"),
        (["fid"], ["down"], "hydra.sweeper.direction=down: choose from minimize, maximize"),
        (["fid", "forwards"], ["minimize"], "give one for each"),
    ],
)
def test_objectives_that_cannot_be_searched(objectives, given, words):
    with pytest.raises(ValueError) as error:
        directions(objectives, given, metrics=["fid"])
    assert words in str(error.value) and len(str(error.value)) <= 200


def test_values_are_those_of_the_result():
    result = Result.from_json(cell())
    assert result.cost is not None
    assert values_of(result, ["fid", "forwards"]) == [result.metrics["fid"], result.cost.forwards]
    assert values_of(replace(result, metrics={"fid": float("nan")}), ["fid"]) is None
    failed = Result(id="a", status="failed", error="no", settings={"solver": "euler", "steps": 2})
    assert values_of(failed, ["fid"]) is None
    with pytest.raises(ConfigError, match=r"objective=kid: the cell has no such number, but .*fid"):
        values_of(result, ["kid"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["hydra.sweeper.objective=fidd"], "is not known"),
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: give a whole number"),
        (["hydra/launcher=plan"], "cannot plan a search"),
        (["hydra.sweeper.sampler.seeed=1"], "hydra.sweeper.sampler.seeed"),
        pytest.param(["hydra.sweeper.storage=no"], "hydra.sweeper.storage=no: ", marks=pytest.mark.slow),
        pytest.param(["precision=fp33"], "precision=fp33: choose from", marks=pytest.mark.slow),
    ],
)
def test_a_search_is_refused_before_any_work(arguments, words, in_process):
    refused = in_process(*SEARCH, "steps=2,3", *arguments)
    assert refused.code == 2 and words in refused.complaints[0], refused.err


@pytest.mark.slow
def test_a_search_goes_past_failures_and_is_repeated_from_its_cells(in_process):
    given = (*SEARCH, "steps=range(2,4)", "guidance=cfg", "guidance.scale=1.5", "+low=range(0.1,0.9,step=0.1)")
    given += ("guidance.interval=['${low}',0.5]", "num_samples=16", "resamples=0", "metric=[fid]")
    given += ("hydra.sweeper.n_trials=6", "hydra.sweeper.sampler.seed=1")
    first, again = in_process(*given), in_process(*given)
    said, repeated = first.out + first.err, again.out + again.err
    trials = [line for line in said.splitlines() if line.startswith("trial ")]
    assert len(trials) == 6 and "guidance=cfg" not in trials[0], said
    done, cached, refused = (said.count(word) for word in ("done euler", "cached euler", "refused guidance.interval"))
    assert done >= 1 and refused >= 1 and done + cached + refused == 6, said
    assert [line for line in repeated.splitlines() if line.startswith("trial ")] == trials
    assert repeated.count("cached euler") == done + cached and "done euler" not in repeated
    results = [json.loads(file.read_text()) for file in Path("outputs/results").glob("*.json")]
    best = next(line for line in said.splitlines() if line.startswith("best "))
    assert best.endswith(f"fid {min(result['metrics']['fid'] for result in results):.4g}"), best


@pytest.mark.slow
def test_a_storage_keeps_the_trials(in_process):
    import optuna

    storage = "sqlite:///search.db"
    given = (*SEARCH, "steps=2,3", "num_samples=16", "resamples=0", "metric=[fid]", "hydra.sweeper.n_trials=2")
    for count in (2, 4):
        ended = in_process(*given, f"hydra.sweeper.storage={storage}", "study=mine")
        assert ended.code is None, ended.err
        (study,) = optuna.get_all_study_summaries(storage)
        assert (study.study_name, study.n_trials) == ("mine", count)
