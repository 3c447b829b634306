"""Rows of experiments and seeds that the trainer trains in one compiled program.

Seeds of one experiment share its settings. Experiments that differ in numbers alone train together too: their settings
are stacked and mapped over as seeds are. The arrays of a phase (`gorl.fields.hyperparameter`) may differ, such as
learning rates, trust regions, coefficients and discounts. Sizes, names and networks may not, since they are part of
the program.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Int

from gorl.experiment import Experiment, PlannedPhase
from gorl.phases.base import PhaseContext
from gorl.runtime import devices, seeds
from gorl.runtime.precision import matrix_products
from gorl.runtime.programs import settings_of_each_seed
from gorl.state import PyTree


class Ensemble:
    """Rows of (experiment, seed) that train together; every array of their state has a leading axis [S] of rows.

    The experiments have the same structure (`gorl.studies.plan.joinable`), or are one object.
    """

    def __init__(self, rows: Sequence[tuple[Experiment, int]]):
        self._experiments = tuple(experiment for experiment, _ in rows)
        self.seeds: Int[np.ndarray, " S"] = np.asarray([seed for _, seed in rows], np.int32)
        first = self._experiments[0]
        self._shared = all(experiment is first for experiment in self._experiments)
        self.stages = len(first.stages)
        self.divergence_limit, self.checkpoint_interval = first.divergence_limit, first.checkpoint_interval
        self.planned_phases = tuple(first.planned_phases())
        self._task = first.task
        if not self._shared:
            self._task = _stacked([e.task for e in self._experiments])
            declarations = [[p.declaration for p in e.planned_phases()] for e in self._experiments]
            self.planned_phases = tuple(
                PlannedPhase(p.stage, p.phase, _stacked(rows))
                for p, rows in zip(self.planned_phases, zip(*declarations, strict=True), strict=True)
            )

    @classmethod
    def of(cls, experiment: Experiment) -> "Ensemble":
        """Returns the ensemble of all seeds of one experiment."""
        return cls([(experiment, seed) for seed in experiment.seeds])

    @property
    def size(self) -> int:
        return len(self._experiments)

    def experiment(self, row: int) -> Experiment:
        return self._experiments[row]

    @contextlib.contextmanager
    def runtime(self) -> Iterator[None]:
        """Context manager that programs of this ensemble are called in: it sets precision, devices and settings."""
        first = self._experiments[0]
        settings = contextlib.nullcontext() if self._shared else settings_of_each_seed()
        # The best return begins at minus infinity, so JAX_DEBUG_INFS would end every run at its first step.
        with matrix_products(first.precision), settings, jax.debug_infs(False), devices.on(first.choose_devices()):
            yield

    def context(self, planned: PlannedPhase) -> PhaseContext:
        """Returns the context of a phase for all rows. Where settings differ, the arrays of its task are stacked."""
        return PhaseContext(self._task, self.seeds, planned.stage, planned.phase)

    def context_of(self, planned: PlannedPhase, row: int) -> PhaseContext:
        """Returns the context of a phase for one row."""
        return self._experiments[row].context(planned, int(self.seeds[row]))

    def initial_state(self) -> PyTree:
        """Returns the state [S, ...] that the run starts from."""
        return seeds.vmap_seeds(self._experiments[0].initial_state, self.seeds)

    def start(self, planned: PlannedPhase, run: PyTree) -> PyTree:
        """Returns the phase's own state [S, ...], from what the last phase left."""
        return self._mapped(planned, "start", run)

    def finish(self, planned: PlannedPhase, state: PyTree) -> PyTree:
        """Returns what the phase leaves [S, ...]."""
        return self._mapped(planned, "finish", state)

    def template(self, position: int, started: bool, skipped: Sequence[int] = ()) -> PyTree:
        """Returns the shapes of one row's state; see `Experiment.template`."""
        return self._experiments[0].template(position, started, skipped)

    def _mapped(self, planned: PlannedPhase, method: str, state: PyTree) -> PyTree:
        def of_one(declaration: Any, task: Any, seed: Any, state: PyTree) -> PyTree:
            return getattr(declaration, method)(PhaseContext(task, seed, planned.stage, planned.phase), state)

        if self._shared:
            one = lambda seed, state: of_one(planned.declaration, self._task, seed, state)
            return seeds.vmap_seeds(one, self.seeds, state)
        return seeds.vmap_seeds(of_one, planned.declaration, self._task, self.seeds, state)


def _stacked(trees: Sequence[PyTree]) -> PyTree:
    """Returns the common tree with every array stacked [S, ...]."""
    return jax.tree.map(lambda *leaves: np.stack(leaves) if eqx.is_array(leaves[0]) else leaves[0], *trees)
