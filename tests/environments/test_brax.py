"""Brax's environments through our interface."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl import config
from gorl.acting.lanes import LaneEnvironment
from gorl.environments.brax import BraxEnvironment
from gorl.environments.names import brax_names
from gorl.environments.task import EpisodeRules
from gorl.errors import ConfigError

pytestmark = pytest.mark.usefixtures("third_party")


def brax(name, *, backend="generalized", options=None, obs_key=None, critic_obs_key=None):
    return BraxEnvironment(name, backend, options or {}, obs_key, critic_obs_key)


def test_names_are_the_librarys():
    from brax import envs

    assert brax_names() == tuple(envs._envs)
    assert "ant" in brax_names() and len(brax_names()) == 12
    for name in brax_names():
        brax(name).check()


def test_a_misspelt_name_or_backend_is_an_error_that_names_the_right_one():
    with pytest.raises(ConfigError, match="Brax has no such environment. Did you mean halfcheetah"):
        brax("HalfCheeta").check()
    with pytest.raises(ConfigError, match="generalized, positional, spring, mjx. Did you mean spring"):
        brax("ant", backend="sprign").check()


@pytest.mark.parametrize("act", [lambda env: env.check(), lambda env: env.library], ids=["check", "build"])
def test_an_unknown_option_is_an_error_that_names_the_known_ones(act):
    with pytest.raises(ConfigError, match="ant has the options.*n_frames.*Did you mean n_frames"):
        act(brax("ant", options={"n_frame": 2}))


def test_an_option_that_brax_refuses_is_an_error():
    with pytest.raises(ConfigError, match="'nope' is not a valid ObservationMode"):
        _ = brax("fast", options={"obs_mode": "nope"}).library


def test_the_part_puts_brax_in_place_of_playground():
    built = config.build(["ppo.gin", "parts/brax.gin"], ["ENV = 'fast'", "BraxEnvironment.backend = 'spring'"])
    env = built.experiment.task.environment
    assert env == brax("fast", backend="spring")
    assert env.describe() == {"library": "brax", "name": "fast", "impl": "spring", "options": {}}
    with pytest.raises(ConfigError, match="Did you mean halfcheetah"):  # ppo.gin's own ENV is a name of Playground's
        config.build(["ppo.gin", "parts/brax.gin"])


def test_steps_are_the_librarys_and_compile_once():
    env, action = brax("fast"), jnp.asarray([0.5])
    state = sim = jax.jit(env.library.reset)(jax.random.PRNGKey(0))
    state = jax.jit(env.reset)(jax.random.key(0))
    step, direct = jax.jit(env.step), jax.jit(env.library.step)
    for _ in range(4):
        state, sim = step(state, action), direct(sim, action)
        np.testing.assert_allclose(state.obs, sim.obs, rtol=1e-6)
        np.testing.assert_allclose(state.reward, sim.reward, rtol=1e-6)
    assert step._cache_size() == 1
    assert float(state.reward) == pytest.approx(0.02**2 * 10)  # 4 steps of a push: (1 + 2 + 3 + 4) dt²
    assert not bool(state.terminated) and not bool(state.invalid)


def test_actor_and_critic_may_see_different_observations():
    asymmetric = {"obs_mode": "dict_state", "asymmetric_obs": True}
    env = brax("fast", options=asymmetric, obs_key="state", critic_obs_key="privileged_state")
    spaces = env.spaces()
    assert (spaces.observation, spaces.critic_observation) == (2, 4)
    state = jax.jit(env.step)(jax.jit(env.reset)(jax.random.key(0)), jnp.ones((1,)))
    assert state.obs.shape == (2,) and state.for_critic.shape == (4,)
    with pytest.raises(
        ConfigError,
        match="the keys 'state', 'privileged_state'; obs_key = 'stat' names none of them. Did you mean state",
    ):
        brax("fast", options=asymmetric, obs_key="stat").spaces()
    with pytest.raises(ConfigError, match="the keys 'state', 'privileged_state'; obs_key = None names none of them"):
        brax("fast", options=asymmetric).spaces()


def test_done_is_a_termination_and_the_lane_begins_anew():
    """The pole falls (|angle| > 0.2) long before the time limit, and lanes go on with fresh states."""
    env = brax("inverted_pendulum", backend="spring")
    lane = LaneEnvironment(env, 3, EpisodeRules(1000, True, True))

    def step(lanes, _):
        asked, lanes = lanes.needs_reset, lane.refresh(lanes)
        before = lanes.env.obs
        lanes, result = lane.step(lanes, jnp.ones((3, 1)))
        return lanes, (asked, before, result)

    _, (asked, before, result) = jax.jit(lambda s: jax.lax.scan(step, s, length=25))(lane.start(jax.random.key(0)))
    terminated, angle = np.asarray(result.after.terminated), np.asarray(result.after.obs)[..., 1]
    np.testing.assert_array_equal(terminated, np.abs(angle) > 0.2)
    assert (terminated.sum(0) >= 2).all() and not np.asarray(result.truncated).any() and np.asarray(result.valid).all()
    np.testing.assert_array_equal(np.asarray(asked)[1:], terminated[:-1])
    begun = np.asarray(before)[np.asarray(asked)]
    assert (np.abs(begun) <= 0.011).all() and len(np.unique(begun, axis=0)) == len(begun)
    np.testing.assert_array_equal(np.asarray(result.after.reward), 1.0)
    finished = np.asarray(result.finished)
    assert finished.sum() >= 4  # partial episodes (lanes 1 and 2 began with a clock > 0) are not among them
    assert not finished[:, 1][: np.flatnonzero(terminated[:, 1])[0] + 1].any()


def test_an_environment_that_brax_broke_is_one_message():
    """Brax 0.14.2 calls jnp.clip(a_min=...), which JAX has removed."""
    env = brax("swimmer")
    with pytest.raises(
        ConfigError, match="'swimmer', backend = 'generalized': Brax .* own code fails with JAX .*a_min"
    ):
        jax.eval_shape(lambda key: env.step(env.reset(key), jnp.zeros(2)), jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in brax_names() if n != "swimmer"])
def test_every_environment_resets_and_steps(name):
    env = brax(name)
    keys = jax.random.split(jax.random.key(1), 2)
    state = jax.jit(jax.vmap(env.reset))(keys)
    step = jax.jit(jax.vmap(env.step))
    for i in range(2):
        state = step(state, jax.random.uniform(jax.random.key(i), (2, env.action_size), minval=-1.0))
    assert step._cache_size() == 1
    assert state.obs.shape == (2, env.spaces().observation)
    assert np.isfinite(np.asarray(state.obs)).all() and not np.asarray(state.invalid).any()
