"""Sample sets on disk: blocks and their format, claims, and the command that looks after sets."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tarfile
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from ditexp.extraction import extract, folder_of
from ditexp.feature.digits import DigitsFeature
from ditexp.files.process import host, is_running, start_of, this_process
from ditexp.outputs import Outputs
from ditexp.samples import block_format as blocks
from ditexp.samples import needs
from ditexp.samples.card import write_card
from ditexp.samples.claims import REMOVAL, Claims, kept
from ditexp.samples.commands import free_needless, list_sets, verify_sets
from ditexp.samples.folders import list_folders
from ditexp.samples.garbage import Needless, is_recent, needless, remove
from ditexp.samples.manifest import Manifest
from ditexp.samples.store import SampleStore
from ditexp.terminal.console import Terminal
from ditexp.values import Cost
from tests.helpers import commands
from tests.helpers.refusals import refused
from tests.helpers.sample_sets import complete_set, random_images


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (5, 8, 8, 1), (70, 6, 9, 3), (32, 1, 7, 3)])
@pytest.mark.parametrize("has_labels", [True, False])
def test_a_block_reads_as_it_was_written(shape, has_labels, tmp_path, monkeypatch):
    images, labels = random_images(*shape), np.arange(shape[0]) if has_labels else None
    before = images.copy()
    data = blocks.encode(images, labels)
    assert data == blocks.encode(images, labels) and np.array_equal(images, before)
    read, its_labels = blocks.decode(data, shape)
    assert np.array_equal(read, images) and read.dtype == np.uint8
    assert its_labels is None if labels is None else np.array_equal(its_labels, labels)

    (tmp_path / "000000.npy.gz").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(blocks.READ_WITHOUT_DITEXP, names)  # what a set's README tells a stranger
    assert np.array_equal(names["images"], images)


def test_noise_takes_no_more_than_the_disk_is_asked_for():
    images = random_images(256, 32, 32, 3)
    assert len(blocks.encode(images, None)) < 1.01 * images.nbytes + 8192


@pytest.fixture
def store(tmp_path) -> SampleStore:
    return complete_set(tmp_path / "outputs")


def samples(store: SampleStore, *arguments: str) -> commands.Command:
    outputs = store.folder.parents[1]
    log = commands.unused_name(outputs.parent / "logs")
    return commands.start(log, "ditexp.samples", *arguments, "--outputs", str(outputs)).wait()


def test_every_export_holds_the_images_asked_for(store, tmp_path):
    images, labels = random_images(24, 6, 5, 3)[:20], [index % 10 for index in range(20)]
    for name in ("out.npz", "out.tar", "folder"):
        done = samples(store, "export", store.id, str(tmp_path / name))
        assert done.code == 0 and f"24 images: {tmp_path / name}" in done.output, done.output
        assert samples(store, "export", store.id, str(tmp_path / f"20{name}"), "--num-samples", "20").code == 0
    with np.load(tmp_path / "20out.npz") as arrays:
        assert np.array_equal(arrays["arr_0"], images) and arrays["arr_1"].tolist() == labels
    with tarfile.open(tmp_path / "20out.tar") as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    assert sorted(found) == sorted(f"{index:06d}.{kind}" for index in range(20) for kind in ("cls", "png"))
    for index in range(20):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(found[f"{index:06d}.png"]))), images[index])
        assert int(found[f"{index:06d}.cls"]) == labels[index]
        assert np.array_equal(np.asarray(Image.open(tmp_path / "20folder" / f"{index:06d}.png")), images[index])
    listed = json.loads((tmp_path / "20folder" / "dataset.json").read_text())["labels"]
    assert listed == [[f"{index:06d}.png", label] for index, label in enumerate(labels)]
    again = samples(store, "export", store.id, str(tmp_path / "folder"))
    assert again.code == 2 and again.complaints == [
        f"{tmp_path / 'folder'} is there already: remove it, or choose another name"
    ]


def test_an_export_of_a_damaged_set_says_which_block(store, tmp_path):
    path, date = store.path(1), store.path(1).stat().st_mtime_ns
    path.write_bytes(bytes(path.stat().st_size))
    os.utime(path, ns=(date, date))
    done = samples(store, "export", store.id, str(tmp_path / "out.npz"))
    assert done.code == 2 and f"{store.path(1)} has changed since it was written" in done.complaints[0]
    assert not (tmp_path / "out.npz").exists() and not list(tmp_path.glob(".*"))


def test_ls_shows_what_a_set_is_and_how_complete(store, capsys, monkeypatch):
    """A line each, of 80 columns; with --verbose also the command and the maker."""
    store.drop(1)
    record = json.loads((store.folder / "set.json").read_text())
    parts = {"solver": "ditexp.solver.heun.Heun", "guidance": "ditexp.guidance.cfg.ClassifierFree"}
    config = {group: {"_target_": target} for group, target in parts.items()} | {"steps": 20}
    config["guidance"]["scale"], config["model"] = 1.5, {"checkpoint": f"/models/{'SiT-' * 9}XL.pt"}
    record["config"], record["identity"]["schedule"] = config, {}
    (store.folder / "set.json").write_text(json.dumps(record))
    found = SampleStore.find(store.folder)
    write_result(found)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("ditexp.samples.commands.wide_terminal", Terminal)
    assert not list_sets(outputs_of(store))
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["set", "of", "what", "samples", "size", "state", "made", "results"]
    assert len(line) <= 80 and line.startswith(f"{found.id} SiT-") and line.split()[-1] == "1"
    assert "20" in line.split() and "1 missing" in line and "complete" not in line
    monkeypatch.setenv("COLUMNS", "200")
    list_sets(outputs_of(store))
    assert "XL heun 20, cfg 1.5" in capsys.readouterr().out
    list_sets(outputs_of(store), verbose=True)
    listed = " ".join(capsys.readouterr().out.split())
    assert all(word in listed for word in ("not complete", "seed=0", "here 2026-01-01"))


def test_ls_shows_what_is_in_use_or_needless(store):
    assert "complete, no result" in samples(store, "ls", "--verbose").output
    with Claims(store.folder) as claims:
        claims.take("000001")
        assert "in use" in samples(store, "ls").output


def test_verify_names_what_is_wrong_and_the_remedy(store):
    store.path(2).unlink()
    os.truncate(store.path(0), 10)
    found = samples(store, "verify", store.id)
    assert found.code == 1 and "block 0 (000000.npy.gz) is damaged and was dropped" in found.output
    assert "block 2 (000002.npy.gz) is missing" in found.output
    assert "to make it whole: ditexp run seed=0" in found.output
    assert store.missing() == [0, 2]
    assert "is no sample set; there are: " + store.id in samples(store, "verify", "other").output


def test_verify_of_what_cannot_be_read_or_is_not_there_fails(store, capsys):
    assert verify_sets(outputs_of(store)) == 0
    (store.folder / "set.json").write_text("{")
    assert verify_sets(outputs_of(store)) == 1 and "set.json is damaged" in capsys.readouterr().err
    assert verify_sets(Outputs(store.folder)) == 1 and "no sample sets in " in capsys.readouterr().out


def test_gc_leaves_what_is_in_use(store):
    with Claims(store.folder) as claims:
        claims.take(claims.me)
        assert "nothing to free" in samples(store, "gc", "--yes").output
    freed = samples(store, "gc", "--yes")
    assert freed.code == 0 and "sample set, 3 of 3 blocks" in freed.output and not store.folder.exists()


def test_a_claim_is_ones_own_until_it_is_released_or_its_owner_is_gone(tmp_path):
    with Claims(tmp_path) as mine, Claims(tmp_path) as yours:
        assert mine.take("a") and not yours.take("a") and not mine.take("a")
        mine.release("a")
        assert yours.take("a")
    assert not list(tmp_path.iterdir())
    (tmp_path / "a.claim").write_text(f"{host()}~999999~1")
    with Claims(tmp_path) as mine:
        assert mine.take("a")


def test_a_process_killed_as_it_claimed_itself_leaves_nothing(tmp_path):
    """Its claim is there but empty, and only its name says whose it was; a living process keeps its claim."""
    gone, living = f"{host()}~999999~1", this_process()
    for name in (gone, living):
        (tmp_path / f"{name}.claim").touch()
    Claims(tmp_path).remove_void()
    assert [path.stem for path in tmp_path.iterdir()] == [living]


def test_a_claim_that_others_took_over_is_not_released(tmp_path):
    with Claims(tmp_path) as mine:
        mine.take("a")
        (tmp_path / "a.claim").write_text("elsewhere~1~2~3")
    assert (tmp_path / "a.claim").exists()


def test_an_interrupt_at_any_moment_leaves_no_claim(tmp_path):
    """Ctrl-C before each step, one after another, that taking and releasing a claim consists of."""

    def interrupt_at(step: int) -> bool:
        steps = iter(range(step))

        def trace(frame, event, _):
            if frame.f_globals["__name__"] != "ditexp.samples.claims":
                return None
            if event == "line" and next(steps, None) is None:
                sys.settrace(None)
                raise KeyboardInterrupt
            return trace

        with Claims(tmp_path) as claims:
            try:
                sys.settrace(trace)
                claims.take("a")
                claims.release("a")
            except KeyboardInterrupt:
                return True
            finally:
                sys.settrace(None)
        return False

    steps = 0
    while interrupt_at(steps):
        assert not list(tmp_path.iterdir()), f"before step {steps}"
        steps += 1
    assert steps > 10


def test_another_hosts_claim_is_void_after_silence_on_ones_own_stopwatch(tmp_path, monkeypatch):
    monkeypatch.setattr("ditexp.samples.claims.time.monotonic", lambda: now)
    claim = tmp_path / "a.claim"
    claim.write_text("elsewhere~1~2~3")
    with Claims(tmp_path) as mine:
        now = 0.0
        assert not mine.take("a")
        now = 80.0
        os.utime(claim, (1, 1))  # it is alive, and its clock was set back to 1970
        assert not mine.take("a")
        now = 165.0
        assert not mine.take("a")
        now = 171.0
        assert mine.take("a")


def test_two_processes_never_share_a_name():
    me = this_process()
    where, pid, start = me.rsplit("~", 2)
    assert is_running(me) is True
    assert is_running(f"{where}~{pid}~{int(start) - 1}") is False  # an earlier process of the same number
    assert is_running(f"{where}~999999~{start}") is False
    assert is_running(f"elsewhere~0~{pid}~{start}") is None


def test_the_readme_says_what_the_set_is(store):
    write_card(store.folder)
    text = (Path(store.folder) / "README.md").read_text()
    for words in ("20 images, 6 x 5 x 3 uint8; 3 of 3 blocks of 8", "complete", "git checkout abc", "seed=0"):
        assert words in text
    assert "- 3 block(s) on here, a GPU" in text and "6.0 s of sampling by one device" in text


def test_a_set_is_named_by_its_path_too(store, tmp_path):
    """What exists as a path is that; an id is a bare name."""
    moved = store.folder.rename(tmp_path / "elsewhere")
    assert "all 3 blocks are whole" in samples(store, "verify", str(moved)).output
    (moved / "000002.json").unlink()
    done = samples(store, "export", str(moved), str(tmp_path / "out.npz"))
    assert done.code == 0 and "16 images" in done.output
    assert "is no sample set" in samples(store, "verify", f"../{tmp_path.name}/outputs/samples/{store.id}").output


def test_gc_frees_features_of_images_that_no_result_is_of(store):
    """Those of a first run, which has no result yet, are recent."""
    outputs, weeks_ago = store.folder.parents[1], time.time() - 14 * 86_400
    folders = {
        name: outputs / "cache" / "features" / "network" / (name[0] * 64) for name in ("needed", "old", "recent")
    }
    for name, folder in folders.items():
        folder.mkdir(parents=True)
        (folder / "000000.safetensors").touch()
        if name != "recent":
            os.utime(folder, (weeks_ago, weeks_ago))
    (outputs / "results").mkdir()
    protocol = {"images": {"fingerprint": "another"}, "reference": {"fingerprint": folders["needed"].name}}
    (outputs / "results" / "x.json").write_text(json.dumps({"sample_id": store.id, "protocol": protocol}))
    freed = samples(store, "gc", "--yes")
    assert freed.code == 0 and [name for name, folder in folders.items() if not folder.exists()] == ["old"]


def outputs_of(store: SampleStore) -> Outputs:
    return Outputs(store.folder.parents[1])


def free(store: SampleStore) -> int:
    return free_needless(outputs_of(store), yes=True)


def needless_beside(store: SampleStore) -> list[Needless]:
    return needless(outputs_of(store), list_folders(outputs_of(store)))


def write_result(store: SampleStore, name: str = "x", **facts) -> Path:
    path = outputs_of(store).result(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"sample_id": store.id, "metrics": {}, **facts}))
    return path


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[]", "null", "\0\0", '{"protocol": 3}', '{"sample_id": "a", "id": "b"}']
)
def test_gc_frees_nothing_beside_a_result_that_cannot_be_read(text, store, capsys):
    """It may need the set. The list of sets names it and goes on."""
    path = write_result(store)
    path.write_text(text)
    with refused([str(path), "what it needs is unknown, so nothing is freed", "remove the file"]):
        free(store)
    assert not list_sets(outputs_of(store))
    said = capsys.readouterr()
    assert str(path) in said.err and "may be listed without a result" in said.err and store.id in said.out
    assert not store.missing()


def test_gc_of_no_folder_is_refused(tmp_path):
    with refused([f"outputs={tmp_path}/none is no folder"]):
        free_needless(Outputs(tmp_path / "none"), yes=True)


def test_a_result_of_an_evaluation_needs_its_set(store):
    result = write_result(store, "evaluate-x", id="x", sample_id=None, protocol={"images": {"fingerprint": store.id}})
    assert not needless_beside(store)
    result.unlink()
    assert [found.path for found in needless_beside(store)] == [store.folder]


@pytest.mark.parametrize("event", ["a result", "a run", "another removal", "a new block", "removed"])
def test_gc_looks_again_after_its_question(event, store, monkeypatch, capsys):
    before, claims = everything(store.folder), Claims(store.folder)

    def answer(question: str) -> str:
        if event == "a result":
            write_result(store)
        elif event == "a run":
            claims.keep()
        elif event == "another removal":
            claims.take(REMOVAL)
        elif event == "a new block":
            (store.folder / "000003.npy.gz").touch()
        else:
            store.folder.rename(store.folder.with_name("elsewhere"))
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    with claims:
        assert not free_needless(outputs_of(store), yes=False)
        assert f"{store.folder} was left alone: " in (said := capsys.readouterr().out) and "freed 0 B" in said
    if event != "removed":
        left = everything(store.folder)
        left.pop("000003.npy.gz", None)
        assert left == before


def test_gc_reads_results_again_only_if_there_are_new_ones(tmp_path, monkeypatch):
    """Each removal asks what is needed, but results need not be read for each."""
    stores = [complete_set(tmp_path, seed=seed) for seed in range(4)]
    write_result(stores[3])
    os.utime(outputs_of(stores[0]).results, (1e9, 1e9))  # it was not changed just now
    found = {one.path: one for one in needless_beside(stores[0])}
    monkeypatch.setattr(needs, "results_by_images", counted := Mock(wraps=needs.results_by_images))
    removed = [remove(found[store.folder], outputs_of(store)) for store in stores[:2]]
    assert removed == ["", ""] and counted.call_count == 0
    write_result(stores[2], "new")
    assert remove(found[stores[2].folder], outputs_of(stores[2])) == "a result needs it now"
    assert counted.call_count == 1


def test_verify_reads_each_manifest_once(store, monkeypatch):
    monkeypatch.setattr(Manifest, "read", counted := Mock(wraps=Manifest.read))
    assert not verify_sets(outputs_of(store))
    assert counted.call_count == store.num_blocks


def test_gc_removes_nothing_under_the_name_of_the_set(store, monkeypatch):
    """Whoever looks while it removes, or after it was killed, finds a set whole or not at all."""
    seen = []

    def rmtree(path: Path, **_) -> None:
        seen.append((path.name, store.folder.exists()))
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", rmtree)
    with pytest.raises(KeyboardInterrupt):
        free(store)
    assert seen == [(f".{store.id}.{this_process()}.tmp", False)]


def test_what_a_killed_gc_left_is_freed(store, capsys):
    hidden = store.folder.rename(store.folder.with_name(f".{store.id}.{host()}~999999~1.tmp"))
    (hidden / "set.json").unlink()
    foreign = hidden.with_name(f".{store.id}.elsewhere~1~2~3.tmp")
    foreign.mkdir()
    assert not list_sets(outputs_of(store)) and str(foreign) in capsys.readouterr().err
    assert not free(store) and "left by a killed process" in capsys.readouterr().out
    assert [path.name for path in store.folder.parent.iterdir()] == [foreign.name]


def test_blocks_without_set_json_are_listed_and_freed_where_a_killed_process_left_them(store, capsys):
    (store.folder / "set.json").unlink()
    (store.folder / f"{host()}~999999~1.claim").touch()
    assert not list_sets(outputs_of(store))
    assert f"{store.folder}: 3 blocks without set.json" in capsys.readouterr().err
    (store.folder / "mine.txt").touch()
    result = write_result(store, sample_id="another")
    assert not free(store) and store.folder.exists()
    (store.folder / "mine.txt").unlink()
    write_result(store)
    assert not free(store) and store.folder.exists()
    result.unlink()
    assert not free(store) and not store.folder.exists()


def test_copies_of_a_set_are_not_taken_for_it(store, capsys):
    """Nor freed: by their set.json's id, which is not their folder's name."""
    outputs = outputs_of(store)
    copy = Path(shutil.copytree(store.folder, store.folder.with_name(f"{store.id}.bak")))
    link = store.folder.with_name("link")
    link.symlink_to(copy)
    os.truncate(copy / "000001.npy.gz", 10)
    assert verify_sets(outputs) == 0
    said = capsys.readouterr()
    assert said.out == f"{store.id}: all 3 blocks are whole\n"
    assert f"{copy}: a copy of sample set {store.id}" in said.err and f"{link}: a link" in said.err
    assert verify_sets(outputs, [copy.name]) == 1
    said = capsys.readouterr().out.splitlines()
    assert (
        said[0].startswith(f"{copy}: block 1")
        and said[1] == f"{copy}: to make it whole, copy sample set {store.id} again"
    )
    assert not list_sets(outputs) and capsys.readouterr().out.count(store.id) == 1
    assert not free(store) and not store.folder.exists() and copy.exists() and link.exists()
    assert SampleStore.find(copy).name == f"samples {copy}" and SampleStore.find(copy).is_copy


def test_verify_goes_on_after_a_set_that_cannot_be_read(store, capsys):
    other = Path(shutil.copytree(store.folder, store.folder.with_name("0" * 16)))
    (other / "set.json").write_text("null")
    assert verify_sets(outputs_of(store), [other.name, store.id]) == 1
    said = capsys.readouterr()
    assert f"{other / 'set.json'} is damaged (it is no object): the run that made the set mends it" in said.err
    assert "all 3 blocks are whole" in said.out


def test_a_run_waits_for_a_removal_and_begins_afresh(store):
    """One that has claimed the set first keeps it; one that comes later finds the folder gone, and makes it."""
    removal, run = Claims(store.folder), Claims(store.folder)
    run.me = f"{host()}~{os.getppid()}~{start_of(os.getppid())}"  # another process
    with removal, run:
        removal.take(REMOVAL)
        waiting = threading.Thread(target=store.enter, args=[run])
        waiting.start()
        while not removal.others():
            time.sleep(0.001)
        hidden = store.folder.rename(store.folder.with_name(".hidden"))
        waiting.join(120)
        assert not waiting.is_alive() and [path.stem for path in store.folder.iterdir()] == [run.me]
        shutil.rmtree(hidden)
    assert not list(store.folder.iterdir())


def test_a_killed_removal_keeps_nobody_waiting(store):
    (store.folder / f"{REMOVAL}.claim").write_text(f"{host()}~999999~1")
    with Claims(store.folder) as claims:
        store.enter(claims)
        assert claims.names() == [claims.me]


def test_who_reads_a_set_keeps_it(store, tmp_path):
    with kept(store.folder):
        assert not needless_beside(store)
    assert len(needless_beside(store)) == 1 and not list(store.folder.glob("*.claim"))
    with kept(tmp_path / "nowhere"):
        assert not (tmp_path / "nowhere").exists()


def test_features_that_were_read_are_in_use(store, tmp_path):
    feature = DigitsFeature()
    images = SampleStore(tmp_path, identity={"block_size": 2, "image_shape": [8, 8, 1]}, num_samples=2)
    images.write(0, random_images(2, 8, 8, 1), None, cost=Cost(), maker={})
    extract(images, feature, tmp_path / "cache")
    folder = folder_of(images.id, feature, tmp_path / "cache")
    os.utime(folder, (1, 1))
    assert not is_recent(folder)
    extract(images, feature, tmp_path / "cache")
    assert is_recent(folder)


def test_gc_of_what_vanishes_meanwhile(store, monkeypatch, capsys):
    (outputs_of(store).features / "network").mkdir(parents=True)
    (outputs_of(store).features / "network" / "a file").touch()  # nobody's: left alone
    (found,) = needless_beside(store)
    shutil.rmtree(store.folder)
    assert remove(found, outputs_of(store)) == "it is gone already"
