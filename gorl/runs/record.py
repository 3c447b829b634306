"""The record of a run: metrics.jsonl, with one JSON object per line. It is complete and authoritative."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any, Literal

from gorl.errors import RunError
from gorl.runs.files import open_plain, parse_json, plain, writing

LONGEST_LINE = 2**24
"""Bytes of the longest line of a record that is read."""


@dataclasses.dataclass(frozen=True)
class RecordEntry:
    """The metrics of one unit. `step` counts what `axis` names; `wall_s` is seconds of training over all resumes."""

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
    """An append-only file of entries, which `position` and `rewind` tie to a checkpoint.

    The operating system has an entry when `log` returns.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        with writing(self._path.parent, self._path.name):
            self._file = open_plain(path, "ab", buffering=0)

    def log(self, entry: RecordEntry) -> None:
        """Appends an entry. Raises RunError if it cannot be written (a full disk)."""
        pending = memoryview(json.dumps(encoded(entry), allow_nan=False).encode() + b"\n")
        with writing(self._path.parent, self._path.name):
            while pending:
                pending = pending[self._file.write(pending) :]

    def position(self) -> int:
        """Returns the length of the record in bytes, once all of them are on disk. Raises RunError."""
        with writing(self._path.parent, self._path.name):
            os.fsync(self._file.fileno())
        return self._file.seek(0, os.SEEK_END)

    def rewind(self, position: int) -> None:
        """Drops the entries after a checkpoint's `position`, because the resumed run writes them again."""
        self._file.truncate(position)
        self._file.seek(position)

    def require(self, position: int) -> None:
        """Raises RunError if the record is shorter than it was at a checkpoint, which means that lines were lost."""
        if (size := self._file.seek(0, os.SEEK_END)) < position:
            raise RunError(f"{self._path} has {size} bytes, but had {position} at this checkpoint: its end was lost.")

    def close(self) -> None:
        self._file.close()


def read(path: pathlib.Path) -> Iterator[RecordEntry]:
    """Yields the entries of a record, without a last line that a crash cut off. A missing record has none.

    Raises RunError if the record is a link, a device or a pipe.
    """
    if not os.path.lexists(path):
        return
    with open_plain(path) as file:
        while line := file.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE:
                raise ValueError("a line is too long")
            if line.endswith(b"\n"):
                yield decoded(parse_json(line))


def encoded(entry: RecordEntry) -> dict[str, Any]:
    """Returns an entry as it is in JSON, where a metric that is not finite is null."""
    return plain(vars(entry))


def decoded(value: dict[str, Any]) -> RecordEntry:
    """Returns an entry from its JSON. A metric that is null is NaN. Raises ValueError, KeyError or TypeError."""
    # Records of earlier versions have the text "nan", "inf" or "-inf".
    metrics = {k: math.nan if v is None else float(v) for k, v in value["metrics"].items()}
    return RecordEntry(**value | {"metrics": metrics})


def read_entries(record: pathlib.Path) -> Iterator[RecordEntry]:
    """Yields the entries of a record. Raises RunError, which names the line, if a complete line is not an entry."""
    lines = 0
    try:
        for entry in read(record):
            lines += 1
            yield entry
    except OSError as err:
        raise RunError(f"cannot read {record}: {err.strerror}.") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise RunError(f"{record}:{lines + 1} is broken: this line is not an entry of a record.") from err


def check_record(record: pathlib.Path) -> None:
    """Raises RunError, which names the line, if a complete line of a record is not an entry."""
    for _ in read_entries(record):
        pass
