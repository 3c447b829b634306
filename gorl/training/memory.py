"""The memory that the programs of an experiment need, from the compiler's analysis.

The programs are compiled, but nothing is run or allocated.
"""

import dataclasses
from collections.abc import Iterator

import equinox as eqx
import jax
import numpy as np

from gorl.experiment import Experiment, PlannedPhase
from gorl.phases.base import PhaseContext, Unit
from gorl.runtime.precision import matrix_products
from gorl.state import PyTree


@dataclasses.dataclass(frozen=True)
class MemoryNeed:
    """The bytes that a unit's program needs.

    `state`: the data and networks that go in and come out. `working`: the intermediate results.
    """

    planned: PlannedPhase
    unit: Unit
    state: int
    working: int

    @property
    def total(self) -> int:
        return self.state + self.working


def memory_needs(experiment: Experiment) -> Iterator[MemoryNeed]:
    """Yields the memory that every different program needs. A program of several units comes once, with its first unit.

    While a unit runs its state is donated, so a run needs the largest `total`, and beside it the programs themselves.
    """
    seen = []
    with matrix_products(experiment.precision):
        for number, planned in enumerate(experiment.planned_phases()):
            state = _with_seeds(experiment.template(number, started=True), experiment.num_seeds)
            context = experiment.context(planned, np.asarray(experiment.seeds, np.int32))
            for unit in {u.name: u for u in experiment.units(planned)}.values():
                structures = (jax.tree.structure(planned.declaration), jax.tree.structure(state))
                program = (unit.name, *structures, jax.tree.leaves(state))
                if program not in seen:
                    seen.append(program)
                    yield _compiled_need(planned, unit, context, state)


def _with_seeds(tree: PyTree, count: int) -> PyTree:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype) if _is_shape(x) else x, tree)


def _is_shape(x: object) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct)


def _compiled_need(planned: PlannedPhase, unit: Unit, context: PhaseContext, state: PyTree) -> MemoryNeed:
    shapes, rest = eqx.partition(state, _is_shape)

    def run(arrays: PyTree) -> PyTree:
        return eqx.filter(unit.run(context, eqx.combine(arrays, rest), 0), eqx.is_array)

    found = jax.jit(run, donate_argnums=0).lower(shapes).compile().memory_analysis()
    state_bytes = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return MemoryNeed(planned, unit, state_bytes, found.temp_size_in_bytes)
