"""Facts about the installation, the machine and the environment, as a dictionary of dictionaries."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from huggingface_hub.constants import HF_HUB_CACHE

from ditexp.cli.packaged import PACKAGE, packaged
from ditexp.files.atomic import free_space
from ditexp.files.hash_cache import database_path
from ditexp.provenance import code_version, device_name
from ditexp.terminal.units import amount

PACKAGES = (
    *("torch", "torchvision", "numpy", "scipy", "hydra-core", "omegaconf", "safetensors", "diffusers"),
    *("huggingface-hub", "transformers", "torchdiffeq", "wandb", "tensorboard", "optuna", "submitit", "ray"),
)
# Of these, the value is shown, without a password in an address.
VARIABLES = (
    *("DITEXP_CACHE", "DITEXP_DEBUG", "PYTHONPATH", "PYTHONUTF8", "TMPDIR", "XDG_CACHE_HOME"),
    *("CUDA_VISIBLE_DEVICES", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE"),
    *("WANDB_MODE", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_DIR", "WANDB_DISABLED"),
    *("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
SECRETS = ("WANDB_API_KEY", "HF_TOKEN")  # only whether they are set

Facts = Mapping[str, Mapping[str, str]]


def facts(outputs: Path) -> Facts:
    """All facts, by section."""
    return {
        "ditexp": {name: str(value) for name, value in code_version().items()} | {"package": str(PACKAGE)},
        "python": {"version": platform.python_version(), "executable": sys.executable, "system": platform.platform()},
        "packages": {name: installed(name) for name in PACKAGES},
        "devices": devices(),
        "folders": folders(outputs),
        "environment": environment(os.environ),
    }


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def devices() -> dict[str, str]:
    """The processor with its memory, and each GPU with its own."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = (page * os.sysconf(name) for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    found = {
        "cpu": device_name(torch.device("cpu")),
        "cores to use": f"{cores}, torch uses {torch.get_num_threads()} threads",
        "memory": f"{amount(total)}, {amount(free)} free",
        "cuda": f"{torch.version.cuda or 'not in this torch'}, {torch.cuda.device_count()} devices",
    }
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        found[f"cuda:{number}"] = f"{torch.cuda.get_device_name(number)}, {amount(total)}, {amount(free)} free"
    return found


def folders(outputs: Path) -> dict[str, str]:
    """Where settings come from, and where files go, with the space that is left there."""
    places = {
        "outputs": outputs.absolute(),
        "hashes": database_path(),
        "hub": Path(HF_HUB_CACHE),
        "temporary": Path(tempfile.gettempdir()),
    }
    free = {name: f"{place} ({amount(free_space(place))} free)" for name, place in places.items()}
    return {"settings": str(packaged("conf")), "studies": str(packaged("experiments")), **free}


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that matter, if they are set."""
    shown = {name: re.sub(r"//[^/@\s]*@", "//...@", variables[name]) for name in VARIABLES if name in variables}
    return shown | {name: "set" if variables.get(name) else "not set" for name in SECRETS}
