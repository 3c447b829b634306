"""What the trainer sees of stored phases."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from gorl.reuse.store import Claim, PhaseStore
from gorl.runs.record import RecordEntry


@dataclasses.dataclass(frozen=True)
class PhaseResult:
    """What a phase left in the record of each seed (`wall_s` counted from its start), and how much it took."""

    entries: list[list[RecordEntry]]
    units: int
    env_steps: int
    eval_steps: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a phase's result depends on. `key` is the hash of the keys of all phases before it and of `parts`: names and
    values that a person can read."""

    key: str
    parts: dict[str, Any]


class Reuse:
    """A store, and the identities of the phases of one run, in order. `taken` counts what was not computed again."""

    def __init__(self, store: PhaseStore, identities: Sequence[Identity]):
        self._store = store
        self._identities = identities
        self.taken = {"phases": 0, "env_steps": 0, "seconds": 0.0}

    def claim(self, index: int) -> Claim:
        """The right to compute and store the phase `index`: one process at a time has it."""
        return self._store.claim(self._identities[index].key)

    def take(
        self, first: int, end: int, template: Callable[[int, bool], Any], seeds: int
    ) -> tuple[list[PhaseResult], Any] | None:
        """The results of the phases from `first` on that are stored without a gap, before `end`, and the state [S, ...] after
        the last of them. None if the first is not there, or cannot be read."""
        last = first
        while last < end and self._store.has(self._identities[last].key):
            last += 1
        if last == first:
            return None
        results = [self._result(i) for i in range(first, last)]
        state = self._store.state(self._identities[last - 1].key, template(last, False), seeds)
        if state is None or None in results:
            return self.take(first, last - 1, template, seeds)  # what could not be read is gone from the store
        for result in results:
            for name in ("env_steps", "seconds"):
                self.taken[name] += getattr(result, name)
        self.taken["phases"] += len(results)
        return results, state

    def leave(self, index: int, result: PhaseResult, state: Any) -> None:
        """Stores the result of the phase `index` and the state [S, ...] after it."""
        identity = self._identities[index]
        self._store.add(identity.key, identity.parts, dataclasses.asdict(result), state)

    def _result(self, index: int) -> PhaseResult | None:
        stored = self._store.result(self._identities[index].key)
        return stored and PhaseResult(
            **stored | {"entries": [[RecordEntry(**e) for e in own] for own in stored["entries"]]}
        )
