"""Forecasts of how long a cell takes, from the measured cells."""

from collections.abc import Mapping

import numpy as np

from experiments.reproduce.outcomes import Outcome
from experiments.reproduce.scales import Entry, Guess

STIFFNESS = 0.01
"""Weight of the squared method and task terms against one cell's squared residual: one cell nearly determines them."""

LEAST_SHARE = 0.2
"""Smallest share of a cut-off cell from which its time is extrapolated. Below it, most of the time is compilation."""


class Forecast:
    """A regularized least-squares fit of log seconds = log guess (or 0) + constant + method term + task term.

    It is fitted to the measured cells. The forecast of a measured cell is its measured time, and that of a cut-off
    cell is its time in proportion to its steps.
    """

    def __init__(self, guess: Guess, measured: Mapping[Entry, Outcome]):
        self._guess = guess
        self._known = {
            e: o.seconds / o.share for e, o in measured.items() if o.share >= LEAST_SHARE and o.seconds > 0.0
        }
        self._methods = {m: i for i, m in enumerate(dict.fromkeys(e.method for e in self._known))}
        self._tasks = {t: i for i, t in enumerate(dict.fromkeys(e.task for e in self._known))}
        self._fit = self._fitted()

    def seconds(self, entry: Entry) -> float | None:
        """Returns the seconds of the whole cell, or None if nothing is known about it."""
        if entry in self._known:
            return self._known[entry]
        guessed = self._guess.of(entry.method, entry.task)
        if not self._known:
            return guessed
        if guessed is None and entry.task not in self._tasks and entry.method not in self._methods:
            return None
        return float(np.exp(self._row(entry) @ self._fit + np.log(guessed or 1.0)))

    def _row(self, entry: Entry) -> np.ndarray:
        row = np.zeros(1 + len(self._methods) + len(self._tasks))
        row[0] = 1.0
        if entry.method in self._methods:
            row[1 + self._methods[entry.method]] = 1.0
        if entry.task in self._tasks:
            row[1 + len(self._methods) + self._tasks[entry.task]] = 1.0
        return row

    def _fitted(self) -> np.ndarray:
        size = 1 + len(self._methods) + len(self._tasks)
        rows = [self._row(entry) for entry in self._known]
        target = [np.log(s) - np.log(self._guess.of(e.method, e.task) or 1.0) for e, s in self._known.items()]
        stiff = np.sqrt(STIFFNESS) * np.eye(size)[1:]
        matrix, values = (
            np.concatenate([np.reshape(rows, (-1, size)), stiff]),
            np.concatenate([target, np.zeros(size - 1)]),
        )
        return np.linalg.lstsq(matrix, values, rcond=None)[0]
