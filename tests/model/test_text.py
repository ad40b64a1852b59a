"""Text conditions: prompts, the tokenizer and encoder, the text-conditional DiT, and the bundled text model."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file, save_file

from ditexp.condition.prompts import Prompts
from ditexp.condition.unconditional import Unconditional
from ditexp.data import PHRASINGS, CaptionedDigits, caption
from ditexp.feature.digits import DigitsFeature
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.none import NoGuidance
from ditexp.model.pretrained import PretrainedDiT
from ditexp.model.pretrained_text import PretrainedTextDiT
from ditexp.model.text_encoder import TextEncoder
from ditexp.sampler import Sampler
from ditexp.samples.store import SampleStore
from ditexp.solver.heun import Heun
from ditexp.values import Condition
from tests.helpers.paths import ROOT, WEIGHTS
from tests.helpers.refusals import refused
from tests.helpers.samplers import sampler_of as sampler_of_parts

BUNDLED = WEIGHTS / "digits_text"
HELD_OUT = OmegaConf.to_container(OmegaConf.load(ROOT / "experiments/text/sweep.yaml").condition.prompts)
STUDIED = ("trained", "held_out")


@pytest.fixture(scope="module")
def model() -> PretrainedTextDiT:
    return PretrainedTextDiT(folder=str(BUNDLED))


def sampler_of(model, conditioner, guidance=None, steps=10) -> Sampler:
    return sampler_of_parts(model, Heun(), steps=steps, guidance=guidance or NoGuidance(), conditioner=conditioner)


def drawn(sampler: Sampler, count: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What the bundled classifier, which had no part in training the model, sees; and the labels."""
    batches = [sampler.images(range(start, start + 100)) for start in range(0, count, 100)]
    images = torch.cat([images for images, _ in batches])
    labels = None if batches[0][1] is None else torch.cat([labels for _, labels in batches])
    return DigitsFeature()(images)["logits"].argmax(1), labels


# ---- The bundled model


def test_held_out_phrasings_are_not_among_the_captions():
    trained = {caption(phrasing, digit) for phrasing in PHRASINGS for digit in range(10)}
    held_out = [prompt for prompts in HELD_OUT.values() for prompt in prompts]
    assert len(set(held_out)) == 80 and trained.isdisjoint(held_out)
    assert len(CaptionedDigits()) == 1797 * len(PHRASINGS)
    files = {name: Prompts(file=str(ROOT / f"experiments/prompt_adherence/{name}.jsonl")) for name in STUDIED}
    assert {(row.text, row.label) for row in files["trained"].rows} == {
        (caption(phrasing, digit), digit) for phrasing in PHRASINGS for digit in range(10)
    }
    assert {(row.text, row.label) for row in files["held_out"].rows} == {
        (prompt, int(digit)) for digit, prompts in HELD_OUT.items() for prompt in prompts
    }
    assert [len({row.id for row in file.rows}) for file in files.values()] == [160, 80]


@pytest.mark.slow
def test_the_digit_that_is_named_is_drawn(model):
    """experiments/text has 2,000 samples a cell. Of 400 with a share of 97 %, fewer than 95 % are right once in 130."""
    seen, named = drawn(sampler_of(model, Prompts(prompts=HELD_OUT), ClassifierFree(weight=1.0)), 400)
    assert (seen == named).double().mean() >= 0.95


def test_the_empty_prompt_gives_all_digits(model):
    seen, labels = drawn(sampler_of(model, Unconditional()), 300)
    counts = seen.bincount(minlength=10)
    assert labels is None
    assert counts.min() >= 10 and counts.max() <= 75  # 30 each, were all as frequent


def test_what_is_padding_does_not_matter(model):
    condition = model.encode(["a handwritten seven", "three"])
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.3, 0.7])
    other = condition.states.where(condition.mask[..., None], torch.full_like(condition.states, 100.0))
    assert not torch.equal(other, condition.states)
    assert torch.equal(model(x, t, condition), model(x, t, Condition(states=other, mask=condition.mask)))


def test_a_prompt_is_encoded_once_and_not_in_every_step(model, monkeypatch):
    encoded = []
    forward = TextEncoder.forward
    monkeypatch.setattr(TextEncoder, "forward", lambda self, prompts: encoded.append(prompts) or forward(self, prompts))
    monkeypatch.setattr(model, "encoded", {})
    sampler = sampler_of(model, Prompts(prompts=["a one", "a two"]), ClassifierFree(weight=1.0), steps=5)
    sampler.images(range(8))
    sampler.images(range(8, 16))
    assert sorted(encoded) == [[""], ["a one"], ["a two"]]


def test_states_do_not_depend_on_what_else_is_encoded(model, monkeypatch):
    together = model.encode(["a one", "someone wrote the number two", "", "a one"])
    assert torch.equal(together.states[0], together.states[3])
    monkeypatch.setattr(model, "encoded", {})
    assert torch.equal(model.encode([""]).states[0], together.states[2])


def test_guidance_moves_away_from_the_empty_prompt(model):
    condition = Prompts(prompts=["a handwritten seven", "a one"])(model, 0, range(4))
    x, t = torch.randn(4, 1, 8, 8), torch.full((4,), 0.4)
    guided = ClassifierFree(weight=1.5).bind(model, condition)(x, t)
    c, u = model(x, t, condition), model(x, t, model.encode([""] * 4))
    torch.testing.assert_close(guided, 2.5 * c - 1.5 * u, rtol=0, atol=2e-5)
    assert (c - u).abs().max() > 0.1


def test_conditions_between_two_prompts_begin_and_end_at_them(model):
    first, second = (model.encode([prompt] * 3) for prompt in ("a one", "someone wrote the number eight"))
    between = model.between(first, second, torch.tensor([0.0, 0.5, 1.0]))
    x, t = torch.randn(3, 1, 8, 8), torch.full((3,), 0.5)
    v = model(x, t, between)
    torch.testing.assert_close(v[0], model(x, t, first)[0])
    torch.testing.assert_close(v[2], model(x, t, second)[2])
    assert v.isfinite().all() and (v[1] - model(x, t, first)[1]).abs().max() > 1e-3


# ---- Prompts


def test_prompts_follow_in_turn_and_number_the_samples(model):
    listed = Prompts(prompts=["a one", "a two"])
    assert listed(model, 0, range(1, 4)).labels.tolist() == [1, 0, 1]
    by_class = Prompts(prompts={3: ["a three", "the digit 3"], 7: "a seven"})
    assert by_class.captions(range(4)) == ["a three", "a seven", "the digit 3", "a three"]
    assert by_class(model, 0, range(4)).labels.tolist() == [3, 7, 3, 3]


def test_prompts_from_a_file(tmp_path, model):
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa one\r\n\n  çédille \n".encode())
    prompts = Prompts(file=str(file))
    assert prompts.captions(range(2)) == ["a one", "çédille"]
    assert prompts.identity == Prompts(prompts=["a one", "çédille"]).identity


def test_only_a_line_feed_ends_a_prompt(tmp_path):
    odd = "a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i\rj"
    (tmp_path / "prompts.txt").write_bytes(f"{odd}\r\n{odd}\n\u3000end".encode())
    assert Prompts(file=str(tmp_path / "prompts.txt")).captions(range(3)) == [odd, odd, "\u3000end"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["holds no prompt", "one a line"]),
        (b" \n\n", ["holds no prompt"]),
        ("zwölf".encode("latin-1"), ["not UTF-8", "byte 2 is 0xf6", "save it as UTF-8"]),
        (None, ["does not exist", "a prompt a line"]),
    ],
)
def test_a_file_without_prompts_is_refused(content, words, tmp_path):
    if content is not None:
        (tmp_path / "prompts.txt").write_bytes(content)
    with refused([f"condition.file={tmp_path / 'prompts.txt'}", *words]):
        Prompts(file=str(tmp_path / "prompts.txt"))


@pytest.mark.parametrize(
    "prompts", [[], {}, "a seven", 7, ["a", 3], {"x": "a"}, {True: "a"}, {1: []}, {1: ["a", None]}]
)
def test_what_are_no_prompts_is_refused(prompts):
    with refused(["condition.prompts=", "give a list"]):
        Prompts(prompts=prompts)


def test_exactly_one_source_of_prompts():
    with refused(["condition.prompts or condition.file", "neither is given"]):
        Prompts()
    with refused(["both are given"]):
        Prompts(prompts=["a"], file="b.txt")


def test_a_model_without_text_takes_no_prompts():
    with refused(["takes no text", "model=digits_text"]):
        Prompts(prompts=["a"]).check(PretrainedDiT(checkpoint=str(WEIGHTS / "digits_dit.safetensors")))


def test_a_prompt_that_is_too_long_is_cut_off_with_a_notice(model, caplog):
    long = "a seven " * 20
    model.notice_truncation([long, "a one"])
    (record,) = caplog.records
    assert all(words in record.getMessage() for words in ("41 tokens", "cut off at the model's 16", repr(long)))
    assert torch.equal(model.encode([long]).mask, torch.ones(1, 16, dtype=torch.bool))


# ---- Files, training, the command


def test_a_folder_that_does_not_hold_the_parts_is_refused(tmp_path):
    with refused(["model.safetensors does not exist"]):
        PretrainedTextDiT(folder=str(tmp_path))
    shutil.copytree(BUNDLED, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "tokenizer")
    with refused(["no tokenizer at", "save_pretrained"]):
        PretrainedTextDiT(folder=str(tmp_path / "model"))
    shutil.copy(BUNDLED / "text_encoder" / "model.safetensors", tmp_path / "model" / "model.safetensors")
    with refused(["is not a text DiT"]):
        PretrainedTextDiT(folder=str(tmp_path / "model"))


def other_names(file: Path) -> None:
    save_file({f"module.{key}": value for key, value in load_file(file).items()}, file, {"format": "pt"})


def other_shape(file: Path) -> None:
    save_file(load_file(file) | {"encoder.final_layer_norm.weight": torch.zeros(3)}, file, {"format": "pt"})


def no_pickle(file: Path) -> None:
    file.unlink()
    torch.save({"a": Path("code")}, file.with_name("pytorch_model.bin"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (other_names, ["20 weights are missing, such as encoder.block.0"]),  # else they would be drawn at random
        (other_shape, ["no text encoder at"]),
        (lambda file: file.write_bytes(file.read_bytes()[:1000]), ["invalid header"]),
        (no_pickle, ["a pickle with code, which is never run"]),
    ],
)
def test_an_encoder_without_its_weights_is_refused(tmp_path, damage, words):
    folder = shutil.copytree(BUNDLED, tmp_path / "model")
    damage(folder / "text_encoder" / "model.safetensors")
    with refused(words):
        PretrainedTextDiT(folder=str(folder))


def test_an_encoder_in_half_precision_is_read_as_float32(tmp_path, caplog):
    folder = shutil.copytree(BUNDLED, tmp_path / "half")
    half = PretrainedTextDiT(folder=str(BUNDLED)).encoder.encoder.bfloat16()
    half.save_pretrained(folder / "text_encoder")
    read = PretrainedTextDiT(folder=str(folder))
    assert f"{folder}/text_encoder holds weights in bfloat16, which are converted to float32" in caplog.text
    expected = {key: value.float() for key, value in half.state_dict().items()}
    assert all(torch.equal(value, expected[key]) for key, value in read.encoder.encoder.state_dict().items())
    assert read.encode(["three"]).states.dtype == torch.float32


def test_training_leaves_a_folder_that_samples(ditexp, tmp_path):
    small = ["network.hidden_size=24", "network.depth=1", "network.text_encoder.hidden_size=16"]
    folder = [f"folder={tmp_path / 'text'}", "batch_size=8", "warmup=1"]
    train = ["network=digits_text", "data=captioned_digits", *small, *folder]
    (tmp_path / "text" / "tokenizer").mkdir(parents=True)
    (tmp_path / "text" / "tokenizer" / "half").touch()  # of a training that was killed here
    assert ditexp(*train, "steps=3", module="ditexp.train").code == 0
    files = [file for part in ("tokenizer", "text_encoder") for file in (tmp_path / "text" / part).iterdir()]
    assert len(files) > 3 and len({file.stat().st_mode for file in files}) == 1  # safetensors': its owner's alone
    assert not any(file.name == "half" or ".tmp" in file.read_bytes().decode(errors="replace") for file in files)
    model = PretrainedTextDiT(folder=str(tmp_path / "text"))
    condition = Prompts(prompts=["a seven"])(model, 0, range(2))
    assert model(torch.randn(2, 1, 8, 8), torch.rand(2), condition).shape == (2, 1, 8, 8)
    assert condition.states.shape == (2, 16, 16)


@pytest.mark.slow
def test_the_command_samples_prompts_and_shows_them(ditexp, tmp_path):
    prompts = "condition.prompts={3: [a three, the digit 3], 7: a seven}"
    few = ["num_samples=24", "batch_size=8", "steps=4", "metric=[label_accuracy]"]
    run = ditexp("-m", "model=digits_text", "condition=prompts", prompts, "guidance=cfg", "guidance.weight=0,1", *few)
    assert run.code == 0, run.output
    results = [json.loads(path.read_text()) for path in (tmp_path / "outputs" / "results").glob("*.json")]
    assert sorted(result["cost"]["forwards"] for result in results) == [4, 8]
    for result in results:
        assert 0 < result["metrics"]["label_accuracy"] <= 1
        assert Image.open(result["grid"]).width > 200
        store = SampleStore.open(tmp_path / "outputs" / "samples" / result["sample_id"])
        assert store.labels()[:5].tolist() == [3, 7, 3, 3, 7]
        named = result["config"]["condition"]["prompts"]
        assert named == {"3": ["a three", "the digit 3"], "7": "a seven"}
        of_prompts = list(csv.DictReader((tmp_path / f"outputs/results/{result['id']}.prompts.csv").open()))
        assert [(row["prompt"], row["images"]) for row in of_prompts] == [
            ("a three", "8"),
            ("a seven", "8"),
            ("the digit 3", "8"),
        ]
        scores = [float(row["label_accuracy"]) for row in of_prompts]
        assert sum(scores) / 3 == pytest.approx(result["metrics"]["label_accuracy"])
        assert result["prompts"]["lowest"][0]["label_accuracy"] == min(scores)
        assert Image.open(result["prompt_picture"]).width > 200
    (report,) = (tmp_path / "outputs" / "reports").glob("*/prompts.md")
    assert report.read_text().count("2 of 3 prompts") == 2


def test_mistakes_in_prompts_come_before_any_work(in_process):
    ended = in_process(
        "-m", "tracker=none", "model=digits,digits_text", "condition=prompts", "condition.prompts=[a seven]"
    )
    assert ended.code == 2 and not Path("outputs/samples").exists()
    (line,) = ended.complaints
    assert "takes no text" in line


# ---- Its identity


@pytest.fixture
def copy(tmp_path) -> Path:
    """The bundled tokenizer and encoder in one folder, as repositories on the hub have them."""
    for name in ("tokenizer", "text_encoder"):
        shutil.copytree(BUNDLED / name, tmp_path / "both", dirs_exist_ok=True)
    return tmp_path / "both"


def identity_of(source: Path | str) -> dict:
    return TextEncoder.load(str(source), str(source), 16).identity


def test_an_encoder_is_known_by_every_file_that_may_be_loaded(copy):
    """Weights in .bin, words in .bpe or .tiktoken, shards in a folder: whatever their names end in."""
    seen = [identity_of(copy)]
    for name in ("pytorch_model.bin", "vocab.bpe", "merges", "additional/chat.jinja"):
        for content in ("one", "two"):  # of the same size and date
            (copy / name).parent.mkdir(exist_ok=True)
            (copy / name).write_text(content)
            os.utime(copy / name, (0, 0))
            seen.append(identity_of(copy))
    assert all(seen.count(each) == 1 for each in seen)
    (copy / "README.md").write_text("for people")
    (copy / ".cache").mkdir()
    (copy / ".cache" / "index.json").write_text("{}")
    assert identity_of(copy) == seen[-1] and seen[-1]["encoder"]["additional/chat.jinja"]


def test_a_folder_wins_over_a_name_on_the_hub_which_is_known_by_its_commit(copy, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository, commits = tmp_path / "models--tiny--text", ["c0ffee" * 6 + "c0de", "decaf0" * 6 + "c0de"]
    (repository / "refs").mkdir(parents=True)
    for commit in commits:
        (repository / "refs" / "main").write_text(commit)
        shutil.copytree(copy, repository / "snapshots" / commit)
        facts = {"name": "tiny/text", "commit": commit}
        assert identity_of("tiny/text") == {"tokenizer": facts, "encoder": facts}
    shutil.copytree(copy, tmp_path / "tiny" / "text")
    assert identity_of("tiny/text") == identity_of(copy)
