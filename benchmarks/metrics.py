"""Metrics of features beside their peers: python -m benchmarks.metrics [fid] [covariance] [precision_recall] [all50k]

Each contender has a process of its own, with two threads, that makes the same inputs and warms up on small ones. Then
they run in turn, several times; the seconds are medians. Memory is the rise of the process's peak (VmHWM, reset before
each run) over what it held before: what is needed beyond the inputs. Peers that are not installed are left out (put
them on PYTHONPATH); of ADM and EDM2, which are no packages, the algorithms are written down here anew.
Errors are relative to Fréchet distances from QR factors of the features, float64 throughout.

all50k is a whole evaluation (FID, Inception Score, precision and recall) of 50,000 images against 50,000 from cached
features of Inception's sizes; the network is a stand-in, and is not run.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ditexp.extraction import extract
from ditexp.metric.base import blocks
from ditexp.metric.fid import FrechetDistance, frechet_distance, mean_and_covariance
from ditexp.metric.inception_score import InceptionScore
from ditexp.metric.precision_recall import PrecisionRecall
from ditexp.provenance import provenance
from ditexp.values import Features

OUT = Path(__file__).parent / "results" / "metrics.json"
THREADS, ROUNDS, SIZE, K = 2, 5, 2048, 3
MEMORY = 2 << 30  # bytes, more than any contender needs
Pair = tuple[torch.Tensor, torch.Tensor]


def features(count: int, seed: int, size: int = SIZE) -> torch.Tensor:
    """(count, size) float32 like a network's: correlated, rectified, of a distribution that differs with the seed."""
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(256, size, generator=torch.Generator().manual_seed(99)) / 16
    x = torch.empty(count, size)
    for rows in blocks(count):
        hidden = torch.randn(rows.stop - rows.start, 256, generator=draw) + 0.03 * seed
        x[rows] = (hidden @ mixing + torch.randn(len(hidden), size, generator=draw) / 4).relu_()
    return x


# ---- Fréchet distance of two (mu, sigma)


def two_gaussians(*counts: int) -> tuple[np.ndarray, ...]:
    fitted = [mean_and_covariance(features(count, seed)) for seed, count in enumerate(counts)]
    return tuple(part.numpy() for gaussian in fitted for part in (gaussian.mean, gaussian.covariance))


def exact_frechet_distance(*counts: int) -> float:
    from scipy.linalg import svdvals

    sets = [features(count, seed).double().numpy() for seed, count in enumerate(counts)]
    means = [x.mean(axis=0) for x in sets]
    factors = [np.linalg.qr((x - m) / (len(x) - 1) ** 0.5, mode="r") for x, m in zip(sets, means)]
    spread = sum(np.square(factor).sum() for factor in factors)
    return np.square(means[0] - means[1]).sum() + spread - 2 * svdvals(factors[0] @ factors[1].T).sum()


def fid_ditexp(*inputs: np.ndarray) -> float:
    from ditexp.values import Gaussian

    tensors = [torch.from_numpy(array) for array in inputs]
    return frechet_distance(Gaussian(*tensors[:2]), Gaussian(*tensors[2:]))


def fid_pytorch_fid(*inputs: np.ndarray) -> float:
    from pytorch_fid.fid_score import calculate_frechet_distance

    return float(calculate_frechet_distance(*inputs))


def fid_torch_fidelity(*inputs: np.ndarray) -> float:
    from torch_fidelity.metric_fid import fid_statistics_to_metric

    named = [dict(zip(("mu", "sigma"), pair)) for pair in (inputs[:2], inputs[2:])]
    return next(iter(fid_statistics_to_metric(*named, verbose=False).values()))


def fid_torchmetrics(*inputs: np.ndarray) -> float:
    from torchmetrics.image.fid import _compute_fid

    return _compute_fid(*map(torch.from_numpy, inputs)).item()


def fid_clean_fid(*inputs: np.ndarray) -> float:
    from cleanfid.fid import frechet_distance

    return float(frechet_distance(*inputs))


# ---- Mean and covariance


def covariance_ditexp(x: torch.Tensor) -> np.ndarray:
    return mean_and_covariance(x).covariance.numpy()


def covariance_numpy(x: torch.Tensor) -> np.ndarray:
    x.numpy().mean(axis=0)
    return np.cov(x.numpy(), rowvar=False)


def covariance_edm2(x: torch.Tensor) -> np.ndarray:
    """Sums of float64 outer products over batches of 64, as its images come."""
    total, products = torch.zeros(x.shape[1]).double(), torch.zeros(x.shape[1], x.shape[1]).double()
    for batch in x.split(64):
        batch = batch.double()
        total += batch.sum(dim=0)
        products += batch.T @ batch
    mean = total / len(x)
    return ((products - len(x) * mean.outer(mean)) / (len(x) - 1)).numpy()


def covariance_torchmetrics(x: torch.Tensor) -> np.ndarray:
    """Its updates in batches of 64, with a network that does nothing."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    network = torch.nn.Identity()
    network.num_features = x.shape[1]
    metric = FrechetInceptionDistance(feature=network)
    for batch in x.split(64):
        metric.update(batch, real=True)
    mean = metric.real_features_sum / len(x)
    return ((metric.real_features_cov_sum - len(x) * mean.outer(mean)) / (len(x) - 1)).numpy()


# ---- Precision and recall


def two_sets(count: int) -> Pair:
    return features(count, 0), features(count, 1)


def precision_recall_ditexp(fake: torch.Tensor, real: torch.Tensor) -> tuple[float, float]:
    scores = PrecisionRecall(k=K)(Features(len(fake), pool=fake), Features(len(real), pool=real))
    return scores["precision"], scores["recall"]


def bare_products(fake: torch.Tensor, real: torch.Tensor) -> None:
    """Only what no algorithm of products can do without: each pair of images multiplied once, in the same tiles."""
    for x in (fake, real):
        for number, rows in enumerate(blocks(len(x))):
            for columns in blocks(len(x))[number:]:
                x[rows] @ x[columns].T
    for rows in blocks(len(fake)):
        for columns in blocks(len(real)):
            fake[rows] @ real[columns].T


def adm_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x.square().sum(1)[:, None] - 2 * (x @ y.T) + y.square().sum(1)).clamp_(min=0)


def precision_recall_adm(fake: torch.Tensor, real: torch.Tensor) -> tuple[float, float]:
    """In blocks of 10,000 x 10,000, float32: all distances, numpy's partition for the radii, all pairs compared."""
    radii = []
    for x in (fake, real):
        parts = []
        for rows in x.split(10_000):
            distances = torch.cat([adm_distances(rows, columns) for columns in x.split(10_000)], dim=1)
            parts.append(np.partition(distances.numpy(), np.arange(K + 1), axis=1)[:, K])
        radii.append(torch.from_numpy(np.concatenate(parts)))
    precise, recalled = torch.zeros(len(fake), dtype=torch.bool), torch.zeros(len(real), dtype=torch.bool)
    for i in range(0, len(fake), 10_000):
        for j in range(0, len(real), 10_000):
            rows, columns = slice(i, i + 10_000), slice(j, j + 10_000)
            distances = adm_distances(fake[rows], real[columns])
            precise[rows] |= (distances <= radii[1][columns]).any(dim=1)
            recalled[columns] |= (distances <= radii[0][rows, None]).any(dim=0)
    return precise.double().mean().item(), recalled.double().mean().item()


def precision_recall_torch_fidelity(fake: torch.Tensor, real: torch.Tensor) -> tuple[float, float]:
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    return calculate_precision_recall_full(fake, real, neighborhood=K)


def precision_recall_prdc(fake: torch.Tensor, real: torch.Tensor) -> tuple[float, float]:
    """Which compares by < and not <=."""
    from prdc import compute_prdc

    scores = compute_prdc(real.numpy(), fake.numpy(), nearest_k=K)
    return float(scores["precision"]), float(scores["recall"])


def precision_recall_sklearn(fake: torch.Tensor, real: torch.Tensor) -> tuple[float, float]:
    """The definition with NearestNeighbors for the radii and distances in chunks between the sets."""
    from sklearn.metrics import pairwise_distances_chunked
    from sklearn.neighbors import NearestNeighbors

    fake, real = fake.numpy(), real.numpy()
    fake_radii, real_radii = (
        NearestNeighbors(n_neighbors=K, algorithm="brute").fit(x).kneighbors()[0][:, -1] for x in (fake, real)
    )
    precise, recalled = [], np.zeros(len(real), bool)

    def compare(distances: np.ndarray, start: int) -> np.ndarray:
        nonlocal recalled
        recalled |= (distances <= fake_radii[start : start + len(distances), None]).any(axis=0)
        return (distances <= real_radii).any(axis=1)

    precise = np.concatenate(list(pairwise_distances_chunked(fake, real, reduce_func=compare, working_memory=256)))
    return float(precise.mean()), float(recalled.mean())


def seeds_sklearn_calls(fake: torch.Tensor, real: torch.Tensor) -> None:
    """Neighbours in the other set, both ways, as the document has it that this project started from: no metric."""
    from sklearn.neighbors import NearestNeighbors

    fake, real = fake.numpy(), real.numpy()
    NearestNeighbors(n_neighbors=K).fit(real).kneighbors(fake)
    NearestNeighbors(n_neighbors=K).fit(fake).kneighbors(real)


# ---- Running contenders in turn


def memory(name: str) -> int:
    """Bytes of VmRSS or VmHWM, of this process."""
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith(name)).split()[1]) * 1024


def contend(function: Callable, prepare: Callable, arguments: tuple, small: tuple, connection) -> None:
    """What a contender's process does: prepare, then run on each request until it is asked to stop."""
    torch.set_num_threads(THREADS)
    few, inputs = as_tuple(prepare(*small)), as_tuple(prepare(*arguments))
    connection.send(None)
    while connection.recv():
        # A virtual machine lends idle memory to its host, and to get 200 MB back takes a second; so each contender has
        # its memory, code and threads in hand when its time begins.
        np.ones(MEMORY, np.uint8)
        function(*few)
        ctypes.CDLL(None).malloc_trim(0)  # else what was freed, but kept by the allocator, would hide what is taken
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
        held, begin = memory("VmRSS"), time.perf_counter()
        value = function(*inputs)
        seconds = time.perf_counter() - begin
        connection.send((seconds, memory("VmHWM") - held, value))
        del value


def as_tuple(inputs) -> tuple:
    return inputs if isinstance(inputs, tuple) else (inputs,)


def in_turn(contenders: dict[str, Callable], prepare: Callable, arguments: tuple, small: tuple, rounds=ROUNDS) -> dict:
    """{name: {seconds, times_ours, extra_mb, value}}, all run once a round, one at a time."""
    context, processes = multiprocessing.get_context("spawn"), {}
    for name, function in contenders.items():
        if not installed(name):
            print(f"  {name} is not installed", flush=True)
            continue
        ours, theirs = context.Pipe()
        process = context.Process(target=contend, args=(function, prepare, arguments, small, theirs))
        process.start()
        theirs.close()
        ours.recv()  # one at a time also in preparing
        processes[name] = process, ours
    runs = {name: [] for name in processes}
    for _ in range(rounds):
        for name, (_, connection) in processes.items():
            connection.send(True)
            runs[name].append(connection.recv())
    for process, connection in processes.values():
        connection.send(False)
        process.join()
    medians = {name: statistics.median(seconds for seconds, _, _ in found) for name, found in runs.items()}
    rows = {
        name: {
            "seconds": medians[name],
            "times_ours": medians[name] / medians["ditexp"],
            "runs": [seconds for seconds, _, _ in found],
            "extra_mb": max(extra for _, extra, _ in found) / 1e6,
            "value": found[-1][2],
        }
        for name, found in runs.items()
    }
    for name, row in rows.items():
        print(f"  {name:36} {row['seconds']:8.2f} s {row['times_ours']:6.2f} x {row['extra_mb']:8.0f} MB", flush=True)
    return rows


def installed(name: str) -> bool:
    package = {"torch-fidelity": "torch_fidelity", "clean-fid": "cleanfid"}.get(name, name)
    return package not in ("torch_fidelity", "cleanfid", "torchmetrics", "prdc") or bool(
        importlib.util.find_spec(package)
    )


# ---- The sections


def fid() -> dict:
    contenders = {
        "ditexp": fid_ditexp,
        "pytorch-fid": fid_pytorch_fid,
        "torch-fidelity": fid_torch_fidelity,
        "torchmetrics": fid_torchmetrics,
        "clean-fid": fid_clean_fid,
    }
    result = {}
    for counts in ((5000, 6000), (1000, 900), (1000, 6000)):
        name = "{} against {} images".format(*counts)
        print(f"Fréchet distance of {SIZE} features, {name}", flush=True)
        rounds = ROUNDS if min(counts) > SIZE else 1  # peers take long and are wrong on singular covariances
        rows = in_turn(contenders, two_gaussians, counts, (30, 40), rounds)
        exact = exact_frechet_distance(*counts)
        for contender, row in rows.items():
            row["relative_error"] = abs(row["value"] - exact) / exact
            print(f"  {contender:36} relative error {row['relative_error']:.1e}", flush=True)
        result[name] = {"exact": exact, "contenders": rows}
    return result


def covariance() -> dict:
    count = 50_000
    contenders = {
        "ditexp": covariance_ditexp,
        "np.cov": covariance_numpy,
        "EDM2's algorithm": covariance_edm2,
        "torchmetrics": covariance_torchmetrics,
    }
    print(f"Mean and covariance of {count} x {SIZE}", flush=True)
    rows = in_turn(contenders, features, (count, 0), (5000, 0))
    exact = rows["np.cov"]["value"]
    for name, row in rows.items():
        row["largest_difference_from_numpy"] = float(np.abs(row.pop("value") - exact).max() / exact.max())
        print(f"  {name:36} off np.cov by {row['largest_difference_from_numpy']:.1e} of the largest", flush=True)
    return rows


def precision_recall() -> dict:
    count = 10_000
    contenders = {
        "ditexp": precision_recall_ditexp,
        "bare matrix products": bare_products,
        "ADM's algorithm": precision_recall_adm,
        "torch-fidelity": precision_recall_torch_fidelity,
        "the seed's scikit-learn calls": seeds_sklearn_calls,
        "scikit-learn, the definition": precision_recall_sklearn,
        "prdc": precision_recall_prdc,
    }
    print(f"Precision and recall, k = {K}, {count} against {count} x {SIZE}", flush=True)
    rows = in_turn(contenders, two_sets, (count,), (200,))
    for name, row in rows.items():
        print(f"  {name:36} {row['value']}", flush=True)
    return rows


class Noise:
    """Images that a cache of features can be made of in no time."""

    image_shape = (8, 8, 3)

    def __init__(self, seed: int, count: int) -> None:
        self.name, self.seed, self.count = f"noise {seed}", seed, count

    def __len__(self) -> int:
        return self.count

    def fingerprint(self) -> str:
        return f"noise-{self.seed}-{self.count}"

    def blocks(self):
        draw = np.random.default_rng(self.seed)
        for start in range(0, self.count, 256):
            shape = (min(256, self.count - start), *self.image_shape)
            yield draw.integers(0, 256 - 20 * self.seed, shape, np.uint8)


class StandIn:
    """Random features of Inception's sizes."""

    name, channels = "stand-in", 3
    outputs = {"pool": SIZE, "logits": 1008}  # noqa: RUF012
    identity = {"network": "random projections and noise"}  # noqa: RUF012

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        draw = torch.Generator().manual_seed(int(images.sum()))
        mixing = torch.randn(192, sum(self.outputs.values()), generator=torch.Generator().manual_seed(99)) / 14
        hidden = (images.flatten(1).float() - 128) / 74
        x = hidden @ mixing + torch.randn(len(images), sum(self.outputs.values()), generator=draw) / 4
        return {"pool": x[:, :SIZE].relu(), "logits": x[:, SIZE:].contiguous()}


def evaluate_cached(folder: str, count: int) -> dict:
    """Seconds of each step, and the scores."""
    sets, seconds, scores, begin = [], {}, {}, time.perf_counter()
    for seed in (0, 1):
        sets.append(extract(Noise(seed, count), StandIn(), folder))
    seconds["read the cache"] = time.perf_counter() - begin
    for metric in (FrechetDistance(), InceptionScore(split_size=5000), PrecisionRecall(k=K)):
        begin = time.perf_counter()
        scores |= metric(*sets)
        seconds[type(metric).__name__] = time.perf_counter() - begin
    return {"steps": seconds, "scores": scores}


def small_and_large_cache(folder: str, count: int) -> tuple[str, int]:
    for seed in (0, 1):
        extract(Noise(seed, count), StandIn(), folder)
    return folder, count


def all50k() -> dict:
    count = 50_000
    print(f"All of {count} against {count} images from the cache", flush=True)
    Path("outputs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="outputs") as folder:  # /tmp may be memory
        rows = in_turn({"ditexp": evaluate_cached}, small_and_large_cache, (folder, count), (folder, 200), rounds=1)
    row = rows["ditexp"]
    row["features_mb"] = 2 * count * sum(StandIn.outputs.values()) * 4 / 1e6
    row |= row.pop("value")
    print(f"  {row['steps']}\n  {row['scores']}\n  the features themselves: {row['features_mb']:.0f} MB", flush=True)
    return row


SECTIONS = {section.__name__: section for section in (fid, covariance, precision_recall, all50k)}


def main() -> None:
    unknown = set(sys.argv[1:]) - set(SECTIONS)
    if unknown:
        raise SystemExit(f"no section {', '.join(sorted(unknown))}: choose from {', '.join(SECTIONS)}")
    for library in ("OMP", "MKL", "OPENBLAS"):  # contenders' processes see it when they load these
        os.environ[f"{library}_NUM_THREADS"] = str(THREADS)
    torch.set_num_threads(THREADS)
    result = json.loads(OUT.read_text()) if OUT.exists() else {}
    for name in sys.argv[1:] or SECTIONS:
        result[name] = {"results": SECTIONS[name](), **provenance()}
        OUT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
