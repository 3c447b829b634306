"""The run's own record: one JSON object a line in metrics.jsonl. It is complete, and the truth."""

import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from gorl.tracking.base import Entry


class Record:
    """Appends entries; `position` and `rewind` tie the file to a checkpoint."""

    def __init__(self, path: pathlib.Path):
        self._file = open(path, "ab")

    def log(self, entry: Entry) -> None:
        line = vars(entry) | {"metrics": {k: _encode(v) for k, v in entry.metrics.items()}}
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")

    def flush(self) -> None:
        self._file.flush()

    def position(self) -> int:
        """Bytes that are safely on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def rewind(self, position: int) -> None:
        """Drops what was written after a checkpoint: it will be written again."""
        self._file.truncate(position)
        self._file.seek(position)

    def close(self) -> None:
        self.position()
        self._file.close()


def read(path: pathlib.Path) -> Iterator[Entry]:
    """The entries of a record. A last line cut off by a crash is left out."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                value = json.loads(line)
                yield Entry(**value | {"metrics": {k: _decode(v) for k, v in value["metrics"].items()}})


def _encode(value: float) -> Any:
    return value if math.isfinite(value) else str(value)  # JSON has no NaN


def _decode(value: Any) -> float:
    return float(value)
