"""The interface of a phase."""

import abc
import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Literal

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Int, Key, PRNGKeyArray

from gorl.decoders.base import AbstractDecoder
from gorl.environments.task import Task
from gorl.fields import require
from gorl.state import PyTree, RunState, Spaces


@dataclasses.dataclass(frozen=True)
class PhaseContext:
    """The task, seeds and position for which a phase runs, and the source of its random keys.

    Keys depend on seed, stage, phase and purpose alone, not on the number of any of these. In `start` and `finish`,
    `seed` is a single seed. In a unit it is the array of all seeds, and `key` returns an array of keys.
    """

    task: Task
    seed: Int[Array | np.ndarray, ""] | Int[Array | np.ndarray, " S"] | int
    stage: int
    phase: int

    def key(self, purpose: str, index: int = 0) -> Key[Array, "*S"]:
        """Returns the key of every seed for a purpose, such as 'init' or 'evaluate', and an index within it."""
        parts = (self.stage, self.phase, zlib.crc32(purpose.encode()) & 0x7FFFFFFF, index)
        seed = np.asarray(self.seed, np.int32) if isinstance(self.seed, int) else self.seed
        return _fold_in(seed, np.asarray(parts, np.int32))

    def for_each(self, number: int) -> Int[np.ndarray, "*S"]:
        """Returns an array of the shape of `seed` that is filled with one number."""
        return np.full(np.shape(self.seed), number, np.int32)


@jax.jit
def _fold_in(seed: Int[Array, "*S"], parts: Int[Array, " N"]) -> Key[Array, "*S"]:
    fold = lambda s: jax.lax.fori_loop(
        0, parts.shape[0], lambda i, key: jax.random.fold_in(key, parts[i]), jax.random.key(s)
    )
    return fold(seed) if seed.ndim == 0 else jax.vmap(fold)(seed)


@dataclasses.dataclass(frozen=True)
class PhaseInputs:
    """The properties of a phase's input state that are known before anything runs."""

    has_policy: bool = False
    episodes: int = 0  # number of episodes in the dataset
    episode_length: int = 0  # maximum length of an episode
    has_noise: bool = False  # the dataset has the noise that made each action
    judges_actions: bool = False  # the learner has a critic Q(s, u) of pre-squash actions


@dataclasses.dataclass(frozen=True)
class Unit:
    """The smallest piece of work in a phase: the trainer checkpoints and stops only between units.

    `run(context, state, index) -> (state, metrics)` dispatches compiled programs and does not wait for them. Every
    array in the state, and every metric, has a leading axis of seeds. `env_steps` counts the training steps of the
    environment, `eval_steps` those of evaluation. `subset` labels the metrics. `axis` is their x-axis: the environment
    steps taken so far or, for units that take none, the number of `units` run. `index` is passed to `run`, which draws
    its random numbers by it; None passes the unit's number in its phase.
    `ends_phase(state)` says, after the unit, whether the phase may end here; None never asks, since the answer waits
    for the device.
    """

    name: str
    run: Callable[[PhaseContext, PyTree, int], tuple[PyTree, dict[str, Array]]]
    env_steps: int = 0
    eval_steps: int = 0
    subset: str = "train"
    axis: Literal["env_steps", "units"] = "env_steps"
    index: int | None = None
    ends_phase: Callable[[PyTree], bool] | None = None

    def key_index(self, position: int) -> int:
        """Returns the index to run with, for a unit at this position in its phase."""
        return position if self.index is None else self.index


MAX_UNITS = 2_000_000
"""Maximum number of units in a phase: they are kept in a list, and each adds lines to the record."""


def require_units(count: int, what: str, fix: str) -> None:
    """Raises ConfigError, from the texts `what` (the cause) and `fix`, if a phase has more than `MAX_UNITS` units."""
    require(count <= MAX_UNITS, f"{what} makes {count:_} units, of which a phase may have {MAX_UNITS:_}. {fix}")


class AbstractPhase(eqx.Module):
    """A part of a stage, through the interface that the trainer uses.

    `start` converts the previous phase's result to the phase's own state. `units` is the list of all units to run on
    that state, and `finish` converts it to the phase's result. `start` and `finish` handle a single seed, units all
    seeds. The state is a pytree of arrays whose shapes do not change from unit to unit.
    """

    def check(self, task: Task, inputs: PhaseInputs) -> PhaseInputs:
        """Returns the inputs of the next phase, given this phase's.

        Raises ConfigError, before anything is compiled, for settings that do not fit together and for a phase in the
        wrong place.
        """
        del task
        return inputs

    def create(self, spaces: Spaces, decoder: AbstractDecoder, *, key: PRNGKeyArray) -> AbstractDecoder:
        """Builds the modules that this phase creates, and returns the decoder of the next phase.

        Called abstractly before anything runs, to check the modules' settings.
        """
        del spaces, key
        return decoder

    @property
    def may_end_early(self) -> bool:
        """Whether `units` are the most that run, and a rule decides how many do."""
        return False

    def least_env_steps(self, task: Task) -> int:
        """Returns the environment steps without which the phase is not worth beginning: all of them by default."""
        return sum(unit.env_steps for unit in self.units(task))

    def within(self, env_steps: int) -> "AbstractPhase":
        """Returns the phase with at most so many environment steps, if it can do with fewer. `units` alone change."""
        del env_steps
        return self

    def is_idle(self, run: RunState) -> bool:
        """Whether the phase has nothing to do with what it is given, for all seeds [S]. It is then skipped."""
        del run
        return False

    def check_devices(self, count: int) -> None:
        """Raises ConfigError if the phase's `Lanes` cannot be divided evenly among `count` devices."""
        del count

    @abc.abstractmethod
    def units(self, task: Task) -> Sequence[Unit]:
        """Returns all units of the phase, in order."""

    @abc.abstractmethod
    def start(self, context: PhaseContext, run: RunState) -> PyTree:
        """Returns the phase's initial state, for one seed."""

    @abc.abstractmethod
    def finish(self, context: PhaseContext, state: PyTree) -> RunState:
        """Returns the phase's result, for one seed."""


@dataclasses.dataclass(frozen=True)
class StageEnd:
    """The end of a stage for one seed. `run` has no axis of seeds."""

    context: PhaseContext  # of the stage's last phase
    run: RunState
    unit: int
    env_steps: int
