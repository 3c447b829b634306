import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.environments.toy import (
    ConstantReward,
    DelayedReward,
    RewardFromAction,
    RewardFromBoth,
    RewardFromObservation,
    Slider,
)
from gorl.state import Spaces

PROBES = [ConstantReward(), RewardFromObservation(), DelayedReward(), RewardFromAction(), RewardFromBoth()]


def at(env, obs, action, clock=0):
    """What a step does at a chosen observation."""
    state = env.reset(jax.random.key(0))
    sim = (jnp.asarray(obs, jnp.float32), jnp.asarray(clock, jnp.int32))
    return env.step(type(state)(sim, sim[0], None, state.reward, state.terminated, state.invalid), jnp.array([action]))


@pytest.mark.parametrize("env", [*PROBES, Slider()], ids=lambda e: type(e).__name__)
def test_a_step_has_the_types_of_a_reset(env, getkey):
    first = env.reset(getkey())
    after = env.step(first, jnp.array([0.3]))
    types = lambda state: [(x.shape, x.dtype) for x in jax.tree.leaves(state)]
    assert types(first) == types(after) and jax.tree.structure(first) == jax.tree.structure(after)
    assert not first.terminated and not first.invalid and not after.invalid
    size = 2 if isinstance(env, Slider) else 1
    assert env.spaces() == Spaces(size, size, 1)
    assert env.describe()["name"] == type(env).__name__


def test_constant_reward():
    after = at(ConstantReward(), [0.0], -0.7)
    assert (after.reward, bool(after.terminated)) == (1.0, True)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_reward_from_observation(sign):
    after = at(RewardFromObservation(), [sign], 0.4)
    assert (after.reward, bool(after.terminated)) == (sign, True)


@pytest.mark.parametrize("env", [RewardFromObservation(), RewardFromBoth()], ids=lambda e: type(e).__name__)
def test_signs_are_equally_likely(env, getkey):
    obs = jax.vmap(env.reset)(jax.random.split(getkey(), 2_000)).obs
    np.testing.assert_array_equal(jnp.abs(obs), np.ones((2_000, 1)))
    assert abs(float(jnp.mean(obs))) < 0.07


def test_delayed_reward():
    env = DelayedReward()
    first = env.reset(jax.random.key(0))
    second = env.step(first, jnp.array([0.2]))
    third = env.step(second, jnp.array([-0.9]))
    assert [float(s.obs[0]) for s in (first, second)] == [0.0, 1.0]
    assert [(float(s.reward), bool(s.terminated)) for s in (second, third)] == [(0.0, False), (1.0, True)]


@pytest.mark.parametrize("action, reward", [(0.5, 1.0), (0.0, 0.75), (-0.5, 0.0)])
def test_reward_from_action(action, reward):
    after = at(RewardFromAction(), [0.0], action)
    assert (after.reward, bool(after.terminated)) == (reward, True)


@pytest.mark.parametrize(
    "sign, action, reward", [(1.0, 0.5, 1.0), (-1.0, 0.5, 0.0), (-1.0, -0.5, 1.0), (1.0, 0.0, 0.75)]
)
def test_reward_from_both(sign, action, reward):
    after = at(RewardFromBoth(), [sign], action)
    assert (after.reward, bool(after.terminated)) == (reward, True)


def test_slider_moves_as_a_point_mass():
    # v: 0.2 + 0.1·0.5 = 0.25; x: 0.3 + 0.1·0.25 = 0.325
    after = at(Slider(), [0.3, 0.2], 0.5)
    np.testing.assert_allclose(after.obs, [0.325, 0.25], rtol=1e-6)
    np.testing.assert_allclose(after.reward, 1.0 - 0.325**2, rtol=1e-6)
    assert not after.terminated


def test_slider_stays_within_its_bounds():
    after = at(Slider(), [1.95, 1.95], 1.0)
    np.testing.assert_allclose(after.obs, [2.0, 2.0])
    assert after.reward == 0.0  # 1 - min(4, 1)


def test_slider_starts_anywhere_in_the_unit_square(getkey):
    obs = jax.vmap(Slider().reset)(jax.random.split(getkey(), 2_000)).obs
    np.testing.assert_allclose(jnp.std(obs, axis=0), np.full(2, 1 / np.sqrt(3)), rtol=0.05)
    assert jnp.max(jnp.abs(obs)) <= 1.0
