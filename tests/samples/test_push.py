"""`ditexp samples push`, to a hub on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

import pytest
from huggingface_hub import constants

from ditexp.samples.__main__ import main
from ditexp.samples.store import SampleStore
from tests.helpers.hub_server import TOKEN, Hub, hub_of
from tests.helpers.sample_sets import complete_set

NAME = "someone/digits"


@pytest.fixture
def store(tmp_path) -> SampleStore:
    """With a result, an evaluation, and a result of another set."""
    store = complete_set(tmp_path / "outputs")
    results = tmp_path / "outputs" / "results"
    results.mkdir()
    (results / "a.json").write_text(json.dumps({"sample_id": store.id}))
    (results / "evaluate-b.json").write_text(json.dumps({"protocol": {"images": {"fingerprint": store.id}}}))
    (results / "c.json").write_text(json.dumps({"sample_id": "another"}))
    return store


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    with hub_of(NAME, tmp_path / "hub") as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def push(store, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ditexp samples", "push", *arguments, f"outputs={store.folder.parents[1]}"])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_card_record_and_results_are_pushed_and_images_on_request(hub, store, push):
    code, out, err = push(store.id, "--to", NAME)
    assert code == 0, err
    sent = {str(path.relative_to(hub.folder)) for path in hub.folder.rglob("*") if path.is_file()}
    assert sent == {"README.md", "set.json", "results/a.json", "results/evaluate-b.json"}
    assert "4 files, " in out and f"{hub.url}/datasets/{NAME}" in out
    card = (hub.folder / "README.md").read_text()
    assert card.startswith("---\ntags: [ditexp") and f"# Sample set {store.id}" in card
    assert (hub.folder / "set.json").read_bytes() == (store.folder / "set.json").read_bytes()
    assert push(store.id, "--to", NAME, "--images")[0] == 0
    blocks = [path.name for path in store.folder.glob("0*")]
    assert blocks and all((hub.folder / name).read_bytes() == (store.folder / name).read_bytes() for name in blocks)


def test_a_dry_run_lists_the_files_and_asks_nobody(hub, store, push, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv("HF_TOKEN")
    code, out, _ = push(store.id, "--dry-run")
    assert code == 0 and not hub.requests
    assert [line.split()[-1] for line in out.splitlines()[:-1]][1:] == [
        "set.json",
        "results/a.json",
        "results/evaluate-b.json",
    ]
    assert f"would be sent to the data set ditexp-{store.id}: nothing was sent" in out.splitlines()[-1]


def test_what_keeps_a_push_from_the_hub_is_one_line_with_the_remedy(hub, store, push, monkeypatch):
    def complaint(*arguments: str) -> str:
        code, _, err = push(store.id, *arguments)
        (line,) = err.splitlines()
        assert code == 2 and len(line) <= 200
        return line

    assert f"not pushed to {hub.url} (HTTP status 403)" in complaint()  # someone/ditexp-<id> is not the hub's
    assert "--to a/b/c: give a repository of the hub as user/name" in complaint("--to", "a/b/c")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    assert "does not say who is logged in (HTTP status 401)" in complaint()
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert f"not logged in to {hub.url}: run `hf auth login`" in complaint()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set, so nothing can be sent: unset it" in complaint()
