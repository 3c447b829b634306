"""How a run is restored from its checkpoints."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from gorl.errors import RunError
from gorl.experiment import Experiment, PlannedPhase
from gorl.runs import arrays
from gorl.runs.checkpoint import KEEP, CheckpointStore
from gorl.runs.record import check_record
from gorl.runtime import hosts, seeds, trees
from gorl.state import PyTree
from gorl.training.ensemble import Ensemble
from gorl.training.seed_run import AbstractSeedRun, Position, SeedRun

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Restored:
    """The point from which a run continues: its position, its state [S, ...] and the seconds it has trained.

    The state is None where every seed was given up.
    """

    position: Position
    state: PyTree
    elapsed: float = 0.0


def restore_ensemble(ensemble: Ensemble, seed_runs: Sequence[AbstractSeedRun]) -> Restored:
    """Restores the newest checkpoint of an ensemble, or its initial state, and rewinds its records to it.

    Of several processes the first one reads, and all others receive its copy.
    """
    restored = _read_newest(ensemble, seed_runs) if hosts.is_primary() else Restored(Position(), None)
    return _broadcast(ensemble, seed_runs, restored) if hosts.is_distributed() else restored


def restore_newest(
    experiment: Experiment, store: CheckpointStore, *, between: Experiment | None = None
) -> tuple[Position, PyTree] | None:
    """Restores (position, state of one seed) of the newest checkpoint that can be read, or None without any.

    `between`: the experiment by which a checkpoint between phases is read instead, such as one with other physics. Only
    within a phase does a state hold a simulator's.
    """

    def read(number: int) -> tuple[Position, PyTree]:
        started = store.meta(number)["position"]["started"]
        return _restore(experiment if started else between or experiment, store, number)[:2]

    return _first_readable(store.newest(), read)


def newest_phase(experiment: Experiment, position: Position) -> PlannedPhase:
    """Returns the phase under way at a position, or the last one that was run before it."""
    begun = list(experiment.planned_phases())[: position.index + position.started]
    return [planned for i, planned in enumerate(begun) if i not in position.skipped][-1]


def restore_stage_end(experiment: Experiment, store: CheckpointStore, stage: int) -> PyTree | None:
    """Restores the state of one seed at the end of a stage, or None if no such checkpoint is kept or can be read."""
    after = [i for i, planned in enumerate(experiment.planned_phases(), 1) if planned.stage == stage]

    def ends(number: int) -> bool:
        with contextlib.suppress(RunError):
            position = Position.read(store.meta(number)["position"])
            at_end = position.index in after[-1:] and not position.started
            return at_end and newest_phase(experiment, position).stage == stage
        return False

    with contextlib.suppress(RunError):  # each was warned of
        return _first_readable([n for n in store.newest() if ends(n)], lambda n: _restore(experiment, store, n)[1])
    return None


def _read_newest(ensemble: Ensemble, seed_runs: Sequence[SeedRun]) -> Restored:
    if not all(run.store.newest() for run in seed_runs):  # of the first checkpoint, not all were written
        for run in seed_runs:
            run.record.rewind(0)
        return Restored(Position(), ensemble.initial_state())
    for run in seed_runs:
        run.frozen = _is_frozen(run.store)
    live = [run for run in seed_runs if not run.frozen]
    if not live:
        return Restored(Position(), None)
    # Older ones are ends of stages: a seed that was resumed alone must not be taken back to one that all seeds have.
    common = set.intersection(*(set(run.store.newest()[:KEEP]) for run in live))
    if not common:
        raise RunError("the seeds of this run stand at different checkpoints: resume each in its own folder.")
    read = lambda number: _read_live(ensemble.experiment(0), live, number)
    position, states, metas = _first_readable(sorted(common, reverse=True), read)
    for run, meta in zip(live, metas, strict=True):
        run.record.rewind(meta["record_bytes"])
        check_record(run.folder.record_path)  # a broken record is said now, not when the run is finished
        run.failures = meta["failures"]
    state_of = dict(zip(live, states, strict=True))
    # What a frozen seed computes from here on is thrown away: any sound state will do.
    state = trees.unshare_buffers(seeds.stack([state_of.get(run, states[0]) for run in seed_runs]))
    return Restored(position, state, metas[0]["elapsed"])


def _read_live(
    experiment: Experiment, live: Sequence[SeedRun], number: int
) -> tuple[Position, list[PyTree], list[dict[str, Any]]]:
    positions, states, metas = zip(*(_restore(experiment, run.store, number) for run in live), strict=True)
    for run, meta in zip(live, metas, strict=True):
        run.record.require(meta["record_bytes"])
    if len(set(positions)) > 1:
        raise RunError("the seeds stand at different positions.")
    return positions[0], list(states), list(metas)


def _restore(experiment: Experiment, store: CheckpointStore, number: int) -> tuple[Position, PyTree, dict[str, Any]]:
    meta = store.meta(number)
    position = Position.read(meta["position"])
    return (
        position,
        store.restore(number, experiment.template(position.index, position.started, position.skipped)),
        meta,
    )


def _first_readable(numbers: Sequence[int], read: Callable[[int], _T]) -> _T | None:
    """Returns `read(number)` of the first checkpoint that can be read, and warns of those before it.

    Returns None without numbers. Raises RunError where none can be read.
    """
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


def _is_frozen(store: CheckpointStore) -> bool:
    """Whether the newest readable checkpoint marks this seed as given up."""
    for number in store.newest():
        try:
            return store.meta(number)["frozen"]
        except RunError:
            continue
    return False


def _broadcast(ensemble: Ensemble, seed_runs: Sequence[AbstractSeedRun], restored: Restored) -> Restored:
    """Returns what the first process restored, in every process, and gives its counts to the seeds' runs."""
    mine = [dataclasses.asdict(restored.position), restored.elapsed, [[run.failures, run.frozen] for run in seed_runs]]
    values, elapsed, counts = hosts.broadcast(mine)
    for run, (failures, frozen) in zip(seed_runs, counts, strict=True):
        run.failures, run.frozen = failures, frozen
    position = Position.read(values)
    if all(run.frozen for run in seed_runs):
        return Restored(position, None, elapsed)
    return Restored(position, _broadcast_state(ensemble, position, restored.state), elapsed)


def _broadcast_state(ensemble: Ensemble, position: Position, state: PyTree) -> PyTree:
    """Returns the first process's state [S, ...] in every process; the others have none."""
    template = ensemble.template(position.index, position.started, position.skipped)
    leaves, _ = arrays.leaves(template)
    if state is None:
        shapes = [arrays.stored_shape(x) for x in leaves]
        mine = [np.zeros((ensemble.size, *x.shape), x.dtype) for x in shapes]
    else:
        mine = [arrays.to_stored(x) for x in arrays.leaves(state)[0]]
    return trees.unshare_buffers(arrays.refill(template, hosts.broadcast_arrays(mine), seeds=ensemble.size))
