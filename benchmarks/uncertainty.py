"""Do ±, ≈ and the missing mark hold what they claim? python -m benchmarks.uncertainty

Simulated tables, whose truth is known: what they say of noise, before and now. Before, halves were drawn with labels in
one fixed order and frame by frame; every cell was compared with the best by Student's t at 95 %, as if both had been
chosen beforehand; and ± of several seeds was the deviation between them.

Features are made up, as in tests/test_uncertainty.py: ten or more classes in six dimensions, cells that share the noise
they start from and add some of their own. The score is FID against 1,797 reference images. Only the reference's own
error is measured on real ones: two solvers of the bundled digits model.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import stdev

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from scipy.special import stdtrit
from torch import Tensor

from ditexp.cli.packaged import packaged
from ditexp.evaluate.uncertainty import Design, deviations, is_balanced
from ditexp.extraction import extract
from ditexp.metric.fid import FrechetDistance, gaussian_of
from ditexp.metric.fid_infinity import FrechetInfinity
from ditexp.metric.kid import KernelDistance
from ditexp.outputs import Outputs
from ditexp.provenance import provenance
from ditexp.reference.kinds import reference_features
from ditexp.report.tables.rows import Row, spread_of_one
from ditexp.report.tables.significance import worse_than_best
from ditexp.result import Deviations, Result
from ditexp.run import job
from ditexp.run.cell import build
from ditexp.run.watch import Watch
from ditexp.values import Features, Gaussian

COUNT, HALVES, DIMENSIONS, REFERENCE = 512, 40, 6, 1797
SHIFT = 0.3  # of all cells from the reference: far enough that FID is mostly no bias
OWN = 0.3  # noise that cells don't share


def features(count: int, labels: Tensor, draw: torch.Generator, *, units: Tensor | None = None) -> Tensor:
    """(count, DIMENSIONS) of samples; those of one unit share 0.8 of their variance."""
    centres = 3 * torch.randn(int(labels.max()) + 1, DIMENSIONS, generator=torch.Generator().manual_seed(7))
    noise = torch.randn(count, DIMENSIONS, generator=draw)
    if units is not None:
        noise = 0.2**0.5 * noise + 0.8**0.5 * torch.randn(count, DIMENSIONS, generator=draw)[units]
    return centres[labels] + noise


def cells(number: int, labels: Tensor, draw: torch.Generator, *, units: Tensor | None = None) -> list[Tensor]:
    """Features of equal cells, each SHIFT from the reference."""
    shared = features(len(labels), labels, draw, units=units)
    return [moved(shared, SHIFT) + OWN * features(len(labels), 0 * labels, draw, units=units) for _ in range(number)]


def moved(pool: Tensor, shift: float) -> Tensor:
    return pool * (1 + shift) + shift


def reference(labels: Tensor) -> Gaussian:
    pool = features(len(labels), labels, torch.Generator().manual_seed(10_000))
    return gaussian_of(Features(len(pool), pool), "pool", metric="fid")


class Resampler:
    """FID of some samples and of their halves: all at once, since there are hundreds of thousands."""

    def __init__(self, parts: Sequence[Tensor], count: int, real: Gaussian, design: Design | None = None) -> None:
        """design: by which the halves are drawn now."""
        self.design = design
        self.weights = torch.zeros(1 + len(parts), count, dtype=torch.float64)
        self.weights[0] = 1
        for row, part in enumerate(parts, start=1):
            self.weights[row, part] = 1
        self.real = real
        values, vectors = torch.linalg.eigh(real.covariance)
        self.root = vectors * values.sqrt() @ vectors.T

    def __call__(self, pool: Tensor) -> tuple[float, list[float]]:
        """Of all samples; and how far each half is from the halves' mean."""
        fids = self.fids(pool.double())
        if self.design:
            return fids[0].item(), self.design.deviations(fids[1:].tolist())
        return fids[0].item(), (fids[1:] - fids[1:].mean()).tolist()

    def fids(self, x: Tensor) -> Tensor:
        counts = self.weights.sum(1)[:, None]
        means = self.weights @ x / counts
        products = (self.weights @ (x[:, :, None] * x[:, None]).flatten(1)).unflatten(1, (x.shape[1], -1))
        outer = means[:, :, None] * means[:, None]
        covariances = (products - counts[:, None] * outer) / (counts[:, None] - 1)
        roots = torch.linalg.eigvalsh(self.root @ covariances @ self.root).clamp(min=0).sqrt().sum(1)
        trace = covariances.diagonal(dim1=1, dim2=2).sum(1) + self.real.covariance.trace()
        return (means - self.real.mean).square().sum(1) + trace - 2 * roots


def old_halves(count: int, number: int, *, labels: Tensor | None) -> Iterator[Tensor]:
    draw = torch.Generator().manual_seed(0)
    for _ in range(number):
        order = torch.randperm(count, generator=draw)
        if labels is not None and is_balanced(labels):
            order = order[labels[order].argsort(stable=True)]
        yield order[1::2].sort().values


def resampler_before(labels: Tensor | None, count: int, real: Gaussian) -> Resampler:
    return Resampler(list(old_halves(count, HALVES, labels=labels)), count, real)


def resampler_now(labels: Tensor | None, count: int, real: Gaussian, units: list[int] | None = None) -> Resampler:
    design = Design.of(count, labels=labels, units=units)
    return Resampler(list(design.halves(HALVES)), count, real, design)


# A table is, for each cell, the FIDs and deviations of its seeds.
Table = list[list[tuple[float, list[float]]]]


def worse_now(table: Table, units: int = COUNT) -> list[bool]:
    """Of each cell whether it goes unmarked and isn't the best."""
    rows = [row_of(seeds, units) for seeds in table]
    best = min(range(len(rows)), key=lambda row: rows[row].metrics["fid"])
    return [bool(found) for found in worse_than_best(rows, best, "fid")]


def row_of(seeds: Sequence[tuple[float, list[float]]], units: int = COUNT) -> Row:
    members = [
        Result(
            id=str(seed),
            status="done",
            settings={"seed": seed},
            metrics={"fid": value},
            deviations={"fid": Deviations(units=units, mean=value, halves=halves)},
        )
        for seed, (value, halves) in enumerate(seeds)
    ]
    return Row(members=members, settings={}, metrics={"fid": float(np.mean([value for value, _ in seeds]))})


def worse_by(chance: Callable[[int], float]) -> Callable[[Table], list[bool]]:
    """By Student's t at the level of `chance`, that depends on how many cells there are."""

    def worse(table: Table) -> list[bool]:
        values = np.array([np.mean([value for value, _ in seeds]) for seeds in table])
        noise = np.array([np.mean([halves for _, halves in seeds], axis=0) for seeds in table])
        best = values.argmin()
        error = (noise - noise[best]).std(axis=1, ddof=1)
        return (values - values[best] > error * stdtrit(noise.shape[1] - 1, 1 - chance(len(values)) / 2)).tolist()

    return worse


worse_before = worse_by(lambda cells: 0.05)
worse_of_pairs_with_one = worse_by(lambda cells: 0.05 / (cells - 1))


def rates(tables: Sequence[Table], worse: Callable[[Table], list[bool]]) -> dict[str, float]:
    """Of equal cells, the share that counts as worse than the best, and of tables, the share with such a cell."""
    found = [worse(table) for table in tables]
    return {"cells": float(np.mean(found)), "tables": float(np.mean([any(each) for each in found]))}


def of_labels() -> Iterator[dict]:
    """Pairs of equal cells, for every way in which labels may occur."""
    for classes, count in ((10, 512), (170, 512), (400, 512), (512, 512), (1000, 1000), (None, 512)):
        labels = torch.arange(count) % (classes or 10)
        real = reference(torch.arange(REFERENCE) % (classes or 10))
        known = labels if classes else None
        resamplers = {"before": resampler_before(known, count, real), "now": resampler_now(known, count, real)}
        draw, tables = torch.Generator().manual_seed(11), {"before": [], "now": []}
        for _ in range(1000):
            if classes is None:
                labels = torch.randint(10, (count,), generator=draw)
            pools = cells(2, labels, draw)
            for name, resampler in resamplers.items():
                tables[name].append([[resampler(pool)] for pool in pools])
        true = np.std([table[0][0][0] for table in tables["now"]], ddof=1)
        found = {
            name: {
                "pairs": float(np.mean([any(worse(table)) for table in tables[name]])),
                "sd": rms(stdev(table[0][0][1]) for table in tables[name]) / true,
            }
            for name, worse in (("before", worse_before), ("now", worse_now))
        }
        yield {"labels": classes, "samples": count, **found}


def rms(values: Iterator[float]) -> float:
    return float(np.sqrt(np.mean(np.square(list(values)))))


def equal_tables(number: int, tables: int, *, seeds: int = 1) -> list[Table]:
    labels = torch.arange(COUNT) % 10
    resampler = resampler_now(labels, COUNT, reference(torch.arange(REFERENCE) % 10))
    draw, found = torch.Generator().manual_seed(number), []
    for _ in range(tables):
        of_seeds = [[resampler(pool) for pool in cells(number, labels, draw)] for _ in range(seeds)]
        found.append([list(one) for one in zip(*of_seeds)])
    return found


def of_tables(tables: dict[int, list[Table]]) -> Iterator[dict]:
    for number, each in tables.items():
        yield {
            "equal cells": number,
            "before": rates(each, worse_before),
            "0.05 / (K - 1)": rates(each, worse_of_pairs_with_one),
            "now": rates(each, worse_now),
        }


def of_differences(tables: dict[int, list[Table]]) -> Iterator[dict]:
    """Cells that are worse by known differences: how many go unmarked, and tables in which one does that is not worse.

    better: how many cells are equally good, the first ones of each table. size: of the others' difference, in standard
    deviations of a difference.
    """
    for number, better in ((2, 1), (9, 1), (9, 3), (20, 2)):
        deviation = np.std([table[1][0][0] - table[0][0][0] for table in tables[number]], ddof=1)
        for size in (2, 3, 4, 6):
            gaps = [0.0] * better + [size * deviation] * (number - better)
            raised = [
                [[(value + gap, noise) for value, noise in seeds] for gap, seeds in zip(gaps, table)]
                for table in tables[number]
            ]
            row = {"cells": number, "equally good": better, "size": size}
            for name, worse in (("before", worse_before), ("now", worse_now)):
                found = [worse(table) for table in raised]
                wrong = [is_wrong(each, table, better) for each, table in zip(found, raised)]
                row[name] = {"found": float(np.mean([each[better:] for each in found])), "wrong": float(np.mean(wrong))}
            yield row


def is_wrong(worse: list[bool], table: Table, better: int) -> bool:
    """Whether a cell counts as worse than the best one measured and is as good as that, or better."""
    best = min(range(len(table)), key=lambda cell: np.mean([value for value, _ in table[cell]]))
    return any(worse[:better]) if best < better else any(worse)


def of_units() -> Iterator[dict]:
    """Samples that aren't independent: frames of paths, images that come again."""
    kinds = {
        "paths of 11 frames": [i // 11 for i in range(COUNT)],
        "each image 4 times": [i % 128 for i in range(COUNT)],
    }
    real = reference(torch.arange(REFERENCE) % 10)
    for name, units in kinds.items():
        units = torch.tensor(units)
        labels = units % 10
        resamplers = {
            "before": resampler_before(labels, COUNT, real),
            "now": resampler_now(labels, COUNT, real, units.tolist()),
        }
        draw, tables = torch.Generator().manual_seed(5), {"before": [], "now": []}
        for _ in range(600):
            pools = cells(2, labels, draw, units=units)
            for when, resampler in resamplers.items():
                tables[when].append([[resampler(pool)] for pool in pools])
        true = np.std([table[0][0][0] for table in tables["now"]], ddof=1)
        number = int(units.max()) + 1
        ways = {"before": worse_before, "now": lambda table, number=number: worse_now(table, number)}
        yield {"samples": name} | {
            when: {
                "sd": rms(stdev(table[0][0][1]) for table in tables[when]) / true,
                "pairs": float(np.mean([any(ways[when](table)) for table in tables[when]])),
            }
            for when in ways
        }


def of_seeds() -> Iterator[dict]:
    """± of some seeds in shares of the truth: the middle 90 % of tables. And nine equal cells of as many seeds."""
    true = np.std([table[0][0][0] for table in equal_tables(1, 2000)], ddof=1)
    for seeds in (1, 2, 3, 5):
        tables = equal_tables(9, 120, seeds=seeds)
        ways = {"before": lambda table: stdev(value for value, _ in table) if len(table) > 1 else stdev(table[0][1])}
        ways["now"] = lambda table: spread_of_one(row_of(table).members, "fid")
        found = {name: [way(cell) / true for table in tables for cell in table[:3]] for name, way in ways.items()}
        yield {"seeds": seeds} | {
            name: {"from": float(np.quantile(found[name], 0.05)), "to": float(np.quantile(found[name], 0.95))}
            | {"tables": rates(tables, worse)["tables"]}
            for name, worse in (("before", worse_before), ("now", worse_now))
        }


def of_the_floor() -> Iterator[dict]:
    """± in shares of the truth, of cells near to the reference and far from it.

    bias: how much larger the FID of halves is than the FID of all samples, relative to the latter.
    """
    metrics = (FrechetDistance(), FrechetInfinity(), KernelDistance())
    labels, of_real = torch.arange(COUNT) % 10, torch.arange(REFERENCE) % 10
    real = Features(REFERENCE, features(REFERENCE, of_real, torch.Generator().manual_seed(1)))
    for shift in (0.0, 0.05, 0.3):
        values, noise, means = {}, {}, []
        for seed in range(40):
            draw = torch.Generator().manual_seed(seed)
            fake = Features(COUNT, moved(features(COUNT, labels, draw), shift), labels=labels)
            for metric in metrics:
                for name, value in metric(fake, real).items():
                    values.setdefault(name, []).append(value)
            for name, found in deviations(metrics, fake, real, resamples=10, advance=lambda: None).items():
                noise.setdefault(name, []).append(stdev(found.halves))
                means += [found.mean - values["fid"][-1]] if name == "fid" else []
        ratios = {name: rms(noise[name]) / float(np.std(values[name], ddof=1)) for name in values}
        fid = float(np.mean(values["fid"]))
        yield {"shift": shift, "value": fid, "bias": float(np.mean(means)) / fid, **ratios}


def of_the_reference() -> dict:
    """Two solvers of the digits model at equal cost: how far other samples and another reference move their FIDs."""
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(packaged("conf")), version_base="1.3"):
        sets, off = [], ["~hydra/launcher", "~hydra/job_logging", "~hydra/hydra_logging"]
        for solver in ("heun", "euler"):
            given = [
                f"solver={solver}",
                "forwards=40",
                "devices=cpu:1",
                f"outputs={folder}",
                "metric=[fid]",
                "resamples=0",
            ]
            cfg = compose("config", [*given, *off])
            cell = build(cfg)
            job.run(cell, settings={"solver": solver}, command="", watch=Watch())
            feature, cache = cell.evaluator.feature, Outputs(folder).features
            fake = extract(cell.store, feature, cache, outputs={"pool"}, limit=cfg.num_samples)
            sets.append(Features(fake.count, fake.pool, labels=torch.from_numpy(cell.store.labels())))
        real = reference_features(cell.evaluator.reference, feature, cache, outputs={"pool"}, statistics=set())
    fid = FrechetDistance()

    def difference(ours: Features, theirs: Features, reference: Features) -> float:
        return fid(ours, reference)["fid"] - fid(theirs, reference)["fid"]

    of_samples = [
        difference(*(each.take(part) for each in sets), real)
        for part in Design.of(sets[0].count, labels=sets[0].labels).halves(HALVES)
    ]
    of_reference = [difference(*sets, real.take(part)) for part in Design.of(real.count).halves(HALVES)]
    one = [fid(sets[0], real.take(part))["fid"] for part in Design.of(real.count).halves(HALVES)]
    return {
        "FID": [fid(each, real)["fid"] for each in sets],
        "difference": difference(*sets, real),
        "sd of the difference, other samples": stdev(of_samples),
        "sd of the difference, other reference": stdev(of_reference),
        "sd of one FID, other reference": stdev(one),
    }


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def pairs_and_sd(row: dict) -> list[str]:
    return [text for when in ("before", "now") for text in (percent(row[when]["pairs"]), f"{row[when]['sd']:.2f}")]


def markdown(heads: Sequence[str], rows: Sequence[Sequence]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def report(result: dict) -> str:
    """The tables of docs/reading_the_numbers.md."""
    parts = []
    rows = [(row["labels"] or "drawn", f"{row['samples']:,}", *pairs_and_sd(row)) for row in result["labels"]]
    heads = ("labels", "samples", "before: pairs", "before: ± / truth", "now: pairs", "now: ± / truth")
    parts.append(markdown(heads, rows))
    ways = ("before", "0.05 / (K - 1)", "now")
    rows = [
        (row["equal cells"], *(f"{percent(row[way]['cells'])}, {percent(row[way]['tables'])}" for way in ways))
        for row in result["tables"]
    ]
    parts.append(markdown(("equal cells: unmarked, tables with one", *ways), rows))
    cases = dict.fromkeys((row["cells"], row["equally good"]) for row in result["differences"])
    sizes = list(dict.fromkeys(row["size"] for row in result["differences"]))
    rows = []
    for case in cases:
        found = [row for row in result["differences"] if (row["cells"], row["equally good"]) == case]
        for when in ("before", "now"):
            most = max(row[when]["wrong"] for row in found)
            rows.append((*case, when, *(f"{100 * row[when]['found']:.0f} %" for row in found), percent(most)))
    parts.append(markdown(("cells", "equally good", "", *map(str, sizes), "wrong, at most"), rows))
    rows = [(row["samples"], *pairs_and_sd(row)) for row in result["units"]]
    parts.append(markdown(("samples", *heads[2:]), rows))
    rows = [
        (row["seeds"], *(f"{row[when]['from']:.2f} to {row[when]['to']:.2f}" for when in ("before", "now")))
        + tuple(percent(row[when]["tables"]) for when in ("before", "now"))
        for row in result["seeds"]
    ]
    parts.append(markdown(("seeds", "before: ± / truth", "now: ± / truth", "before: tables", "now: tables"), rows))
    rows = [
        (f"{row['value']:.2f}", percent(row["bias"]), *(f"{row[name]:.1f}" for name in ("fid", "fid_infinity", "kid")))
        for row in result["floor"]
    ]
    parts.append(markdown(("FID", "of it bias", "± / truth: FID", "FID∞", "KID"), rows))
    return "\n\n".join(parts)


def check() -> None:
    """The fast FID is ditexp's."""
    labels = torch.arange(COUNT) % 10
    real, (pool,) = reference(labels), cells(1, labels, torch.Generator().manual_seed(0))
    (half,) = Design.of(COUNT, labels=labels).halves(1)
    fast = Resampler([half], COUNT, real).fids(pool.double())
    for found, rows in zip(fast, (torch.arange(COUNT), half)):
        given = Features(len(rows), pool[rows])
        slow = FrechetDistance()(given, Features(0, gaussians={"pool": real}))["fid"]
        assert abs(found - slow) < 1e-9 * slow


def main() -> None:
    torch.set_num_threads(1)
    logging.getLogger("ditexp").setLevel(logging.ERROR)
    begin = time.process_time()
    check()
    result: dict = {}
    out = Path(__file__).parent / "results" / "uncertainty.json"

    def done(name: str, rows: list | dict) -> None:
        result[name] = rows
        facts = {"seconds": time.process_time() - begin, **provenance()}
        out.write_text(json.dumps(result | facts, indent=2) + "\n")
        print(f"{name} ({time.process_time() - begin:.0f} s)")
        print("\n".join(map(json.dumps, rows if isinstance(rows, list) else [rows])), flush=True)

    done("labels", list(of_labels()))
    tables = {2: equal_tables(2, 2000), 9: equal_tables(9, 1000), 20: equal_tables(20, 1000)}
    done("tables", list(of_tables(tables)))
    done("differences", list(of_differences(tables)))
    done("units", list(of_units()))
    done("seeds", list(of_seeds()))
    done("floor", list(of_the_floor()))
    done("reference", of_the_reference())
    print(report(result))


if __name__ == "__main__":
    main()
