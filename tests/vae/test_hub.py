"""VAEs from the Hugging Face hub, which is a server on this machine here."""

from __future__ import annotations

import multiprocessing
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from ditexp.files.hub import HubPlace, hub_place
from ditexp.vae.place import located, needed
from tests.helpers.hub_server import COMMIT, Hub, hub_of
from tests.helpers.paths import ROOT
from tests.helpers.refusals import refused

NAME = "someone/vae"


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A folder of a VAE in two files and an index, beside others that nobody needs."""
    folder = tmp_path_factory.mktemp("hub") / "vae"
    (folder / "samples").mkdir(parents=True)
    for name in ("config.json", "diffusion_pytorch_model.safetensors.index.json", "README.md", "samples/a.png"):
        (folder / name).write_text("{}")
    for number in (1, 2):
        save_file({"x": torch.ones(100)}, folder / f"diffusion_pytorch_model-0000{number}-of-00002.safetensors")
    (folder / "stats.pt").write_bytes(b"statistics")
    return folder


@pytest.fixture
def hub(repository, tmp_path, monkeypatch) -> Iterator[Hub]:
    """The hub of this process, and an empty cache."""
    with hub_of(NAME, repository) as server:
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


def place(name: str = NAME) -> Path:
    return located(name, "vae.path")


def in_process(hub: Hub, home: Path, *, stderr: int | None = None) -> Path:
    """Where a process with these settings in its environment finds the VAE."""
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "TERM": "xterm", "COLUMNS": "150"}
    command = [sys.executable, "-c", f"from ditexp.vae.place import located; print(located({NAME!r}, 'vae.path'))"]
    ran = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True, check=True)
    return Path(ran.stdout.strip())


def test_a_repository_is_downloaded_once_and_only_what_is_needed(hub, repository, monkeypatch):
    folder, statistics = place(), place(f"{NAME}/stats.pt")
    files = {request.rpartition("/")[2] for request in hub.requests if "/resolve/" in request}
    assert files == {file.name for file in repository.iterdir()} - {"README.md", "samples"}
    assert folder.name == COMMIT and (folder / "config.json").read_text() == "{}"
    assert statistics.read_bytes() == b"statistics"
    asked = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert (place(), place(f"{NAME}/stats.pt")) == (folder, statistics)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "a parent")
    assert place() == folder
    assert len(hub.requests) == asked


def test_a_worker_downloads_nothing(hub, monkeypatch):
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "a parent")
    with refused([f"vae.path={NAME}", "not in the hub's cache", "give a folder"]):
        place()
    assert not hub.requests


def test_what_cannot_be_had_is_said_in_one_line_with_what_to_do(hub, monkeypatch):
    folder, size = "give a folder with its config.json", "diffusion_pytorch_model.safetensors (335 MB)"
    known = "stabilityai/sd-vae-ft-ema"
    with refused([f"vae.path={known} ", hub.url, "404", folder, size]):
        place(known)
    with refused([f"vae.path={NAME}/none ", "no files", hub.url]):
        place(f"{NAME}/none")
    with refused(["vae.path=nobody/x/stats.pt ", "give the path of the file"]):
        place("nobody/x/stats.pt")
    hub.damage = True
    with refused([NAME, "wrong sha256: config.json"]):
        place()
    with refused([NAME, "wrong sha256: config.json"]):  # the damaged file is not kept
        place()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with refused([f"vae.path={known} ", "HF_HUB_OFFLINE is set", folder, size]):
        place(known)


def test_a_server_that_is_gone_is_said(hub):
    hub.shutdown()
    hub.server_close()
    with refused([f"vae.path={NAME} ", hub.url, "refused", "give a folder"]):
        place()


@pytest.mark.slow
def test_the_environment_decides_and_a_bar_shows_the_megabytes(repository, tmp_path):
    folder = tmp_path / "large"
    shutil.copytree(repository, folder)
    save_file({"x": torch.ones(2_000_000)}, folder / "diffusion_pytorch_model-00001-of-00002.safetensors")
    leader, terminal = pty.openpty()
    with hub_of(NAME, folder) as hub:
        found = in_process(hub, tmp_path / "home", stderr=terminal)
    os.close(terminal)
    shown = os.read(leader, 10**6).decode()
    os.close(leader)
    assert found.is_relative_to(tmp_path / "home")
    assert f"Downloading {NAME}" in shown and "8 of 8 MB" in shown, shown


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("stabilityai/sdxl-vae", HubPlace("stabilityai/sdxl-vae", "")),
        ("someone/model/vae", HubPlace("someone/model", "vae")),
        ("hustvl/x/latents_stats.pt", HubPlace("hustvl/x", "latents_stats.pt")),
        ("tests/vae", None),  # exists here
        ("vae", None),
        ("/models/vae", None),
        ("./models/vae", None),
        ("../models/vae", None),
        ("someone/../vae", None),
        ("someone/model/../vae", None),
        ("someone/mo del", None),
    ],
)
def test_a_name_on_the_hub_is_no_path(value, expected, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert hub_place(value) == expected


def test_the_files_of_a_vae_are_chosen_by_their_names():
    top = HubPlace("a/b", "")
    folder = ["config.json", "diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors", "x.bin"]
    assert needed(folder, top) == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert needed(["config.json", "model.safetensors"], top) == []
    inside = [f"vae/{name}" for name in folder]
    assert needed(inside, HubPlace("a/b", "vae")) == ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"]
    assert needed(inside, top) == []
    halves = ["taesd_decoder.pth", "taesd_encoder.pth", "taesd_encoder.safetensors", "taesd_decoder.safetensors"]
    assert needed(halves, top) == ["taesd_encoder.safetensors", "taesd_decoder.safetensors"]
    start = "diffusion_pytorch_model"
    shards = ["config.json", f"{start}-00001-of-00002.safetensors", f"{start}.safetensors.index.json"]
    assert needed(shards, top) == []
    assert len(needed([*shards, f"{start}-00002-of-00002.safetensors"], top)) == 4
