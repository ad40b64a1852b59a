"""Latents beside or instead of pixels: the same images either way, and no sampling where latents are stored."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from safetensors.numpy import save

from ditexp.checks import ConfigError
from ditexp.cli.packaged import packaged
from ditexp.evaluate.images import open_images
from ditexp.extraction import extract, folder_of
from ditexp.run import decoding
from ditexp.run.blocks import BlockMaker, SetSpec
from ditexp.run.cell import Cell, build
from ditexp.run.job import describe_sets
from ditexp.run.plan import Planned, bytes_to_write, plan_cell, print_plan
from ditexp.run.workload import Evaluations
from ditexp.samples.claims import Claims
from ditexp.samples.commands import export_set, free_needless, list_sets, verify_sets
from ditexp.samples.latents import READ_WITHOUT_DITEXP, LatentStore, decode, decode_labels, encode
from ditexp.samples.store import SampleStore, find_set
from ditexp.values import Cost
from tests.helpers import commands, holds
from tests.helpers.codecs import LatentMixture
from tests.helpers.refusals import refused
from tests.helpers.sample_sets import files_of

SMALL = ("num_samples=20", "batch_size=4", "steps=2", "devices=cpu:1", "metric=inception_score", "tracker=none")
COMMAND = "ditexp run seed=0"
KEPT = ("pixels", "latents", "both")


def latents_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 4, 4, 4), dtype=np.float32)


def cell_in(folder: Path, *overrides: str, codec: int | None = 0) -> Cell:
    """20 samples in three blocks of 8. codec: the seed of the VAE; None for a model of pixels."""
    with initialize_config_dir(str(packaged("conf")), version_base="1.3"):
        cfg = compose("config", overrides=[*SMALL, f"outputs={folder}", *overrides])
    OmegaConf.set_struct(cfg, False)
    if codec is not None:
        cfg.model = {"_target_": "tests.helpers.codecs.LatentMixture"}
        cfg.vae = {"_target_": "tests.helpers.codecs.Convolved", "seed": codec}
    return build(cfg)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("ditexp.samples.store.BLOCK_IMAGES", 8)


@pytest.fixture
def cell(tmp_path) -> Callable[..., Cell]:
    return lambda *overrides, **options: cell_in(tmp_path / "outputs", *overrides, **options)


def maker_of(cell: Cell) -> BlockMaker:
    return SetSpec(cell.config, cell.store.id, os.getcwd()).block_maker(torch.device("cpu"))


def made(cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Make what is missing, as a worker does; the images and labels of the set."""
    describe_sets(cell, COMMAND, is_new=True)
    maker = maker_of(cell)
    for number in cell.store.missing():
        block = maker.make(number)
        maker.write(block)
        maker.extract(block)()
    assert not cell.store.missing()
    describe_sets(cell, COMMAND, is_new=True)
    return np.concatenate(list(cell.store.blocks())), cell.store.labels()


def planned(*cells: Cell) -> dict[str, Planned]:
    done: set[tuple[Path, int]] = set()
    return {
        f"cell{number}": plan_cell(OmegaConf.create(one.config), done, {}, Evaluations())
        for number, one in enumerate(cells)
    }


def rows_of(work: Callable[[], object]) -> int:
    """How many samples the network was evaluated on."""
    before = LatentMixture.rows
    work()
    return LatentMixture.rows - before


@pytest.mark.parametrize("has_labels", [True, False])
def test_a_block_of_latents_reads_as_it_was_written(has_labels, tmp_path, monkeypatch):
    x, labels = latents_of(5), np.arange(5) if has_labels else None
    x[0, 0, 0] = [np.inf, -0.0, np.float32(1e-45), 3e38]
    data = encode(x, labels)
    assert data == encode(x, labels)
    read, its_labels = decode(data, (5, 4, 4, 4))
    assert read.tobytes() == x.tobytes() and read.dtype == np.float32
    assert its_labels is None if labels is None else np.array_equal(its_labels, decode_labels(data, 5))

    (tmp_path / "000000.safetensors").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(READ_WITHOUT_DITEXP, names)  # what a set's README tells a stranger
    assert np.array_equal(names["x"], x) and (names["labels"] is None) is not has_labels


LABELS = np.arange(5)
DAMAGED = {
    "nothing": b"",
    "noise": b"\x07" * 200,
    "truncated": encode(latents_of(5), LABELS)[:-9],
    "a header of 4 GB": b"\xff\xff\xff\xff\0\0\0\0{}",
    "no latents": save({"labels": LABELS}),
    "4 latents": encode(latents_of(4), LABELS),
    "latents of halves": save({"x": latents_of(5).astype(np.float16), "labels": LABELS}),
    "latents of doubles": save({"x": latents_of(5).astype(np.float64), "labels": LABELS}),
    "other latents": save({"x": latents_of(5).transpose(0, 2, 3, 1)[..., :2].copy(), "labels": LABELS}),
    "4 labels": encode(latents_of(5), np.arange(4)),
    "labels of floats": encode(latents_of(5), np.arange(5.0)),
    "something more": save({"x": latents_of(5), "labels": LABELS, "y": LABELS}),
    "latents of a terabyte": (lambda h: len(h).to_bytes(8, "little") + h + bytes(1280))(
        b'{"x":{"dtype":"F32","shape":[5,4,4,3355443200],"data_offsets":[0,1073741824000]}}'
    ),
    "a type that numpy lacks": (lambda h: len(h).to_bytes(8, "little") + h + bytes(640))(
        b'{"x":{"dtype":"BF16","shape":[5,4,4,4],"data_offsets":[0,640]}}'
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_block_of_latents_is_refused(name, tmp_path):
    """Even if its manifest knows exactly these bytes."""
    with pytest.raises(ValueError):
        decode(DAMAGED[name], (5, 4, 4, 4))
    store = LatentStore(tmp_path, identity={"block_size": 5, "latent_shape": [4, 4, 4]}, num_samples=5)
    store.write(0, latents_of(5), LABELS, cost=Cost(), maker={})
    store.path(0).write_bytes(DAMAGED[name])
    assert store.manifest(0) is None
    with refused(["000000.safetensors", "verify"]):
        store.read(0)


@pytest.mark.parametrize("codec", [0, None])
def test_images_are_the_same_bytes_whatever_is_kept(codec, tmp_path):
    """Sampled and decoded at once, from latents that were just stored, or from those of an earlier run."""
    found = []
    for keep in KEPT:
        cell = cell_in(tmp_path / keep, f"store={keep}", codec=codec)
        found.append((cell.id, cell.store.id, *made(cell)))
        assert bool(files_of(cell.store.folder)) is (keep != "latents")
        assert cell.latents.folder.exists() is (keep != "pixels")
        if keep == "latents":  # and without any pixels of the set
            shutil.rmtree(cell.store.folder)
            shutil.rmtree(cell.outputs.features)
            again = cell_in(tmp_path / keep, codec=codec)
            assert rows_of(lambda cell=again: found.append((cell.id, cell.store.id, *made(cell)))) == 0
            assert files_of(again.store.folder)
    for result_id, id, images, labels in found[1:]:
        assert (result_id, id) == found[0][:2]
        assert np.array_equal(images, found[0][2]) and np.array_equal(labels, found[0][3])
    assert len(np.unique(found[0][2])) > 100  # of 256


def test_another_vae_or_rounding_evaluates_no_network(cell, capsys):
    first = cell("store=both")
    images, _ = made(first)
    others = [cell("rounding=truncate", "store=latents"), cell(codec=1), cell("store=both", "rounding=half_even")]
    assert len({one.store.id for one in (first, *others)}) == 4 and len({one.latents.id for one in others}) == 1
    for other in others:
        print_plan(planned(other))
        assert "0, 24 to decode" in (said := capsys.readouterr().out) and "1 cell needs 0 network evaluations" in said
        assert rows_of(lambda other=other: made(other)) == 0
    sampled, decoded = first.store.cost(steps=2), others[0].store.cost(steps=2)
    assert decoded.forwards == sampled.forwards == 2 and decoded.nfe == 2
    of_latents = [first.latents.manifest(block) for block in range(3)]
    assert decoded.seconds_per_image > sum(one.cost.seconds for one in of_latents) / 24
    truncated, coarse = (np.concatenate(list(other.store.blocks())) for other in others[:2])
    step = images.astype(int) - truncated
    assert set(np.unique(step)) == {0, 1} and 0.2 < step.mean() < 0.8  # truncated is half a level darker
    assert (coarse != images).mean() > 0.9
    assert {manifest.latents for manifest in others[1].store.manifests()} == {first.latents.id}


def test_the_setting_enters_no_id_and_codec_and_rounding_enter_that_of_the_images(cell):
    cells = [cell(f"store={keep}") for keep in KEPT]
    assert len({one.id for one in cells}) == len({one.store.id for one in cells}) == 1
    assert {"codec", "image_shape"} <= cells[0].store.identity.keys()
    facts = cells[0].latents.identity
    assert not {"codec", "rounding", "image_shape"} & facts.keys() and facts["latent_shape"] == [4, 4, 4]
    assert cell("seed=1").latents.id != cells[0].latents.id == cell("rounding=truncate", codec=3).latents.id
    assert cell("batch_size=8").latents.id != cells[0].latents.id
    pixels = cell(codec=None).store.identity
    assert not {"codec", "rounding", "store", "latent_shape"} & pixels.keys()
    with pytest.raises(ConfigError, match="store=jpeg: choose"):
        cell("store=jpeg")


def test_latents_of_a_task_that_encodes_images_belong_to_one_vae(cell):
    ids = [cell("task=inpaint", "data=digits", codec=codec).latents.id for codec in (0, 1)]
    assert ids[0] != ids[1] and cell("task=inpaint", "data=digits", "rounding=truncate").latents.id == ids[0]


def test_stored_latents_of_inpainting_get_their_known_pixels(cell):
    images, _ = made(cell("task=inpaint", "data=digits", "store=pixels"))
    kept = cell("task=inpaint", "data=digits", "store=latents")
    shutil.rmtree(kept.store.folder)
    assert np.array_equal(made(kept)[0], images)
    known = kept.sampler.task.pixels(kept.sampler, range(20)).permute(0, 2, 3, 1).numpy()
    fill = kept.sampler.task.fill(kept.sampler, range(20)).permute(0, 2, 3, 1).numpy().astype(bool)
    same = (images[:20] == known) | fill
    assert same.all()


def test_what_stops_a_worker_between_latents_and_pixels_costs_no_sampling(cell, monkeypatch):
    one = cell("store=both")
    describe_sets(one, COMMAND, is_new=True)
    monkeypatch.setattr(decoding.Decoder, "pixels", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        maker_of(one).make(1)
    monkeypatch.undo()
    monkeypatch.setattr("ditexp.samples.store.BLOCK_IMAGES", 8)
    assert one.store.missing() == [0, 1, 2] and one.store.decodable() == [1]
    assert rows_of(lambda: maker_of(one).make(1)) == 0


@pytest.mark.parametrize("keep", ["latents", "both"])
def test_damaged_latents_are_sampled_again(keep, cell, capsys):
    one = cell(f"store={keep}")
    images, _ = made(one)
    path, date = one.latents.path(1), one.latents.path(1).stat().st_mtime_ns
    data = path.read_bytes()
    path.write_bytes(bytes(len(data)))
    assert one.store.missing() == [1] and not one.store.decodable()
    os.utime(path, ns=(date, date))  # which only reading shows
    assert not one.store.missing() and verify_sets(one.outputs, [one.latents.id]) == 1
    assert "block 1 (000001.safetensors) is damaged and was dropped" in capsys.readouterr().out
    assert one.store.missing() == [1]
    assert np.array_equal(made(one)[0], images) and path.read_bytes() == data
    path.write_bytes(bytes(len(data)))
    os.utime(path, ns=(date, date))
    one.latents.path(0).unlink()
    assert rows_of(lambda: maker_of(one).make(0)) > 0


def test_pixels_are_made_of_latents_alone_where_a_later_run_keeps_them(cell):
    one = cell("store=latents")
    images, _ = made(one)
    for keep in ("pixels", "both"):
        later = cell(f"store={keep}")
        assert later.has_gaps and later.store.decodable() == [0, 1, 2]
    assert rows_of(lambda: made(later)) == 0 and np.array_equal(later.store.read(2)[0], images[16:])
    blocks = files_of(later.store.folder)
    assert len(blocks) == 3 and not cell("store=latents").has_gaps
    shutil.rmtree(later.latents.folder)
    again = cell("store=latents")
    assert again.has_gaps and rows_of(lambda: made(again)) > 0
    assert files_of(again.store.folder) == blocks  # what is there already stays
    assert all(manifest.has_file for manifest in again.store.manifests())


def test_the_plan_and_the_disk_count_latents_once(cell, capsys):
    cells = {keep: cell(f"store={keep}", f"rounding={way}") for keep, way in zip(KEPT, ("half_up", "truncate") * 2)}
    print_plan(planned(cells["both"], cell("store=both", "rounding=truncate")))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1][5:7] == ["24", "to"] and rows[2][5:9] == ["0,", "24", "to", "decode"]
    assert "need 48 network evaluations" in " ".join(rows[3])
    sizes = {keep: sum(bytes_to_write([one]).values()) for keep, one in cells.items()}
    latents = 24 * 4 * 4**3
    assert sizes["pixels"] - 1.01 * 24 * 64 > 0 and sizes["both"] - sizes["pixels"] == latents + 3 * 8192
    assert sizes["pixels"] - sizes["latents"] == pytest.approx(1.01 * 24 * 64 - latents - 3 * 8192, abs=1)
    both = sum(bytes_to_write([cells["both"], cell("store=both", "rounding=truncate")]).values())
    assert both == 2 * sizes["both"] - latents - 3 * 8192


def test_features_and_labels_of_images_that_are_not_kept(cell):
    one = cell("store=latents")
    images, labels = made(one)
    feature = one.evaluator.feature
    assert len(list(folder_of(one.store.id, feature, one.outputs.features).iterdir())) == 3
    expected = feature(torch.from_numpy(images).permute(0, 3, 1, 2))["logits"][:20]
    for _ in range(2):
        found = extract(one.store, feature, one.outputs.features).logits
        assert torch.allclose(found, expected, atol=1e-4)
        shutil.rmtree(one.outputs.features)  # then they are extracted from decoded latents
    assert labels.tolist() == [index % 10 for index in range(20)]


def result_of(cell: Cell) -> Path:
    path = cell.outputs.result(cell.id)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"sample_id": cell.store.id, "metrics": {}}))
    return path


def test_gc_keeps_the_latents_of_images_that_are_needed_or_in_use(cell):
    one, other = cell("store=latents"), cell("store=both", "seed=1")
    for each in (one, other):
        made(each)
    result = result_of(one)
    with Claims(other.store.folder) as claims:
        claims.keep()
        assert free_needless(one.outputs, yes=True) == 0
        assert one.latents.folder.exists() and other.latents.folder.exists()
    assert free_needless(one.outputs, yes=True) == 0
    assert one.store.folder.exists() and one.latents.folder.exists() and not one.store.missing()
    assert not other.store.folder.exists() and not other.latents.folder.exists()
    result.unlink()
    assert free_needless(one.outputs, yes=True) == 0
    assert not one.store.folder.exists() and not one.latents.folder.exists()


def test_ls_verify_and_the_readme_tell_the_kinds_apart(cell, capsys):
    one = cell("store=latents")
    made(one)
    made(cell("seed=1"))
    assert list_sets(one.outputs) == 0 == verify_sets(one.outputs)
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines[f"{one.store.id}:"].endswith("all 3 blocks are whole")
    list_sets(one.outputs)
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert " latents: " in lines[one.latents.id] and "images, from latents" in lines[one.store.id]
    readme = (one.latents.folder / "README.md").read_text()
    assert "20 latents, 4 x 4 x 4 float32; 3 of 3 blocks of 8" in readme and READ_WITHOUT_DITEXP[:20] in readme
    readme = (one.store.folder / "README.md").read_text()
    assert f"in the set {one.latents.id}" in readme and "store=both" in readme and "npz" not in readme


def test_latents_are_exported_and_images_that_are_not_kept_are_refused(cell, tmp_path):
    one = cell("store=latents")
    made(one)
    out = tmp_path / "x.npz"
    assert export_set(one.outputs, one.latents.id, out, num_samples=20) == 0
    with np.load(out) as found:
        assert found["arr_0"].dtype == np.float32 and found["arr_0"].shape == (20, 4, 4, 4)
        assert np.array_equal(found["arr_0"][16:], one.latents.read(2)[0][:4])
        assert found["arr_1"].tolist() == [index % 10 for index in range(20)]
    with refused(["holds latents", ".npz"]):
        export_set(one.outputs, one.latents.id, tmp_path / "x.tar", num_samples=None)
    with refused([one.store.id, "has no pixels, only latents", "store=both"]):
        export_set(one.outputs, one.store.id, out, num_samples=None)
    with refused([one.latents.id, "is a set of latents", "samples ls"]):
        SampleStore.open(one.latents.folder)
    assert isinstance(find_set(one.latents.folder), LatentStore)
    alone = open_images(one.store.id, channels=1, outputs=one.outputs, num_samples=20)
    assert extract(alone, one.evaluator.feature, one.outputs.features).count == 20  # they are cached
    shutil.rmtree(one.outputs.features)
    with refused(["has no pixels", "store=both"]):
        extract(alone, one.evaluator.feature, one.outputs.features)


def test_a_set_without_its_latents_has_no_images(cell, tmp_path):
    one = cell("store=latents")
    made(one)
    copy = Path(shutil.copytree(one.store.folder, tmp_path / "elsewhere" / one.store.id))
    with refused(["holds 0 whole samples"]):
        SampleStore.open(copy)
    shutil.copytree(one.latents.folder, copy.parent / one.latents.id)
    theirs = SampleStore.open(copy, samples=one.outputs.samples)
    assert len(theirs) == 24 and theirs.fingerprint() not in (one.store.id, "")


@pytest.mark.parametrize("latents", [3, "", ".", "..", "/", "a" * 16, "../samples/" + "a" * 16, "x\0"])
def test_a_manifest_that_names_no_latents_is_no_block(latents, cell):
    one = cell("store=latents")
    made(one)
    path = one.store.block(0).manifest_path
    path.write_text(json.dumps(json.loads(path.read_text()) | {"latents": latents}))
    assert find_set(one.store.folder).manifest(0) is None and one.store.missing() == [0]


def test_a_damaged_file_of_pixels_goes_where_none_are_kept(cell):
    one = cell("store=pixels")
    made(one)
    one.store.path(1).write_bytes(b"damaged")
    made(cell("store=latents"))
    assert [path.name for path in sorted(one.store.folder.glob("*.gz"))] == ["000000.npy.gz", "000002.npy.gz"]


# Eight blocks.
RUN = ("solver=euler", "steps=3", "num_samples=2048", "batch_size=64", "metric=[fid]", "resamples=0", "devices=cpu:2")
ROUNDINGS = ("rounding=half_up", "rounding=truncate")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The outputs of runs that sample everything, of both roundings."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for setting in ROUNDINGS:
        log = commands.unused_name(folder / "logs")
        assert not commands.start(log, "ditexp.run", *RUN, setting, f"outputs={folder}", "tracker=none").wait().code
    return folder


def scores_in(outputs: Path) -> dict[str, float]:
    found = [json.loads(path.read_text()) for path in (outputs / "results").glob("*.json")]
    return {result["sample_id"]: result["metrics"]["fid"] for result in found}


def dates_of(paths: Iterable[Path]) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in paths}


@pytest.mark.slow
def test_killed_runs_go_on_from_the_latents(ditexp, tmp_path, undisturbed):
    samples, kept = tmp_path / "outputs" / "samples", {}
    for count in (1, 3):
        files = "*.safetensors"
        command = ditexp.start(*RUN, "store=both", patches=holds.with_blocks(samples, count, files=files))
        holds.wait_for(lambda: len(holds.blocks_in(samples, files)) >= count, command)  # noqa: B023
        command.process.kill()
        command.wait()
        whole = [path for path in samples.rglob("*.safetensors") if path.with_suffix(".json").exists()]
        kept |= dates_of(path for path in whole if path not in kept)
    assert 3 <= len(kept) < 8
    for setting in ROUNDINGS:
        last = ditexp(*RUN, "store=both", setting)
        assert last.code == 0, last.output
    assert files_of(samples) == files_of(undisturbed / "samples") and len(list(samples.rglob("*.safetensors"))) == 8
    assert scores_in(tmp_path / "outputs") == pytest.approx(scores_in(undisturbed), rel=1e-6)
    assert dates_of(kept) == kept and not list(samples.rglob("*.claim")) and not list(samples.rglob(".*"))


@pytest.mark.slow
def test_slices_of_latents_are_scored_once_all_are_there(ditexp, tmp_path, undisturbed):
    outputs = tmp_path / "outputs"
    first = ditexp(*RUN, "store=latents", "slice=1/2")
    assert first.code == 0 and "4 of 8 blocks are there" in first.output
    assert len(list(outputs.glob("samples/*/*.safetensors"))) == 4
    second = ditexp(*RUN, "store=latents", "slice=2/2")
    assert second.code == 0 and not files_of(outputs / "samples"), second.output
    ((id, score),) = scores_in(outputs).items()
    assert score == pytest.approx(scores_in(undisturbed)[id], rel=1e-6)
    dates = dates_of(outputs.glob("samples/*/*.safetensors"))
    assert len(dates) == 8
    for setting in ROUNDINGS:
        assert ditexp(*RUN, setting).code == 0
    assert files_of(outputs / "samples") == files_of(undisturbed / "samples")
    assert dates_of(dates) == dates and scores_in(outputs) == pytest.approx(scores_in(undisturbed), rel=1e-6)


@pytest.mark.slow
def test_two_processes_that_round_differently_share_the_latents(ditexp, tmp_path, undisturbed):
    for command in [ditexp.start(*RUN, "store=both", setting) for setting in ROUNDINGS]:
        assert command.wait().code == 0, command.output
    samples = tmp_path / "outputs" / "samples"
    assert files_of(samples) == files_of(undisturbed / "samples") and not list(samples.rglob("*.claim"))
    makers = [json.loads(path.read_text())["process"] for path in samples.glob("*/*.json") if path.stem.isdecimal()]
    assert len(makers) == 3 * 8 and len(set(makers)) == 4  # two workers each
