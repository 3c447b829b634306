"""What the programs of an experiment need of memory, by the compiler's analysis: they are compiled, but nothing is run or allocated."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np

from gorl.experiment import Experiment, PlannedPhase
from gorl.phases.base import Unit
from gorl.runtime.precision import matrix_products


@dataclasses.dataclass(frozen=True)
class Need:
    """Bytes of a unit's program. `state`: what goes in and comes out, the data and the networks; `working`: what is made in between."""

    planned: PlannedPhase
    unit: Unit
    state: int
    working: int

    @property
    def total(self) -> int:
        return self.state + self.working


def needs(experiment: Experiment) -> Iterator[Need]:
    """Of every different program; units that share one are named once, where it is used first.

    While a unit runs its state is donated, so a run needs the largest `total`, and beside it the programs themselves.
    """
    seen = []
    with matrix_products(experiment.precision):
        for number, planned in enumerate(experiment.planned_phases()):
            state = _with_seeds(experiment.template(number, started=True), experiment.num_seeds)
            context = experiment.context(planned, np.asarray(experiment.seeds, np.int32))
            for unit in {u.name: u for u in experiment.units(planned)}.values():
                program = (
                    unit.name,
                    jax.tree.structure(planned.declaration),
                    jax.tree.structure(state),
                    jax.tree.leaves(state),
                )
                if program not in seen:
                    seen.append(program)
                    yield _need(planned, unit, context, state)


def _with_seeds(tree: Any, count: int) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype) if _is_shape(x) else x, tree)


def _is_shape(x: Any) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct)


def _need(planned: PlannedPhase, unit: Unit, context: Any, state: Any) -> Need:
    shapes, rest = eqx.partition(state, _is_shape)

    def run(arrays: Any) -> Any:
        return eqx.filter(unit.run(context, eqx.combine(arrays, rest), 0), eqx.is_array)

    found = jax.jit(run, donate_argnums=0).lower(shapes).compile().memory_analysis()
    state_bytes = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return Need(planned, unit, state_bytes, found.temp_size_in_bytes)
