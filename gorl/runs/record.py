"""The run's own record: one JSON object a line in metrics.jsonl. It is complete, and the truth."""

import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from gorl.runs.files import writing
from gorl.errors import RunError

from collections.abc import Iterator
from gorl.errors import RunError
from typing import Literal
import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True)
class RecordEntry:
    """The metrics of one unit. `step` is what `axis` counts; `wall_s` are seconds of training so far, over all resumes."""

    unit: int  # number in the whole run
    stage: int
    phase: str
    kind: str  # the unit's name
    subset: str
    axis: Literal["env_steps", "units"]
    env_steps: int
    wall_s: float
    metrics: dict[str, float]

    @property
    def step(self) -> int:
        return self.env_steps if self.axis == "env_steps" else self.unit


class Record:
    """Appends entries; `position` and `rewind` tie the file to a checkpoint. Every entry is with the system when `log` returns."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        with writing(self._path.parent, self._path.name):
            self._file = open(path, "ab", buffering=0)

    def log(self, entry: RecordEntry) -> None:
        """Raises RunError where it cannot be written (a full disk)."""
        line = vars(entry) | {"metrics": {k: _encode(v) for k, v in entry.metrics.items()}}
        left = memoryview(json.dumps(line, allow_nan=False).encode() + b"\n")
        with writing(self._path.parent, self._path.name):
            while left:
                left = left[self._file.write(left) :]

    def position(self) -> int:
        """Bytes that are safely on disk."""
        with writing(self._path.parent, self._path.name):
            os.fsync(self._file.fileno())
        return self._file.seek(0, os.SEEK_END)

    def rewind(self, position: int) -> None:
        """Drops what was written after a checkpoint: it will be written again."""
        self._file.truncate(position)
        self._file.seek(position)

    def require(self, position: int) -> None:
        """Raises RunError if the record has fewer bytes than it had at a checkpoint: lines of it were lost."""
        if (size := self._file.seek(0, os.SEEK_END)) < position:
            raise RunError(f"{self._path} has {size} bytes, but had {position} at this checkpoint: its end was lost.")

    def close(self) -> None:
        self._file.close()


def read(path: pathlib.Path) -> Iterator[RecordEntry]:
    """The entries of a record. A last line cut off by a crash is left out."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                value = json.loads(line)
                yield RecordEntry(**value | {"metrics": {k: _decode(v) for k, v in value["metrics"].items()}})


def _encode(value: float) -> Any:
    return value if math.isfinite(value) else str(value)  # JSON has no NaN


def _decode(value: Any) -> float:
    return float(value)


def entries_of(record: pathlib.Path) -> Iterator[RecordEntry]:
    """The entries of a record, one after another. Raises RunError, which names the line, where a whole line is none."""
    lines = 0
    try:
        for entry in read(record):
            lines += 1
            yield entry
    except OSError as err:
        raise RunError(f"cannot read {record}: {err.strerror}.") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise RunError(f"{record}:{lines + 1} is broken: this line is no entry of a record.") from err


def check_record(record: pathlib.Path) -> None:
    """Raises RunError as `entries_of`."""
    for _ in entries_of(record):
        pass
