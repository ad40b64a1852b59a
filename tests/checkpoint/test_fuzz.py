"""Damaged and hostile checkpoints: each is refused in one line, or is taken where it can work, and no code runs.

Every case goes through the whole construction of a model. The table is printed at the end of the session.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ditexp.model.pretrained import PretrainedDiT
from ditexp.model.pretrained_flow_map import PretrainedFlowMap
from tests.checkpoint import family_cases, file_cases, pickle_cases, weight_cases
from tests.checkpoint.cases import Case
from tests.helpers.hostile_files import faults_of, limited

KINDS = file_cases.KINDS | pickle_cases.KINDS | weight_cases.KINDS | family_cases.KINDS
MEGABYTES = 200  # that reading a file may take, beyond what the process has; most take none


@pytest.fixture
def place(monkeypatch) -> Iterator[Path]:
    """A folder of a short name, and the current one."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.chdir(folder)
        pickle_cases.write_second_pickle()
        yield Path(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_refused_in_one_line_or_works(kind, place, record_property):
    wrong, outcomes, slowest, longest = [], {"refused": 0, "taken": 0}, (0.0, ""), 0
    for number, (name, case) in enumerate(KINDS[kind]().items()):
        folder = place / str(number)
        folder.mkdir()
        case.make(path := folder / "x.pt")
        start = time.perf_counter()
        with limited() as memory:
            outcome, line, faults = outcome_of(case, path)
        slowest = max(slowest, (time.perf_counter() - start, name))
        longest = max(longest, len(line))
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        faults += [f"{memory.megabytes} MB"] if memory.megabytes > MEGABYTES else []
        faults += ["code ran"] if ran(place) else []
        if faults:
            wrong.append(f"{name}: {outcome}, {', '.join(faults)}: {line[:300]!r}")
        shutil.rmtree(folder)
    record_property("fuzz", (kind, outcomes, slowest, longest))
    assert not wrong, "\n" + "\n".join(wrong)


def outcome_of(case: Case, path: Path) -> tuple[str, str, list[str]]:
    """What came of a file, the line that refused it, and what is wrong with that."""
    settings = {"family": "sit", "num_heads": 3, **case.settings}
    try:
        kind = PretrainedFlowMap if settings["family"] in family_cases.FLOW_MAPS else PretrainedDiT
        model = kind(checkpoint=str(path), **settings)
    except ValueError as error:
        line = str(error)
        faults = faults_of(error, path) + [f"lacks {word!r}" for word in case.words if word not in line]
        if any(line.startswith(f"model.{setting}=") for setting in case.settings):
            faults.remove("does not name the file")  # it names the setting
        return "refused", line, faults + (["should work"] if case.accepted else [])
    except Exception as error:
        return "raised", f"{type(error).__name__}: {error}", ["no ValueError"]
    assert model.network is not None
    return "taken", "", [] if case.accepted else ["should be refused"]


def ran(place: Path) -> bool:
    """Whether a pickle's code has run: it leaves something in the current folder."""
    return any(found.name.startswith(pickle_cases.RAN) for found in place.iterdir())


@pytest.mark.parametrize("payload", pickle_cases.PAYLOADS)
def test_the_code_in_these_files_would_be_seen(payload, place):
    pickle_cases.run(pickle_cases.PAYLOADS[payload])
    assert ran(place)


def test_there_are_many():
    assert sum(len(cases()) for cases in KINDS.values()) >= 200
