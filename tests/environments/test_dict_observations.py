"""An actor and a critic that see different entries of a dict observation, through a whole training."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl import config
from gorl.environments.base import AbstractEnvironment, make_state
from gorl.environments.task import EpisodeRules
from gorl.errors import ConfigError

pytestmark = pytest.mark.usefixtures("quick_compiles")


class Secret(AbstractEnvironment):
    """One step. The reward is a coin, ±1, that only the entry 'privileged' shows; 'state' is always 0.5."""

    obs_key: str | None = eqx.field(static=True)
    critic_obs_key: str | None = eqx.field(static=True)

    @property
    def action_size(self):
        return 1

    def reset(self, key):
        return self._state(jnp.where(jax.random.bernoulli(key), 1.0, -1.0), jnp.zeros(()), False)

    def step(self, state, action):
        del action
        coin, _ = state.sim
        return self._state(coin, jnp.ones(()), True)

    def _state(self, coin, clock, done):
        observation = {"state": jnp.full((1,), 0.5), "privileged": jnp.stack([coin, jnp.asarray(0.25), clock])}
        return make_state(
            (coin, clock), observation, coin * clock, done, obs_key=self.obs_key, critic_obs_key=self.critic_obs_key
        )

    def describe(self):
        return {"library": "test", "name": "Secret"}


def algorithm():
    bindings = [
        "NUM_ENVS = 32", "DISCOUNT = 0.9", "OnPolicy.unroll_length = 4", "OnPolicy.batch_size = 32",
        "OnPolicy.num_minibatches = 4", "OnPolicy.num_epochs = 4", "OnPolicy.reward_scale = 1.0",
        "OnPolicy.learning_rate = 5e-3", "critic/MLP.depth = 1", "policy/MLP.depth = 1",
    ]  # fmt: skip
    phases = config.build(["ppo.gin", "parts/debug.gin"], bindings).experiment.stages[0].phases
    return phases[0].algorithm


def values(critic, env):
    """V at the initial state with coin 1, and with coin -1."""
    of = lambda coin: env._state(jnp.asarray(coin), jnp.zeros(()), False).for_critic
    return np.asarray([critic(of(1.0)), critic(of(-1.0))])


def test_the_critic_learns_from_observations_that_the_actor_lacks():
    env, method = Secret("state", "privileged"), algorithm()
    assert (env.spaces().observation, env.spaces().critic_observation) == (1, 3)
    state = method.start(
        env, method.create(env.spaces(), key=jax.random.key(0)), EpisodeRules(10, True, True), key=jax.random.key(1)
    )
    iterate = eqx.filter_jit(
        lambda method, state, key: method.iterate(env, state, EpisodeRules(10, True, True), key=key)
    )
    for i in range(30):
        state, metrics = iterate(method, state, jax.random.key(100 + i))
    learner = state.learner
    np.testing.assert_allclose(values(learner.critic, env), [1.0, -1.0], atol=0.1)
    assert float(metrics["episodes"]) == 512 and float(metrics["updates_skipped"]) == 0
    # Each keeps the statistics of what it sees.
    np.testing.assert_allclose(learner.policy.normalizer.mean, [0.5], rtol=1e-5)
    assert learner.critic.normalizer.mean.shape == (3,)
    np.testing.assert_allclose(learner.critic.normalizer.mean[1:], [0.25, 0.0], rtol=1e-5)
    assert float(learner.critic.normalizer.variance[0]) == pytest.approx(1.0, abs=0.02)


def test_without_a_key_of_its_own_the_critic_has_the_actors_observation():
    env = Secret("state", None)
    assert (env.spaces().observation, env.spaces().critic_observation) == (1, 1)
    state = env.reset(jax.random.key(0))
    assert state.critic_obs is None
    np.testing.assert_array_equal(state.for_critic, [0.5])
    assert algorithm().create(env.spaces(), key=jax.random.key(0)).critic.normalizer.mean.shape == (1,)


def test_transitions_carry_both_before_and_after_the_step():
    env, method = Secret("state", "privileged"), algorithm()
    learner = method.create(env.spaces(), key=jax.random.key(0))
    episodes = EpisodeRules(10, True, True)
    state = method.start(env, learner, episodes, key=jax.random.key(1))
    _, rollout = eqx.filter_jit(lambda state, key: method.rollout(env, state, episodes, key=key))(
        state, jax.random.key(2)
    )
    assert rollout.obs.shape == (16, 32, 1) and rollout.critic_obs.shape == rollout.next_critic_obs.shape == (16, 32, 3)
    np.testing.assert_array_equal(rollout.obs, 0.5)
    np.testing.assert_array_equal(rollout.for_critic, rollout.critic_obs)
    np.testing.assert_array_equal(rollout.critic_obs[..., 2], 0.0)  # a fresh state ...
    np.testing.assert_array_equal(
        rollout.next_critic_obs[..., 2], 1.0
    )  # ... and the last one of its episode, before the reset
    np.testing.assert_array_equal(rollout.reward, rollout.critic_obs[..., 0])
    np.testing.assert_array_equal(rollout.next_critic_obs[..., 0], rollout.critic_obs[..., 0])


def test_a_wrong_key_is_an_error_that_names_the_entries():
    with pytest.raises(
        ConfigError, match="the keys 'state', 'privileged'; obs_key = 'State' names none of them. Did you mean state"
    ):
        Secret("State", None).spaces()
    with pytest.raises(ConfigError, match="critic_obs_key = 'priv' names none"):
        Secret("state", "priv").spaces()
