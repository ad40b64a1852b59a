"""The layout of an outputs folder.

outputs/samples/<set id>/              sets of images and of latents, see samples/block_store.py
        results/<cell id>.json         results; beside each its pictures: .png, .gif, .trajectory.png, .prompts.png
        results/evaluate-<id>.json     results of `ditexp evaluate`
        results/<either>.prompts.csv   the scores of each prompt
        runs/<sweep>/<number>/         each run of a cell: cell.json is how it ended, ditexp.log, preview.png
        reports/<sweep or study>/      tables, pictures, report.html
        reports/index.html             all reports
        schedules/<id>.json            grids of `ditexp optimize`
        train/<network>/               weights of `ditexp train`, by its setting `folder`
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
    """An outputs folder. Its paths are absolute, so they are right in any process and working directory."""

    root: Path

    def __init__(self, root: Path | str) -> None:
        object.__setattr__(self, "root", Path(root).absolute())

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
        """The cache of a comparison, by its name in the configuration."""
        return self.root / "cache" / name

    @classmethod
    def of_result(cls, path: Path) -> Outputs:
        """The outputs folder that a file in `results` belongs to."""
        return cls(path.absolute().parents[1])

    def sample_set(self, id: str) -> Path:
        return self.samples / id

    def result(self, id: str) -> Path:
        return self.results / f"{id}.json"

    def cell_results(self) -> list[Path]:
        """The files of all results of cells, by name; not those of `ditexp evaluate`."""
        return sorted(path for path in self.results.glob("*.json") if not path.name.startswith("evaluate-"))

    def evaluation(self, id: str) -> Path:
        return self.results / f"evaluate-{id}.json"

    def grid(self, id: str) -> Path:
        """The picture of a cell: its first samples, or what its task shows."""
        return self.results / f"{id}.png"

    def film(self, id: str) -> Path:
        """The moving picture of a task's frames, beside the grid."""
        return self.results / f"{id}.gif"

    def trajectory(self, id: str) -> Path:
        """Some samples on their way from noise to data, if the task shows them."""
        return self.results / f"{id}.trajectory.png"

    def prompt_picture(self, id: str) -> Path:
        """Samples of the prompts with the lowest and the highest scores."""
        return self.results / f"{id}.prompts.png"

    def schedule(self, id: str) -> Path:
        return self.schedules / f"{id}.json"
