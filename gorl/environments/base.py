"""The interface of an environment."""

import abc
import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from gorl.environments.scene import Scene, model_hash
from gorl.errors import ConfigError, did_you_mean
from gorl.fields import require
from gorl.runtime import trees
from gorl.state import EnvState, PyTree, Spaces

MAX_MAGNITUDE = 1e10
"""Numbers of a larger magnitude count as not finite. It is MuJoCo's own limit for a state that has diverged (mjMAXVAL
in mjmodel.h). Its square still fits a float32, so a normalizer's statistics stay finite."""


class AbstractEnvironment(eqx.Module):
    """A task for one agent, with actions in [-1, 1]^D_a. Unbatched: use `jax.vmap` for a batch.

    Fields are plain settings, so two environments with equal settings are equal and share compiled programs. Large
    objects, such as a model, are built once per setting and cached.
    """

    @property
    @abc.abstractmethod
    def action_size(self) -> int: ...

    @abc.abstractmethod
    def reset(self, key: PRNGKeyArray) -> EnvState:
        """Returns a fresh initial state."""

    @abc.abstractmethod
    def step(self, state: EnvState, action: Float[Array, " D_a"]) -> EnvState:
        """Returns the state after one control step, with the same shapes and dtypes as a state from `reset`."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Returns what a run records about the environment, as JSON: `name` of the task, and `impl` for its physics."""

    def check(self) -> None:
        """Raises ConfigError if the environment cannot be built. Fast, because nothing is compiled."""

    @property
    def one_device(self) -> bool:
        """Whether the environment needs code that XLA cannot partition over devices, such as a function on the host."""
        return False

    def with_physics(self, implementation: str) -> "AbstractEnvironment":
        """Returns the same task under another implementation of physics.

        Raises ConfigError for an implementation that does not exist, and where the environment has no such choice.
        """
        raise ConfigError(
            f"{type(self).__name__} has no choice of physics, so it cannot be evaluated under {implementation!r}:"
            " leave the option out. PlaygroundEnvironment has one."
        )

    def scene(self) -> Scene | None:
        """Returns how MuJoCo draws the environment, or None if it has no MuJoCo model."""
        return None

    def model_hash(self) -> str | None:
        """Returns a hash of the MuJoCo model's content.

        It is None without a model, and where the version of an installed library says what the model is.
        """
        scene = self.scene()
        return None if scene is None else model_hash(scene.model)

    def spaces(self) -> Spaces:
        """Returns the sizes of observations and actions, from the shapes of a reset."""
        return _spaces(self)


def cache_by_settings(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Caches `function(environment)` for environments with equal settings, but not for one with arrays as fields."""
    cached = functools.lru_cache(maxsize=64)(function)

    @functools.wraps(function)
    def call(environment: AbstractEnvironment) -> Any:
        try:
            hash(environment)
        except TypeError:
            return function(environment)
        return cached(environment)

    return call


@cache_by_settings
def _spaces(env: AbstractEnvironment) -> Spaces:
    obs, critic_obs = jax.eval_shape(lambda key: (lambda s: (s.obs, s.for_critic))(env.reset(key)), jax.random.key(0))
    return Spaces(obs.shape[-1], critic_obs.shape[-1], env.action_size)


def check_types(env: AbstractEnvironment) -> None:
    """Raises ConfigError unless a step returns the structure, shapes and dtypes of a reset. Traces both."""
    name = type(env).__name__
    key = jax.eval_shape(lambda: jax.random.key(0))
    action = jax.ShapeDtypeStruct((env.action_size,), jnp.float32)
    before = jax.eval_shape(lambda key: trees.strip_weak_types(env.reset(key)), key)
    after = jax.eval_shape(lambda state, action: trees.strip_weak_types(env.step(state, action)), before, action)
    leaves = lambda state: {jax.tree_util.keystr(k): x for k, x in jax.tree_util.tree_leaves_with_path(state)}
    was, now = leaves(before), leaves(after)
    fix = f"{name}.step must return the same structure, shapes and dtypes as {name}.reset"
    for path in (*was, *(p for p in now if p not in was)):
        where = path.removeprefix(".")
        require(path in now, f"{name}.reset returns {where}, and {name}.step does not. {fix}.")
        require(path in was, f"{name}.step returns {where}, and {name}.reset does not. {fix}.")
        found = [f"{x.dtype}{list(x.shape)}" for x in (was[path], now[path])]
        cast = f": jnp.asarray(x, jnp.{was[path].dtype})" if was[path].shape == now[path].shape else ""
        require(
            found[0] == found[1],
            f"{name}.reset returns {where} as {found[0]}, and {name}.step as {found[1]}. {fix}{cast}.",
        )
    require(
        jax.tree.structure(before) == jax.tree.structure(after),
        f"{name}.step returns another structure than {name}.reset, such as a list for a tuple. {fix}.",
    )


def make_state(
    sim: PyTree,
    observation: Any,
    reward: Any,
    done: Any,
    *,
    obs_key: str | None = None,
    critic_obs_key: str | None = None,
    physics: tuple[PyTree, ...] = (),
) -> EnvState:
    """Builds an EnvState from what a library returned, with strong types and finite observations.

    `observation`, `reward` and `done` may be anything that `jnp.asarray` accepts, and `observation` a dict of such.
    `invalid` is set if an observation, the reward or a `physics` array is not finite or exceeds `MAX_MAGNITUDE`. A
    `done` of the library is then not a termination (Playground's `done` is just isnan of the state).

    Raises ConfigError if the reward or `done` is not a scalar, or if a key does not fit the observation.
    """
    obs = _pick(observation, obs_key, "obs_key")
    critic_obs = None if critic_obs_key is None else _pick(observation, critic_obs_key, "critic_obs_key")
    reward, done = jnp.asarray(reward, jnp.float32), jnp.asarray(done) > 0
    for name, value in (("reward", reward), ("termination", done)):
        require(
            value.shape == (),
            f"an environment's {name} is one number a step, but this one has the shape {value.shape}.",
        )
    return sanitize(
        EnvState(
            sim=trees.strip_weak_types(jax.tree.map(jnp.asarray, sim)),  # a library's state may hold Python numbers
            obs=obs,
            critic_obs=critic_obs,
            reward=reward,
            terminated=done,
            invalid=~_within(physics),
        )
    )


def sanitize(state: EnvState) -> EnvState:
    """Returns the state, marked `invalid` also if its observations or reward are not finite or exceed `MAX_MAGNITUDE`.

    In an invalid state those numbers are replaced by 0, the reward is 0 and `terminated` is False.
    """
    invalid = state.invalid | ~_within((state.obs, state.critic_obs, state.reward))
    finite = lambda x: None if x is None else jnp.where(jnp.abs(x) <= MAX_MAGNITUDE, x, 0.0)
    return EnvState(
        sim=state.sim,
        obs=finite(state.obs),
        critic_obs=finite(state.critic_obs),
        reward=jnp.where(invalid, 0.0, state.reward),
        terminated=state.terminated & ~invalid,
        invalid=invalid,
    )


def _within(tree: PyTree) -> Bool[Array, ""]:
    """Whether every number is finite and at most `MAX_MAGNITUDE` in magnitude."""
    leaves = [jnp.all(jnp.abs(x) <= MAX_MAGNITUDE) for x in jax.tree.leaves(tree) if eqx.is_inexact_array(x)]
    return jnp.all(jnp.stack(leaves)) if leaves else jnp.asarray(True)


def _pick(observation: Any, key: str | None, field: str) -> Float[Array, " D"]:
    """Returns the entry `key` of a dict observation, or the observation itself, as a vector."""
    if isinstance(observation, Mapping):
        if key is None or key not in observation:
            names = ", ".join(map(repr, observation))
            hint = did_you_mean(key, observation) if key else ""
            raise ConfigError(
                f"the environment's observations are a dict with the keys {names};"
                f" {field} = {key!r} names none of them.{hint}"
            )
        observation = observation[key]
    elif key is not None:
        raise ConfigError(
            f"{field} = {key!r}, but the environment's observation is one array, not a dict: leave {field} at None."
        )
    return jnp.asarray(observation, jnp.float32).reshape(-1)


def cast_like(state: PyTree, reference: PyTree) -> PyTree:
    """Casts every array of a simulator state to the dtype it has in `reference`, the state before the step."""
    return jax.tree.map(lambda x, r: jnp.asarray(x, r.dtype) if eqx.is_array(r) else x, state, reference)
