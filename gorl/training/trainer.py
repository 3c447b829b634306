"""The generic trainer runs declared phases unit by unit, checkpoints between units, and resumes from any of them."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gorl.experiment import PlannedPhase
from gorl.phases.base import StageEnd, Unit
from gorl.reuse.results import PhaseResult, Reuse
from gorl.runs.checkpoint import STAGE_END
from gorl.runs.record import RecordEntry
from gorl.runtime import devices, hosts, seeds, trees
from gorl.runtime.signals import StopSignals
from gorl.state import PyTree
from gorl.training.delivery import Delivery, Observer
from gorl.training.ensemble import Ensemble
from gorl.training.restoring import restore_ensemble
from gorl.training.schedule import Schedule
from gorl.training.seed_run import AbstractSeedRun, Position

_POLL = 0.5  # seconds between two looks at whether another run has finished a phase
_WAITING = Unit("wait for the run that computes this phase", lambda context, state, index: (state, {}))
_log = logging.getLogger(__name__)


class Interrupted(Exception):
    """A signal (its number) arrived, and the state is saved."""

    def __init__(self, signal: int):
        super().__init__(signal)
        self.signal = signal


class Diverged(Exception):
    """Every seed was given up, and their states are saved."""


class Trainer:
    """Executes an ensemble, all its rows at once, in the folders of its seeds' runs (one for each row, in order).

    `progress` is called before every unit. `observers` are called with every unit's entry, the mean over the seeds. A
    seed that goes `divergence_limit` units in a row without a sound update is saved, marked and no longer written; the
    others go on. `reuse`: where results of phases are taken from and stored. `stages`: how many to run (None: all).
    `signals`: those that end it, which the caller has entered already.

    Of several processes (`gorl.runtime.hosts`) the first has `SeedRun`s and the others `SilentSeedRun`s.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        seed_runs: Sequence[AbstractSeedRun],
        progress: Callable[..., None],
        observers: Sequence[Observer] = (),
        *,
        reuse: Reuse | None = None,
        stages: int | None = None,
        signals: StopSignals | None = None,
    ):
        self._ensemble = ensemble
        self._seed_runs = seed_runs
        self._progress = progress
        self._reuse = reuse
        self._schedule = Schedule(ensemble)
        self._planned = [p for p in ensemble.planned_phases if stages is None or p.stage < stages]
        self._began = time.monotonic()
        self._elapsed_before = 0.0
        self._saved_at = time.monotonic()
        self._signals = signals or StopSignals()
        self._delivery = Delivery(
            seed_runs,
            observers,
            clock=lambda: self.elapsed,
            limit=ensemble.divergence_limit,
            keep=reuse is not None,
        )

    def run(self) -> None:
        """Trains to the end, or raises Interrupted after a signal, or Diverged, with the state saved."""
        with self._ensemble.runtime(), contextlib.ExitStack() as opened:
            for run in self._seed_runs:
                run.open()
                opened.callback(run.close)
            self._run()

    @property
    def elapsed(self) -> float:
        """Seconds of training, over all resumes."""
        return self._elapsed_before + time.monotonic() - self._began

    def _run(self) -> None:
        restored = restore_ensemble(self._ensemble, self._seed_runs)
        position, state, self._elapsed_before = restored.position, restored.state, restored.elapsed
        if all(run.frozen for run in self._seed_runs):
            raise Diverged
        while position.index < len(self._planned):
            if (ahead := self._schedule.skip(position, state)) != position:
                begins_stage, position = self._planned[position.index].phase == 0, ahead
                if begins_stage:
                    continue
            else:
                with self._claim_phase(position, state) as is_ours_to_store:
                    reused = None if position.started else self._load_reused(position)
                    position, state = reused or self._compute(position, state, store=is_ours_to_store)
            self._save(position, state)
            self._observe_stage_end(position, state)
            self._exit_if_signalled()

    def _compute(self, position: Position, state: PyTree, *, store: bool) -> tuple[Position, PyTree]:
        """Runs the rest of a phase. Returns the position after it and what it hands on."""
        planned, before, began = self._planned[position.index], position, self.elapsed
        is_whole = not position.started and self._all_sound()
        if not position.started:
            state = trees.unshare_buffers(self._ensemble.start(planned, state))
            position = dataclasses.replace(position, started=True, unit=0)
            self._delivery.begin_phase()
        position, state = self._run_units(planned, position, devices.place(state))
        state = self._ensemble.finish(planned, devices.gather(state))
        position = dataclasses.replace(position, index=position.index + 1, started=False, unit=0)
        if store and is_whole and self._all_sound():
            self._store_for_reuse(before, began, position, state)
        return position, state

    def _run_units(self, planned: PlannedPhase, position: Position, state: PyTree) -> tuple[Position, PyTree]:
        units = self._schedule.units(position)
        context = self._ensemble.context(planned)
        for i in range(position.unit, len(units)):
            unit = units[i]
            self._progress(planned=planned, unit=unit, index=i, units=len(units), env_steps=position.env_steps)
            state, metrics = unit.run(context, state, unit.key_index(i))
            position = dataclasses.replace(
                position,
                unit=i + 1,
                total_units=position.total_units + 1,
                env_steps=position.env_steps + unit.env_steps,
                eval_steps=position.eval_steps + unit.eval_steps,
            )
            self._enqueue(planned, unit, position, metrics)
            if i + 1 == len(units) or self._schedule.ends(position, unit, state):
                break
            self._exit_if_signalled(position, state)
            if self._given_up() or self._checkpoint_is_due():
                self._save(position, state)
        self._delivery.drain()
        return position, state

    def _checkpoint_is_due(self) -> bool:
        return bool(hosts.all_max(time.monotonic() - self._saved_at >= self._ensemble.checkpoint_interval))

    def _enqueue(self, planned: PlannedPhase, unit: Unit, position: Position, metrics: dict[str, Any]) -> None:
        entry = RecordEntry(
            unit=position.total_units,
            stage=planned.stage,
            phase=planned.name,
            kind=unit.name,
            subset=unit.subset,
            axis=unit.axis,
            env_steps=position.env_steps,
            wall_s=0.0,
            metrics={},
        )
        self._delivery.push(entry, metrics)

    @contextlib.contextmanager
    def _claim_phase(self, position: Position, state: PyTree) -> Iterator[bool]:
        """Yields whether the phase's result is this run's to store.

        Waits while another run computes the same phase, unless this one has begun it.
        """
        if self._reuse is None:
            yield False
            return
        planned = self._planned[position.index]
        with self._reuse.claim(position.index) as claim:
            while not claim.try_acquire() and not position.started:
                self._progress(planned=planned, unit=_WAITING, index=0, units=1, env_steps=position.env_steps)
                self._exit_if_signalled(position, state)
                time.sleep(_POLL)
                self._began += _POLL  # it is no training
            yield claim.held

    def _load_reused(self, position: Position) -> tuple[Position, PyTree] | None:
        """Loads the stored results of the phases from here on, to the end of the stage at most; None without any."""
        if self._reuse is None or not self._all_sound():
            return None
        stage = self._planned[position.index].stage
        end = sum(p.stage <= stage for p in self._planned)
        template = lambda index, started: self._ensemble.template(index, started, position.skipped)
        found = self._reuse.load(position.index, end, template, self._ensemble.size)
        if found is None:
            return None
        results, state = found
        for result in results:
            self._delivery.replay(result.entries)
            self._elapsed_before += result.seconds
            position = dataclasses.replace(
                position,
                index=position.index + 1,
                total_units=position.total_units + result.units,
                env_steps=position.env_steps + result.env_steps,
                eval_steps=position.eval_steps + result.eval_steps,
            )
        return position, trees.unshare_buffers(state)

    def _store_for_reuse(self, before: Position, began: float, after: Position, state: PyTree) -> None:
        """Stores the result of the phase that just ended."""
        if self._reuse is not None:
            result = PhaseResult(
                self._delivery.entries_of_phase(began),
                units=after.total_units - before.total_units,
                env_steps=after.env_steps - before.env_steps,
                eval_steps=after.eval_steps - before.eval_steps,
                seconds=self.elapsed - began,
            )
            self._reuse.store(before.index, result, state)

    def _observe_stage_end(self, position: Position, state: PyTree) -> None:
        """Calls each seed's stage observers, if the phase that just ended was the last of its stage."""
        planned = self._planned[position.index - 1]
        if self._ended_stage(position) is None:
            return
        for row, run in enumerate(self._seed_runs):
            if run.stage_observers and not run.frozen:
                context = self._ensemble.context_of(planned, row)
                end = StageEnd(context, seeds.take_seed(state, row), position.total_units, position.env_steps)
                for observer in run.stage_observers:
                    observer(end)

    def _ended_stage(self, position: Position) -> int | None:
        """Returns the stage that ends at a position, or None."""
        if position.started or position.index == 0:
            return None
        stage = self._planned[position.index - 1].stage
        is_last = position.index == len(self._planned) or self._planned[position.index].stage > stage
        return stage if is_last else None

    def _all_sound(self) -> bool:
        return not any(run.frozen or run.failures for run in self._seed_runs)

    def _given_up(self) -> list[AbstractSeedRun]:
        """Returns the seeds' runs that are to be saved for the last time."""
        limit = self._ensemble.divergence_limit
        return [run for run in self._seed_runs if not run.frozen and run.is_given_up(limit)]

    def _save(self, position: Position, state: PyTree) -> None:
        self._delivery.drain()
        given_up, state = self._given_up(), devices.gather(state)
        for row, run in enumerate(self._seed_runs):
            if not run.frozen:
                meta = {
                    "position": dataclasses.asdict(position),
                    "elapsed": self.elapsed,
                    "failures": run.failures,
                    "frozen": run in given_up,
                    STAGE_END: self._ended_stage(position),
                }
                run.save(position.number, state, meta, row=row)
        self._saved_at = time.monotonic()
        for run in given_up:
            run.frozen = True
            _log.warning(
                "seed %s made no sound update in %s units and is given up; its state is saved", run.seed, run.failures
            )
        if all(run.frozen for run in self._seed_runs):
            raise Diverged

    def _exit_if_signalled(self, position: Position | None = None, state: PyTree = None) -> None:
        """Raises Interrupted after a signal to any process.

        Saves the state first, unless no `position` is given, or it is where the run begins: there is nothing to save.
        """
        if signal := hosts.all_max(self._signals.received):
            if position is not None and position.number:
                self._save(position, state)
            raise Interrupted(signal)
