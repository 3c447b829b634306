"""Why a phase is reused or not, and what computing it would take, from what is stored."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from gorl.reuse.results import Identity
from gorl.reuse.store import StoredPhase


def flat(parts: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """('settings.algorithm.learning_rate', 0.001), ... of nested plain data."""
    if isinstance(parts, dict):
        for name, value in parts.items():
            yield from flat(value, f"{prefix}.{name}" if prefix else name)
    elif isinstance(parts, list):
        for i, value in enumerate(parts):
            yield from flat(value, f"{prefix}[{i}]")
    else:
        yield prefix, parts


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """'settings.learning_rate: 0.001, stored 0.0003' for each number or name that differs."""
    a, b = dict(flat(ours)), dict(flat(theirs))
    return [
        f"{name}: {_shown(a.get(name))}, stored {_shown(b.get(name))}"
        for name in dict.fromkeys([*a, *b])
        if a.get(name) != b.get(name)
    ]


def why_not(identity: Identity, stored: Sequence[StoredPhase]) -> str:
    """In what the most similar stored result of the same phase differs."""
    place = lambda parts: (parts["stage"], parts["phase"], parts["settings"]["@"])  # noqa: E731
    same = [s for s in stored if place(s.parts) == place(identity.parts)]
    if not same:
        return f"no {identity.parts['settings']['@']} of this place is stored"
    nearest = min((differences(identity.parts, s.parts) for s in same), key=len)
    if not nearest:
        return "an earlier phase differs"
    more = f" and {len(nearest) - 2} more" if len(nearest) > 2 else ""
    return f"the nearest stored one differs in {'; '.join(nearest[:2])}{more}"


class Estimator:
    """Seconds that a phase would take, from stored ones."""

    def __init__(self, stored: Sequence[StoredPhase]):
        self._exact: dict[str, float] = {}
        self._rate: dict[str, float] = {}
        for s in stored:  # oldest first: the newest measurement stays
            self._exact[_kind(s.parts)] = s.seconds
            if s.env_steps > 0:
                self._rate[_sort(s.parts)] = s.seconds / s.env_steps

    def seconds(self, identity: Identity, env_steps: int) -> float | None:
        """Of the same settings on the same environment, else in proportion to the steps of another such phase, else None."""
        exact = self._exact.get(_kind(identity.parts))
        if exact is not None:
            return exact
        rate = self._rate.get(_sort(identity.parts))
        return None if rate is None or env_steps == 0 else rate * env_steps


def _kind(parts: dict[str, Any]) -> str:
    seeds = len(parts["seeds"])
    return json.dumps(
        [parts["settings"], parts["environment"], parts["platform"]["device"], seeds], sort_keys=True, default=repr
    )


def _sort(parts: dict[str, Any]) -> str:
    return json.dumps(
        [parts["settings"]["@"], parts["environment"], parts["platform"]["device"], len(parts["seeds"])],
        sort_keys=True,
        default=repr,
    )


def _shown(value: Any) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= 40 else text[:18] + "..." + text[-18:]
