from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ditexp.tracker import service
from tests.helpers.wandb_server import WandbServer

DEAD = "http://127.0.0.1:9"  # nothing listens there


@pytest.fixture
def lonely_wandb(monkeypatch, tmp_path) -> Iterator[None]:
    """A wandb that knows no account, reaches only loopback and starts afresh."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):  # the tracker sets them: forget them afterwards
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_BASE_URL", DEAD)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(service, "_attempts", ["online", "offline", "offline"])
    yield
    service.stop_service()


@pytest.fixture
def server(lonely_wandb, monkeypatch) -> Iterator[WandbServer]:
    """A server that works, and an account there."""
    with WandbServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server
