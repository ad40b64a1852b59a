"""Reads what wandb wrote offline.

A `.wandb` file is a log in LevelDB's format after a header of 7 bytes (":W&B", a magic number, a version). It
is cut into blocks of 32 KiB. In them lie fragments, each after 7 bytes: checksum (4), length (2) and type (1:
a whole record; 2, 3, 4: its first, a middle, its last fragment), little-endian. Fewer than 7 bytes at the end
of a block are padding. A record is a protobuf message `wandb_internal.Record`.
"""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32 * 1024, 7
WHOLE, LAST = 1, 4


@dataclass
class OfflineRun:
    folder: Path
    run: object = None  # the protobuf message: run_id, run_group, job_type, tags, display_name, project
    config: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    exit_code: int | None = None

    def media(self, key: str) -> Path:
        """The file behind an image or a table of the summary."""
        return self.folder / "files" / self.summary[f"{key}.path"]


def read_runs(folder: Path) -> dict[str, OfflineRun]:
    """Every run below `folder` by its id. Of one whose service was killed online, there may be nothing yet."""
    runs = [read_run(file) for file in sorted(folder.rglob("*.wandb"))]
    return {run.run.run_id: run for run in runs if run.run}


def read_run(file: Path) -> OfflineRun:
    result = OfflineRun(file.parent)
    for record in records(file.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            result.run = record.run
            result.config.update(decoded(record.run.config.update))
        elif kind == "config":
            result.config.update(decoded(record.config.update))
        elif kind == "summary":
            result.summary.update(decoded(record.summary.update))
        elif kind == "exit":
            result.exit_code = record.exit.exit_code
    return result


def records(data: bytes):
    assert data.startswith(b":W&B") or not data
    position, message = HEADER, b""
    while position + HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        position += HEADER
        if position + length > len(data):  # the service was killed here
            return
        message += data[position : position + length]
        position += length
        if kind in (WHOLE, LAST):
            record = Record()
            record.ParseFromString(message)
            yield record
            message = b""


def decoded(items) -> dict:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
