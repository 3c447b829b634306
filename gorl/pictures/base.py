"""The interface of a picture."""

import abc
import dataclasses
import functools
import pathlib

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from gorl.environments.base import AbstractEnvironment
from gorl.environments.task import Task
from gorl.environments.wrappers import SquashedEnvironment
from gorl.errors import GorlError
from gorl.fields import as_float32
from gorl.phases.base import StageEnd
from gorl.state import PyTree


class CannotDraw(GorlError):
    """A picture cannot be drawn of this run or on this machine. The message is one line."""


class AbstractPicture(abc.ABC):
    """A picture of one seed at the end of a stage. It reads the run's state and draws its own random numbers."""

    @property
    def name(self) -> str:
        """Returns the picture's name in file names and in trackers."""
        return type(self).__name__

    @abc.abstractmethod
    def draw(self, end: StageEnd, path: pathlib.Path) -> list[pathlib.Path]:
        """Writes files `path` + suffix, such as '.png', in an existing folder. Returns the paths. Raises CannotDraw."""


def picture_keys(end: StageEnd, purpose: str) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """Returns (a key that is the same in every stage, a key of this stage). Nothing else in the run uses them."""
    whole = dataclasses.replace(end.context, stage=0, phase=0)
    return whole.key(f"picture {purpose}", 0), end.context.key(f"picture {purpose}", 1)


def require_policy(end: StageEnd) -> PyTree:
    """Returns the stage's policy. Raises CannotDraw if there is none yet."""
    if end.run.policy is None:
        raise CannotDraw("there is no policy yet.")
    return end.run.policy


def fresh_observations(task: Task, key: PRNGKeyArray, count: int) -> Float[np.ndarray, "{count} D_o"]:
    """Returns the observations of `count` fresh resets, cached because every stage of a seed uses the same key."""
    return _observations(task.environment, tuple(np.asarray(jax.random.key_data(key)).tolist()), count)


@functools.lru_cache(maxsize=64)
def _observations(environment: AbstractEnvironment, key: tuple[int, ...], count: int) -> np.ndarray:
    env = SquashedEnvironment(environment, as_float32(1.0))  # training has traced the reset of this class
    quick = {"xla_backend_optimization_level": 0}  # compiles physics twice as fast, and this runs once
    reset = jax.jit(jax.vmap(lambda k: env.reset(k).obs), compiler_options=quick)
    return np.asarray(reset(jax.random.split(jax.random.wrap_key_data(np.asarray(key, np.uint32)), count)))


def with_extension(path: pathlib.Path, suffix: str) -> pathlib.Path:
    """Returns `path` with a suffix appended; dots in its name are kept."""
    return path.with_name(path.name + suffix)
