"""One seed's part of a run: its folder, its record and its checkpoints."""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from gorl.phases.base import StageEnd
from gorl.runs.checkpoint import CheckpointStore
from gorl.runs.folder import RunFolder
from gorl.runs.record import Record, RecordEntry
from gorl.state import PyTree

DIVERGED = "diverged"
"""The metric by which a unit says (1.0) that it could make no sound update of a seed."""


@dataclasses.dataclass(frozen=True)
class Position:
    """A run's position: before the next unit of the phase `index`, or before that phase where it has not `started`.

    `unit` is the next unit's number within the phase. `skipped` are the numbers of the phases that were not run. The
    other counts are of the whole run.
    """

    index: int = 0
    started: bool = False
    unit: int = 0
    total_units: int = 0
    env_steps: int = 0
    eval_steps: int = 0
    skipped: tuple[int, ...] = ()

    @classmethod
    def read(cls, stored: dict[str, Any]) -> "Position":
        """Returns the position that was stored as JSON. Runs from before phases could be skipped skipped none."""
        return cls(**stored | {"skipped": tuple(stored.get("skipped", ()))})

    @property
    def number(self) -> int:
        """The number of the checkpoint at this position. The end of a unit counts, and so does the end of a phase."""
        return self.total_units + self.index


class AbstractSeedRun(abc.ABC):
    """One seed's part of a run, as the trainer sees it.

    `failures` counts the units in a row without a sound update. A seed is `frozen` once it was given up and saved for
    the last time.
    """

    seed: int
    failures: int
    frozen: bool
    stage_observers: tuple[Callable[[StageEnd], None], ...]

    def log(self, entry: RecordEntry) -> None:
        """Takes note of a unit's metrics."""
        if DIVERGED in entry.metrics:
            self.failures = self.failures + 1 if entry.metrics[DIVERGED] > 0 else 0

    def is_given_up(self, limit: int) -> bool:
        """Whether the seed made no sound update for `limit` units in a row, or was frozen before."""
        return self.frozen or self.failures >= limit

    @abc.abstractmethod
    def open(self) -> None:
        """Opens the files."""

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the files."""

    @abc.abstractmethod
    def save(self, number: int, state: PyTree, meta: dict[str, Any], *, row: int) -> None:
        """Commits the row `row` of the state [S, ...] as checkpoint `number`."""


class SeedRun(AbstractSeedRun):
    """One seed's part of a run, in its own folder.

    `observers` are called with every entry after it is in the record, `stage_observers` with what each stage left after
    it is saved. Stage observers must not raise.
    """

    def __init__(
        self,
        seed: int,
        folder: RunFolder,
        observers: Sequence[Callable[[RecordEntry], None]] = (),
        stage_observers: Sequence[Callable[[StageEnd], None]] = (),
    ):
        self.seed = seed
        self.folder = folder
        self.observers = tuple(observers)
        self.stage_observers = tuple(stage_observers)
        self.failures = 0
        self.frozen = False

    def open(self) -> None:
        self.store = CheckpointStore(self.folder.path)
        self.record = Record(self.folder.record_path)

    def close(self) -> None:
        self.record.close()
        self.store.close()

    def log(self, entry: RecordEntry) -> None:
        super().log(entry)
        self.record.log(entry)
        for observer in self.observers:
            observer(entry)

    def save(self, number: int, state: PyTree, meta: dict[str, Any], *, row: int) -> None:
        self.store.save(number, state, {**meta, "record_bytes": self.record.position()}, row=row)


class SilentSeedRun(AbstractSeedRun):
    """One seed in a process that computes and writes nothing (`gorl.runtime.hosts`)."""

    def __init__(self, seed: int):
        self.seed = seed
        self.stage_observers = ()
        self.failures = 0
        self.frozen = False

    def open(self) -> None:
        return

    def close(self) -> None:
        return

    def save(self, number: int, state: PyTree, meta: dict[str, Any], *, row: int) -> None:
        del number, state, meta, row
