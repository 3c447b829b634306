"""Where a pre-squash action or a latent is the action, and what a task checks."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.decoders.base import AbstractDecoder
from gorl.environments.base import AbstractEnvironment, make_state
from gorl.environments.task import Task
from gorl.environments.wrappers import DecodedEnvironment, SquashedEnvironment
from gorl.errors import ConfigError
from gorl.fields import as_float32, hyperparameter, structural


class Mirror(AbstractEnvironment):
    """Shows the action it was given; begins at 0.25."""

    size: int = structural()

    @property
    def action_size(self):
        return self.size

    def reset(self, key):
        del key
        traces.append("reset")
        return self._state(jnp.full((self.size,), 0.25))

    def step(self, state, action):
        del state
        traces.append("step")
        return self._state(action)

    def _state(self, obs):
        return make_state(obs, obs, jnp.sum(obs), False, obs_key=None, critic_obs_key=None)

    def describe(self):
        return {"library": "test", "name": "Mirror"}


class Doubling(AbstractDecoder):
    """u = obs + 2 latent, for every action; one latent."""

    @property
    def latent_size(self):
        return 1

    def __call__(self, obs, latent):
        return obs + 2.0 * latent

    def loss(self, obs, action, latent, *, key):
        raise NotImplementedError

    def observe(self, obs, weight):
        raise NotImplementedError


traces: list[str] = []


def test_actions_are_clipped_then_squashed():
    env = SquashedEnvironment(Mirror(3), as_float32(3.0))
    assert env.action_size == 3 and env.describe() == {"library": "test", "name": "Mirror"}
    after = env.step(env.reset(jax.random.key(0)), jnp.asarray([0.5, -2.0, 100.0]))
    np.testing.assert_allclose(after.obs, [math.tanh(0.5), math.tanh(-2.0), math.tanh(3.0)], rtol=1e-6)


def test_a_latent_is_decoded_with_the_observation_before_the_step():
    env = DecodedEnvironment(SquashedEnvironment(Mirror(2), as_float32(3.0)), Doubling())
    assert env.action_size == 1
    after = env.step(env.reset(jax.random.key(0)), jnp.asarray([0.5]))
    np.testing.assert_allclose(after.obs, [math.tanh(0.25 + 1.0)] * 2, rtol=1e-6)
    again = env.step(after, jnp.asarray([-0.5]))
    np.testing.assert_allclose(again.obs, [math.tanh(math.tanh(1.25) - 1.0)] * 2, rtol=1e-6)


def test_equal_environments_are_traced_once_for_all_programs():
    traces.clear()
    for bound in (1.0, 2.0, 3.0):
        env = SquashedEnvironment(Mirror(5), as_float32(bound))
        jax.jit(lambda key, env=env: env.step(env.reset(key), jnp.zeros(5)))(jax.random.key(0))
    assert traces == ["reset", "step"]


class Heavy(Mirror):
    mass: jax.Array = hyperparameter()


def test_a_task_refuses_impossible_settings():
    task = Task(Mirror(2), 10, True, True, 3.0)
    assert task.squashed.action_size == 2 and float(task.squashed.action_bound) == 3.0
    with pytest.raises(ConfigError, match="the fields of Heavy must be plain settings.*numpy.ndarray.*structural"):
        Task(Heavy(2, 1.0), 10, True, True, 3.0)
    with pytest.raises(ConfigError, match="Task.episode_length = 0: it must be >= 1"):
        Task(Mirror(2), 0, True, True, 3.0)
    with pytest.raises(ConfigError, match="Task.action_bound = 0.0: it must be > 0"):
        Task(Mirror(2), 10, True, True, 0.0)


def test_states_have_strong_types_and_finite_numbers():
    sim = {"python": 1.5, "count": 3, "weak": jnp.asarray(2.0), "key": jax.random.key(0)}
    state = jax.jit(
        lambda sim: make_state(
            {**sim, "python": 1.5}, jnp.asarray([1.0, jnp.inf]), 1, 1, obs_key=None, critic_obs_key=None
        )
    )(sim)
    arrays = [x for x in jax.tree.leaves(state) if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    assert not any(x.weak_type for x in arrays)
    np.testing.assert_array_equal(state.obs, [1.0, 0.0])
    assert bool(state.invalid) and not bool(state.terminated) and float(state.reward) == 0.0
    sound = make_state(sim, [1, 2], 1, 1, obs_key=None, critic_obs_key=None)
    assert not bool(sound.invalid) and bool(sound.terminated) and float(sound.reward) == 1.0
    assert sound.obs.dtype == jnp.float32 and eqx.tree_equal(sound.obs, jnp.asarray([1.0, 2.0]))
