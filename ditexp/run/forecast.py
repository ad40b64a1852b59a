"""How long the rest of a sweep takes, by the evaluations of its cells and how fast the cells so far made theirs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ditexp.progress import MIN_SPAN, Progress
from ditexp.result import Result


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a cell has yet to do.

    images: to make; 0 if an earlier cell makes them. forwards: evaluations of each; None if it is unknown. speed: equal
    for cells whose evaluations take equally long. solver: equal for cells that need about as many evaluations if the
    solver is adaptive. is_done: whether there is nothing to do, not even to score.
    """

    id: str
    images: int
    forwards: float | None
    speed: str
    solver: str
    is_done: bool


@dataclass
class Course:
    """How a cell went so far. began: when its first evaluation was made; all in seconds since the cell's start."""

    work: Work
    seconds: float = 0
    began: float | None = None
    ended: float = 0
    images: float = 0
    forwards: float = 0

    def note(self, progress: Progress, start: int) -> None:
        """start: the images that were there before."""
        self.seconds = progress.seconds
        if progress.phase == "sampling" and progress.forwards:
            self.began = progress.seconds if self.began is None else self.began
            self.ended, self.forwards = progress.seconds, progress.forwards
            self.images = progress.images + progress.images_in_progress - start

    @property
    def sampling(self) -> float:
        """Seconds of sampling."""
        return 0 if self.began is None else self.ended - self.began


class Forecast:
    """The time left of a sweep, learnt as a viewer of each of its cells. works: of all cells, in their order."""

    def __init__(self, works: Sequence[Work] = ()) -> None:
        self.works = list(works)
        self._courses: list[Course] = []
        self._start = 0

    def begin_cell(self, cell: Result) -> None:
        work = next((work for work in self.works if work.id == cell.id), None)
        if work:
            self._courses.append(Course(work))

    def log_progress(self, cell: Result, progress: Progress) -> None:
        if self._courses and self._courses[-1].work.id == cell.id:
            if progress.phase == "preparing":
                self._start = progress.images
            self._courses[-1].note(progress, self._start)

    def log_preview(self, cell: Result, picture: Path) -> None: ...

    def seconds_left(self, cell: Result, progress: Progress) -> float | None:
        """Of this cell and all after it; None if it cannot be known yet."""
        ids = [work.id for work in self.works]
        if cell.id not in ids or (progress.phase != "scoring" and progress.seconds_left is None):
            return None
        pace, needs = self._seconds_per_evaluation(), self._evaluations_per_image()
        rest = [seconds_of(work, pace, needs) for work in self.works[ids.index(cell.id) + 1 :] if not work.is_done]
        known = [seconds for seconds in rest if seconds is not None]
        if len(known) < len(rest):
            return None
        others = [course.seconds - course.sampling for course in self._courses[:-1]]  # preparing and scoring
        each = sum(others) / len(others) if others else 0
        return (progress.seconds_left or 0) + sum(known) + each * len(rest)

    def _seconds_per_evaluation(self) -> dict[str, float]:
        """By the cells' speed, as far as it is known."""
        forwards, sampling = defaultdict[str, float](float), defaultdict[str, float](float)
        for course in self._courses:
            forwards[course.work.speed] += course.forwards
            sampling[course.work.speed] += course.sampling
        return {
            speed: sampling[speed] / count for speed, count in forwards.items() if count and sampling[speed] >= MIN_SPAN
        }

    def _evaluations_per_image(self) -> dict[str, float]:
        """What cells with an adaptive solver have needed, by their solver."""
        forwards, images = defaultdict[str, float](float), defaultdict[str, float](float)
        for course in self._courses:
            if course.work.forwards is None:
                forwards[course.work.solver] += course.forwards
                images[course.work.solver] += course.images
        return {solver: forwards[solver] / count for solver, count in images.items() if count >= 1}


def seconds_of(work: Work, pace: Mapping[str, float], needs: Mapping[str, float]) -> float | None:
    """Of sampling a cell that has not begun. pace: of evaluations, by speed. needs: evaluations an image, by solver."""
    if work.images == 0:
        return 0
    per_image = work.forwards if work.forwards is not None else needs.get(work.solver)
    if per_image is None or work.speed not in pace:
        return None
    return work.images * per_image * pace[work.speed]
