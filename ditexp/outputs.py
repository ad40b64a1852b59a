"""What lies where in an outputs folder.

outputs/samples/<set id>/              sample sets, see samples/store.py
        results/<cell id>.json         results; beside each its pictures: .png, .gif, .trajectory.png
        results/evaluate-<id>.json     results of `python -m ditexp.evaluate`
        runs/<sweep>/<number>/         what each run of a cell ended with, cell.json
        reports/<sweep or study>/      tables, pictures, report.html
        schedules/<id>.json            grids of `python -m ditexp.optimize`
        cache/features/<network>/<images>/   features of images
        cache/references/              statistics of references
        cache/<comparison>/            exact paths
        wandb/                         what W&B has yet to send
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outputs:
    """One outputs folder; its paths are absolute, so that they hold in any process and in any working directory."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).absolute())

    @property
    def samples(self) -> Path:
        return self.root / "samples"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def schedules(self) -> Path:
        return self.root / "schedules"

    @property
    def features(self) -> Path:
        return self.root / "cache" / "features"

    @property
    def references(self) -> Path:
        return self.root / "cache" / "references"

    def comparison(self, name: str) -> Path:
        return self.root / "cache" / name

    @classmethod
    def of_result(cls, path: Path) -> Outputs:
        """The outputs folder that a file in `results` belongs to."""
        return cls(path.absolute().parents[1])

    def sample_set(self, id: str) -> Path:
        return self.samples / id

    def result(self, id: str) -> Path:
        return self.results / f"{id}.json"

    def evaluation(self, id: str) -> Path:
        return self.results / f"evaluate-{id}.json"

    def grid(self, id: str) -> Path:
        """The first samples of a cell, or its task's picture."""
        return self.results / f"{id}.png"

    def film(self, id: str) -> Path:
        """Beside the grid, where the task's picture moves."""
        return self.results / f"{id}.gif"

    def trajectory(self, id: str) -> Path:
        """Some samples on their way from noise to data, where the task shows them."""
        return self.results / f"{id}.trajectory.png"

    def schedule(self, id: str) -> Path:
        return self.schedules / f"{id}.json"
