"""feature=clip on a tiny CLIP: transformers' own embeddings, Pillow's resize, the CLIP score, and bad files."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ditexp.cli.composing import settled
from ditexp.evaluate import __main__ as evaluate
from ditexp.feature.clip import CLIP
from ditexp.feature.clip_files import needed, read_config
from ditexp.feature.resize import pillow_bicubic
from ditexp.metric.clip_score import ClipScore
from ditexp.run.missing import MissingFile, missing_files, with_stand_ins
from ditexp.values import Features
from tests.helpers.refusals import refused
from tests.helpers.tiny_clip import save_tiny_clip

PROMPTS = ["a red seven", "two", "a handwritten one"]


def pictures(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


@pytest.mark.parametrize("shape", [(48, 64, 32, 42), (8, 8, 32, 32), (20, 17, 37, 32), (32, 40, 32, 40)])
def test_the_resize_is_pillows_to_the_last_bit(shape):
    height, width, *size = shape
    images = pictures(2, height, width)
    images[1] = np.where(images[1] > 128, 255, 0)  # overshoots
    theirs = [np.asarray(Image.fromarray(x).resize(size[::-1], Image.Resampling.BICUBIC)) for x in images]
    assert np.array_equal(pillow_bicubic(tensor(images), tuple(size)).permute(0, 2, 3, 1), np.stack(theirs))


def test_the_score_is_torchmetrics():
    """torchmetrics divides both by their norms, multiplies the dot product by 100, and takes the maximum with 0 of the
    mean; so does ours of each image, where none is negative."""
    images, text = torch.rand(50, 24), torch.rand(50, 24)
    units = [x / x.norm(p=2, dim=-1, keepdim=True) for x in (images, text)]
    theirs = (100 * (units[0] * units[1]).sum(dim=-1)).mean()
    features = Features(50, pool=images, text=text)
    assert ClipScore()(features)["clip_score"] == pytest.approx(theirs.item(), rel=1e-6)
    assert ClipScore(scale=2.5)(features)["clip_score"] == pytest.approx(theirs.item() / 40, rel=1e-6)
    assert ClipScore().values(Features(1, pool=-text[:1], text=text[:1])).tolist() == [0]
    part = ClipScore().of_parts(features, None)(torch.tensor([4, 7]), features.take(torch.tensor([4, 7])))
    assert part == ClipScore()(features.take(torch.tensor([4, 7])))
    with refused(["needs the prompts"]):
        ClipScore()(Features(50, pool=images))
    with refused(["metric.clip_score.scale=0"]):
        ClipScore(scale=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.mark.slow
def test_embeddings_are_those_of_transformers(folder):
    import transformers
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    theirs = transformers.CLIPModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prepare = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    ours = CLIP(path=str(folder), batch_size=2)
    long = "abc def " * 40
    with torch.no_grad():
        for height, width in ((48, 48), (48, 64), (20, 16)):
            images = pictures(5, height, width)
            inputs = prepare(images=list(map(Image.fromarray, images)), return_tensors="pt")
            expected = theirs.get_image_features(**inputs).pooler_output
            assert expected.std() > 0.5
            torch.testing.assert_close(ours(tensor(images))["pool"], expected, rtol=0, atol=1e-5)
        tokens = tokenizer([*PROMPTS, long], return_tensors="pt", padding=True, truncation=True)
        expected = theirs.get_text_features(**tokens).pooler_output
        torch.testing.assert_close(ours.embed([*PROMPTS, long]), expected, rtol=0, atol=1e-5)
        prefixed = CLIP(path=str(folder), prefix="a photo depicts ")
        tokens = tokenizer(["a photo depicts two"], return_tensors="pt")
        expected = theirs.get_text_features(**tokens).pooler_output
        torch.testing.assert_close(prefixed.embed(["two"]), expected, rtol=0, atol=1e-5)
    grey = images[..., :1]
    repeated = ours(tensor(grey.repeat(3, axis=3)))["pool"]
    found = CLIP(path=str(folder), channels=1, batch_size=2)(tensor(grey))["pool"]
    assert torch.equal(found, repeated)
    assert prefixed.identity != ours.identity


@pytest.mark.slow
def test_weights_that_are_missing_or_damaged_are_refused(folder, tmp_path, monkeypatch):
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "clip")
    monkeypatch.chdir(tmp_path)  # long paths leave no room for the reason
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "clip" / "model.safetensors", {"format": "pt"})
    with refused(["feature.path=clip", "lacks weights, such as visual_projection.weight"]):
        CLIP(path="clip").load()
    (tmp_path / "clip" / "model.safetensors").write_bytes(b"no tensors")
    with refused(["feature.path=clip has no weights that can be read"]):
        CLIP(path="clip").load()


@pytest.mark.slow
def test_images_with_captions_are_scored_by_the_command(folder, tmp_path, monkeypatch, capsys):
    """CLIP score and FD-CLIP of a folder with metadata.jsonl; the score of each prompt in a table."""
    images, place = pictures(6, 40, 40), tmp_path / "images"
    place.mkdir()
    lines = []
    for i, image in enumerate(images):
        Image.fromarray(image).save(place / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": PROMPTS[i % 3], "id": f"p{i % 3}"}))
    (place / "metadata.jsonl").write_text("\n".join(reversed(lines)))
    monkeypatch.chdir(tmp_path)
    given = ["images=images", "feature=clip", f"feature.path={folder}", "reference=folder", "reference.path=images"]
    monkeypatch.setattr(sys, "argv", ["ditexp", *given, "metric=[clip_score,fid]", "resamples=4"])
    evaluate.main()
    out = capsys.readouterr().out
    [file] = Path("outputs/results").glob("evaluate-*.json")
    result = json.loads(file.read_text())
    clip = CLIP(path=str(folder))
    cosines = torch.cosine_similarity(clip(tensor(images))["pool"], clip.embed(PROMPTS * 2))
    scores = 100 * cosines.clamp(min=0)
    assert result["metrics"]["clip_score"] == pytest.approx(scores.mean().item(), rel=1e-5)
    assert result["metrics"]["fid"] == pytest.approx(0, abs=1e-6) and result["deviations"]["clip_score"]["units"] == 6
    rows = file.with_suffix(".prompts.csv").read_text().splitlines()
    assert rows[0] == "id,prompt,images,clip_score,samples"
    id, prompt, count, score, samples = rows[1].split(",")
    assert (id, prompt, count, samples) == ("p0", PROMPTS[0], "2", "0 3")
    assert float(score) == pytest.approx(scores[[0, 3]].mean().item(), rel=1e-5)
    assert "all 3 prompts: " in out


# ---- Files; nothing here imports transformers


FACTS = {
    "config.json": {"model_type": "clip", "projection_dim": 24},
    "preprocessor_config.json": {
        "size": 32,
        "crop_size": 32,
        "resample": 3,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25],
    },
}


def write(path: Path, changes: dict[str, dict]) -> Path:
    (path / "model.safetensors").touch()
    for name, facts in FACTS.items():
        (path / name).write_text(json.dumps(facts | changes.get(name, {})))
    return path


def test_older_files_say_the_same_as_newer_ones(tmp_path):
    width, preprocessing = read_config(write(tmp_path, {}), "x")
    nested = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    (tmp_path / "new").mkdir()
    newer = write(tmp_path / "new", {"preprocessor_config.json": nested})
    facts = (newer / "preprocessor_config.json").read_text()
    (newer / "preprocessor_config.json").unlink()
    (newer / "processor_config.json").write_text(f'{{"image_processor": {facts}}}')
    assert (width, preprocessing) == read_config(newer, "x") and width == 24
    x = preprocessing(torch.full((1, 3, 40, 64), 255, dtype=torch.uint8))
    assert x.shape == (1, 3, 32, 32) and x.unique().tolist() == [2.0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config.json": {"model_type": "siglip"}}, ["is a 'siglip', not a clip"]),
        ({"config.json": {"projection_dim": None}}, ["has None as projection_dim"]),
        ({"preprocessor_config.json": {"resample": 2}}, ["resample=2, not 3 (bicubic)"]),
        ({"preprocessor_config.json": {"size": {"height": 32, "width": 32}}}, ["has size="]),
        ({"preprocessor_config.json": {"crop_size": 64}}, ["crop_size=64"]),
        ({"preprocessor_config.json": {"do_center_crop": False}}, ["do_center_crop=False"]),
        ({"preprocessor_config.json": {"image_std": [1, 2]}}, ["[1, 2] as image_std"]),
    ],
)
def test_files_of_other_networks_are_refused(changes, words, tmp_path):
    with refused(words):
        CLIP(path=str(write(tmp_path, changes)))


def test_a_path_without_a_clip_is_refused(tmp_path):
    with refused([f"feature.path={tmp_path}", "lacks config.json or model.safetensors"]):
        CLIP(path=str(tmp_path))
    with refused(["feature.path=/nowhere/clip", "is not a folder"]):
        CLIP(path="/nowhere/clip")
    for settings, word in (({"channels": 4}, "feature.channels=4"), ({"batch_size": 0}, "feature.batch_size=0")):
        with refused([word]):
            CLIP(path=str(tmp_path), **settings)


def test_only_what_is_read_is_downloaded():
    files = ["README.md", "config.json", "flax_model.msgpack", "merges.txt", "model.safetensors", "pytorch_model.bin"]
    assert needed(files) == ["config.json", "merges.txt", "model.safetensors"]
    assert needed(["config.json", "pytorch_model.bin"]) == []
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    assert needed(["config.json", *shards]) == ["config.json", *shards]
    assert needed(["config.json", shards[0]]) == []


def test_a_plan_lists_a_clip_that_is_not_here():
    with settled("config", ["feature=clip"]) as (cfg, _):
        for path, on_hub in (("nobody/clip", True), ("/nowhere/clip", False)):
            cfg.feature.path = path
            assert missing_files(cfg) == [MissingFile("feature", "feature.path", path, on_hub)]
        stood_in = with_stand_ins(cfg, missing_files(cfg))
        assert stood_in.feature is None and stood_in.metric == {}
