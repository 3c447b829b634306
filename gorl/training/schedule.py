"""Decides what of the declared stages runs: by the budget of the run, and by the rules that end phases."""

import dataclasses

from gorl.experiment import PlannedPhase
from gorl.phases.base import Unit
from gorl.state import PyTree
from gorl.training.ensemble import Ensemble
from gorl.training.seed_run import Position


class Schedule:
    """The phases and units that run. Every answer depends on the position and the state alone, so a run can resume.

    A stage is skipped if the budget does not have the steps that it needs. A phase is skipped if it is idle. A phase
    that can do with fewer steps takes what the budget has. Without budgets and rules everything runs as declared.
    """

    def __init__(self, ensemble: Ensemble):
        self._experiment = ensemble.experiment(0)
        self._planned = ensemble.planned_phases
        self._most = self._experiment.env_steps()

    def skip(self, position: Position, run: PyTree) -> Position:
        """Returns the position, or one further ahead where the phase there is not to run. `run` is [S, ...]."""
        if position.started:
            return position
        planned = self._planned[position.index]
        ahead = position.index
        if planned.phase == 0 and self._needs(planned.stage, run) > self._left(position):
            ahead += len(self._experiment.stages[planned.stage].phases)
        elif planned.declaration.is_idle(run):
            ahead += 1
        return dataclasses.replace(position, index=ahead, skipped=(*position.skipped, *range(position.index, ahead)))

    def units(self, position: Position) -> tuple[Unit, ...]:
        """Returns the units of the phase at a position within it, or at its beginning."""
        planned = self._planned[position.index]
        units = self._experiment.units(planned)
        done = sum(unit.env_steps for unit in units[: position.unit])
        left = self._left_for(planned, position) + done
        return tuple(planned.declaration.within(max(0, left)).units(self._experiment.task))

    def ends(self, position: Position, unit: Unit, state: PyTree) -> bool:
        """Whether the phase ends after this unit, at this position, though it has more.

        With a budget it goes on if no further stage could begin: the last stage takes all the rest.
        """
        if unit.ends_phase is None or not unit.ends_phase(state):
            return False
        if self._experiment.budget is None:
            return True
        planned = self._planned[position.index]
        following = planned.stage + 1
        is_last = following == len(self._experiment.stages)
        return not is_last and self._experiment.least_env_steps(following) <= self._left_for(planned, position)

    def _needs(self, stage: int, run: PyTree) -> int:
        phases = self._experiment.stages[stage].phases
        return sum(phase.least_env_steps(self._experiment.task) for phase in phases if not phase.is_idle(run))

    def _left(self, position: Position) -> int:
        """Returns the steps that the budget has left, or that are left of all declared ones."""
        return self._most - position.env_steps

    def _left_for(self, planned: PlannedPhase, position: Position) -> int:
        """Returns the steps that are left when those of the stage's later phases are set aside."""
        return self._left(position) - self._experiment.least_env_steps(planned.stage, planned.phase)
