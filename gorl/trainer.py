"""The generic trainer: runs the declared phases unit by unit, checkpoints between units, and can go on from any of them."""

import collections
import dataclasses
import logging
import signal
import time
from collections.abc import Callable
from typing import Any

import jax

from gorl import trees
from gorl.checkpoint import CheckpointStore
from gorl.errors import RunError
from gorl.experiment import Experiment, Step
from gorl.phases.base import Unit
from gorl.runs import RunFolder
from gorl.tracking.base import Entry
from gorl.tracking.record import Record

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


def restore_newest(experiment: Experiment, store: CheckpointStore) -> tuple[Position, Any, dict[str, Any]] | None:
    """(position, state, meta) of the newest checkpoint that can be read, or None. Ones that cannot are named."""
    failures = []
    for number in store.newest():
        try:
            meta = store.meta(number)
            position = Position(**meta["position"])
            steps = list(experiment.steps())
            template = experiment.template(min(position.index, len(steps) - 1), position.started) if position.index < len(steps) else _end_template(experiment)
            return position, store.restore(number, template), meta
        except (RunError, ValueError, OSError, KeyError, TypeError) as err:
            failures.append(f"checkpoint {number}: {err}")
            _log.warning("checkpoint %s cannot be read and is skipped: %s", number, err)
    if failures:
        raise RunError("no checkpoint of this run can be read:\n  " + "\n  ".join(failures))
    return None


def _end_template(experiment: Experiment) -> Any:
    import equinox as eqx

    steps = list(experiment.steps())
    last = steps[-1]
    before = experiment.template(len(steps) - 1, True)
    return eqx.filter_eval_shape(lambda: last.declaration.finish(experiment.context(last), before))


class Trainer:
    """Executes an experiment in a run folder.

    `observers` are called with every entry, after it is in the record: trackers and the console.
    """

    def __init__(self, experiment: Experiment, folder: RunFolder, observers: list[Callable[[Entry], None]], progress: Callable[..., None]):
        self._experiment = experiment
        self._folder = folder
        self._observers = observers
        self._progress = progress
        self._store = CheckpointStore(folder.path)
        self._record = Record(folder.record_path)
        self._pending: collections.deque[tuple[Entry, dict[str, Any]]] = collections.deque()
        self._signal: int | None = None
        self._began = time.monotonic()
        self._elapsed_before = 0.0
        self._saved_at = time.monotonic()

    def run(self) -> None:
        """To the end, or raises Interrupted after a signal, with the state saved."""
        with _signals(self._note_signal), jax.default_matmul_precision(self._experiment.precision):
            try:
                self._run()
            finally:
                self._record.close()
                self._store.close()

    @property
    def elapsed(self) -> float:
        """Seconds of training, over all resumes."""
        return self._elapsed_before + time.monotonic() - self._began

    def _run(self) -> None:
        position, state = self._restore()
        steps = list(self._experiment.steps())
        while position.index < len(steps):
            step = steps[position.index]
            if not position.started:
                state = trees.own(step.declaration.start(self._experiment.context(step), state))
                position = dataclasses.replace(position, started=True, unit=0)
            position, state = self._phase(step, position, state)
            state = step.declaration.finish(self._experiment.context(step), state)
            position = dataclasses.replace(position, index=position.index + 1, started=False, unit=0)
            self._save(position, state)
            self._leave_if_told(saved=True)

    def _restore(self) -> tuple[Position, Any]:
        found = restore_newest(self._experiment, self._store)
        if found is None:
            self._record.rewind(0)
            return Position(), self._experiment.initial_state()
        position, state, meta = found
        self._record.rewind(meta["record_bytes"])
        self._elapsed_before = meta["elapsed"]
        return position, trees.own(state)

    def _phase(self, step: Step, position: Position, state: Any) -> tuple[Position, Any]:
        units = self._experiment.units(step)
        context = self._experiment.context(step)
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
                if time.monotonic() - self._saved_at >= self._experiment.checkpoint_interval:
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
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        entry = dataclasses.replace(entry, wall_s=round(self.elapsed, 3), metrics=values)
        self._record.log(entry)
        self._record.flush()
        for observer in self._observers:
            observer(entry)

    def _save(self, position: Position, state: Any) -> None:
        self._drain()
        meta = {"position": dataclasses.asdict(position), "record_bytes": self._record.position(), "elapsed": self.elapsed}
        self._store.save(_number(position), state, meta)
        self._saved_at = time.monotonic()

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
