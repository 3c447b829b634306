"""The generic trainer: runs the declared phases unit by unit, checkpoints between units, and can go on from any of them."""

import collections
import contextlib
import dataclasses
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from gorl import arrays, devices, hosts, seeds, trees
from gorl.analysis.summary import check_record
from gorl.errors import RunError
from gorl.experiment import Experiment, Step
from gorl.joint import Joint
from gorl.member import Follower, Member, Position, StageEnd, first_readable, is_frozen, restore
from gorl.phases.base import Unit
from gorl.precision import matrix_products
from gorl.reuse.results import PhaseResult, Reuse
from gorl.tracking.base import Entry

_WAIT = 0.5  # seconds between two looks at whether another run has finished a phase
_WAITING = Unit("wait for the run that computes this phase", lambda context, state, index: (state, {}))
_log = logging.getLogger(__name__)


class Interrupted(Exception):
    """A signal (its number) arrived; the state is saved."""

    def __init__(self, signal: int):
        super().__init__(signal)
        self.signal = signal


class Diverged(Exception):
    """Every seed was given up; their states are saved."""


class Trainer:
    """Executes an experiment, all its seeds at once, in the folders of its members (one for each seed, in order).

    `observers` are called with every unit's entry, the mean over the members. A member that goes `divergence_limit` units
    in a row without a sound update is saved, marked and no longer written; the others go on. `reuse`: where the results of
    phases are taken from and left. `stages`: how many of them to run (None: all).

    Of several processes (`gorl.hosts`) the first has the members and the others have `Follower`s.
    """

    def __init__(
        self,
        experiment: Experiment | Joint,
        members: Sequence[Member] | Sequence[Follower],
        progress: Callable[..., None],
        observers: Sequence[Callable[[Entry], None]] = (),
        *,
        reuse: Reuse | None = None,
        stages: int | None = None,
    ):
        self._experiment = experiment
        self._members = members
        self._seeds = np.asarray([m.seed for m in members], np.int32)
        self._observers = observers
        self._progress = progress
        self._reuse = reuse
        self._steps = [s for s in experiment.steps() if stages is None or s.stage < stages]
        self._pending: collections.deque[tuple[Entry, dict[str, Any]]] = collections.deque()
        self._signal: int | None = None
        self._began = time.monotonic()
        self._elapsed_before = 0.0
        self._saved_at = time.monotonic()
        self._entries: list[list[Entry]] = [[] for _ in members]  # of the phase under way, where its result is to be left

    def run(self) -> None:
        """To the end, or raises Interrupted after a signal, or Diverged, with the state saved."""
        experiment = self._experiment
        with _signals(self._note_signal), matrix_products(experiment.precision), experiment.settings(), devices.of(experiment.of(0)):
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

    def _run(self) -> None:
        position, state = self._restore()
        while position.index < len(self._steps):
            with self._claim(position, state) as mine:
                found = None if position.started else self._take(position)
                position, state = found or self._compute(position, state, store=mine)
            self._save(position, state)
            self._stage_ended(position, state)
            self._leave_if_told(saved=True)

    def _compute(self, position: Position, state: Any, *, store: bool) -> tuple[Position, Any]:
        """The rest of a phase, and what it hands on."""
        step, began, sound = self._steps[position.index], (position, self.elapsed), not position.started and self._all_sound()
        if not position.started:
            state = trees.own(self._experiment.start(step, self._seeds, state))
            position = dataclasses.replace(position, started=True, unit=0)
            self._entries = [[] for _ in self._members]
        position, state = self._phase(step, position, devices.spread(state))
        state = self._experiment.finish(step, self._seeds, devices.gathered(state))
        position = dataclasses.replace(position, index=position.index + 1, started=False, unit=0)
        if store and sound and self._all_sound():
            self._leave(*began, position, state)
        return position, state

    def _restore(self) -> tuple[Position, Any]:
        """What the newest checkpoint holds, or the beginning; in every process as the first one read it."""
        position, state = self._read_newest() if hosts.leads() else (Position(), None)
        if hosts.many():
            about = hosts.told([dataclasses.asdict(position), self._elapsed_before, [[m.failures, m.frozen] for m in self._members]])
            position, self._elapsed_before = Position(**about[0]), about[1]
            for member, (failures, frozen) in zip(self._members, about[2], strict=True):
                member.failures, member.frozen = failures, frozen
        if all(m.frozen for m in self._members):
            raise Diverged
        return position, self._sent(position, state) if hosts.many() else state

    def _sent(self, position: Position, state: Any) -> Any:
        """The first process's state [S, ...], in every process."""
        template = self._experiment.template(position.index, position.started)
        leaves, _ = arrays.leaves(template)
        plain = [jax.eval_shape(arrays.plain, x) for x in leaves]
        mine = [np.zeros((len(self._members), *x.shape), x.dtype) for x in plain] if state is None else map(arrays.plain, arrays.leaves(state)[0])
        return trees.own(arrays.refill(template, hosts.sent(list(mine)), seeds=len(self._members)))

    def _read_newest(self) -> tuple[Position, Any]:
        if not all(m.store.newest() for m in self._members):  # of the first checkpoint, not all were written
            for member in self._members:
                member.record.rewind(0)
            return Position(), seeds.each(lambda seed: self._experiment.initial_state(seed), self._seeds)
        for member in self._members:
            member.frozen = is_frozen(member.store)
        live = [m for m in self._members if not m.frozen]
        if not live:
            return Position(), None
        common = set.intersection(*(set(m.store.newest()) for m in live))
        if not common:
            raise RunError("the seeds of this run stand at different checkpoints: resume each in its own folder.")
        position, states, metas = first_readable(sorted(common, reverse=True), lambda number: self._read(live, number))
        for member, meta in zip(live, metas):
            member.record.rewind(meta["record_bytes"])
            check_record(member.folder.record_path)  # a broken record is said now, not when the run is finished
            member.failures = meta["failures"]
        self._elapsed_before = metas[0]["elapsed"]
        own = dict(zip(live, states))
        # What a frozen seed computes from here on is thrown away: any sound state will do.
        return position, trees.own(seeds.stack([own.get(m, states[0]) for m in self._members]))

    def _read(self, live: Sequence[Member], number: int) -> tuple[Position, list[Any], list[dict[str, Any]]]:
        positions, states, metas = zip(*(restore(self._experiment.of(0), m.store, number) for m in live))
        for member, meta in zip(live, metas):
            member.record.require(meta["record_bytes"])
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
                if self._given_up() or hosts.most(time.monotonic() - self._saved_at >= self._experiment.checkpoint_interval):
                    self._save(position, state)
        self._drain()
        return position, state

    @contextlib.contextmanager
    def _claim(self, position: Position, state: Any) -> Iterator[bool]:
        """Whether the phase's result is this run's to store. Waits while another run computes the same, unless this one has begun it."""
        if self._reuse is None:
            yield False
            return
        step = self._steps[position.index]
        with self._reuse.claim(position.index) as claim:
            while not claim.try_acquire() and not position.started:
                self._progress(step=step, unit=_WAITING, index=0, units=1, env_steps=position.env_steps)
                self._leave_if_told(position, state)
                time.sleep(_WAIT)
                self._began += _WAIT  # it is no training
            yield claim.held

    def _take(self, position: Position) -> tuple[Position, Any] | None:
        """The stored results of the phases from here on, to the end of the stage at most; None where there is none."""
        if self._reuse is None or not self._all_sound():
            return None
        stage = self._steps[position.index].stage
        last = sum(s.stage <= stage for s in self._steps)
        found = self._reuse.take(position.index, last, self._experiment.template, len(self._members))
        if found is None:
            return None
        results, state = found
        for result in results:
            for row in zip(*(self._placed(entries) for entries in result.entries), strict=True):
                for member, entry in zip(self._members, row, strict=True):
                    member.log(entry)
                self._tell(row)
            self._elapsed_before += result.seconds
            position = dataclasses.replace(
                position,
                index=position.index + 1,
                total_units=position.total_units + result.units,
                env_steps=position.env_steps + result.env_steps,
                eval_steps=position.eval_steps + result.eval_steps,
            )
        return position, trees.own(state)

    def _placed(self, entries: Sequence[Entry]) -> list[Entry]:
        """Entries with the clock of this run instead of their phase's."""
        return [dataclasses.replace(e, wall_s=round(self.elapsed + e.wall_s, 3)) for e in entries]

    def _leave(self, before: Position, began: float, after: Position, state: Any) -> None:
        """Stores the result of the phase that just ended."""
        if self._reuse is not None:
            entries = [[dataclasses.replace(e, wall_s=round(e.wall_s - began, 3)) for e in own] for own in self._entries]
            counts = {name: getattr(after, name) - getattr(before, name) for name in ("env_steps", "eval_steps")}
            units = after.total_units - before.total_units
            self._reuse.leave(before.index, PhaseResult(entries, units=units, seconds=self.elapsed - began, **counts), state)

    def _stage_ended(self, position: Position, state: Any) -> None:
        """Tells each member's observers, if the phase that just ended was the last of its stage."""
        step = self._steps[position.index - 1]
        if position.index < len(self._steps) and self._steps[position.index].stage == step.stage:
            return
        for row, member in enumerate(self._members):
            if member.stage_observers and not member.frozen:
                end = StageEnd(self._experiment.of(row).context(step, member.seed), seeds.one(state, row), position.total_units, position.env_steps)
                for observer in member.stage_observers:
                    observer(end)

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
                told.append(dataclasses.replace(entry, metrics={name: float(value[row]) for name, value in metrics.items()}))
                if self._reuse is not None:
                    self._entries[row].append(told[-1])
                member.log(told[-1])
        self._tell(told)

    def _tell(self, entries: Sequence[Entry]) -> None:
        """Those who watch all seeds at once, of one unit."""
        if entries:
            average = {name: seeds.mean([e.metrics[name] for e in entries]) for name in entries[0].metrics}
            for observer in self._observers:
                observer(dataclasses.replace(entries[0], metrics=average))

    def _all_sound(self) -> bool:
        return not any(m.frozen or m.failures for m in self._members)

    def _is_given_up(self, member: Member) -> bool:
        return member.frozen or member.failures >= self._experiment.divergence_limit

    def _given_up(self) -> list[Member]:
        """The members to be saved for the last time."""
        return [m for m in self._members if not m.frozen and self._is_given_up(m)]

    def _save(self, position: Position, state: Any) -> None:
        self._drain()
        given_up, state = self._given_up(), devices.gathered(state)
        for row, member in enumerate(self._members):
            if not member.frozen:
                meta = {"position": dataclasses.asdict(position), "elapsed": self.elapsed, "failures": member.failures, "frozen": member in given_up}
                member.save(_number(position), state, meta, row=row)
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
        if told := hosts.most(self._signal or 0):
            if not saved:
                self._save(position, state)
            raise Interrupted(told)


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
