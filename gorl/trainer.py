"""The generic trainer: runs the declared phases unit by unit, checkpoints between units, and can go on from any of them."""

import collections
import dataclasses
import logging
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from gorl import seeds, trees
from gorl.checkpoint import CheckpointStore
from gorl.errors import RunError
from gorl.experiment import Experiment, Step
from gorl.phases.base import Unit
from gorl.runs import RunFolder
from gorl.tracking.base import Entry
from gorl.tracking.record import Record

DIVERGED = "diverged"
"""The metric by which a unit says (1.0) that it could make no sound update of a seed."""

_UNREADABLE = (RunError, ValueError, OSError, KeyError, TypeError)
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
class Interrupted(Exception):
    """A signal arrived; the state is saved."""

    signal: int


class Diverged(Exception):
    """Every seed was given up; their states are saved."""


class Member:
    """One seed's part of a run: its folder, and who is told of its metrics (`observers`, after they are in the record)."""

    def __init__(self, seed: int, folder: RunFolder, observers: Sequence[Callable[[Entry], None]] = ()):
        self.seed = seed
        self.folder = folder
        self.observers = tuple(observers)
        self.failures = 0  # units in a row without a sound update
        self.frozen = False  # given up, and saved for the last time

    def open(self) -> None:
        self.store = CheckpointStore(self.folder.path)
        self.record = Record(self.folder.record_path)

    def close(self) -> None:
        self.record.close()
        self.store.close()

    def log(self, entry: Entry) -> None:
        if DIVERGED in entry.metrics:
            self.failures = self.failures + 1 if entry.metrics[DIVERGED] > 0 else 0
        self.record.log(entry)
        self.record.flush()
        for observer in self.observers:
            observer(entry)


def restore_newest(experiment: Experiment, store: CheckpointStore) -> tuple[Position, Any, dict[str, Any]] | None:
    """(position, state of one seed, meta) of the newest checkpoint that can be read, or None. Ones that cannot are named."""
    return _first_readable(store.newest(), lambda number: restore(experiment, store, number))


def restore(experiment: Experiment, store: CheckpointStore, number: int) -> tuple[Position, Any, dict[str, Any]]:
    meta = store.meta(number)
    position = Position(**meta["position"])
    return position, store.restore(number, experiment.template(position.index, position.started)), meta


def _first_readable(numbers: Sequence[int], read: Callable[[int], Any]) -> Any:
    failures = []
    for number in numbers:
        try:
            return read(number)
        except _UNREADABLE as err:
            failures.append(f"checkpoint {number}: {err}")
            _log.warning("checkpoint %s cannot be read and is skipped: %s", number, err)
    if failures:
        raise RunError("no checkpoint of this run can be read:\n  " + "\n  ".join(failures))
    return None


def _is_frozen(store: CheckpointStore) -> bool:
    """As the newest checkpoint that can be read says."""
    for number in store.newest():
        try:
            return store.meta(number)["frozen"]
        except _UNREADABLE:
            continue
    return False


class Trainer:
    """Executes an experiment, all its seeds at once, in the folders of its members (one for each seed, in order).

    `observers` are called with every unit's entry, the mean over the members. A member that goes `divergence_limit` units
    in a row without a sound update is saved, marked and no longer written; the others go on.
    """

    def __init__(
        self, experiment: Experiment, members: Sequence[Member], progress: Callable[..., None], observers: Sequence[Callable[[Entry], None]] = ()
    ):
        self._experiment = experiment
        self._members = members
        self._seeds = np.asarray([m.seed for m in members], np.int32)
        self._observers = observers
        self._progress = progress
        self._pending: collections.deque[tuple[Entry, dict[str, Any]]] = collections.deque()
        self._signal: int | None = None
        self._began = time.monotonic()
        self._elapsed_before = 0.0
        self._saved_at = time.monotonic()

    def run(self) -> None:
        """To the end, or raises Interrupted after a signal, or Diverged, with the state saved."""
        with _signals(self._note_signal), jax.default_matmul_precision(self._experiment.precision):
            for member in self._members:
                member.open()
            try:
                self._run()
            finally:
                for member in self._members:
                    member.close()

    @property
    def elapsed(self) -> float:
        """Seconds of training, over all resumes."""
        return self._elapsed_before + time.monotonic() - self._began

    def _each(self, step: Step, function: Callable[[Any, Any], Any], state: Any) -> Any:
        """function(context, state) of each seed."""
        return seeds.each(lambda seed, one: function(self._experiment.context(step, seed), one), self._seeds, state)

    def _run(self) -> None:
        position, state = self._restore()
        steps = list(self._experiment.steps())
        while position.index < len(steps):
            step = steps[position.index]
            if not position.started:
                state = trees.own(self._each(step, step.declaration.start, state))
                position = dataclasses.replace(position, started=True, unit=0)
            position, state = self._phase(step, position, state)
            state = self._each(step, step.declaration.finish, state)
            position = dataclasses.replace(position, index=position.index + 1, started=False, unit=0)
            self._save(position, state)
            self._leave_if_told(saved=True)

    def _restore(self) -> tuple[Position, Any]:
        if not all(m.store.newest() for m in self._members):  # of the first checkpoint, not all were written
            for member in self._members:
                member.record.rewind(0)
            return Position(), seeds.each(lambda seed: self._experiment.initial_state(seed), self._seeds)
        for member in self._members:
            member.frozen = _is_frozen(member.store)
        live = [m for m in self._members if not m.frozen]
        if not live:
            raise Diverged
        common = set.intersection(*(set(m.store.newest()) for m in live))
        if not common:
            raise RunError("the seeds of this run stand at different checkpoints: resume each in its own folder.")
        position, states, metas = _first_readable(sorted(common, reverse=True), lambda number: self._read(live, number))
        for member, meta in zip(live, metas):
            member.record.rewind(meta["record_bytes"])
            member.failures = meta["failures"]
        self._elapsed_before = metas[0]["elapsed"]
        own = dict(zip(live, states))
        # What a frozen seed computes from here on is thrown away: any sound state will do.
        return position, trees.own(seeds.stack([own.get(m, states[0]) for m in self._members]))

    def _read(self, live: Sequence[Member], number: int) -> tuple[Position, list[Any], list[dict[str, Any]]]:
        positions, states, metas = zip(*(restore(self._experiment, m.store, number) for m in live))
        if len(set(positions)) > 1:
            raise RunError("the seeds stand at different positions.")
        return positions[0], list(states), list(metas)

    def _phase(self, step: Step, position: Position, state: Any) -> tuple[Position, Any]:
        units = self._experiment.units(step)
        context = self._experiment.context(step, self._seeds)
        for i in range(position.unit, len(units)):
            unit = units[i]
            self._progress(step=step, unit=unit, index=i, units=len(units), env_steps=position.env_steps)
            state, metrics = unit.run(context, state, i)
            position = dataclasses.replace(
                position,
                unit=i + 1,
                total_units=position.total_units + 1,
                env_steps=position.env_steps + unit.env_steps,
                eval_steps=position.eval_steps + unit.eval_steps,
            )
            self._push(step, unit, position, metrics)
            if i + 1 < len(units):
                self._leave_if_told(position, state)
                if self._given_up() or time.monotonic() - self._saved_at >= self._experiment.checkpoint_interval:
                    self._save(position, state)
        self._drain()
        return position, state

    def _push(self, step: Step, unit: Unit, position: Position, metrics: dict[str, Any]) -> None:
        """Metrics of a unit are fetched when the next one is under way, so the device is never waited for in between."""
        entry = Entry(position.total_units, step.stage, step.name, unit.name, unit.subset, unit.axis, position.env_steps, 0.0, {})
        self._pending.append((entry, metrics))
        while len(self._pending) > 1:
            self._deliver()

    def _drain(self) -> None:
        while self._pending:
            self._deliver()

    def _deliver(self) -> None:
        entry, metrics = self._pending.popleft()
        metrics = jax.device_get(metrics)
        entry = dataclasses.replace(entry, wall_s=round(self.elapsed, 3))
        told = []
        for row, member in enumerate(self._members):
            if not self._is_given_up(member):
                told.append({name: float(value[row]) for name, value in metrics.items()})
                member.log(dataclasses.replace(entry, metrics=told[-1]))
        if told:
            average = dataclasses.replace(entry, metrics={name: seeds.mean([t[name] for t in told]) for name in metrics})
            for observer in self._observers:
                observer(average)

    def _is_given_up(self, member: Member) -> bool:
        return member.frozen or member.failures >= self._experiment.divergence_limit

    def _given_up(self) -> list[Member]:
        """The members to be saved for the last time."""
        return [m for m in self._members if not m.frozen and self._is_given_up(m)]

    def _save(self, position: Position, state: Any) -> None:
        self._drain()
        given_up = self._given_up()
        for row, member in enumerate(self._members):
            if not member.frozen:
                meta = {"position": dataclasses.asdict(position), "record_bytes": member.record.position(), "elapsed": self.elapsed}
                meta |= {"failures": member.failures, "frozen": member in given_up}
                member.store.save(_number(position), state, meta, row=row)
        self._saved_at = time.monotonic()
        for member in given_up:
            member.frozen = True
            _log.warning("seed %s made no sound update in %s units and is given up; its state is saved", member.seed, member.failures)
        if all(m.frozen for m in self._members):
            raise Diverged

    def _note_signal(self, number: int) -> None:
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = number

    def _leave_if_told(self, position: Position | None = None, state: Any = None, *, saved: bool = False) -> None:
        if self._signal is not None:
            if not saved:
                self._save(position, state)
            raise Interrupted(self._signal)


def _number(position: Position) -> int:
    """Checkpoints are numbered in the order of their positions: a unit's end counts, and so does a phase's."""
    return position.total_units + position.index


class _signals:
    """SIGINT and SIGTERM call `note(number)` inside the block."""

    def __init__(self, note: Callable[[int], None]):
        self._note = note
        self._old: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._old[number] = signal.signal(number, lambda n, _: self._note(n))
            except ValueError:  # not the main thread: whoever runs it there handles signals
                pass

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
