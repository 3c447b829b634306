"""On-policy optimization of policies without a density: FPO, FPO++ and DPPO, on the five probes."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gorl.algorithms import Critic, OnPolicy
from gorl.environments.task import EpisodeRules
from gorl.environments.toy import (
    AbstractToy,
    ConstantReward,
    DelayedReward,
    RewardFromAction,
    RewardFromBoth,
    RewardFromObservation,
)
from gorl.environments.wrappers import SquashedEnvironment
from gorl.errors import ConfigError
from gorl.generative.grids import UniformGrid
from gorl.generative.samplers import Euler
from gorl.generative.times import DiscreteTimes, UniformTimes
from gorl.networks import FourierTime, ShrinkingNormalizer
from gorl.objectives.gae import GeneralizedAdvantage
from gorl.objectives.regularizers import EntropyBonus, LatentKL, LatentL2, SquashedEntropyBonus
from gorl.objectives.trust_region import ASPO, Clip
from gorl.optimizers import OptaxCall
from gorl.policies import DenoisingPolicy, FlowPolicy
from gorl.policies.flow_ratio import AveragedRatio, NoiseTarget, PerDrawRatio, VelocityTarget
from gorl.state import Spaces
from tests.support.networks import NORMALIZER, mlp

EPISODE_LENGTH = 4
EPISODES = EpisodeRules(EPISODE_LENGTH, True, True)
ITERATIONS = 60
PROBES = (ConstantReward(), RewardFromObservation(), DelayedReward(), RewardFromAction(), RewardFromBoth())


class Probe(AbstractToy):
    """One of the five, by number: an array, so that one program trains on all of them."""

    number: jax.Array

    def first(self, key):
        return jax.lax.switch(self.number.astype(jnp.int32), [p.first for p in PROBES], key)

    def move(self, obs, clock, action):
        return jax.lax.switch(self.number.astype(jnp.int32), [p.move for p in PROBES], obs, clock, action)


network = mlp(16, 1, activation=jnp.tanh)
common = {
    "body": network,
    "normalizer": NORMALIZER,
    "time_embedding": FourierTime(frequencies=2),
    "velocity_scale": 0.25,
}
flow = functools.partial(FlowPolicy, **common, sampler=Euler(steps=5, grid=UniformGrid()), draws=4)
METHODS = {  # policy, trust region, first learning rate
    "FPO": (
        functools.partial(flow, target=NoiseTarget(), times=DiscreteTimes(steps=5), ratio=AveragedRatio()),
        Clip(0.05),
        3e-3,
    ),
    "FPO per draw": (
        functools.partial(flow, target=NoiseTarget(), times=DiscreteTimes(steps=5), ratio=PerDrawRatio(clip=3.0)),
        Clip(0.05),
        3e-3,
    ),
    "FPO++": (
        functools.partial(flow, target=VelocityTarget(), times=UniformTimes(), ratio=PerDrawRatio(clip=3.0)),
        ASPO(0.2),
        1e-2,
    ),
    "DPPO": (functools.partial(DenoisingPolicy, **common, sigma=0.1, steps=5, final_steps=5), Clip(0.2), 1e-2),
}


def on_policy(method, **changes):
    policy, region, rate = METHODS[method]
    start, end = np.asarray(rate, np.float32), np.asarray(0.0, np.float32)
    settings = {
        "policy": policy,
        "critic": functools.partial(Critic, body=network, normalizer=NORMALIZER),
        "trust_region": region,
        "regularizers": [],
        "optimizer": OptaxCall(function=optax.adam, numbers={}, options=()),
        "learning_rate": OptaxCall(
            optax.linear_schedule, {"init_value": start, "end_value": end}, (("transition_steps", ITERATIONS * 16),)
        ),
        "max_grad_norm": np.inf,
        "advantage": GeneralizedAdvantage(),
        "advantage_unit": "iteration",
        "advantage_epsilon": 1e-8,
        "normalize_advantage": True,
        "statistics": "after",
        "value_cost": 0.25,
        "discount": 0.9,
        "gae_lambda": 0.8,
        "reward_scale": 1.0,
        "num_envs": 16,
        "unroll_length": 4,
        "batch_size": 32,
        "num_minibatches": 4,
        "num_epochs": 4,
    }
    return OnPolicy(**{**settings, **changes})


@functools.partial(eqx.filter_jit, compiler_options={"xla_backend_optimization_level": 0})
def train(algorithm, learner, keys):
    """Learners and metrics [5, iterations] of all probes at once, from one initial learner."""

    def one(number, key):
        env = SquashedEnvironment(Probe(number=number), jnp.float32(3.0))
        state = algorithm.start(env, learner, EPISODES, key=jax.random.fold_in(key, ITERATIONS))
        arrays, rest = eqx.partition(state, eqx.is_array)

        def iterate(arrays, i):
            state, metrics = algorithm.iterate(env, eqx.combine(arrays, rest), EPISODES, key=jax.random.fold_in(key, i))
            return eqx.filter(state, eqx.is_array), metrics

        arrays, metrics = jax.lax.scan(iterate, arrays, jnp.arange(ITERATIONS))
        return eqx.combine(arrays, rest).learner, metrics

    return eqx.filter_vmap(one)(jnp.arange(5, dtype=jnp.float32), keys)


@pytest.mark.parametrize("method", METHODS)
def test_the_five_probes(method, getkey):
    algorithm = on_policy(method)
    algorithm.check(EPISODE_LENGTH)
    learners, metrics = train(algorithm, algorithm.create(Spaces(1, 1, 1), key=getkey()), jax.random.split(getkey(), 5))
    assert not np.any(metrics["updates_skipped"])
    assert np.max(metrics["log_ratio_first"]) < 2e-5  # of ratios that later move by more:
    assert (
        np.min(np.mean(metrics["log_ratio_max"], axis=1)[1:]) > 1e-3
    )  # (a constant reward gives no action an advantage)

    probe = lambda i: jax.tree.map(lambda x: x[i] if eqx.is_array(x) else x, learners)
    value = lambda i, x: float(probe(i).critic(jnp.array([x])))
    action = lambda i, x: float(jnp.tanh(probe(i).policy.mode(jnp.array([x]), key=getkey()))[0])
    np.testing.assert_allclose(value(0, 0.0), 1.0, atol=0.02)  # ConstantReward
    np.testing.assert_allclose([value(1, -1.0), value(1, 1.0)], [-1.0, 1.0], atol=0.05)  # RewardFromObservation
    np.testing.assert_allclose([value(2, 0.0), value(2, 1.0)], [0.9, 1.0], atol=0.05)  # DelayedReward
    np.testing.assert_allclose(action(3, 0.0), 0.5, atol=0.1)  # RewardFromAction
    np.testing.assert_allclose([action(4, -1.0), action(4, 1.0)], [-0.5, 0.5], atol=0.1)  # RewardFromBoth
    # With random noise too: reward 1 - (a - 0.5)² on average. Acting at random has 0.2.
    assert np.mean(metrics["return"][3, -5:]) > 0.9
    assert np.mean(metrics["return"][4, -5:]) > 0.9


@pytest.mark.parametrize("method", ["FPO", "DPPO"])
@pytest.mark.parametrize("regularizer", [EntropyBonus, SquashedEntropyBonus, LatentL2, LatentKL])
def test_a_cost_that_needs_a_gaussian_is_refused(method, regularizer, getkey):
    algorithm = on_policy(method, regularizers=[regularizer(0.01)])
    kind = "FlowPolicy" if method == "FPO" else "DenoisingPolicy"
    message = (
        rf"@{regularizer.__name__}\(\), which needs a Gaussian policy, but OnPolicy\.policy builds {kind}"
        r".*OnPolicy\.regularizers = \[\]"
    )
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(lambda: algorithm.create(Spaces(1, 1, 1), key=jax.random.key(0)))


def test_a_policy_and_a_critic_take_any_normalizer(getkey):
    shrinking = functools.partial(ShrinkingNormalizer, epsilon=1e-6, clip=10.0)
    policy, *_ = METHODS["FPO"]
    algorithm = on_policy(
        "FPO",
        policy=functools.partial(policy, normalizer=shrinking),
        critic=functools.partial(Critic, body=network, normalizer=shrinking),
    )
    learner = algorithm.create(Spaces(1, 1, 1), key=getkey())
    data = jax.random.normal(getkey(), (100, 1))
    for module in (learner.policy, learner.critic):
        twice = module.observe(data, jnp.ones(100)).observe(data, jnp.ones(100))
        np.testing.assert_allclose(twice.normalizer.variance, np.var(data, axis=0) / 2, rtol=1e-3)
