"""Metrics on their way from the device to the records and the observers."""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from gorl.runs.record import RecordEntry
from gorl.runtime import seeds
from gorl.training.seed_run import AbstractSeedRun

Observer = Callable[[RecordEntry], None]


class Delivery:
    """Delivers the metrics of units, in order, to each seed's run and, averaged over seeds, to `observers`.

    Metrics of a unit are fetched when the next one is under way, so the device is never waited for in between. `clock`
    returns the seconds trained so far. A seed that was given up (after `limit` failures) receives no more. With `keep`,
    the entries of the phase under way are kept for `entries_of_phase`.
    """

    def __init__(
        self,
        seed_runs: Sequence[AbstractSeedRun],
        observers: Sequence[Observer],
        *,
        clock: Callable[[], float],
        limit: int,
        keep: bool,
    ):
        self._seed_runs, self._observers = seed_runs, observers
        self._clock, self._limit, self._keep = clock, limit, keep
        self._pending: collections.deque[tuple[RecordEntry, dict[str, Any]]] = collections.deque()
        self._delivered: list[list[RecordEntry]] = [[] for _ in seed_runs]

    def begin_phase(self) -> None:
        """Forgets the entries of the phase before."""
        self._delivered = [[] for _ in self._seed_runs]

    def entries_of_phase(self, began: float) -> list[list[RecordEntry]]:
        """Returns each seed's entries of the phase under way, their clocks counted from `began`."""
        return [[_on_clock(e, e.wall_s - began) for e in entries] for entries in self._delivered]

    def push(self, entry: RecordEntry, metrics: dict[str, Any]) -> None:
        """Takes a unit's metrics, each an array [S] that may not be computed yet."""
        self._pending.append((entry, metrics))
        while len(self._pending) > 1:
            self._deliver()

    def drain(self) -> None:
        """Delivers everything that was pushed. Waits for the device."""
        while self._pending:
            self._deliver()

    def replay(self, entries: Sequence[Sequence[RecordEntry]]) -> None:
        """Delivers stored entries of a phase [seeds][units], with the clock of this run."""
        began = self._clock()
        for unit in zip(*entries, strict=True):
            placed = [_on_clock(entry, began + entry.wall_s) for entry in unit]
            for run, entry in zip(self._seed_runs, placed, strict=True):
                run.log(entry)
            self._notify(placed)

    def _deliver(self) -> None:
        entry, metrics = self._pending.popleft()
        metrics = jax.device_get(metrics)
        entry = _on_clock(entry, self._clock())
        delivered = []
        for row, run in enumerate(self._seed_runs):
            if not run.is_given_up(self._limit):
                values = {name: float(value[row]) for name, value in metrics.items()}
                delivered.append(dataclasses.replace(entry, metrics=values))
                if self._keep:
                    self._delivered[row].append(delivered[-1])
                run.log(delivered[-1])
        self._notify(delivered)

    def _notify(self, entries: Sequence[RecordEntry]) -> None:
        """Calls the observers with one unit's metrics, averaged over seeds."""
        if entries:
            average = {name: seeds.mean([e.metrics[name] for e in entries]) for name in entries[0].metrics}
            for observer in self._observers:
                observer(dataclasses.replace(entries[0], metrics=average))


def _on_clock(entry: RecordEntry, wall_s: float) -> RecordEntry:
    return dataclasses.replace(entry, wall_s=round(wall_s, 3))
