"""Inception features side by side: python -m benchmarks.extraction

pytorch-fid's own loop, torch-fidelity's and torchmetrics' networks where they are installed, and ours with the resize
of each take the same 50 images of 64 px in one batch, in turn, several times, all with the same random weights. Besides
images per second: the ratio of medians to ours, how far the pooled features are from ours under the same resize
(largest difference over largest feature), and the peak memory of a process that does nothing else (resident in all, or
allocated on a GPU) over what it has when its network is ready.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import torch
from pytorch_fid import inception
from torch import Tensor

from ditexp.feature.inception import Inception
from ditexp.meter import peak_memory_mb, reset_peak_memory
from ditexp.provenance import provenance
from tests.helpers.inception_weights import save_random

ROUNDS, BATCH, SIZE = 5, 50, 64
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Extractor = Callable[[Tensor], Tensor]


def pytorch_fid(weights: Path) -> Extractor:
    """The body of the loop in pytorch_fid.fid_score.get_activations, without its reading of files."""
    state = torch.load(weights, weights_only=True)
    with mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
        model = inception.InceptionV3().eval().to(DEVICE)

    @torch.no_grad()
    def activations(images: Tensor) -> Tensor:
        return model((images / 255).to(DEVICE))[0].squeeze(3).squeeze(2).cpu()

    return activations


def torch_fidelity(weights: Path) -> Extractor:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(weights)).to(DEVICE)
    return lambda images: network(images.to(DEVICE))[0].cpu()


def torchmetrics(weights: Path) -> Extractor:
    from torchmetrics.image.fid import NoTrainInceptionV3

    network = NoTrainInceptionV3("x", ["2048"], str(weights), antialias=False).to(DEVICE).requires_grad_(False)
    return lambda images: network(images.to(DEVICE)).cpu()


def ours(resize: str, weights: Path) -> Extractor:
    feature = Inception(weights=str(weights), resize=resize).to(DEVICE)
    feature.load()
    return lambda images: feature(images)["pool"]


def ours_pytorch_fid(weights: Path) -> Extractor:
    return ours("pytorch_fid", weights)


def ours_tensorflow(weights: Path) -> Extractor:
    return ours("tensorflow", weights)


PEERS = {pytorch_fid: ours_pytorch_fid, torch_fidelity: ours_tensorflow, torchmetrics: ours_tensorflow}


def images() -> Tensor:
    return torch.randint(0, 256, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def measure_memory(make: Callable[[Path], Extractor], weights: Path, connection) -> None:
    extractor, batch = make(weights), images()
    reset_peak_memory(DEVICE)
    before = peak_memory_mb(DEVICE)
    extractor(batch)
    connection.send(peak_memory_mb(DEVICE) - before)


def extra_memory_mb(make: Callable[[Path], Extractor], weights: Path) -> float:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe()
    process = context.Process(target=measure_memory, args=(make, weights, sender))
    process.start()
    sender.close()
    extra = receiver.recv()
    process.join()
    return extra


def main() -> None:
    peers = {peer: matching for peer, matching in PEERS.items() if find_spec(peer.__name__)}
    makes, batch = [*peers, *dict.fromkeys(peers.values())], images()
    with tempfile.TemporaryDirectory() as folder:
        weights = save_random(Path(folder) / "random.pth")
        extractors = {make: make(weights) for make in makes}
        seconds, pools = {make: [] for make in makes}, {}
        for round in range(-1, ROUNDS):  # the first one warms up
            for make, extractor in extractors.items():
                begin = time.perf_counter()
                pools[make] = extractor(batch)
                if round >= 0:
                    seconds[make].append(time.perf_counter() - begin)
        del extractors
        memory = {make: extra_memory_mb(make, weights) for make in makes}
    medians, rows = {make: statistics.median(seconds[make]) for make in makes}, {}
    for make in makes:
        rows[make.__name__] = {"images_per_second": BATCH / medians[make], "extra_memory_mb": memory[make]}
        rows[make.__name__] |= {"seconds": seconds[make]}
        if make in peers:
            same = peers[make]
            difference = (pools[make] - pools[same]).abs().max() / pools[make].abs().max()
            rows[make.__name__] |= {
                "ours": same.__name__,
                "seconds_over_ours": medians[make] / medians[same],
                "median_of_ratios": statistics.median(a / b for a, b in zip(seconds[make], seconds[same])),
                "feature_difference": difference.item(),
            }
    result = {"images": BATCH, "size": SIZE, "device": str(DEVICE), "extractors": rows, **provenance()}
    out = Path(__file__).parent / "results" / "extraction.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
