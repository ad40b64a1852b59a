"""A run killed at random moments, and run again each time, ends with the set of an undisturbed one."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests import commands
from tests.conftest import files_of

CELL = ("solver=heun", "steps=5", "num_samples=512", "batch_size=32", "tracker=none", "metric=[]")
KILLS = 20


def start(outputs: Path, logs: Path) -> commands.Command:
    return commands.start(commands.unused_name(logs), "ditexp.run", *CELL, f"outputs={outputs}")


def test_kill_9(tmp_path):
    for name in ("first", "undisturbed"):  # the first one also waits for torch, which the others are forked with
        begin = time.monotonic()
        undisturbed = start(tmp_path / name, tmp_path / "logs").wait()
        duration = time.monotonic() - begin
    assert undisturbed.code == 0, undisturbed.output
    expected = files_of(tmp_path / "undisturbed" / "samples")
    assert len(expected) == 2

    draw, kills, sets, saved = random.Random(0), 0, 0, 0
    while kills < KILLS:
        outputs, sets = tmp_path / f"killed-{sets}", sets + 1
        while kills < KILLS:
            command = start(outputs, tmp_path / "logs")
            command.process.join(draw.uniform(0, duration))
            if command.process.is_alive():
                command.process.kill()
                kills += 1
            command.wait()
            if command.code == 0:
                break
            saved += bool(list(outputs.rglob("*.npz")))
        last = start(outputs, tmp_path / "logs").wait()
        assert last.code == 0, last.output
        assert files_of(outputs / "samples") == expected
        assert not list((outputs / "samples").rglob("*.tmp"))
    print(f"{kills} kills over {sets} sets; after {saved} of them a finished block was there to go on from")
    assert saved
