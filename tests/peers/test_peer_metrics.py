"""Our numbers beside those that other evaluators' own code prints for the same images and the same random weights.

Slow, by `make test-peers`: a thousand images go through Inception six times. Two sets of 500 images of 64 px; the KID
subsets are smaller than usual, for want of images. Every difference is printed and written down in docs/metrics.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import inception_weights

COUNT, SIZE = 500, 64
# Where both take their sums in float64: what is left are the features' own last bits of float32.
FLOAT64 = 1e-6
# Where the peer sums kernels in float32.
FLOAT32 = 1e-5


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return inception_weights.save_random(tmp_path_factory.mktemp("weights") / "random.pth")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """Smooth coloured noise; the second set has other colours and finer grain."""
    where = tmp_path_factory.mktemp("images")
    for number, (name, grain) in enumerate({"fake": 8, "real": 12}.items()):
        generator = torch.Generator().manual_seed(number)
        coarse = torch.rand(COUNT, 3, grain, grain, generator=generator) ** (1 + 0.5 * number)
        images = torch.nn.functional.interpolate(coarse, size=SIZE, mode="bicubic").clamp(0, 1)
        (where / name).mkdir()
        for index, image in enumerate((255 * images).byte().permute(0, 2, 3, 1).numpy()):
            Image.fromarray(image).save(where / name / f"{index:04d}.png")
    return where / "fake", where / "real"


@pytest.fixture(scope="module")
def evaluate(folders, weights, tmp_path_factory):
    """evaluate("adm", "fid", ...) -> scores, by the command itself."""
    from ditexp.evaluate import __main__ as command

    outputs = tmp_path_factory.mktemp("outputs")

    def run(protocol: str, *metrics_and_settings: str) -> dict[str, float]:
        metrics = [name for name in metrics_and_settings if "=" not in name]
        settings = [name for name in metrics_and_settings if "=" in name]
        where = outputs / f"{protocol}-{len(list(outputs.iterdir()))}"
        (outputs / "cache").mkdir(exist_ok=True)
        where.mkdir()
        (where / "cache").symlink_to(outputs / "cache")
        arguments = [
            f"images={folders[0]}",
            "reference=folder",
            f"reference.path={folders[1]}",
            f"feature.weights={weights}",
            f"protocol={protocol}",
            f"metric=[{','.join(metrics)}]",
            f"outputs={where}",
            *settings,
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["ditexp", *arguments])
            command.main()
        [file] = where.glob("results/*.json")
        return json.loads(file.read_text())["metrics"]

    return run


@pytest.fixture
def compare(capsys):
    """Print both numbers and their relative difference, and hold it below a tolerance."""

    def check(name: str, ours: float, theirs: float, *, rel: float) -> None:
        difference = abs(ours - theirs) / abs(theirs)
        with capsys.disabled():
            print(f"\n{name}: ours {ours:.9g}, theirs {theirs:.9g}, relative difference {difference:.1e}")
        assert difference <= rel, f"{name}: {ours} and {theirs} differ by {difference:.1e}"

    return check


def test_pytorch_fid(folders, weights, evaluate, compare):
    from pytorch_fid import fid_score, inception

    state = torch.load(weights, weights_only=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: state)
        theirs = fid_score.calculate_fid_given_paths([str(f) for f in folders], 50, "cpu", 2048, num_workers=0)
    compare("pytorch-fid FID", evaluate("pytorch_fid", "fid")["fid"], float(theirs), rel=FLOAT64)


def test_torch_fidelity(folders, weights, evaluate, compare):
    torch_fidelity = pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed: make test-peers")
    ours = evaluate("torch_fidelity", "fid", "inception_score", "kid", "precision_recall", "metric.kid.subset_size=100")
    theirs = torch_fidelity.calculate_metrics(
        input1=str(folders[0]),
        input2=str(folders[1]),
        cuda=False,
        fid=True,
        isc=True,
        kid=True,
        prc=True,
        kid_subset_size=100,
        feature_extractor="inception-v3-compat",  # precision and recall are of VGG-16 otherwise
        feature_extractor_weights_path=str(weights),
        cache=False,
        verbose=False,
    )
    names = {
        "fid": "frechet_inception_distance",
        "inception_score": "inception_score_mean",
        "inception_score_std": "inception_score_std",
        "kid": "kernel_inception_distance_mean",
        "kid_std": "kernel_inception_distance_std",
        "precision": "precision",
        "recall": "recall",
    }
    for name, key in names.items():
        rel = FLOAT32 if name.startswith("kid") else FLOAT64
        compare(f"torch-fidelity {name}", ours[name], float(theirs[key]), rel=rel)


def test_clean_fid(folders, weights, evaluate, compare):
    fid = pytest.importorskip("cleanfid.fid", reason="clean-fid is not installed: make test-peers")
    from pytorch_fid import inception

    state = torch.load(weights, weights_only=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: state)
        network = inception.InceptionV3(resize_input=False, normalize_input=False).eval()

    def extractor(images: torch.Tensor) -> torch.Tensor:
        """clean-fid's own resize has been done; its TorchScript network then takes (x - 128) / 128."""
        return network((images - 128) / 128)[0].flatten(1)

    given = {"num_workers": 0, "batch_size": 50, "device": torch.device("cpu"), "mode": "clean", "verbose": False}
    features = [fid.get_folder_features(str(folder), extractor, **given) for folder in folders]
    ours = evaluate("clean_fid", "fid", "kid", "metric.kid.subsets=null")
    compare("clean-fid FID", ours["fid"], fid.fid_from_feats(*features), rel=FLOAT64)
    # One subset of everything, since theirs are drawn without a seed.
    compare("clean-fid KID", ours["kid"], fid.kernel_distance(*features, num_subsets=1), rel=FLOAT32)
    in_float64 = [x.astype(np.float64) for x in features]
    kid = fid.kernel_distance(*in_float64, num_subsets=1)
    compare("clean-fid KID, of its features in float64", ours["kid"], kid, rel=FLOAT64)


def test_the_resize_alone_makes_another_number(evaluate):
    """Why a FID without its protocol means little: on these images the same features move by more than a per cent."""
    scores = {protocol: evaluate(protocol, "fid")["fid"] for protocol in ("adm", "edm2", "pytorch_fid", "clean_fid")}
    assert scores["adm"] == scores["edm2"]
    assert abs(scores["clean_fid"] / scores["adm"] - 1) > 0.01
