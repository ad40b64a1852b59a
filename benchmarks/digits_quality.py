"""How good is the bundled digits model? python -m benchmarks.digits_quality samples.npz

Samples are judged by a support vector machine on raw pixels, trained on all of scikit-learn's digits, which has no
part in ditexp; by the FID of the bundled feature network; and by how often they are copies of training images.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import SVC

from ditexp.feature.digits import DigitsFeature
from ditexp.images.digits import DigitsImages
from ditexp.metric.fid import FrechetDistance
from ditexp.values import Features


def quality(images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """images (N, 8, 8, 1) uint8, labels (N,): what they were conditioned on."""
    digits = load_digits()
    real = np.concatenate(list(DigitsImages().blocks()))
    pixels, real_pixels = images.reshape(len(images), -1) / 255.0, real.reshape(len(real), -1) / 255.0
    judge = SVC(gamma="scale", C=10.0)
    judge_accuracy = cross_val_score(judge, real_pixels, digits.target, cv=5).mean()
    accuracy = (judge.fit(real_pixels, digits.target).predict(pixels) == labels).mean()

    feature, fid = DigitsFeature(), FrechetDistance()
    fake_pool, real_pool = (feature(torch.tensor(x).permute(0, 3, 1, 2))["pool"] for x in (images, real))
    halves = []
    for seed in range(10):
        order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))
        first, second = (Features(len(part), real_pool[part]) for part in order.tensor_split(2))
        halves.append(fid(first, second)["fid"])
    score = fid(Features(len(images), fake_pool), Features(len(real), real_pool))["fid"]

    nearest_real = NearestNeighbors(n_neighbors=2).fit(real_pixels)
    to_real = nearest_real.kneighbors(pixels, n_neighbors=1)[0][:, 0]
    among_real = nearest_real.kneighbors(real_pixels)[0][:, 1]
    return {
        "samples": len(images),
        "classified_as_their_label": float(accuracy),
        "judge_cross_validated_accuracy_on_real": float(judge_accuracy),
        "fid": score,
        "fid_between_random_halves_mean_of_10": float(np.mean(halves)),
        "fid_between_random_halves_min": float(np.min(halves)),
        "median_distance_to_nearest_training_image": float(np.median(to_real)),
        "median_distance_between_nearest_training_images": float(np.median(among_real)),
        "share_nearer_than_1st_percentile_of_real": float((to_real < np.quantile(among_real, 0.01)).mean()),
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.digits_quality samples.npz (made by ditexp samples export)")
    with np.load(Path(sys.argv[1])) as archive:
        print(json.dumps(quality(archive["arr_0"], archive["arr_1"]), indent=2))
