"""The trainer's view of stored phases."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from gorl.reuse.store import Claim, PhaseStore
from gorl.runs.record import RecordEntry, decoded, encoded
from gorl.state import PyTree


@dataclasses.dataclass(frozen=True)
class PhaseResult:
    """A phase's entries in the record of each seed (`wall_s` is relative to the phase's start), and its cost."""

    entries: list[list[RecordEntry]]
    units: int
    env_steps: int
    eval_steps: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Identity:
    """Everything that a phase's result depends on.

    `parts`: readable names and values. `key`: the hash of `parts` and of the keys of all phases before it.
    """

    key: str
    parts: dict[str, Any]


class Reuse:
    """A store, and the identities of one run's phases in order. `totals` counts what was loaded and not computed."""

    def __init__(self, store: PhaseStore, identities: Sequence[Identity]):
        self._store = store
        self._identities = identities
        self.totals = {"phases": 0, "env_steps": 0, "seconds": 0.0}

    def claim(self, index: int) -> Claim:
        """Returns the lock on computing and storing phase `index`, which one process at a time holds."""
        return self._store.claim(self._identities[index].key)

    def load(
        self, first: int, end: int, template: Callable[[int, bool], PyTree], seeds: int
    ) -> tuple[list[PhaseResult], PyTree] | None:
        """Returns the consecutive stored results from phase `first` to before `end`, and the state [S, ...] after them.

        Returns None if the result of `first` is not stored or cannot be read.
        """
        last = first
        while last < end and self._store.has(self._identities[last].key):
            last += 1
        if last == first:
            return None
        results = [self._result(i) for i in range(first, last)]
        state = self._store.state(self._identities[last - 1].key, template(last, False), seeds)
        if state is None or None in results:
            return self.load(first, last - 1, template, seeds)  # the store has removed what it could not read
        for result in results:
            for name in ("env_steps", "seconds"):
                self.totals[name] += getattr(result, name)
        self.totals["phases"] += len(results)
        return results, state

    def store(self, index: int, result: PhaseResult, state: PyTree) -> None:
        """Stores the result of phase `index` and the state [S, ...] after it."""
        identity = self._identities[index]
        written = {**vars(result), "entries": [[encoded(e) for e in entries] for entries in result.entries]}
        self._store.add(identity.key, identity.parts, written, state)

    def _result(self, index: int) -> PhaseResult | None:
        stored = self._store.result(self._identities[index].key)
        return stored and PhaseResult(
            **stored | {"entries": [[decoded(e) for e in entries] for entries in stored["entries"]]}
        )
