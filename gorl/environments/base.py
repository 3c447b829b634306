"""The interface of an environment."""

import abc
import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from gorl.environments.scene import Scene
from gorl.errors import ConfigError, did_you_mean
from gorl.fields import require
from gorl.runtime import trees
from gorl.state import EnvState, Spaces

LARGEST = 1e10
"""Beyond it a number counts as not finite: MuJoCo's own limit for a state that has diverged (mjMAXVAL in mjmodel.h). Its
square still fits a float32, so a normaliser's statistics stay finite."""


class AbstractEnvironment(eqx.Module):
    """A task for one agent, unbatched: `jax.vmap` it. Actions are in [-1, 1]^D_a.

    Fields are plain settings, so two environments of equal settings are equal and share compiled programs; whatever is
    large (a model) is built once per setting and looked up.
    """

    @property
    @abc.abstractmethod
    def action_size(self) -> int: ...

    @abc.abstractmethod
    def reset(self, key: PRNGKeyArray) -> EnvState:
        """A fresh initial state."""

    @abc.abstractmethod
    def step(self, state: EnvState, action: Float[Array, " D_a"]) -> EnvState:
        """One control step. Must return a state of the same types as `reset` does."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a run records about it: at least a name, and the physics implementation where there is one."""

    def check(self) -> None:
        """Raises ConfigError if the environment cannot be built. Fast: compiles nothing."""

    @property
    def one_device(self) -> bool:
        """Whether it calls what XLA cannot share out among devices, such as a function on the host."""
        return False

    def scene(self) -> Scene | None:
        """How MuJoCo draws it; None where it has no MuJoCo model."""
        return None

    def spaces(self) -> Spaces:
        """Sizes, from the shapes of a reset."""
        return _spaces(self)


def by_settings(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Calls `function(environment)` once for environments of equal settings; each time for one that has arrays for fields."""
    cached = functools.lru_cache(maxsize=64)(function)

    @functools.wraps(function)
    def call(environment: Any) -> Any:
        try:
            hash(environment)
        except TypeError:
            return function(environment)
        return cached(environment)

    return call


@by_settings
def _spaces(env: AbstractEnvironment) -> Spaces:
    obs, critic_obs = jax.eval_shape(lambda key: (lambda s: (s.obs, s.for_critic))(env.reset(key)), jax.random.key(0))
    return Spaces(obs.shape[-1], critic_obs.shape[-1], env.action_size)


def make_state(
    sim: Any,
    observation: Any,
    reward: Any,
    done: Any,
    *,
    obs_key: str | None,
    critic_obs_key: str | None,
    physics: tuple[Any, ...] = (),
) -> EnvState:
    """An EnvState from what a library returned, with strong types and finite observations.

    `invalid` is set where an observation, the reward or a `physics` array is not finite, or beyond `LARGEST`: what the
    library calls done there (Playground's `done` is just isnan of the state) is not a termination.
    """
    obs = _pick(observation, obs_key, "obs_key")
    critic_obs = None if critic_obs_key is None else _pick(observation, critic_obs_key, "critic_obs_key")
    reward, done = jnp.asarray(reward, jnp.float32), jnp.asarray(done) > 0
    for name, value in (("reward", reward), ("termination", done)):
        require(
            value.shape == (),
            f"an environment's {name} is one number a step, but this one has the shape {value.shape}.",
        )
    return guarded(
        EnvState(
            sim=trees.strip_weak_types(
                jax.tree.map(jnp.asarray, sim)
            ),  # a library may leave a Python number in its state
            obs=obs,
            critic_obs=critic_obs,
            reward=reward,
            terminated=done,
            invalid=~_within(physics),
        )
    )


def guarded(state: EnvState) -> EnvState:
    """The state, `invalid` also where what it shows is not finite or beyond `LARGEST`. What is invalid shows 0 for such
    numbers, gives no reward and is no termination."""
    invalid = state.invalid | ~_within((state.obs, state.critic_obs, state.reward))
    finite = lambda x: None if x is None else jnp.where(jnp.abs(x) <= LARGEST, x, 0.0)  # noqa: E731
    return EnvState(
        sim=state.sim,
        obs=finite(state.obs),
        critic_obs=finite(state.critic_obs),
        reward=jnp.where(invalid, 0.0, state.reward),
        terminated=state.terminated & ~invalid,
        invalid=invalid,
    )


def _within(tree: Any) -> Bool[Array, ""]:
    """Whether every number is finite and at most `LARGEST` in size."""
    leaves = [jnp.all(jnp.abs(x) <= LARGEST) for x in jax.tree.leaves(tree) if eqx.is_inexact_array(x)]
    return jnp.all(jnp.stack(leaves)) if leaves else jnp.asarray(True)


def _pick(observation: Any, key: str | None, field: str) -> Float[Array, " D"]:
    if isinstance(observation, Mapping):
        if key is None or key not in observation:
            names = ", ".join(map(repr, observation))
            hint = did_you_mean(key, observation) if key else ""
            raise ConfigError(
                f"the environment's observations are a dict with the keys {names}; {field} = {key!r} names none of them.{hint}"
            )
        observation = observation[key]
    elif key is not None:
        raise ConfigError(
            f"{field} = {key!r}, but the environment's observation is one array, not a dict: leave {field} at None."
        )
    return jnp.asarray(observation, jnp.float32).reshape(-1)


def like(state: Any, reference: Any) -> Any:
    """Casts a step's simulator state to the types that reset gave it."""
    return jax.tree.map(lambda x, r: jnp.asarray(x, r.dtype) if eqx.is_array(r) else x, state, reference)
