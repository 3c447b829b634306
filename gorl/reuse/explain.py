"""Explains why a phase is not reused, and estimates from stored phases how long it takes to compute."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from gorl.reuse.results import Identity
from gorl.reuse.store import StoredPhase


def flatten(parts: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of nested plain data by path: ('settings.algorithm.learning_rate', 0.001), ..."""
    if isinstance(parts, dict):
        for name, value in parts.items():
            yield from flatten(value, f"{prefix}.{name}" if prefix else name)
    elif isinstance(parts, list):
        for i, value in enumerate(parts):
            yield from flatten(value, f"{prefix}[{i}]")
    else:
        yield prefix, parts


def explain_differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Returns 'settings.learning_rate: 0.001, stored 0.0003' for each leaf that differs."""
    a, b = dict(flatten(ours)), dict(flatten(theirs))
    return [
        f"{name}: {_shown(a.get(name))}, stored {_shown(b.get(name))}"
        for name in dict.fromkeys([*a, *b])
        if a.get(name) != b.get(name)
    ]


def explain_miss(identity: Identity, stored: Sequence[StoredPhase]) -> str:
    """Explains how the most similar stored result of this phase differs."""
    place = lambda parts: (parts["stage"], parts["phase"], parts["settings"]["@"])  # noqa: E731
    same = [s for s in stored if place(s.parts) == place(identity.parts)]
    if not same:
        return f"no {identity.parts['settings']['@']} of this place is stored"
    nearest = min((explain_differences(identity.parts, s.parts) for s in same), key=len)
    if not nearest:
        return "an earlier phase differs"
    more = f" and {len(nearest) - 2} more" if len(nearest) > 2 else ""
    return f"the nearest stored one differs in {'; '.join(nearest[:2])}{more}"


class Estimator:
    """Estimates how many seconds a phase takes, from stored phases (oldest first)."""

    def __init__(self, stored: Sequence[StoredPhase]):
        self._exact: dict[str, float] = {}
        self._rate: dict[str, float] = {}
        for s in stored:  # the newest measurement replaces older ones
            self._exact[_exact_key(s.parts)] = s.seconds
            if s.env_steps > 0:
                self._rate[_similar_key(s.parts)] = s.seconds / s.env_steps

    def seconds(self, identity: Identity, env_steps: int) -> float | None:
        """Returns the time of a phase with the same settings and environment, or None if nothing similar is stored.

        If only phases with other settings are stored, returns the newest one's time in proportion to `env_steps`.
        """
        exact = self._exact.get(_exact_key(identity.parts))
        if exact is not None:
            return exact
        rate = self._rate.get(_similar_key(identity.parts))
        return None if rate is None or env_steps == 0 else rate * env_steps


def _exact_key(parts: dict[str, Any]) -> str:
    seeds = len(parts["seeds"])
    return json.dumps(
        [parts["settings"], parts["environment"], parts["platform"]["device"], seeds], sort_keys=True, default=repr
    )


def _similar_key(parts: dict[str, Any]) -> str:
    return json.dumps(
        [parts["settings"]["@"], parts["environment"], parts["platform"]["device"], len(parts["seeds"])],
        sort_keys=True,
        default=repr,
    )


def _shown(value: Any) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= 40 else text[:18] + "..." + text[-18:]
