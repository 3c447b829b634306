"""How long a cell will take, from those that were measured."""

from collections.abc import Mapping

import numpy as np

from experiments.reproduce.outcomes import Outcome
from experiments.reproduce.scales import Entry, Guess

STIFFNESS = 0.01
"""Of the squares of a method's and a task's own factor against the misfit of one cell: one cell moves them nearly all the way."""

LEAST_SHARE = 0.2
"""Of a cell that was cut off: with less, most of its time was compilation, which is not to be multiplied."""


class Forecast:
    """log seconds = log of what was guessed (or 0) + one number for all + one for the method + one for the task, least squares
    over the measured cells. A cell that was measured has its own time; one cut off, its time in proportion to its steps."""

    def __init__(self, guess: Guess, measured: Mapping[Entry, Outcome]):
        self._guess = guess
        self._known = {
            e: o.seconds / o.share for e, o in measured.items() if o.share >= LEAST_SHARE and o.seconds > 0.0
        }
        self._methods = {m: i for i, m in enumerate(dict.fromkeys(e.method for e in self._known))}
        self._tasks = {t: i for i, t in enumerate(dict.fromkeys(e.task for e in self._known))}
        self._fit = self._fitted()

    def seconds(self, entry: Entry) -> float | None:
        """Of the whole cell; None where nothing is known."""
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
