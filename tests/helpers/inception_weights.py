"""Random weights of FID's network, in place of the 90 MB that pytorch-fid downloads."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import torch
from pytorch_fid import inception


def save_random(path: Path, seed: int = 0) -> Path:
    """A file like pytorch-fid's whose network keeps images apart down to the pool; no batch norm does nothing."""
    with (
        mock.patch.object(inception, "load_state_dict_from_url"),
        mock.patch.object(torch.nn.Module, "load_state_dict"),
    ):
        network = inception.fid_inception_v3()
    draw = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, generator=draw)
        if isinstance(module, torch.nn.BatchNorm2d):
            for name, low, high in (("weight", 0.8, 1.2), ("bias", -0.1, 0.1), ("running_mean", -0.1, 0.1)):
                getattr(module, name).data.uniform_(low, high, generator=draw)
            module.running_var.uniform_(0.5, 1.5, generator=draw)
    torch.nn.init.normal_(network.fc.weight, std=0.02, generator=draw)
    torch.nn.init.normal_(network.fc.bias, generator=draw)
    torch.save(network.state_dict(), path)
    return path


def load(path: Path) -> torch.nn.Module:
    """The whole network with these weights, as pytorch-fid builds it, in evaluation mode."""
    state = torch.load(path, weights_only=True)
    with mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
        return inception.fid_inception_v3().eval().requires_grad_(False)
