"""Experiments that differ in numbers alone, trained in one compiled program: settings are vmapped as seeds are.

What a phase holds as arrays (`gorl.fields.hyperparameter`) may differ: learning rates, trust regions, coefficients, discounts. Sizes, names
and networks may not: they are part of the program.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from gorl.config.build import Configuration
from gorl.config.resolve import unmade
from gorl.experiment import Experiment, Step
from gorl.phases.base import PhaseContext, Unit
from gorl.programs import settings_of_each_seed
from gorl.seeds import each
from gorl.state import RunState


class Joint:
    """One experiment for each row of a state [S, ...]. The trainer takes it for an `Experiment`."""

    def __init__(self, experiments: Sequence[Experiment]):
        self._rows = tuple(experiments)
        first = experiments[0]
        self.precision, self.stages = first.precision, first.stages
        self.divergence_limit, self.checkpoint_interval = first.divergence_limit, first.checkpoint_interval
        self._task = _stacked([e.task for e in experiments])
        declarations = [[step.declaration for step in e.steps()] for e in experiments]
        self._steps = [Step(s.stage, s.phase, _stacked(rows)) for s, rows in zip(first.steps(), zip(*declarations), strict=True)]

    def of(self, row: int) -> Experiment:
        return self._rows[row]

    def settings(self) -> contextlib.AbstractContextManager:
        return settings_of_each_seed()

    def steps(self) -> Iterator[Step]:
        return iter(self._steps)

    def units(self, step: Step) -> tuple[Unit, ...]:
        return tuple(step.declaration.units(self._rows[0].task))

    def env_steps(self) -> int:
        return self._rows[0].env_steps()

    def context(self, step: Step, seed: Any) -> PhaseContext:
        """Of all rows; the arrays of its task are each row's own."""
        return PhaseContext(self._task, seed, step.stage, step.phase)

    def start(self, step: Step, seed: Any, run: Any) -> Any:
        return self._each(step, "start", seed, run)

    def finish(self, step: Step, seed: Any, state: Any) -> Any:
        return self._each(step, "finish", seed, state)

    def _each(self, step: Step, method: str, seed: Any, state: Any) -> Any:
        def of_one(declaration: Any, task: Any, one_seed: Any, one: Any) -> Any:
            return getattr(declaration, method)(PhaseContext(task, one_seed, step.stage, step.phase), one)

        return each(of_one, step.declaration, self._task, seed, state)

    def initial_state(self, seed: Any) -> RunState:
        return self._rows[0].initial_state(seed)

    def template(self, position: int, started: bool) -> Any:
        return self._rows[0].template(position, started)


def _stacked(trees: Sequence[Any]) -> Any:
    """The same tree with each array [S, ...]."""
    return jax.tree.map(lambda *leaves: np.stack(leaves) if eqx.is_array(leaves[0]) else leaves[0], *trees)


def joinable(a: Configuration, b: Configuration) -> bool:
    """Whether the experiments of two configurations are the same but for numbers that a program takes as arrays."""
    one, other = ((e.task, [(s.stage, s.phase, s.declaration) for s in e.steps()], e.precision, e.devices) for e in (a.experiment, b.experiment))
    if jax.tree.structure(one) != jax.tree.structure(other) or unmade(a.tree) != unmade(b.tree):
        return False
    same = lambda x, y: eqx.is_array(x) == eqx.is_array(y) and (x.shape == y.shape and x.dtype == y.dtype if eqx.is_array(x) else x == y)  # noqa: E731
    return jax.tree.all(jax.tree.map(same, one, other))
