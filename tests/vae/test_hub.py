"""VAEs from the Hugging Face hub, which is a server on this machine here."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ditexp.files.hub import HubPlace, hub_place
from ditexp.vae.place import needed
from tests.helpers.hub_server import COMMIT, Hub, hub_of
from tests.helpers.paths import ROOT

NAME = "someone/vae"
# Prints the path of each VAE that its arguments name, or the error.
LOCATE = """
import sys
from ditexp.vae.place import located

for name in sys.argv[1:]:
    try:
        print(located(name, "vae.path"))
    except ValueError as error:
        print(error)
"""
IN_WORKER = """
import multiprocessing, sys
from ditexp.vae.place import located

def locate(name):
    try:
        return str(located(name, "vae.path"))
    except ValueError as error:
        return str(error)

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.apply(locate, sys.argv[1:]))
"""


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


def located(hub: Hub, home: Path, *names: str, code: str = LOCATE, **environment: str) -> list[str]:
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", **environment}
    ran = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, env=env, capture_output=True, text=True)
    assert not ran.stderr, ran.stderr
    return ran.stdout.splitlines()


def test_a_repository_is_downloaded_once_and_only_what_is_needed(repository, tmp_path):
    with hub_of(NAME, repository) as hub:
        paths = located(hub, tmp_path, NAME, f"{NAME}/stats.pt")
        files = {request.rpartition("/")[2] for request in hub.requests if "/resolve/" in request}
        assert files == {file.name for file in repository.iterdir()} - {"README.md", "samples"}
        asked = len(hub.requests)
        assert located(hub, tmp_path, NAME, f"{NAME}/stats.pt") == paths
        assert located(hub, tmp_path, NAME, HF_HUB_OFFLINE="1") == paths[:1]
        assert located(hub, tmp_path, NAME, code=IN_WORKER) == paths[:1]
        assert len(hub.requests) == asked
    folder = Path(paths[0])
    assert folder.name == COMMIT and (folder / "config.json").read_text() == "{}"
    assert Path(paths[1]).read_bytes() == b"statistics"


def test_what_cannot_be_had_is_said_in_one_line_with_what_to_do(repository, tmp_path):
    with hub_of(NAME, repository) as hub:
        known, gone, file = located(hub, tmp_path, "stabilityai/sd-vae-ft-ema", f"{NAME}/none", "nobody/x/stats.pt")
        (worker,) = located(hub, tmp_path, NAME, code=IN_WORKER)
        (offline,) = located(hub, tmp_path, NAME, HF_HUB_OFFLINE="1")
        hub.damage = True
        (damaged,) = located(hub, tmp_path, NAME)
        (again,) = located(hub, tmp_path, NAME, HF_HUB_OFFLINE="1")
    (absent,) = located(hub, tmp_path, NAME)  # the server is gone
    lines = {
        known: ["sd-vae-ft-ema", hub.url, "404", "config.json", "diffusion_pytorch_model.safetensors (335 MB)"],
        gone: [f"{NAME}/none", "no files", hub.url],
        file: ["nobody/x/stats.pt", "the path of the file"],
        worker: [NAME, "not in the hub's cache", "give a folder"],
        offline: [NAME, "HF_HUB_OFFLINE is set", "give a folder"],
        damaged: [NAME, "config.json has another sha256"],
        again: [NAME, "HF_HUB_OFFLINE is set"],
        absent: [NAME, hub.url, "refused"],
    }
    for line, words in lines.items():
        assert len(line) <= 200 and line.startswith("vae.path="), line
        assert all(word in line for word in words), line


def test_a_bar_shows_how_many_megabytes_have_come(repository, tmp_path):
    folder = tmp_path / "large"
    shutil.copytree(repository, folder)
    save_file({"x": torch.ones(2_000_000)}, folder / "diffusion_pytorch_model-00001-of-00002.safetensors")
    leader, terminal = pty.openpty()
    with hub_of(NAME, folder) as hub:
        env = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "home"),
            "TERM": "xterm",
            "COLUMNS": "150",
        }
        subprocess.run([sys.executable, "-c", LOCATE, NAME], cwd=ROOT, env=env, stdout=-3, stderr=terminal, check=True)
    os.close(terminal)
    shown = os.read(leader, 10**6).decode()
    os.close(leader)
    assert f"Downloading {NAME}" in shown and "8/8" in shown and "MB" in shown, shown


@pytest.mark.parametrize(
    ("value", "place"),
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
def test_a_name_on_the_hub_is_no_path(value, place, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert hub_place(value) == place


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
