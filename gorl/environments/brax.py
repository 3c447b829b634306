"""Brax's own environments."""

import functools
import inspect
from collections.abc import Callable
from importlib import metadata
from typing import Any

import gin
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.environments.base import AbstractEnvironment, cast_like, make_state
from gorl.environments.names import brax_names
from gorl.environments.playground import as_items
from gorl.errors import ConfigError, did_you_mean
from gorl.fields import require, structural
from gorl.runtime.precision import in_float32
from gorl.state import EnvState, PyTree

BACKENDS = ("generalized", "positional", "spring", "mjx")


@gin.register(module="gorl")
class BraxEnvironment(AbstractEnvironment):
    """An environment of `brax.envs` by name, such as 'ant'. Brax's `done` is a termination; its actions are in [-1, 1].

    `backend` is Brax's physics pipeline. `options` are passed to the environment's constructor. `obs_key` and
    `critic_obs_key` are the entries of a dict observation that the policy and the critic see.
    """

    name: str = structural()
    backend: str = structural()
    options: tuple = structural(converter=as_items)
    obs_key: str | None = structural()
    critic_obs_key: str | None = structural()

    @property
    def library(self) -> Any:
        """The underlying Brax environment."""
        return _load_environment(self.name, self.backend, self.options)

    def check(self) -> None:
        names = brax_names()
        if self.name not in names:
            guess = did_you_mean(self.name, names)
            raise ConfigError(
                f"BraxEnvironment.name = {self.name!r}: Brax has no such environment.{guess}"
                " `gorl list environments` shows all."
            )
        if self.backend not in BACKENDS:
            raise ConfigError(
                f"BraxEnvironment.backend = {self.backend!r}: it is one of {', '.join(BACKENDS)}."
                f"{did_you_mean(self.backend, BACKENDS)}"
            )
        if self.options:  # without options Brax need not be imported
            _check_options(self.name, dict(self.options))

    @property
    def action_size(self) -> int:
        return self.library.action_size

    @in_float32
    def reset(self, key: PRNGKeyArray) -> EnvState:
        return self._state(self._brax(lambda env: env.reset(jax.random.key_data(key))))

    @in_float32
    def step(self, state: EnvState, action: Float[Array, " D_a"]) -> EnvState:
        after = self._brax(lambda env: env.step(state.sim, action))
        return self._state(cast_like(after, state.sim))

    def _brax(self, call: Callable[[Any], Any]) -> Any:
        """Calls Brax and turns its incompatibilities into a ConfigError.

        Brax is no longer maintained: parts of it (swimmer, in 0.14.2) do not run with the current JAX.
        """
        env = self.library
        try:
            return call(env)
        except (TypeError, AttributeError) as err:
            raise ConfigError(
                f"BraxEnvironment.name = {self.name!r}, backend = {self.backend!r}:"
                f" Brax {metadata.version('brax')}'s own code fails with JAX {jax.__version__}: {err}."
                " Choose another backend or environment."
            ) from err

    def _state(self, sim: PyTree) -> EnvState:
        physics = () if sim.pipeline_state is None else (sim.pipeline_state.q, sim.pipeline_state.qd)
        return make_state(
            sim,
            sim.obs,
            sim.reward,
            sim.done,
            obs_key=self.obs_key,
            critic_obs_key=self.critic_obs_key,
            physics=physics,
        )

    def model_hash(self) -> None:
        return None  # the library's version says what the model is

    def describe(self) -> dict[str, Any]:
        return {"library": "brax", "name": self.name, "impl": self.backend, "options": dict(self.options)}


def _check_options(name: str, options: dict[str, Any]) -> None:
    from brax import envs

    signatures = [inspect.signature(c.__init__).parameters for c in (envs._envs[name], envs.PipelineEnv)]
    known = sorted({p for s in signatures for p in s} - {"self", "kwargs", "sys", "backend"})
    for key, value in options.items():
        require(
            key in known,
            f"BraxEnvironment.options[{key!r}] = {value!r}: {name} has the options {', '.join(known)}."
            f"{did_you_mean(key, known)}",
        )


@functools.cache
def _load_environment(name: str, backend: str, options: tuple[tuple[str, Any], ...]) -> Any:
    from brax import envs

    _check_options(name, dict(options))
    try:
        with jax.ensure_compile_time_eval():  # the first call may come while a program is traced
            return envs.get_environment(name, backend=backend, **dict(options))
    except (TypeError, ValueError, KeyError, AttributeError) as err:
        raise ConfigError(
            f"BraxEnvironment: {name!r} could not be built with backend = {backend!r},"
            f" options = {dict(options)!r}: {err}"
        ) from err
