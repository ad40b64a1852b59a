"""Broken and hostile files of VAEs: each is refused in one line, in little time and memory, and none of it is run."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import shutil
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save, save_file

from ditexp.vae.autoencoder import Autoencoder
from tests.golden.weights import drawn
from tests.helpers.vaes import saved_kl, tiny_kl

WEIGHTS, INDEX, PICKLED = (
    f"diffusion_pytorch_model.{suffix}" for suffix in ("safetensors", "safetensors.index.json", "bin")
)
GOLDEN = Path(__file__).parents[1] / "golden" / "va_vae.npz"
SECONDS, MEGABYTES = 5, 300  # of the processor: the most that a file may take; the first takes what torch itself needs
RAN: list[str] = []


def mark(text: str) -> None:
    RAN.append(text)


class Payload:
    """Unpickled by pickle, it runs code."""

    def __reduce__(self) -> tuple:
        return mark, ("ran",)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A VAE in a folder `whole`, and the same in shards."""
    place = tmp_path_factory.mktemp("vaes")
    saved_kl(place / "whole")
    tiny_kl().save_pretrained(place / "shards", max_shard_size="20KB")
    return place


@pytest.fixture(autouse=True)
def _work_here(tmp_path, monkeypatch) -> None:
    """Files are named by short paths, as a user's often are, so that messages can be compared with 200 characters."""
    monkeypatch.chdir(tmp_path)


# What is done to a folder, and what the message must name.
Case = tuple[Callable[[Path], None], list[str]]


def config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        facts = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**facts, **changes}))

    return change


def written(name: str, content: bytes | str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def state(change: Callable[[dict], Any]) -> Callable[[Path], None]:
    def alter(folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        save_file(change(found) or found, folder / WEIGHTS)

    return alter


def pickled(make: Callable[[dict], Any], protocol: int = 2, *, old: bool = False) -> Callable[[Path], None]:
    """The weights in a .bin in place of safetensors, with what `make` makes of them."""

    def alter(folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        torch.save(make(found), folder / PICKLED, pickle_protocol=protocol, _use_new_zipfile_serialization=not old)

    return alter


def raw_pickle(protocol: int) -> Callable[[Path], None]:
    def alter(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        (folder / PICKLED).write_bytes(pickle.dumps({"a": Payload()}, protocol=protocol))

    return alter


def cut(name: str, part: float) -> Callable[[Path], None]:
    def truncate(folder: Path) -> None:
        os.truncate(folder / name, int((folder / name).stat().st_size * part))

    return truncate


def in_place(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Something else than a file under its name."""

    def replace(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return replace


def header(change: Callable[[dict], Any]) -> Callable[[Path], None]:
    """The weights with another header of safetensors."""

    def alter(folder: Path) -> None:
        content = (folder / WEIGHTS).read_bytes()
        (size,) = struct.unpack("<Q", content[:8])
        facts = json.loads(content[8 : 8 + size])
        text = json.dumps(change(facts) or facts).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])

    return alter


def claim(shape: list[int], size: int) -> Callable[[dict], None]:
    def change(facts: dict) -> None:
        facts[KEY] = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}

    return change


def without(prefix: str) -> Callable[[dict], dict]:
    return lambda found: {key: value for key, value in found.items() if not key.startswith(prefix)}


def with_one(key: str, value: Any) -> Callable[[dict], dict]:
    return lambda found: {**found, key: value}


def renamed(found: dict) -> dict:
    return {key.replace("decoder.conv_out", "decoder.final"): value for key, value in found.items()}


def expanded(found: dict) -> dict:
    """A weight of a terabyte whose numbers are all one."""
    return {**found, KEY: torch.ones(1).expand(2**38)}


KEY = "decoder.conv_in.weight"  # (16, 4, 3, 3)
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 334643276\n"
HTML = "<!DOCTYPE html><html><body>Sign in</body></html>"

CONFIGS: dict[str, Case] = {
    "no config": (in_place("config.json", lambda path: None), ["config.json"]),
    "empty config": (written("config.json", ""), ["config.json", "is empty"]),
    "config of garbage": (written("config.json", b"\xff\xfe\0garbage"), ["config.json", "not UTF-8"]),
    "config that is a list": (written("config.json", "[1, 2]"), ["config.json", "[1, 2]"]),
    "config that is cut": (cut("config.json", 0.5), ["config.json"]),
    "config nested deeply": (written("config.json", "[" * 100_000), ["config.json", "nested too deeply"]),
    "config with many digits": (
        written("config.json", '{"a": ' + "9" * 10_000 + "}"),
        ["config.json", "10,000 digits"],
    ),
    "config of HTML": (written("config.json", HTML), ["config.json"]),
    "config of a pointer": (written("config.json", LFS), ["config.json"]),
    "another class": (config(_class_name="AutoencoderDC"), ["AutoencoderDC", "AutoencoderKL"]),
    "another model": (config(_class_name="UNet2DConditionModel"), ["UNet2DConditionModel"]),
    "class of control characters": (config(_class_name="a\x1b[31m" * 1000), ["\\x1b"]),
    "class that is a number": (config(_class_name=3), ["_class_name", "3"]),
    "tiny class": (config(_class_name="AutoencoderTiny"), ["decoder.layers.0.weight", "decoder.conv_in.bias"]),
    "negative channels": (config(latent_channels=-4), ["config.json", "latent_channels", "-4"]),
    "zero channels": (config(block_out_channels=[0, 16]), ["block_out_channels", "[0, 16]"]),
    "channels in words": (config(latent_channels="four"), ["latent_channels", "four"]),
    "channels that are true": (config(latent_channels=True), ["latent_channels", "True"]),
    "channels of a fraction": (config(latent_channels=4.5), ["latent_channels", "4.5"]),
    "channels beyond memory": (config(latent_channels=10**12), ["latent_channels", "1000000000000"]),
    "many layers": (config(layers_per_block=10**9), ["layers_per_block", "1000000000"]),
    "many blocks": (config(block_out_channels=[8] * 10_000), ["block_out_channels"]),
    "no blocks": (config(block_out_channels=[]), ["block_out_channels", "[]"]),
    "unknown blocks": (config(down_block_types=["os.system", "DownEncoderBlock2D"]), ["down_block_types", "os.system"]),
    "fewer types than blocks": (config(down_block_types=["DownEncoderBlock2D"]), ["encoder."]),
    "more types than blocks": (config(up_block_types=["UpDecoderBlock2D"] * 3), ["AutoencoderKL"]),
    "unknown activation": (config(act_fn="exec"), ["act_fn", "exec"]),
    "groups that do not divide": (config(norm_num_groups=5), ["AutoencoderKL", "5"]),
    "five image channels": (config(in_channels=5), ["in_channels", "5"]),
    "scale of zero": (config(scaling_factor=0), ["scaling_factor", "0"]),
    "scale in words": (config(scaling_factor="big"), ["scaling_factor", "big"]),
    "scale that is infinite": (config(scaling_factor=float("inf")), ["scaling_factor", "inf"]),
    "scale beyond floats": (config(scaling_factor=10**29), ["scaling_factor"]),
    "shift in a list": (config(shift_factor=[0.1]), ["shift_factor", "[0.1]"]),
    "means of other channels": (config(latents_mean=[0.0] * 5), ["latents_mean", "5", "4"]),
    "negative standard deviations": (config(latents_std=[-1.0] * 4), ["latents_std"]),
    "upcast in words": (config(force_upcast="no"), ["force_upcast", "no"]),
    "other channels than the weights": (config(latent_channels=8), ["(16, 4, 3, 3)", "(16, 8, 3, 3)"]),
    "config that is a pipe": (in_place("config.json", os.mkfifo), ["config.json", "named pipe"]),
    "config that is a folder": (in_place("config.json", os.mkdir), ["config.json", "a folder"]),
    "config without a target": (in_place("config.json", lambda path: path.symlink_to("nowhere")), ["config.json"]),
}
FILES: dict[str, Case] = {
    "no weights": (in_place(WEIGHTS, lambda path: None), [WEIGHTS]),
    "empty weights": (written(WEIGHTS, b""), [WEIGHTS, "is empty"]),
    "weights of HTML": (written(WEIGHTS, HTML), [WEIGHTS, "HTML"]),
    "weights of a pointer": (written(WEIGHTS, LFS), [WEIGHTS, "LFS"]),
    "weights of noise": (written(WEIGHTS, np.random.default_rng(0).bytes(5000)), [WEIGHTS]),
    "weights of zeros": (written(WEIGHTS, bytes(5000)), [WEIGHTS]),
    "weights that are a pipe": (in_place(WEIGHTS, os.mkfifo), [WEIGHTS, "named pipe"]),
    "weights that are a folder": (in_place(WEIGHTS, os.mkdir), [WEIGHTS]),
    "weights without a target": (in_place(WEIGHTS, lambda path: path.symlink_to("nowhere")), [WEIGHTS]),
    "weights in a circle": (in_place(WEIGHTS, lambda path: path.symlink_to(path)), [WEIGHTS]),
    **{f"weights cut at {part}": (cut(WEIGHTS, part), [WEIGHTS]) for part in (0.001, 0.1, 0.5, 0.999)},
    "header beyond the file": (written(WEIGHTS, struct.pack("<Q", 2**62) + b"{}"), [WEIGHTS]),
    "header that is no JSON": (written(WEIGHTS, struct.pack("<Q", 4) + b"{{{{"), [WEIGHTS]),
    "shape of terabytes": (header(claim([2**40], 2**42)), [WEIGHTS]),
    "shape of terabytes in few bytes": (header(claim([2**40], 2304)), [WEIGHTS]),
    "shape that overflows": (header(claim([2**63, 2**63], 2304)), [WEIGHTS]),
    "negative shape": (header(claim([-1, 4], 2304)), [WEIGHTS]),
    "a tensor that is missing": (
        state(without("encoder.conv_out.bias")),
        ["encoder.conv_out.bias"],
    ),
    "a tensor too many": (state(lambda found: found.update(other=torch.ones(1))), ["other"]),
    "renamed tensors": (state(renamed), ["decoder.conv_out.bias"]),
    "no anchor": (state(without(KEY)), [KEY]),
    "no tensors": (state(lambda found: {"x": torch.ones(1)}), [KEY]),
    "another shape": (
        state(with_one(KEY, torch.ones(16, 5, 3, 3))),
        ["(16, 5, 3, 3)", "(16, 4, 3, 3)"],
    ),
    "fewer dimensions": (state(with_one(KEY, torch.ones(16))), ["(16,)", "(16, 4, 3, 3)"]),
    "integers": (state(with_one(KEY, torch.ones(16, 4, 3, 3).int())), [KEY, "int32"]),
    "float8": (
        state(with_one(KEY, torch.ones(16, 4, 3, 3).to(torch.float8_e4m3fn))),
        [KEY, "float8"],
    ),
    "complex numbers": (pickled(lambda found: {**found, KEY: found[KEY].to(torch.complex64)}), [KEY, "complex64"]),
    "sparse weights": (pickled(lambda found: {**found, KEY: found[KEY].to_sparse()}), [KEY, "sparse"]),
    "weights on the meta device": (pickled(lambda found: {**found, KEY: found[KEY].to("meta")}), [KEY]),
    "one number for a terabyte": (pickled(expanded), [PICKLED]),
    "a network instead of weights": (pickled(lambda found: torch.nn.Linear(2, 2)), [PICKLED]),
    "a list": (pickled(lambda found: list(found.values())), [PICKLED]),
    "a tensor": (pickled(lambda found: found[KEY]), [PICKLED]),
    "nested deeply": (pickled(lambda found: nested(found, 100)), [PICKLED]),
    **{
        f"code beside no weights, protocol {p}": (pickled(lambda _: {"a": Payload()}, p), [PICKLED])
        for p in (2, 3, 4, 5)
    },
    **{
        f"code in the old format, protocol {p}": (pickled(lambda _: {"a": Payload()}, p, old=True), [PICKLED])
        for p in (2, 4)
    },
    **{f"code in a bare pickle, protocol {p}": (raw_pickle(p), [PICKLED]) for p in range(6)},
    "code in place of a weight": (pickled(lambda found: {**found, KEY: Payload()}), [PICKLED]),
    "code in an ordered dictionary": (pickled(lambda found: OrderedDict(a=Payload(), b=[Payload()])), [PICKLED]),
}


def nested(found: Any, depth: int) -> Any:
    for _ in range(depth):
        found = {"state_dict": found}
    return found


def index(change: Callable[[dict], Any]) -> Callable[[Path], None]:
    def alter(folder: Path) -> None:
        facts = json.loads((folder / INDEX).read_text())
        (folder / INDEX).write_text(json.dumps(change(facts) or facts))

    return alter


def pointing(place: str) -> Callable[[Path], None]:
    def change(facts: dict) -> None:
        facts["weight_map"] |= {KEY: place}

    return index(change)


def first_shard(folder: Path) -> Path:
    return min(folder.glob("*-of-*.safetensors"))


SHARDS: dict[str, Case] = {
    "a shard is missing": (lambda folder: first_shard(folder).unlink(), ["00001-of", "No such file"]),
    "a shard is cut": (lambda folder: os.truncate(first_shard(folder), 100), ["00001-of"]),
    "a shard is empty": (lambda folder: os.truncate(first_shard(folder), 0), ["00001-of"]),
    "a shard has other tensors": (lambda folder: save_file({"x": torch.ones(1)}, first_shard(folder)), ["00001-of"]),
    "index to a folder above": (pointing("../secret.safetensors"), ["../secret.safetensors"]),
    "index to an absolute path": (pointing("/etc/passwd"), ["/etc/passwd"]),
    "index to a file that is not there": (pointing("none.safetensors"), ["none.safetensors"]),
    "index to a pickle": (pointing(PICKLED), [PICKLED]),
    "index to a number": (index(lambda facts: {"weight_map": {KEY: 3}}), ["3"]),
    "index without a map": (index(lambda facts: {"metadata": {}}), ["weight_map"]),
    "index with an empty map": (index(lambda facts: {"weight_map": {}}), ["0 shards"]),
    "index that is a list": (written(INDEX, "[]"), [INDEX]),
    "index that is empty": (written(INDEX, ""), [INDEX]),
    "index of garbage": (written(INDEX, b"\xff\0"), [INDEX]),
    "index of many shards": (
        index(lambda facts: {"weight_map": {f"k{n}": f"{n}.safetensors" for n in range(5000)}}),
        ["5,000"],
    ),
}


def trusted(folder: Path) -> Any:
    return Autoencoder(path=str(folder)).codec((4, 8, 8))


def check(words: list[str], run: Callable[[], Any]) -> None:
    """The refusal is one short line that names the file; it takes little time and memory, and runs nothing."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ValueError) as error:
        run()
    seconds = time.process_time() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    message = str(error.value)
    assert len(message) <= 200 and message.isprintable(), message
    assert all(word in message for word in words), message
    assert seconds < SECONDS and grown < MEGABYTES, (seconds, grown)
    assert not RAN


@pytest.mark.parametrize("name", {**CONFIGS, **FILES})
def test_a_broken_folder_is_refused(name, good):
    damage, words = {**CONFIGS, **FILES}[name]
    folder = Path("vae")
    shutil.copytree(good / "whole", folder)
    trusted(folder)
    damage(folder)
    check(words, lambda: trusted(folder))


@pytest.mark.parametrize("name", SHARDS)
def test_broken_shards_are_refused(name, good):
    damage, words = SHARDS[name]
    folder = Path("vae")
    shutil.copytree(good / "shards", folder)
    damage(folder)
    check(words, lambda: trusted(folder))


def ldm_state() -> dict:
    facts = json.loads(str(np.load(GOLDEN)["facts"]))
    return drawn(facts["shapes"])


LDM: dict[str, tuple[Callable[[dict], Any], list[str]]] = {
    "half of it": (without("encoder."), ["encoder"]),
    "no middle": (without("decoder.mid."), ["decoder.mid.block_1.conv1.weight"]),
    "a level is missing": (without("decoder.up.2."), ["up_blocks"]),
    "a level of a billion": (with_one("decoder.up.1000000000.block.0.conv1.weight", torch.ones(1)), ["up_blocks"]),
    "negative level": (with_one("decoder.up.-1.block.0.conv1.weight", torch.ones(1)), ["decoder.up.-1"]),
    "layers of no number": (with_one("encoder.down.x.attn.0.q.weight", torch.ones(1)), ["encoder.down.x"]),
    "attention of the wrong shape": (with_one("decoder.mid.attn_1.q.weight", torch.ones(7, 7, 1, 1)), ["(7, 7)"]),
    "first layer of one dimension": (with_one("encoder.conv_in.weight", torch.ones(3)), ["latent diffusion"]),
    "layers that training needs not": (with_one("decoder.extra.weight", torch.ones(3)), ["decoder.extra.weight"]),
    "very long names": (with_one("decoder.up." + "9" * 5000, torch.ones(3)), ["decoder.up.999"]),
    "control characters": (with_one("decoder.\n\x1b[2J", torch.ones(3)), ["decoder.\\n"]),
    "two networks": (lambda found: {"a": found, "b": {**found, "decoder.conv_in.bias": torch.ones(128)}}, ["a", "b"]),
    "code beside weights in a list": (lambda found: [found, Payload()], []),
}


@pytest.mark.parametrize("name", LDM)
def test_a_broken_file_of_latent_diffusion_is_refused(name):
    change, words = LDM[name]
    file = Path("vae.ckpt")
    torch.save(change(ldm_state()), file)
    check(words, lambda: Autoencoder(path=str(file)))


def test_objects_beside_the_weights_are_never_made():
    torch.save({"state_dict": ldm_state(), "callbacks": [Payload()], "args": Payload()}, "vae.ckpt")
    Autoencoder(path="vae.ckpt")
    assert not RAN


def half(name: str, change: Callable[[dict], Any]) -> Callable[[Path], None]:
    def alter(folder: Path) -> None:
        file = folder / f"taesd_{name}.pth"
        torch.save(change(torch.load(file)), file)

    return alter


TINY: dict[str, Case] = {
    "one half": (lambda folder: (folder / "taesd_decoder.pth").unlink(), ["config.json", "encoder"]),
    "halves that are exchanged": (
        lambda folder: shutil.copy(folder / "taesd_encoder.pth", folder / "taesd_decoder.pth"),
        ["first layer"],
    ),
    "a cut half": (cut("taesd_encoder.pth", 0.5), ["taesd_encoder.pth"]),
    "no first layer": (half("decoder", without("1.")), ["first layer"]),
    "another first layer": (half("decoder", with_one("1.weight", torch.ones(64))), ["first layer"]),
    "a layer too many": (half("encoder", with_one("15.weight", torch.ones(3))), ["encoder.layers.15.weight"]),
    "a layer of no number": (half("decoder", with_one("x.weight", torch.ones(3))), ["decoder.layers.x.weight"]),
    "a number of many digits": (half("decoder", with_one("9" * 5000 + ".weight", torch.ones(3))), ["decoder.layers.9"]),
    "a branch where none can be": (
        half("decoder", with_one("2.pool.0.weight", torch.ones(3))),
        ["decoder.layers.1.pool"],
    ),
    "half a branch": (
        half("decoder", with_one("3.pool.0.weight", torch.ones(256, 64, 1, 1))),
        ["decoder.layers.2.pool"],
    ),
}


@pytest.mark.parametrize("name", TINY)
def test_broken_halves_are_refused(name):
    from diffusers import AutoencoderTiny

    network = AutoencoderTiny()
    for one, shift in (("encoder", 0), ("decoder", 1)):
        found = network.get_submodule(f"{one}.layers").state_dict()
        keys = [key.partition(".") for key in found]
        moved = {f"{int(start) + shift}.{rest}": found[f"{start}.{rest}"] for start, _, rest in keys}
        torch.save(moved, f"taesd_{one}.pth")
    Autoencoder(path=".")
    damage, words = TINY[name]
    damage(Path("."))
    check(words, lambda: Autoencoder(path="."))


GOOD = {"mean": torch.zeros(1, 4, 1, 1), "std": torch.ones(1, 4, 1, 1)}
STATISTICS: dict[str, tuple[Any, list[str]]] = {
    "empty": ({}, ["no statistics"]),
    "only a mean": ({"mean": GOOD["mean"]}, ["no statistics"]),
    "lists": ({"mean": [0.0] * 4, "std": [1.0] * 4}, ["no statistics"]),
    "numbers": ({"mean": 0.0, "std": 1.0}, ["no statistics"]),
    "a tensor": (torch.zeros(4), ["no statistics"]),
    "code": ({"mean": Payload(), "std": Payload()}, ["no statistics"]),
    "code beside": ({**GOOD, "std": torch.zeros(4), "x": Payload()}, ["above 0"]),
    "other channels": ({"mean": torch.zeros(3), "std": torch.ones(3)}, ["3 channels", "4"]),
    "other channels each": ({"mean": torch.zeros(4), "std": torch.ones(3)}, ["(4, 1, 1)", "(3, 1, 1)"]),
    "two dimensions": ({**GOOD, "mean": torch.zeros(2, 2)}, ["(2, 2)"]),
    "a batch": ({**GOOD, "mean": torch.zeros(2, 4, 1, 1)}, ["(2, 4, 1, 1)"]),
    "a standard deviation of zero": ({**GOOD, "std": torch.zeros(4)}, ["above 0"]),
    "a negative variance": ({"mean": torch.zeros(4), "var": -torch.ones(4)}, ["std", "finite"]),
    "a scale of zero": ({"latents_bias": torch.zeros(4), "latents_scale": torch.zeros(4)}, ["finite"]),
    "NaN": ({**GOOD, "mean": torch.full((4,), float("nan"))}, ["mean", "finite"]),
    "integers": ({**GOOD, "mean": torch.zeros(4, dtype=torch.int64)}, ["mean", "int64"]),
    "complex numbers": ({**GOOD, "mean": torch.zeros(4, dtype=torch.complex64)}, ["complex64"]),
    "sparse numbers": ({**GOOD, "std": torch.ones(4).to_sparse()}, []),
    "no values": ({**GOOD, "std": torch.ones(4, device="meta")}, []),
    "no channels": ({"mean": torch.zeros(0), "std": torch.zeros(0)}, []),
    "a terabyte of one number": ({**GOOD, "mean": torch.zeros(1).expand(2**40)}, []),
    "elements of no size of the mean": ({"mean": torch.zeros(4, 8, 8), "std": torch.ones(4, 7, 8)}, ["(4, 7, 8)"]),
    "nested deeply": (nested(GOOD, 50), ["no statistics"]),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_broken_statistics_are_refused(name, good):
    held, words = STATISTICS[name]
    file = Path("stats.pt")
    torch.save(held, file)
    vae = str(good / "whole")
    check(["vae.statistics=", *words], lambda: Autoencoder(path=vae, statistics=str(file)))


BYTES = {
    "empty": b"",
    "HTML": HTML.encode(),
    "pointer": LFS.encode(),
    "noise": bytes(range(256)) * 9,
    "text": b"0.5 1.0",
}


@pytest.mark.parametrize("name", BYTES)
def test_files_that_hold_no_statistics_are_refused(name, good):
    file = Path("stats.pt")
    file.write_bytes(BYTES[name])
    vae = str(good / "whole")
    check(["vae.statistics="], lambda: Autoencoder(path=vae, statistics=str(file)))


PLACES: dict[str, Callable[[Path], Any]] = {
    "nothing": lambda path: None,
    "empty folder": os.mkdir,
    "pipe": os.mkfifo,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path),
    "empty file": lambda path: path.write_bytes(b""),
    "image": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "pointer": lambda path: path.write_text(LFS),
    "page": lambda path: path.write_text(HTML),
    "half of a TAESD": lambda path: path.write_bytes(save({"1.weight": torch.ones(64, 4, 3, 3)})),
    "statistics": lambda path: torch.save(GOOD, path),
    "a model": lambda path: torch.save({"x_embedder.proj.weight": torch.ones(8, 4, 2, 2)}, path),
    "an array": lambda path: np.save(io.BytesIO(), np.ones(3)) or path.write_bytes(b"\x93NUMPY\x01\x00"),
}


@pytest.mark.parametrize("setting", ["path", "statistics"])
@pytest.mark.parametrize("name", PLACES)
def test_a_path_to_something_else_is_refused(setting, name, good):
    if (setting, name) == ("statistics", "statistics"):
        pytest.skip("these are statistics")
    place = Path("given")
    PLACES[name](place)
    settings = {"path": str(good / "whole"), setting: str(place)}
    check([f"vae.{setting}="], lambda: Autoencoder(**settings))


def test_a_path_with_a_null_byte_is_refused(good):
    check(["vae.path="], lambda: Autoencoder(path="a\0b"))
