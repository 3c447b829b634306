"""The interface of a phase."""

import abc
import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Int, Key, PRNGKeyArray

from gorl.decoders.base import AbstractDecoder
from gorl.environments.task import Task
from gorl.fields import require
from gorl.state import RunState, Spaces


@dataclasses.dataclass(frozen=True)
class PhaseContext:
    """Where a phase runs. Keys depend on seed, stage, phase and purpose alone, never on how many of them there are.

    In `start` and `finish` it is of one seed; in a unit `seed` is the array of all of them, and so is what `key` returns.
    """

    task: Task
    seed: Int[Array | np.ndarray, ""] | Int[Array | np.ndarray, " S"] | int
    stage: int
    phase: int

    def key(self, purpose: str, index: int = 0) -> Key[Array, "*S"]:
        """The key (of each seed) for a purpose, such as 'init' or 'evaluate', and a running number within it."""
        parts = (self.stage, self.phase, zlib.crc32(purpose.encode()) & 0x7FFFFFFF, index)
        return _folded(
            np.asarray(self.seed, np.int32) if isinstance(self.seed, int) else self.seed, np.asarray(parts, np.int32)
        )

    def for_each(self, number: int) -> Int[np.ndarray, "*S"]:
        """A number that is the same for all seeds, as an array of each."""
        return np.full(np.shape(self.seed), number, np.int32)


@jax.jit
def _folded(seed: Int[Array, "*S"], parts: Int[Array, " N"]) -> Key[Array, "*S"]:
    fold = lambda s: jax.lax.fori_loop(
        0, parts.shape[0], lambda i, key: jax.random.fold_in(key, parts[i]), jax.random.key(s)
    )
    return fold(seed) if seed.ndim == 0 else jax.vmap(fold)(seed)


@dataclasses.dataclass(frozen=True)
class PhaseInputs:
    """What is known before anything runs about what a phase will be handed."""

    has_policy: bool = False
    episodes: int = 0  # in the dataset
    episode_length: int = 0  # of each of them, at most


@dataclasses.dataclass(frozen=True)
class Unit:
    """The smallest piece of a phase: what runs between two moments at which the trainer may checkpoint or stop.

    `run(context, state, index) -> (state, metrics)` dispatches compiled programs and does not wait for them; every array in
    its state, and every metric, has a leading axis of seeds. `env_steps`
    are training steps of the environment (evaluation counts apart, in `eval_steps`). `subset` labels its metrics, whose
    natural x-axis is the environment steps taken so far or, for units that take none, the number of `units` run.
    """

    name: str
    run: Callable[[PhaseContext, Any, int], tuple[Any, dict[str, Any]]]
    env_steps: int = 0
    eval_steps: int = 0
    subset: str = "train"
    axis: Literal["env_steps", "units"] = "env_steps"


MOST_UNITS = 2_000_000
"""Of one phase: they are a list, and each leaves lines in the record."""


def require_units(count: int, what: str, fix: str) -> None:
    """Raises ConfigError for a phase of more units than can be listed."""
    require(count <= MOST_UNITS, f"{what} makes {count:_} units, of which a phase may have {MOST_UNITS:_}. {fix}")


class AbstractPhase(eqx.Module):
    """Something a stage does. The trainer knows no more of a phase than this.

    `start` turns what the last phase left into the phase's own state (of one seed: it is mapped over seeds), `units` is the
    whole list of pieces to run on the states of all seeds, `finish` hands on (of one seed). The state is one pytree of
    arrays with shapes that do not change from unit to unit.
    """

    def check(self, task: Task, inputs: PhaseInputs) -> PhaseInputs:
        """What this phase will leave, given what it will find. Raises ConfigError, before anything is compiled, for
        settings that do not fit together and for a phase in the wrong place."""
        del task
        return inputs

    def create(self, spaces: Spaces, decoder: AbstractDecoder, *, key: PRNGKeyArray) -> AbstractDecoder:
        """Builds the modules that this phase will make, for a check of their settings (abstractly, before anything runs).

        Returns the decoder that the next phase will find.
        """
        del spaces, key
        return decoder

    def check_devices(self, count: int) -> None:
        """Raises ConfigError where what it keeps in `Lanes` cannot be shared evenly by so many devices."""
        del count

    @abc.abstractmethod
    def units(self, task: Task) -> Sequence[Unit]: ...

    @abc.abstractmethod
    def start(self, context: PhaseContext, run: RunState) -> Any: ...

    @abc.abstractmethod
    def finish(self, context: PhaseContext, state: Any) -> RunState: ...


@dataclasses.dataclass(frozen=True)
class StageEnd:
    """What a stage left of one seed: `run`, without the axis of seeds. `context` is that of the stage's last phase."""

    context: PhaseContext
    run: RunState
    unit: int
    env_steps: int
