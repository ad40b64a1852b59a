"""A pickle's value, without running what it holds.

Python's pickletools reads the operations, and a small machine does those that move values between a stack, a memo and
containers. A call does nothing unless it makes a tensor, a container or a number (`rebuild`): it leaves a Record. No
name is imported, and time and memory are in proportion to the pickle's bytes, which are limited.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import IO, Any

from ditexp.checkpoint.rebuild import Damaged, key_of, rebuilt
from ditexp.checkpoint.record import Record

PICKLE_BYTES = 2**25
MAX_WORK = 500_000  # operations and copied items; a DiT-XL with its average and its optimizer takes 60,000
INTEGER_BITS = 128

VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"),
    *("SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES"),
    *("BINBYTES8", "BYTEARRAY8"),
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
GETS, PUTS = {"GET", "BINGET", "LONG_BINGET"}, {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}


def unpickled(file: IO[bytes], storage_of: Callable[[Any], Any]) -> Any:
    """The value of the pickle at a file's place: Records in place of objects, lists in place of sets.

    storage_of: what stands for a persistent id, a Storage. Raises ValueError for a damaged pickle.
    """
    machine = Machine(storage_of)
    for opcode, argument, _ in pickletools.genops(file):
        machine.do(opcode.name, argument)
    return machine.pop()


class Machine:
    """stack: the values since the last mark. below: the stacks before it."""

    def __init__(self, storage_of: Callable[[Any], Any]) -> None:
        self.storage_of = storage_of
        self.stack: list = []
        self.below: list[list] = []
        self.memo: dict[int, Any] = {}
        self.work = 0
        self.actions: dict[str, Callable[[], None]] = {
            "MARK": self.mark,
            "POP": self.drop,
            "POP_MARK": self.drop_marked,
            "DUP": lambda: self.push(self.top()),
            "TUPLE": lambda: self.push(tuple(self.marked())),
            "LIST": lambda: self.push(self.marked()),
            "FROZENSET": lambda: self.push(self.marked()),
            "DICT": lambda: self.set_items({}, self.marked()),
            "APPEND": lambda: self.append([self.pop()]),
            "APPENDS": lambda: self.append(self.marked()),
            "ADDITEMS": lambda: self.append(self.marked()),
            "SETITEM": self.set_item,
            "SETITEMS": lambda: self.set_items(None, self.marked()),
            "STACK_GLOBAL": self.stack_global,
            "REDUCE": self.reduce,
            "NEWOBJ": self.reduce,
            "NEWOBJ_EX": self.new_with_keywords,
            "OBJ": self.new_of_marked,
            "BUILD": self.build,
            "BINPERSID": lambda: self.push(self.storage_of(self.pop())),
        }

    def do(self, name: str, argument: Any) -> None:
        self.spend(1)
        if name in VALUES:
            if type(argument) is int and argument.bit_length() > INTEGER_BITS:
                raise Damaged(f"it has an integer of {argument.bit_length():,} bits")
            self.push(argument)
        elif name in CONSTANTS:
            self.push(CONSTANTS[name])
        elif name in EMPTY:
            self.push(EMPTY[name]())
        elif name in TUPLES:
            parts = [self.pop() for _ in range(TUPLES[name])]
            self.push(tuple(reversed(parts)))
        elif name in GETS:
            if argument not in self.memo:
                raise Damaged("it refers to a value that is not there")
            self.push(self.memo[argument])
        elif name in PUTS:
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.top()
        elif name == "GLOBAL":
            self.push(Record(".".join(argument.split(" "))))
        elif name == "INST":
            self.push(rebuilt(".".join(argument.split(" ")), tuple(self.marked())))
        elif name in self.actions:
            self.actions[name]()
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise Damaged(f"it has the operation {name}, which torch.save does not write")

    def spend(self, work: int) -> None:
        self.work += work
        if self.work > MAX_WORK:
            raise Damaged(f"its pickle has more than {MAX_WORK:,} operations")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def top(self) -> Any:
        if not self.stack:
            raise Damaged("its pickle lacks a value")
        return self.stack[-1]

    def pop(self) -> Any:
        value = self.top()
        del self.stack[-1]
        return value

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def drop_marked(self) -> None:
        self.marked()

    def drop(self) -> None:
        """POP, which also removes a mark."""
        self.pop() if self.stack else self.marked()

    def marked(self) -> list:
        """The values since the last mark, which are removed with it."""
        if not self.below:
            raise Damaged("its pickle lacks a mark")
        found, self.stack = self.stack, self.below.pop()
        return found

    def append(self, values: list) -> None:
        target = self.top()
        if not isinstance(target, list | Record):
            raise Damaged(f"it appends to a {type(target).__name__}")
        (target.items if isinstance(target, Record) else target).extend(values)

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items(None, [key, value])

    def set_items(self, made: dict | None, values: list) -> None:
        """made: a dictionary that is put on the stack; None: the one that is there is filled."""
        if made is not None:
            self.push(made)
        target = self.top()
        if len(values) % 2 or not isinstance(target, dict | Record):
            raise Damaged(f"it sets items of a {type(target).__name__}")
        found = {key_of(key): value for key, value in zip(values[::2], values[1::2])}
        target.items.append(found) if isinstance(target, Record) else target.update(found)

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise Damaged("it names a class by what is no text")
        self.push(Record(f"{module}.{name}"))

    def reduce(self) -> None:
        arguments = self.pop()
        self.push(self.called(self.pop(), arguments))

    def new_with_keywords(self) -> None:
        keywords, arguments = self.pop(), self.pop()
        self.push(self.called(self.pop(), arguments))
        if isinstance(keywords, dict):
            self.set_fields(self.top(), keywords)

    def new_of_marked(self) -> None:
        values = self.marked()
        self.push(self.called(values[0] if values else None, tuple(values[1:])))

    def called(self, function: object, arguments: object) -> Any:
        if not isinstance(function, Record) or not isinstance(arguments, tuple):
            raise Damaged(f"it calls a {type(function).__name__}")
        self.spend(sum(len(one) for one in arguments if isinstance(one, bytes | str | list | tuple)))  # may be copied
        return rebuilt(function.kind, arguments)

    def build(self) -> None:
        state = self.pop()
        for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
            if isinstance(part, dict):
                self.set_fields(self.top(), part)

    def set_fields(self, target: object, fields: dict) -> None:
        """Attributes of anything but a Record are ignored: torch gives dictionaries and parameters some."""
        self.spend(len(fields))
        if isinstance(target, Record):
            target.fields.update(fields)
