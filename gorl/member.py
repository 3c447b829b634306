"""One seed's part of a run: its folder, its record, its checkpoints, and how a run is restored from them."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

from gorl.checkpoint import CheckpointStore
from gorl.errors import RunError
from gorl.experiment import Experiment
from gorl.phases.base import PhaseContext
from gorl.runs import RunFolder
from gorl.state import RunState
from gorl.tracking.base import Entry
from gorl.tracking.record import Record

DIVERGED = "diverged"
"""The metric by which a unit says (1.0) that it could make no sound update of a seed."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a run stands: the next unit of the phase `index`, or, where not `started`, before that phase."""

    index: int = 0
    started: bool = False
    unit: int = 0  # within the phase
    total_units: int = 0
    env_steps: int = 0
    eval_steps: int = 0


@dataclasses.dataclass(frozen=True)
class StageEnd:
    """What a stage left of one seed: `run`, without the axis of seeds. `context` is that of the stage's last phase."""

    context: PhaseContext
    run: RunState
    unit: int
    env_steps: int


class Member:
    """One seed's part of a run: its folder, and who is told of its metrics (`observers`, after they are in the record) and
    of what each stage left (`stage_observers`, after it is saved; they must not raise)."""

    def __init__(
        self,
        seed: int,
        folder: RunFolder,
        observers: Sequence[Callable[[Entry], None]] = (),
        stage_observers: Sequence[Callable[[StageEnd], None]] = (),
    ):
        self.seed = seed
        self.folder = folder
        self.observers = tuple(observers)
        self.stage_observers = tuple(stage_observers)
        self.failures = 0  # units in a row without a sound update
        self.frozen = False  # given up, and saved for the last time

    def open(self) -> None:
        self.store = CheckpointStore(self.folder.path)
        self.record = Record(self.folder.record_path)

    def close(self) -> None:
        self.record.close()
        self.store.close()

    def log(self, entry: Entry) -> None:
        self.failures = _failures(self.failures, entry)
        self.record.log(entry)
        for observer in self.observers:
            observer(entry)

    def save(self, number: int, state: Any, meta: dict[str, Any], *, row: int) -> None:
        self.store.save(number, state, {**meta, "record_bytes": self.record.position()}, row=row)


class Follower:
    """A seed in a process that computes and writes nothing (`gorl.hosts`): what of a `Member` decides how a run goes on."""

    stage_observers = ()

    def __init__(self, seed: int):
        self.seed = seed
        self.failures = 0
        self.frozen = False

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def log(self, entry: Entry) -> None:
        self.failures = _failures(self.failures, entry)

    def save(self, number: int, state: Any, meta: dict[str, Any], *, row: int) -> None:
        del number, state, meta, row


def _failures(before: int, entry: Entry) -> int:
    """Units in a row without a sound update, after one more."""
    if DIVERGED not in entry.metrics:
        return before
    return before + 1 if entry.metrics[DIVERGED] > 0 else 0


def restore_newest(experiment: Experiment, store: CheckpointStore) -> tuple[Position, Any, dict[str, Any]] | None:
    """(position, state of one seed, meta) of the newest checkpoint that can be read, or None. Ones that cannot are named."""
    return first_readable(store.newest(), lambda number: restore(experiment, store, number))


def restore(experiment: Experiment, store: CheckpointStore, number: int) -> tuple[Position, Any, dict[str, Any]]:
    meta = store.meta(number)
    position = Position(**meta["position"])
    return position, store.restore(number, experiment.template(position.index, position.started)), meta


def first_readable(numbers: Sequence[int], read: Callable[[int], Any]) -> Any:
    failures = []
    for number in numbers:
        try:
            return read(number)
        except RunError as err:
            failures.append(f"checkpoint {number}: {err}")
            _log.warning("checkpoint %s cannot be read and is skipped: %s", number, err)
    if failures:
        raise RunError("no checkpoint of this run can be read:\n  " + "\n  ".join(failures))
    return None


def is_frozen(store: CheckpointStore) -> bool:
    """As the newest checkpoint that can be read says."""
    for number in store.newest():
        try:
            return store.meta(number)["frozen"]
        except RunError:
            continue
    return False
