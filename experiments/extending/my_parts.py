"""Examples of custom parts, to copy: an MJCF task, two environments, a network, a decoder and a phase.

    gorl train experiments/extending/my_experiment.gin --plugin experiments/extending/my_parts.py --no-aim

Classes are registered with gin and then used in gin files like those of gorl. Functions and other objects get a name
with `gin.constant`. The abstract methods in gorl/environments/base.py, gorl/decoders/base.py and gorl/phases/base.py
list what a part must define.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.decoders import AbstractDecoder
from gorl.environments import AbstractEnvironment, Task, make_state
from gorl.fields import require, structural
from gorl.networks import RunningNormalizer
from gorl.phases import AbstractPhase, PhaseContext, Unit, program
from gorl.state import EnvState, RunState

# 1. A task for an MJCF file, as JAX functions of MJX's model and data: hold the arm up.


def reward(model: Any, data: Any, action: Float[Array, " D_a"]) -> Float[Array, ""]:
    del model
    return 0.5 - 0.5 * jnp.cos(data.qpos[0]) - 0.01 * jnp.sum(action**2)


def observation(model: Any, data: Any) -> Float[Array, " D_o"]:
    del model
    return jnp.concatenate([jnp.cos(data.qpos), jnp.sin(data.qpos), data.qvel])


def initial(model: Any, key: PRNGKeyArray) -> tuple[Float[Array, " nq"], Float[Array, " nv"]]:
    return jax.random.uniform(key, (model.nq,), minval=-jnp.pi, maxval=jnp.pi), jnp.zeros(model.nv)


gin.constant("my_parts.arm", str(pathlib.Path(__file__).with_name("arm.xml")))  # independent of the working directory
gin.constant("my_parts.reward", reward)
gin.constant("my_parts.observation", observation)
gin.constant("my_parts.initial", initial)


# 2. An environment around another one.


@gin.register(module="my_parts")
class DelayedActions(AbstractEnvironment):
    """The environment `inner`, in which an action takes effect `delay` control steps later.

    The pending actions are part of the observation, since otherwise the task would not be Markov. All fields are plain
    settings (`structural`) or environments, so equal settings share compiled programs.
    """

    inner: AbstractEnvironment
    delay: int = structural()

    def __check_init__(self):
        require(self.delay >= 1, f"DelayedActions.delay = {self.delay}: it must be >= 1.")

    def check(self) -> None:
        self.inner.check()

    @property
    def action_size(self) -> int:
        return self.inner.action_size

    def reset(self, key: PRNGKeyArray) -> EnvState:
        return self._around(self.inner.reset(key), jnp.zeros((self.delay, self.action_size)))

    def step(self, state: EnvState, action: Float[Array, " D_a"]) -> EnvState:
        inner, waiting = state.sim
        after = self.inner.step(inner, waiting[0])
        return self._around(after, jnp.concatenate([waiting[1:], action[None]]))

    def _around(self, inner: EnvState, waiting: Float[Array, "delay D_a"]) -> EnvState:
        seen = lambda obs: None if obs is None else jnp.concatenate([obs, waiting.reshape(-1)])
        return dataclasses.replace(inner, sim=(inner, waiting), obs=seen(inner.obs), critic_obs=seen(inner.critic_obs))

    def describe(self) -> dict[str, Any]:
        return {**self.inner.describe(), "delay": self.delay}


# 3. An environment from scratch (my_environment.gin).


@gin.register(module="my_parts")
class Landing(AbstractEnvironment):
    """A task in which a falling body must touch the ground softly.

    It starts at a random height, and the episode terminates when it lands. The observation is [height, velocity], and
    the thrust is between 0 and 2 g.
    """

    gravity: float = structural()
    dt: float = structural()

    @property
    def action_size(self) -> int:
        return 1

    def reset(self, key: PRNGKeyArray) -> EnvState:
        height = jax.random.uniform(key, minval=1.0, maxval=2.0)
        return self._state(jnp.stack([height, jnp.zeros(())]), jnp.zeros(()), jnp.zeros((), bool))

    def step(self, state: EnvState, action: Float[Array, " D_a"]) -> EnvState:
        height, velocity = state.sim
        velocity = velocity + self.dt * self.gravity * action[0]  # action -1: free fall; 0: hover
        height = height + self.dt * velocity
        landed = height <= 0.0
        return self._state(jnp.stack([height, velocity]), jnp.where(landed, jnp.exp(-(velocity**2)), 0.0), landed)

    def _state(self, sim: Float[Array, " two"], reward: Any, done: Any) -> EnvState:
        # make_state gives every number its type, and marks the state as invalid if one of them is not finite.
        return make_state(sim, sim, reward, done, obs_key=None, critic_obs_key=None)

    def describe(self) -> dict[str, Any]:
        return {"library": "my_parts", "name": "Landing", "impl": "jax"}


# 4. A network that can be the body of any role. gorl calls `LinearSkip(in_size, out_size, key=key)`; gin binds the
# rest.


@gin.register(module="my_parts", denylist=["in_size", "out_size", "key"])
class LinearSkip(eqx.Module):
    """A network plus a linear map, x -> inner(x) + W x with W = 0 initially, on one unbatched vector."""

    inner: eqx.Module
    weight: Float[Array, "out in"]

    def __init__(self, in_size: int, out_size: int, *, inner: Callable, key: PRNGKeyArray):
        self.inner = inner(in_size, out_size, key=key)
        self.weight = jnp.zeros((out_size, in_size))

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        return self.inner(x) + self.weight @ x


# 5. A decoder. gorl calls `AffineDecoder(obs_size, action_size, key=key)`; gin binds the rest.


@gin.register(module="my_parts", denylist=["obs_size", "action_size", "key"])
class AffineDecoder(AbstractDecoder):
    """A Gaussian decoder, u = mean(s) + scale(s) * latent, fitted by maximum likelihood."""

    body: eqx.Module
    normalizer: RunningNormalizer
    action_size: int = structural()

    def __init__(self, obs_size: int, action_size: int, *, body: Callable, normalizer: Callable, key: PRNGKeyArray):
        self.body = body(obs_size, 2 * action_size, key=key)
        self.normalizer = normalizer(obs_size)
        self.action_size = action_size

    @property
    def latent_size(self) -> int:
        return self.action_size

    def _moments(self, obs: Float[Array, " D_o"]) -> tuple[Float[Array, " D_a"], Float[Array, " D_a"]]:
        mean, log_scale = jnp.split(self.body(self.normalizer(obs)), 2)
        return mean, jnp.clip(log_scale, -5.0, 2.0)

    def __call__(self, obs: Float[Array, " D_o"], latent: Float[Array, " D_z"]) -> Float[Array, " D_a"]:
        mean, log_scale = self._moments(obs)
        return mean + jnp.exp(log_scale) * latent

    def loss(
        self,
        obs: Float[Array, " D_o"],
        action: Float[Array, " D_a"],
        latent: Float[Array, " D_z"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        del latent, key  # a likelihood needs no noise
        mean, log_scale = self._moments(obs)
        return jnp.mean(0.5 * ((action - mean) / jnp.exp(log_scale)) ** 2 + log_scale)


# 6. A phase. Code that runs on the device is a `program`, which is compiled once with its arrays as inputs. It is
# written for one seed and has three arguments: `shared` (the same for all seeds), `each` (per seed, read-only) and
# `state` (per seed, changed).


@gin.register(module="my_parts")
class MeasureSpread(AbstractPhase):
    """A phase that measures how much the decoder's actions vary with the latent, and changes nothing.

    It records the standard deviation of u over `latents` draws from the prior, averaged over action dimensions and over
    `states` fresh initial states.
    """

    latents: int = structural()
    states: int = structural()

    def units(self, task: Task) -> tuple[Unit, ...]:
        del task
        return (Unit("spread", self.measure, subset="spread", axis="units"),)

    def start(self, context: PhaseContext, run: RunState) -> RunState:
        del context
        return run

    def measure(self, context: PhaseContext, run: RunState, index: int) -> tuple[RunState, dict[str, Any]]:
        return run, spread((self, context.task), (run.decoder, context.key("spread", index)), ())

    def finish(self, context: PhaseContext, state: RunState) -> RunState:
        del context
        return state


@program
def spread(shared: tuple, each: tuple, state: tuple) -> dict[str, Float[Array, ""]]:
    del state
    (phase, task), (decoder, key) = shared, each
    reset_key, latent_key = jax.random.split(key)
    obs = jax.vmap(task.environment.reset)(jax.random.split(reset_key, phase.states)).obs
    latents = jax.random.normal(latent_key, (phase.latents, decoder.latent_size))
    u = jax.vmap(lambda o: jax.vmap(lambda z: decoder(o, z))(latents))(obs)  # [states, latents, D_a]
    return {"decoder_spread": jnp.mean(jnp.std(u, axis=1))}
