"""Sampling through ditexp beside other loops: PYTHONPATH=.:.venv/peers python -m benchmarks.sampling

Each way draws the same samples with the same network, steps, batch and one thread, in one process and in turn; a round
is not timed, and the medians of five are compared. Before that, each is checked to lead from the same noise to the same
samples. What is timed is a set's batches, each from its noise to its uint8 pixels on the CPU. "ditexp" is
Sampler.images, which is what a worker calls; "ditexp, again" is the same once more, so its distance from 1 is noise.
"the whole job" is `run.job.run`: a cell without metrics, built, sampled by a worker, and its blocks compressed, written
and synced; its bare loop draws as many samples. Without flow_matching on the path it is left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import loops
from benchmarks.cells import configuration, run_cell
from benchmarks.random_models import SIZES, TINY, FirstChannels, random_model
from benchmarks.side_by_side import in_turn, table
from ditexp import bundled
from ditexp.binding import bind
from ditexp.condition.labels import Balanced
from ditexp.core import Guidance, Schedule, Solver
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.none import NoGuidance
from ditexp.model.pretrained import PretrainedDiT
from ditexp.pixels import to_pixels
from ditexp.provenance import provenance
from ditexp.sampler import Sampler
from ditexp.schedule.compat import SiTLastStep
from ditexp.schedule.uniform import Uniform
from ditexp.solver.euler import Euler
from ditexp.solver.euler_maruyama import EulerMaruyama
from ditexp.solver.midpoint import Midpoint
from ditexp.solver.rk4_38 import RK4ThreeEighths
from ditexp.task.generate import Generate

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SCALE = 2.0  # of guidance
JOB_SAMPLES, JOB_BATCH, JOB_STEPS = 2000, 125, 5

METHODS: dict[str, tuple[Solver, dict[str, loops.Loop]]] = {
    "euler": (Euler(), {"bare loop": loops.bare_euler, "diffusers": loops.diffusers_euler}),
    "midpoint": (Midpoint(), {"bare loop": loops.bare_midpoint}),
    "rk4": (RK4ThreeEighths(), {"bare loop": loops.bare_rk4_38}),
}


@dataclass(frozen=True)
class Work:
    """What each way does: `batches` batches of `size` samples, in `steps` steps."""

    model: PretrainedDiT
    batches: int
    size: int
    steps: int

    def sampler(self, solver: Solver, guidance: Guidance | None = None, schedule: Schedule | None = None) -> Sampler:
        sampler = bind(
            model=self.model,
            solver=solver,
            schedule=schedule or Uniform(self.steps),
            guidance=guidance or NoGuidance(),
            conditioner=Balanced(),
            task=Generate(),
            seed=0,
            device=DEVICE,
            vae=FirstChannels() if self.model.codec is None else None,
        )
        sampler.prepare(self.size)
        return sampler

    def indices(self) -> list[range]:
        return [range(start, start + self.size) for start in range(0, self.batches * self.size, self.size)]

    def labels(self, indices: range) -> Tensor:
        return torch.arange(indices.start, indices.stop, device=DEVICE) % self.model.num_classes

    @torch.inference_mode()
    def through_ditexp(self, sampler: Sampler) -> None:
        for indices in self.indices():
            sampler.images(indices)

    @torch.inference_mode()
    def through(self, loop: loops.Loop, velocity_of: Callable[[Tensor], loops.Velocity]) -> None:
        for indices in self.indices():
            x = torch.randn(self.size, *self.model.sample_shape, device=DEVICE)
            x = loop(velocity_of(self.labels(indices)), x, self.steps)
            to_pixels(x[:, :3]).cpu()

    @torch.inference_mode()
    def check(self, name: str, sampler: Sampler, loop: loops.Loop, velocity_of: Any) -> None:
        """Raise AssertionError unless a loop leads from ditexp's noise to ditexp's samples."""
        indices = self.indices()[0]
        expected, _ = sampler.samples(indices)
        found = loop(velocity_of(self.labels(indices)), sampler.noise(indices), self.steps)
        assert (found - expected).abs().max() < 1e-3 * expected.abs().max(), f"{name} makes other samples"

    def conditional(self, labels: Tensor) -> loops.Velocity:
        return lambda x, t: self.model.network(x, t, labels)

    def in_two_passes(self, labels: Tensor) -> loops.Velocity:
        null = torch.full_like(labels, self.model.num_classes)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            worse = self.model.network(x, t, null)
            return worse + SCALE * (self.model.network(x, t, labels) - worse)

        return velocity

    def in_a_doubled_batch(self, labels: Tensor) -> loops.Velocity:
        both = torch.cat([labels, torch.full_like(labels, self.model.num_classes)])

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            better, worse = self.model.network(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
            return worse + SCALE * (better - worse)

        return velocity


def loops_beside(work: Work, method: str, rounds: int) -> dict[str, Any]:
    """A set through ditexp, and through the loops that have this method."""
    solver, others = METHODS[method]
    others = {**others, "torchdiffeq": loops.torchdiffeq(method)}
    if find_spec("flow_matching"):
        others["flow_matching"] = loops.flow_matching(method)
    sampler = work.sampler(solver)
    ways: dict[str, Callable[[], object]] = {"ditexp": lambda: work.through_ditexp(sampler)}
    for name, loop in others.items():
        work.check(name, sampler, loop, work.conditional)
        ways[name] = lambda loop=loop: work.through(loop, work.conditional)
    return in_turn(ways, rounds=rounds)


def guidance_beside(work: Work, rounds: int) -> dict[str, Any]:
    """Euler with classifier-free guidance: the network twice a step, or once on a batch that is twice as large."""
    sampler = work.sampler(Euler(), ClassifierFree(scale=SCALE))
    ways: dict[str, Callable[[], object]] = {"ditexp": lambda: work.through_ditexp(sampler)}
    for name, velocity_of in (("two passes", work.in_two_passes), ("doubled batch", work.in_a_doubled_batch)):
        work.check(name, sampler, loops.bare_euler, velocity_of)
        ways[name] = lambda velocity_of=velocity_of: work.through(loops.bare_euler, velocity_of)
    return in_turn(ways, rounds=rounds)


def sde_beside(work: Work, rounds: int) -> dict[str, Any]:
    """SiT's Euler-Maruyama as its code does it, and ours on its grid, with the network's rows that each evaluates."""
    sampler = work.sampler(EulerMaruyama(normalisation="code"), schedule=SiTLastStep(work.steps, last=0.04))
    ways = {
        "ditexp": lambda: work.through_ditexp(sampler),
        "SiT's loop": lambda: work.through(loops.sit_sde, work.conditional),
    }
    rows = in_turn(ways, rounds=rounds)
    counted: list[int] = []
    hook = work.model.network.register_forward_pre_hook(lambda _, given: counted.append(len(given[0])))
    for name, way in ways.items():
        counted.clear()
        way()
        rows[name]["network_calls_a_sample"] = sum(counted) / (work.batches * work.size)
    hook.remove()
    return rows


def job_beside(folder: Path, rounds: int) -> dict[str, Any]:
    """A whole cell without metrics, and a bare loop for as many samples. Each round makes a new set."""
    given = [f"num_samples={JOB_SAMPLES}", f"batch_size={JOB_BATCH}", f"steps={JOB_STEPS}", "metric=[]"]
    given.append(f"devices={1 if DEVICE.type == 'cuda' else 'cpu:1'}")
    cells = iter([configuration([*given, f"outputs={folder / str(number)}"]) for number in range(2 * rounds + 2)])

    def job_once() -> None:
        run_cell(next(cells))

    work = Work(digits(), JOB_SAMPLES // JOB_BATCH, JOB_BATCH, JOB_STEPS)
    bare = {"bare loop": lambda: work.through(loops.bare_euler, work.conditional)}
    return in_turn({"the whole job": job_once, **bare}, rounds=rounds, first="the whole job")


def digits() -> PretrainedDiT:
    return PretrainedDiT(checkpoint=str(bundled("digits_dit.safetensors"))).to(DEVICE)


def cases(folder: Path, *, quick: bool) -> list[tuple[str, Callable[[int], dict[str, Any]]]]:
    """What is measured: names, and functions of the number of rounds. quick: as little work as possible."""
    small, large = digits(), random_model(folder, TINY if quick else SIZES["S"].at(16)).to(DEVICE)
    shrink = 8 if quick else 1
    found: list[tuple[str, Callable[[int], dict[str, Any]]]] = []
    for method, steps in (("euler", 8), ("midpoint", 4), ("rk4", 2)):
        work = Work(small, 3, 64 // shrink, steps)
        found.append((f"digits, {method}, {steps} steps", lambda n, w=work, m=method: loops_beside(w, m, n)))
    work = Work(large, 2, 2 if quick else 4, 2 if quick else 4)
    found.append((f"DiT-S/2 at 16 x 16 x 4, euler, {work.steps} steps", lambda n, w=work: loops_beside(w, "euler", n)))
    for size in (1,) if quick else (1, 4, 16, 64, 128):
        work = Work(small, 1, size, 2 if quick else max(4, min(64, 512 // size)))
        found.append((f"digits, guidance, batch {size}", lambda n, w=work: guidance_beside(w, n)))
    work = Work(small, 2, 64 // shrink, 8)
    found.append((f"digits, SDE, {work.steps} steps", lambda n, w=work: sde_beside(w, n)))
    if not quick:
        found.append((f"digits, euler, {JOB_STEPS} steps, {JOB_SAMPLES} samples", lambda n: job_beside(folder, n)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry-run", action="store_true", help="as little work as possible; its times say nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sampling.json")
    given = parser.parse_args()
    torch.set_num_threads(1)  # as a worker of devices=cpu:N has
    torch.set_float32_matmul_precision("highest")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in cases(Path(folder), quick=given.dry_run):
            found[name] = measure(1 if given.dry_run else given.rounds)
            print(f"\n{name}\n{table(found[name])}", flush=True)
    result = {"rounds": given.rounds, "device": str(DEVICE), "cases": found, **provenance()}
    given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
