"""The interface of a picture."""

import abc
import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from gorl.environments.base import AbstractEnvironment
from gorl.environments.task import Task
from gorl.environments.wrappers import SquashedEnvironment
from gorl.errors import GorlError
from gorl.fields import as_float32
from gorl.phases.base import StageEnd


class CannotDraw(GorlError):
    """There is nothing to draw here, or nothing to draw it with. The message is one line."""


class AbstractPicture(abc.ABC):
    """A picture of one seed at the end of a stage. It reads what the stage left, and draws its own random numbers."""

    @property
    def name(self) -> str:
        """In file names and in trackers."""
        return type(self).__name__

    @abc.abstractmethod
    def draw(self, end: StageEnd, path: pathlib.Path) -> list[pathlib.Path]:
        """Writes `path` + '.png' or the like, in an existing folder, and returns what it wrote. Raises CannotDraw."""


def keys(end: StageEnd, purpose: str) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """(a key that is the same in every stage of a seed, a key of this stage), which nothing else in the run uses."""
    whole = dataclasses.replace(end.context, stage=0, phase=0)
    return whole.key(f"picture {purpose}", 0), end.context.key(f"picture {purpose}", 1)


def policy_of(end: StageEnd) -> Any:
    if end.run.policy is None:
        raise CannotDraw("there is no policy yet.")
    return end.run.policy


def fresh_observations(task: Task, key: PRNGKeyArray, count: int) -> Float[np.ndarray, "{count} D_o"]:
    """Observations of `count` fresh resets. Computed once for a key: it is the same in every stage."""
    return _observations(task.environment, tuple(np.asarray(jax.random.key_data(key)).tolist()), count)


@functools.lru_cache(maxsize=64)
def _observations(environment: AbstractEnvironment, key: tuple[int, ...], count: int) -> np.ndarray:
    env = SquashedEnvironment(environment, as_float32(1.0))  # whose trace of the reset training shares
    quick = {"xla_backend_optimization_level": 0}  # physics compiles twice as fast, and this runs once
    reset = jax.jit(jax.vmap(lambda k: env.reset(k).obs), compiler_options=quick)
    return np.asarray(reset(jax.random.split(jax.random.wrap_key_data(np.asarray(key, np.uint32)), count)))


def file(path: pathlib.Path, suffix: str) -> pathlib.Path:
    """`path` with a suffix; what it has of dots stays."""
    return path.with_name(path.name + suffix)
