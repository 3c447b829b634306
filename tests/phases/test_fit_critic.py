"""A critic that is fitted to collected episodes, whose returns are known."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gorl.algorithms.critics import Critic
from gorl.algorithms.on_policy import OnPolicyLearner
from gorl.decoders import IdentityDecoder
from gorl.environments.task import Task
from gorl.environments.toy import RewardFromObservation
from gorl.errors import ConfigError
from gorl.optimizers import OptaxCall
from gorl.phases import FitCritic, PhaseContext
from gorl.phases.base import PhaseInputs
from gorl.state import Dataset, Episodes, RunState, Spaces
from tests.support.networks import NORMALIZER, mlp
from tests.support.payers import Learner, level, played

EPISODES, LENGTH, DISCOUNT, SCALE = 32, 16, 0.9, 0.5
TASK = Task(RewardFromObservation(), LENGTH, True, True, 3.0)
CONTEXT = PhaseContext(TASK, 0, 1, 1)
SIZE = TASK.environment.spaces().observation


def critic(size, *, key):
    return Critic(size, body=mlp(32, 2), normalizer=NORMALIZER, key=key)


def fit_critic(**changes):
    settings = {
        "critic": critic, "optimizer": OptaxCall(function=optax.adam, numbers={}, options=()), "learning_rate": 1e-2,
        "max_grad_norm": np.inf, "discount": DISCOUNT, "gae_lambda": 1.0, "reward_scale": SCALE, "epochs": 30,
        "batch_size": 64,
    }  # fmt: skip
    return FitCritic(**{**settings, **changes})


def data(value):
    """Episodes that observe k in [1, 2) and earn it at every step: with V = scale k / (1 - discount) at the limit."""
    k = 1.0 + jnp.arange(EPISODES) / EPISODES
    each = jnp.broadcast_to(k[:, None], (EPISODES, LENGTH))
    obs = jnp.broadcast_to(each[..., None], (*each.shape, SIZE))
    return Dataset(Episodes(obs, each[..., None], each, value * each, jnp.ones(each.shape, bool)))


def learner():
    old = critic(SIZE, key=jax.random.key(7)).observe(1.5 + jnp.arange(2.0 * SIZE).reshape(2, SIZE), jnp.ones(2))
    return OnPolicyLearner(level(1.0), old, jnp.ones(3))


@pytest.fixture(scope="module")
def fitted():
    run = RunState(IdentityDecoder(SIZE, 1, key=jax.random.key(0)), level(2.0), level(3.0), learner(), data(5.0))
    phase = fit_critic()
    states, metrics = played(phase, CONTEXT, run)
    return run, phase.finish(CONTEXT, states[-1]), metrics


def test_the_critic_learns_the_discounted_returns(fitted):
    """A reward of k for ever, scaled by 0.5 and discounted by 0.9, is worth 5 k."""
    _, after, metrics = fitted
    for k in (1.1, 1.5, 1.9):
        assert float(after.learner.critic(jnp.full((SIZE,), k))) == pytest.approx(5.0 * k, abs=0.25)
    assert metrics[-1]["loss/critic"] < 0.01 * metrics[0]["loss/critic"]
    assert metrics[-1]["explained_variance"] > 0.98
    assert metrics[0]["explained_variance_before"] == pytest.approx(1.0, abs=1e-4)


def test_only_the_critics_network_is_new(fitted):
    before, after, _ = fitted
    assert eqx.tree_equal(after.learner.critic.normalizer, before.learner.critic.normalizer)
    assert not eqx.tree_equal(after.learner.critic.body, before.learner.critic.body)
    put_back = eqx.tree_at(lambda run: run.learner.critic, after, before.learner.critic)
    assert eqx.tree_equal(put_back, before)


def test_an_old_critic_that_knows_nothing_explains_nothing():
    run = RunState(IdentityDecoder(SIZE, 1, key=jax.random.key(0)), level(2.0), level(3.0), learner(), data(0.0))
    _, (metrics,) = played(fit_critic(epochs=1), CONTEXT, run)
    assert metrics["explained_variance_before"] == pytest.approx(0.0, abs=1e-5)


def test_settings_are_checked():
    inputs = PhaseInputs(True, EPISODES, LENGTH)
    assert fit_critic().check(TASK, inputs) == inputs
    for changes, message in (
        ({"epochs": 0}, "FitCritic.epochs = 0: it must be >= 1"),
        ({"discount": 1.1}, "FitCritic.discount = 1.1"),
        ({"batch_size": 10_000}, "the collected data will be 512 steps"),
    ):
        with pytest.raises(ConfigError, match=message):
            fit_critic(**changes).check(TASK, inputs)
    with pytest.raises(ConfigError, match="FitCritic has no data"):
        fit_critic().check(TASK, PhaseInputs(True))
    with pytest.raises(ConfigError, match="the critic has others here"):
        fit_critic().create(Spaces(2, 3, 1), IdentityDecoder(2, 1, key=jax.random.key(0)), key=jax.random.key(0))
    run = RunState(IdentityDecoder(SIZE, 1, key=jax.random.key(0)), level(2.0), learner=Learner(level(1.0)))
    with pytest.raises(ConfigError, match="the learner is Learner"):
        fit_critic().start(CONTEXT, dataclasses.replace(run, dataset=data(0.0)))
