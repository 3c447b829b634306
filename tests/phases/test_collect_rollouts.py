"""Collecting episodes: each is in the data once, whole and in its place, however many rounds it takes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.decoders import IdentityDecoder
from gorl.environments.task import Task
from gorl.errors import ConfigError
from gorl.generative.distributions import DiagonalGaussian
from gorl.phases import CollectRollouts, PhaseContext
from gorl.phases.base import PhaseInputs
from gorl.policies.base import AbstractGaussianPolicy
from gorl.state import RunState
from tests.support.payers import Learner, Level, Payer, level, played

ENVS, LENGTH, ROUNDS = 3, 4, 3
TASK = Task(Payer(1.0), LENGTH, True, True, 2.5)
CONTEXT = PhaseContext(TASK, seed=0, stage=1, phase=0)
DECODER = IdentityDecoder(2, 1, key=jax.random.key(0))
RUN = RunState(DECODER, policy=level(0.5), best=level(7.0), learner=Learner(level(8.0)))


def collecting(env_steps, rule="stochastic", **more):
    return CollectRollouts(env_steps=env_steps, num_envs=ENVS, episode_length=LENGTH, rule=rule, **more)


@pytest.fixture(scope="module")
def rounds():
    """The buffer before the first of three rounds and after each, and the metrics."""
    states, metrics = played(collecting(ROUNDS * ENVS * LENGTH), CONTEXT, RUN)
    return [jax.tree.map(np.asarray, s.buffer) for s in states], metrics


def test_a_round_leaves_the_rounds_before_it_alone(rounds):
    """After k rounds the first 3 k rows are episodes, for good, and the others are empty."""
    buffers, _ = rounds
    for k, buffer in enumerate(buffers):
        assert np.all(buffer.valid[: ENVS * k])
        for found, final in zip(jax.tree.leaves(buffer), jax.tree.leaves(buffers[-1]), strict=True):
            np.testing.assert_array_equal(found[: ENVS * k], final[: ENVS * k])
            assert not np.any(found[ENVS * k :])


def test_each_episode_is_there_once_and_in_order(rounds):
    """Nine resets make nine episodes: each row shows one reset from its first step to its last."""
    buffers, _ = rounds
    who, steps = np.moveaxis(buffers[-1].obs, -1, 0)
    assert who.shape == (ROUNDS * ENVS, LENGTH) and len(set(who[:, 0].tolist())) == ROUNDS * ENVS
    np.testing.assert_array_equal(who, np.broadcast_to(who[:, :1], who.shape))
    np.testing.assert_array_equal(steps, np.broadcast_to(np.arange(LENGTH), steps.shape))


def test_actions_rewards_and_values_are_of_the_same_step(rounds):
    """The environment pays who + u; the learner values 10 who + steps."""
    buffers, _ = rounds
    data = buffers[-1]
    who, steps = np.moveaxis(data.obs, -1, 0)
    np.testing.assert_allclose(data.reward, who + data.action[..., 0], atol=1e-4)
    np.testing.assert_allclose(data.value, 10.0 * who + steps, rtol=1e-6)


def test_actions_are_drawn_anew_and_bounded(rounds):
    """36 of N(0.5, 1), clipped to ± 2.5: no two others are the same, and their mean is within 4 std of 0.5."""
    buffers, _ = rounds
    u = buffers[-1].action.ravel()
    inner = u[np.abs(u) < 2.5]
    assert len(set(inner.tolist())) == len(inner) > 30 and np.max(np.abs(u)) <= 2.5
    assert abs(np.mean(u) - 0.5) < 4 / np.sqrt(36)


def test_a_rounds_metrics_are_of_its_own_episodes(rounds):
    buffers, metrics = rounds
    returns = np.sum(buffers[-1].reward.reshape(ROUNDS, ENVS * LENGTH), axis=1) / ENVS
    np.testing.assert_allclose([m["return"] for m in metrics], returns, rtol=1e-5)
    assert len(set(returns.tolist())) == ROUNDS and [m["diverged_episodes"] for m in metrics] == [0.0] * ROUNDS


def test_the_policy_that_goes_on_collects():
    """Neither the best one nor the learner's, where these differ. They, and the decoder, go on."""
    phase = collecting(1, rule="mode")
    (_, state), _ = played(phase, CONTEXT, RUN)
    run = phase.finish(CONTEXT, state)
    np.testing.assert_allclose(run.dataset.episodes.action, 0.5)
    assert [float(p.level) for p in (run.policy, run.best, run.learner.policy)] == [0.5, 7.0, 8.0]


@pytest.mark.parametrize("env_steps, expected", [(1, 1), (12, 1), (13, 2), (24, 2), (25, 3)])
def test_env_steps_are_rounded_up_to_whole_rounds(env_steps, expected):
    """A round is 3 episodes of 4 steps."""
    phase = collecting(env_steps)
    assert [u.env_steps for u in phase.units(TASK)] == [12] * expected
    assert phase.check(TASK, PhaseInputs(has_policy=True)) == PhaseInputs(True, 3 * expected, 4)
    assert phase.start(CONTEXT, RUN).buffer.valid.shape == (3 * expected, 4)


def test_other_rounds_phases_and_seeds_see_other_episodes(rounds):
    buffers, _ = rounds
    first = lambda context: float(played(collecting(1), context, RUN)[0][-1].buffer.obs[0, 0, 0])
    here = first(CONTEXT)
    assert here == buffers[-1].obs[0, 0, 0]  # with one round as with three
    assert len({here, first(dataclasses.replace(CONTEXT, seed=1)), first(dataclasses.replace(CONTEXT, stage=2))}) == 3


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="CollectRollouts has no policy to collect with"):
        collecting(1).check(TASK, PhaseInputs())
    with pytest.raises(ConfigError, match=r"CollectRollouts\.env_steps = 0: it must be >= 1"):
        collecting(0).check(TASK, PhaseInputs(has_policy=True))


class Gaussian(Level):
    """N(level, 0.5²), with what a Gaussian encoder knows about it."""

    def sample(self, obs, *, key):
        return self.distribution(obs).sample(key=key), ()

    def distribution(self, obs):
        del obs
        return DiagonalGaussian(self.level[None], jnp.full((1,), 0.5))

    def kl_to_prior(self, obs):
        return AbstractGaussianPolicy.kl_to_prior(self, obs)

    def noise_of(self, obs, action):
        return AbstractGaussianPolicy.noise_of(self, obs, action)


def test_stored_noise_made_the_actions():
    """u = 0.8 + 0.5 n, and KL(N(0.8, 0.5²) || N(0, 1)) = (0.64 + 0.25 - 1 - 2 log 0.5) / 2."""
    phase = collecting(1, store_noise=True)
    run = dataclasses.replace(RUN, policy=Gaussian(jnp.asarray(0.8)))
    (_, state), (metrics,) = played(phase, CONTEXT, run)
    np.testing.assert_allclose(state.buffer.action, 0.8 + 0.5 * state.buffer.noise, rtol=1e-5)
    assert len(set(state.buffer.noise.ravel().tolist())) == ENVS * LENGTH
    assert metrics["latent_kl"] == pytest.approx((0.64 + 0.25 - 1.0 + 2.0 * np.log(2.0)) / 2, rel=1e-5)
    assert phase.check(TASK, PhaseInputs(has_policy=True)).has_noise
    with pytest.raises(ConfigError, match="CollectRollouts.rule = 'mode' draws no noise"):
        collecting(1, rule="mode", store_noise=True).check(TASK, PhaseInputs(has_policy=True))
