"""Pickles that hold code, or claim more than they have, in every protocol and wrapper of a checkpoint."""

from __future__ import annotations

import builtins
import codecs
import functools
import os
import pickle
import posix
import subprocess
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from tests.checkpoint.cases import PROJECTION, Cases, accepted, as_torch, refused, torch_bytes, weights
from tests.helpers.hostile_files import Code, Make, a_tensor, of, torch_file, zipped

RAN = "ran"  # how the names of what the code leaves begin


class SetState:
    """Its class's __setstate__ runs code."""

    def __setstate__(self, state: object) -> None:
        os.mkdir(RAN)


class WithState:
    def __reduce__(self) -> tuple:
        return SetState, (), {"lr": 1}


PAYLOADS: dict[str, object] = {
    "os.system": Code(os.system, f"mkdir {RAN}"),
    "posix.mkdir": Code(posix.mkdir, RAN),
    "eval": Code(eval, f"__import__('os').mkdir('{RAN}')"),
    "exec": Code(builtins.exec, f"import os; os.mkdir('{RAN}')"),
    "subprocess": Code(subprocess.check_call, ["mkdir", RAN]),
    "torch.load": Code(functools.partial(torch.load, weights_only=False), "second.pt"),
    "torch's storages": Code(torch.storage._load_from_bytes, torch_bytes(Code(os.mkdir, RAN))),
    "codecs.open": Code(codecs.open, RAN, "w"),
    "a method": Code(Path(RAN).mkdir),
    "__setstate__": WithState(),
}


def write_second_pickle() -> None:
    """What a payload lets torch.load read in the current folder."""
    torch.save(Code(os.mkdir, RAN), "second.pt")


def run(payload: object) -> None:
    pickle.loads(pickle.dumps(payload))


# Where the code is, and whether the file works without it.
WRAPPERS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "as args": (lambda code: {"model": weights(), "args": code}, True),
    "in args": (lambda code: {"model": weights(), "args": {"lr": 1, "hook": [code]}}, True),
    "beside the weights": (lambda code: weights() | {"hook": code}, True),
    "in the optimizer": (lambda code: {"model": weights(), "opt": {"state": {0: code}}}, True),
    "as ema": (lambda code: {"model": weights(), "ema": code}, True),
    "as a weight": (lambda code: {"ema": weights() | {PROJECTION: code}}, False),
    "as everything": (lambda code: code, False),
    "as a Lightning callback": (lambda code: {"state_dict": weights(), "callbacks": {"EMA": code}}, True),
}


def code() -> Cases:
    made: Cases = {}
    for number, (name, payload) in enumerate(PAYLOADS.items()):
        for offset, (where, (wrapped, works)) in enumerate(WRAPPERS.items()):
            protocol, old = 2 + (number + offset) % 4, (number + offset // 2) % 2 == 1
            make = as_torch(lambda wrap=wrapped, code=payload: wrap(code), old=old, protocol=protocol)
            words = () if works or where == "as everything" else (PROJECTION,)
            title = f"{name} {where}, protocol {protocol}{', old' if old else ''}"
            made[title] = accepted(make) if works else refused(make, *words)
        for protocol in range(6):
            content = pickle.dumps({"args": payload}, protocol=protocol)
            make = of(content) if (number + protocol) % 2 else torch_file(content)
            made[f"{name}, protocol {protocol} in a {'plain pickle' if (number + protocol) % 2 else 'zip'}"] = refused(
                make
            )
    return made


def code_by_hand() -> Cases:
    """Operations that Python's own pickler does not write."""
    path = f"X{chr(3)}\0\0\0{RAN}".encode()
    head = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2)
    evil = b"cos\nmkdir\n(" + path + b"tR."
    metadata = {"args": pickle.dumps(PAYLOADS["eval"], protocol=0).decode("latin-1"), "format": "pt"}
    operations = {
        "INST": b"(" + path + b"ios\nmkdir\n.",
        "OBJ": b"(cos\nmkdir\n" + path + b"o.",
        "NEWOBJ": b"\x80\2cos\nmkdir\n" + path + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\4cos\nmkdir\n" + path + b"\x85}\x92.",
        "STACK_GLOBAL": b"\x80\4\x8c\2os\x8c\5mkdir\x93" + path + b"\x85R.",
        "a name with dots": b"\x80\4\x8c\2os\x8c\x0dpath.os.mkdir\x93" + path + b"\x85R.",
        "BUILD": b"cos\nmkdir\n}X\1\0\0\0aK\1sb.",
        "EXT1": b"\x80\2\x82\1.",
        "PERSID": b"Pos.mkdir\n.",
        "a call of a call": b"cbuiltins\ngetattr\n(cos\nenviron\nX\5\0\0\0clear\x86R)R.",
        "a storage of a class": a_tensor().replace(b"ctorch\nFloatStorage\n", b"cos\nmkdir\n"),
        "a storage of a call": a_tensor().replace(b"ctorch\nFloatStorage\n", b"cos\nmkdir\n" + path + b"\x85R"),
    }
    made: Cases = {f"{name} in a zip": refused(torch_file(content)) for name, content in operations.items()}
    made |= {
        "code as the magic number": refused(of(evil + torch_bytes(weights(), old=True))),
        "code as the facts of the machine": refused(of(head + evil)),
        "code as the list of storages": refused(
            of(head + pickle.dumps({}, protocol=2) + pickle.dumps({}, protocol=2) + evil)
        ),
        "code in the metadata of safetensors": accepted(lambda place: place.write_bytes(save(weights(), metadata))),
        "code beside data.pkl": refused(zipped([("a/data.pkl", b"N."), ("a/code/x.py", b"import os")], method=0)),
        "a module": refused(as_torch(lambda: torch.nn.Linear(2, 2)), "torch.nn.modules.linear.Linear", "state_dict"),
    }
    return made


def nested(depth: int) -> bytes:
    """Lists in lists, which Python's own pickler refuses to write beyond some depth."""
    return b"]" * depth + b"a" * (depth - 1) + b"."


def laughs(depth: int) -> bytes:
    """Lists of one list twice, depth times: 2^depth values if they are counted."""
    return b"\x80\2]q\0" + b"".join(b"](h%ch%ceq%c0" % (n, n, n + 1) for n in range(depth)) + b"h%c." % depth


def within(content: bytes) -> Make:
    """A dictionary whose args are what a pickle makes."""
    return torch_file(b"\x80\2}(X\4\0\0\0args" + content.removeprefix(b"\x80\2")[:-1] + b"u.")


def repeated(first: bytes, each: bytes, times: int) -> Make:
    return torch_file(b"\x80\4" + first + each * times + b".")


def bombs() -> Cases:
    """Small pickles that stand for much memory, time or depth."""
    big = b"X\0\0\x10\0" + b"a" * 2**20 + b"q\0"
    ordered = b"ccollections\nOrderedDict\nq\1"
    items = b"](" + b"K\1K\2\x86" * 1000 + b"eq\2"
    loop = b"\x80\2]q\0h\0a."
    anchors = {f"{n}.final_layer.linear.weight": torch.ones(1) for n in range(3000)}
    return {
        "a memo of 2^32 places": refused(torch_file(b"\x80\2]r\xff\xff\xff\xff.")),
        "a text of 2^62 bytes": refused(torch_file(b"\x80\4\x8d" + (2**62).to_bytes(8, "little"))),
        "bytes of 2^62 bytes": refused(torch_file(b"\x80\5\x96" + (2**62).to_bytes(8, "little"))),
        "a frame of 2^62 bytes": refused(torch_file(b"\x80\4\x95" + (2**62).to_bytes(8, "little") + b"N.")),
        "a number of 2^31 bytes": refused(torch_file(b"\x80\2\x8b\xff\xff\xff\x7f1.")),
        "a number of 100,000 bytes": refused(torch_file(b"\x80\2\x8b\xa0\x86\1\0" + b"\1" * 100_000 + b".")),
        "a number of 100,000 digits": refused(torch_file(b"L" + b"1" * 100_000 + b"L\n.")),
        "a number of 200 digits": refused(torch_file(b"L" + b"1" * 200 + b"L\n.")),
        "lists 100,000 deep": refused(torch_file(b"\x80\2" + nested(100_000))),
        "lists 100,000 deep as args": refused(within(nested(100_000))),
        "tuples 100,000 deep": refused(repeated(b")", b"\x85", 100_000)),
        "tuples 100,000 deep as a key": refused(torch_file(b"\x80\2})" + b"\x85" * 100_000 + b"Ns.")),
        "dictionaries 300,000 deep": refused(torch_file(b"}N" * 300_000 + b"}" + b"s" * 300_000 + b".")),
        "2^100 lists": refused(torch_file(laughs(100))),
        "2^100 lists as args": refused(within(laughs(100))),
        "2^100 lists as a weight's name": refused(torch_file(laughs(100)[:-1] + b"0}h\x64Ns.")),
        "a list in itself": refused(torch_file(loop)),
        "a dictionary in itself": refused(torch_file(b"\x80\2}q\0X\5\0\0\0modelh\0s.")),
        "2,000,000 lists": refused(repeated(b"", b"]", 2_000_000), "operations"),
        "a text of 1 MB, encoded 1,000 times": refused(
            repeated(b"c_codecs\nencode\nq\1" + big + b"](", b"h\1h\0X\6\0\0\0latin1\x86R", 1000)
        ),
        "a dictionary, copied 10,000 times": refused(repeated(ordered + items, b"h\1h\2\x85R", 10_000), "operations"),
        "fields, copied 100,000 times": refused(
            repeated(b"cx\ny\n}(" + b"".join(b"K%cN" % n for n in range(200)) + b"uq\0", b"cx\ny\nh\0b", 100_000)
        ),
        "an empty stack": refused(torch_file(b"\x80\2.")),
        "no mark": refused(torch_file(b"\x80\2t.")),
        "no end": refused(torch_file(b"\x80\2N")),
        "an operation to come": refused(torch_file(b"\x80\2\xf0.")),
        "a protocol to come": refused(torch_file(b"\x80\x63N.")),
        "a value of the memo that is not there": refused(torch_file(b"\x80\2h\7.")),
        "items of a number": refused(torch_file(b"\x80\2K\1K\2K\3s.")),
        "3,000 networks": refused(as_torch(lambda: anchors), "3,000 networks"),
        "a buffer of 10^11 bytes": refused(torch_file(pickle.dumps(Code(bytearray, 10**11), protocol=2))),
        "a set of lists": refused(torch_file(b"\x80\4\x8f(]e.")),
    }


def tensors() -> Cases:
    """Tensors that their storages contradict."""
    storage = [("0", bytes(8))]
    made = {
        "no numbers": {},
        "a terabyte of numbers": {"count": 2**38},
        "numbers below none": {"count": -2},
        "a shape of a terabyte": {"size": (2**38,)},
        "one number 10^12 times": {"size": (10**6, 10**6), "stride": (0, 0)},
        "a negative size": {"size": (-2,)},
        "a size in words": {"size": ("two",)},
        "a size as a number": {"size": 2},
        "a size of 100 axes": {"size": (1,) * 100, "stride": (1,) * 100},
        "a size of 2^127": {"size": (0, 2**127), "stride": (1, 1)},
        "a negative stride": {"stride": (-1,)},
        "a stride beyond the end": {"stride": (9,)},
        "another number of strides": {"stride": (1, 1)},
        "an offset beyond the end": {"offset": 10**9},
        "a negative offset": {"offset": -5},
    }
    cases: Cases = {
        f"a tensor with {name}": refused(torch_file(a_tensor(**changes), storage if changes else ()))
        for name, changes in made.items()
    }
    empty: Callable[[], OrderedDict] = OrderedDict
    return cases | {"no tensors": refused(as_torch(empty), "no state dict")}


KINDS: dict[str, Callable[[], Cases]] = {
    "code, by pickle": code,
    "code, by hand": code_by_hand,
    "bombs": bombs,
    "tensors of no storage": tensors,
}
