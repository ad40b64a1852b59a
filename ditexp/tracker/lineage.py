"""W&B's artifacts, which say what was made from what: checkpoint and reference -> sample set -> report.

They are small: descriptions and results, no pixels and no weights. Equal contents are the same version of an artifact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ditexp.files.content import digest
from ditexp.files.json_values import encode
from ditexp.outputs import Outputs
from ditexp.result import Result

MAX_BYTES = 5_000_000  # of a file that is uploaded, apart from pictures


def log_lineage_of_cell(run: Any, result: Result) -> None:
    """Log the sample set of a cell, and use its checkpoint and its reference. result: done, with a grid."""
    for artifact in filter(None, (checkpoint(result), reference(result))):
        use(run, artifact)
    if made := sample_set(result):
        run.log_artifact(made)


def log_lineage_of_report(run: Any, results: Sequence[Result], paths: Mapping[str, Path | None]) -> None:
    """Log a report's files, and use the sample sets and references that it rests on."""
    import wandb

    done = [result for result in results if result.is_done and result.grid]
    measured = {repr(result.measurement): result for result in done}  # most have the same reference
    made = [*map(reference, measured.values()), *map(sample_set, done)]
    for artifact in {artifact.name: artifact for artifact in made if artifact}.values():
        use(run, artifact)
    artifact = wandb.Artifact(artifact_name(run.name, ""), "report")
    for name, file in paths.items():
        if file and file.is_file() and file.suffix != ".png" and file.stat().st_size <= MAX_BYTES:
            artifact.add_file(str(file), name)
    run.log_artifact(artifact)


def use(run: Any, artifact: Any) -> None:
    """Declare an artifact as an input of a run.

    `run.use_artifact` waits for the server each time, and refuses to work offline. This is the part of it that doesn't.
    """
    run._log_artifact(artifact, is_user_created=True, use_after_commit=True)


def checkpoint(result: Result) -> Any | None:
    """What identifies the model in the id of the sample set: settings, and the hash of its file."""
    model = described(result).get("identity", {}).get("model")
    if not isinstance(model, dict):  # the set is gone
        return None
    facts = {"identity": model, "config": result.config.get("model")}
    end = f"-{str(model.get('sha256') or digest(model))[:8]}"
    return artifact_of(artifact_name(f"checkpoint-{result.settings.get('model', 'model')}", end), "model", facts)


def reference(result: Result) -> Any | None:
    """The reference and feature network of a result's scores.

    It has the file that `ditexp reference` wrote, if there is one and it is small.
    """
    measurement = result.measurement
    if not (measurement and measurement.reference and measurement.feature and result.grid):
        return None
    found, feature = measurement.reference, measurement.feature
    end = f"-{feature['name']}-{found.fingerprint[:8]}"
    facts = {"reference": encode(found), "feature": feature}
    artifact = artifact_of(artifact_name(f"reference-{found.name}", end), "reference", facts)
    # The name in a file of statistics may be a path.
    prepared = Outputs.of_result(result.grid).references / Path(f"{found.name}{end}.safetensors").name
    if prepared.is_file() and prepared.stat().st_size <= MAX_BYTES:
        artifact.add_file(str(prepared), "statistics.safetensors")
    return artifact


def sample_set(result: Result) -> Any | None:
    """The description of a sample set and its result."""
    if result.sample_id is None or result.grid is None:
        return None
    import wandb

    outputs = Outputs.of_result(result.grid)
    folder = outputs.sample_set(result.sample_id)
    about = {"sample_id": result.sample_id, "num_samples": result.num_samples}
    artifact = wandb.Artifact(f"samples-{result.sample_id}", "sample-set", metadata=about)
    files = {
        "result.json": outputs.result(result.id),
        "set.json": folder / "set.json",
        "README.md": folder / "README.md",
    }
    for name, file in files.items():
        if file.is_file():  # users may delete sample sets
            artifact.add_file(str(file), name)
    return artifact


def described(result: Result) -> dict[str, Any]:
    """The set.json of a result's sample set; empty if it is gone or damaged."""
    with suppress(OSError, ValueError):
        if result.sample_id and result.grid:
            folder = Outputs.of_result(result.grid).sample_set(result.sample_id)
            found = json.loads((folder / "set.json").read_text())
            return found if isinstance(found, dict) else {}
    return {}


def artifact_of(name: str, kind: str, facts: dict[str, Any]) -> Any:
    """An artifact with its facts as metadata and as a file, `<kind>.json`."""
    import wandb

    artifact = wandb.Artifact(name, kind, metadata=facts)
    with artifact.new_file(f"{kind}.json") as file:
        json.dump(facts, file, indent=2, sort_keys=True)
    return artifact


def artifact_name(start: str, end: str) -> str:
    """A name that W&B accepts for an artifact: at most 128 characters, only ASCII letters, digits and ._-."""
    start, end = (re.sub(r"[^A-Za-z0-9_.-]+", "-", part) for part in (start, end))
    return start[: 128 - len(end)] + end
