import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gorl.algorithms import Critic, OnPolicy
from gorl.algorithms.on_policy import Batch
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
from gorl.fields import structural
from gorl.networks import trainable
from gorl.objectives.gae import BraxAdvantage, GeneralizedAdvantage
from gorl.objectives.regularizers import EntropyBonus, LatentKL
from gorl.objectives.trust_region import Clip
from gorl.optimizers import OptaxCall
from gorl.policies import AbstractPolicy, GaussianPolicy
from gorl.state import Spaces, Transition
from tests.support.networks import NORMALIZER, mlp

EPISODE_LENGTH = 4
EPISODES = EpisodeRules(EPISODE_LENGTH, True, True)
EPSILON = 1e-6  # of the normalizers
QUICK = {"xla_backend_optimization_level": 0}  # the programs here take longer to compile than to run


class Walk(AbstractToy):
    """x <- x + a / 2 within 1 of `center`, beyond which it terminates. The reward is x - center."""

    center: float = structural()

    def first(self, key):
        return self.center + jax.random.uniform(key, (1,), minval=-0.5, maxval=0.5)

    def move(self, obs, clock, action):
        new = obs + 0.5 * action
        place = new[0] - self.center
        return new, place, jnp.abs(place) > 1.0


class Mute(AbstractPolicy):
    """A policy that has only what every policy needs."""

    normalizer: None = None

    def sample(self, obs, *, key):
        return obs, None

    def mode(self, obs, *, key):
        return obs

    def log_ratio(self, obs, action, extras, *, key):
        return jnp.zeros(1)


def on_policy(**changes):
    """PPO with small networks: 2 x 8 x 3 = 48 steps an iteration, 12 in each lane."""
    network = mlp(3, 1, activation=jnp.tanh)
    settings = {
        "policy": functools.partial(
            GaussianPolicy, body=network, normalizer=NORMALIZER, min_std=1e-3, max_std=10.0, initial_std=1.0
        ),
        "critic": functools.partial(Critic, body=network, normalizer=NORMALIZER),
        "trust_region": Clip(0.2),
        "regularizers": [EntropyBonus(0.01), LatentKL(0.003)],
        "optimizer": OptaxCall(function=optax.sgd, numbers={}, options=()),
        "learning_rate": 0.5,
        "max_grad_norm": np.inf,
        "advantage": GeneralizedAdvantage(),
        "advantage_unit": "iteration",
        "advantage_epsilon": 1e-8,
        "normalize_advantage": True,
        "statistics": "after",
        "value_cost": 0.25,
        "discount": 0.9,
        "gae_lambda": 0.8,
        "reward_scale": 2.0,
        "num_envs": 4,
        "unroll_length": 3,
        "batch_size": 8,
        "num_minibatches": 2,
        "num_epochs": 2,
    }
    return OnPolicy(**{**settings, **changes})


def squashed(env):
    return SquashedEnvironment(env, np.asarray(3.0, np.float32))


@functools.partial(eqx.filter_jit, compiler_options=QUICK)
def iterate(algorithm, env, state, key):
    return algorithm.iterate(env, state, EPISODES, key=key)


@functools.partial(eqx.filter_jit, compiler_options=QUICK)
def update(algorithm, learner, batch, key):
    return algorithm.update(learner, batch, key)


def begin(algorithm, env, key):
    make_key, start_key = jax.random.split(key)
    return algorithm.start(env, algorithm.create(env.inner.spaces(), key=make_key), EPISODES, key=start_key)


def weights(learner):
    """[policy W0, b0, W1, b1, critic W0, b0, W1, b1] in float64."""
    modules = (learner.policy, learner.critic)
    return [np.asarray(x, np.float64) for x in jax.tree.leaves(eqx.filter(modules, trainable(modules)))]


# ---- PPO once more, in NumPy ----


def network(w0, b0, w1, b1, x):
    return np.tanh(x @ w0.T + b0) @ w1.T + b1


def normalize(normalizer, x):
    return (x - np.asarray(normalizer.mean, np.float64)) / np.sqrt(
        np.asarray(normalizer.variance, np.float64) + EPSILON
    )


def standard(advantage):
    return (advantage - np.mean(advantage)) / np.std(advantage)


def ppo(leaves, learner, rows, standardize=standard):
    """Every term of the loss of arXiv 1707.06347 on rows (dict of [N, ...] arrays), for the settings of `on_policy`."""
    out = network(*leaves[:4], normalize(learner.policy.normalizer, rows["obs"]))
    mean, raw = np.split(out, 2, axis=1)
    std = np.log1p(np.exp(raw + np.log(np.expm1(1.0 - 1e-3)))) + 1e-3
    log_prob = np.sum(-0.5 * ((rows["action"] - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi), axis=1)
    log_ratio = (log_prob - rows["old_log_prob"])[rows["valid"]]
    ratio = np.exp(log_ratio)
    advantage = standardize(rows["advantage"][rows["valid"]])
    surrogate = np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)
    value = network(*leaves[4:], normalize(learner.critic.normalizer, rows["critic_obs"]))[:, 0]
    entropy = np.sum(np.log(std) + 0.5 * np.log(2 * np.pi * np.e), axis=1)[rows["valid"]]
    kl = np.sum(0.5 * (std**2 + mean**2 - 1) - np.log(std), axis=1)[rows["valid"]]
    return {
        "loss/policy": -np.mean(surrogate),
        "loss/value": np.mean((value - rows["target"])[rows["valid"]] ** 2),
        "cost/EntropyBonus": -np.mean(entropy),
        "cost/LatentKL": np.mean(kl),
        "clip_fraction": np.mean(np.abs(ratio - 1) > 0.2),
        "kl": np.mean(ratio - 1 - log_ratio),
        "log_ratio_max": np.max(np.abs(log_ratio)),
    }


def total(terms):
    return (
        terms["loss/policy"]
        + 0.25 * terms["loss/value"]
        + 0.01 * terms["cost/EntropyBonus"]
        + 0.003 * terms["cost/LatentKL"]
    )


def gradient(leaves, learner, rows, h=1e-6):
    """By central differences."""
    result = [np.zeros_like(x) for x in leaves]
    for leaf, slope in zip(leaves, result):
        for i in np.ndindex(leaf.shape):
            kept, sides = leaf[i], []
            for leaf[i] in (kept + h, kept - h):
                sides.append(total(ppo(leaves, learner, rows)))
            leaf[i] = kept
            slope[i] = (sides[0] - sides[1]) / (2 * h)
    return result


def check_sgd_step(before, after, rows, metrics, atol):
    """`after` is `before` minus 0.5 times the loss' gradient, and the metrics are the loss' terms."""
    leaves = weights(before)
    for name, value in ppo(leaves, before, rows).items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=atol, err_msg=name)
    slopes = gradient(leaves, before, rows)
    assert all(np.max(np.abs(slope)) > 1e-3 for slope in slopes)
    for new, old, slope in zip(weights(after), leaves, slopes):
        np.testing.assert_allclose(old - new, 0.5 * slope, rtol=1e-3, atol=atol)


def advantages(rollout, learner, discount, gae_lambda, reward_scale):
    """[T, B] advantages and targets, lane by lane and step by step."""
    leaves = weights(learner)
    value = lambda obs: network(*leaves[4:], normalize(learner.critic.normalizer, np.asarray(obs, np.float64)))[..., 0]
    now, then = value(rollout.for_critic), value(rollout.next_critic_obs)
    advantage = np.zeros(now.shape)
    for lane in range(now.shape[1]):
        later = 0.0
        for t in reversed(range(now.shape[0])):
            terminated, truncated = bool(rollout.terminated[t, lane]), bool(rollout.truncated[t, lane])
            delta = (
                reward_scale * float(rollout.reward[t, lane])
                + (0.0 if terminated else discount * then[t, lane])
                - now[t, lane]
            )
            later = delta + (0.0 if terminated or truncated else discount * gae_lambda * later)
            advantage[t, lane] = later
    return advantage, advantage + now


# ---- one update ----


@pytest.fixture(scope="module")
def crafted():
    """(learner, batch, rows): 16 sequences of 3 steps, old log-probabilities off by up to 0.5, some rows invalid."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
    obs, critic_obs = 1.0 + 2.0 * normal(16, 3, 2), 0.5 * normal(16, 3, 3)
    learner_key, sample_key = jax.random.split(jax.random.key(7))

    @functools.partial(eqx.filter_jit, compiler_options=QUICK)
    def acted():
        learner = on_policy().create(Spaces(2, 3, 2), key=learner_key)
        observed = (
            learner.policy.observe(obs.reshape(-1, 2), jnp.ones(48)),
            learner.critic.observe(critic_obs.reshape(-1, 3), jnp.ones(48)),
        )
        learner = eqx.tree_at(lambda m: (m.policy, m.critic), learner, observed)
        sample = jax.vmap(jax.vmap(lambda o, k: learner.policy.sample(o, key=k)))
        return learner, *sample(obs, jax.random.split(sample_key, (16, 3)))

    learner, action, log_prob = acted()
    old = log_prob + jnp.asarray(rng.uniform(-0.5, 0.5, (16, 3)), jnp.float32)
    valid = jnp.ones((16, 3), bool).at[::2, 1].set(False)  # 8 of 48 are not
    advantage, target = 3.0 + normal(16, 3), normal(16, 3)
    no, zero = jnp.zeros((16, 3), bool), jnp.zeros((16, 3))
    batch = Batch(
        Transition(obs, critic_obs, action, old, zero, critic_obs, no, no, valid, no, zero), advantage, target
    )
    rows = {
        "obs": obs,
        "critic_obs": critic_obs,
        "action": action,
        "old_log_prob": old,
        "advantage": advantage,
        "target": target,
    }
    flat = lambda x: np.asarray(x, np.float64).reshape(48, *x.shape[2:])
    return learner, batch, {**{k: flat(x) for k, x in rows.items()}, "valid": np.asarray(valid).reshape(48)}


def with_targets(batch, target):
    return Batch(batch.transition, batch.advantage, target)


def test_an_update_is_a_step_down_the_ppo_loss(crafted, getkey):
    learner, batch, rows = crafted
    absurd = lambda x: jnp.where(batch.transition.valid, x, 1e6)  # what is invalid counts for nothing
    batch = Batch(batch.transition, absurd(batch.advantage), absurd(batch.target))
    after, metrics = update(on_policy(num_minibatches=1, batch_size=16, num_epochs=1), learner, batch, getkey())
    check_sgd_step(learner, after, rows, metrics, atol=2e-5)
    assert 0.1 < metrics["clip_fraction"] < 0.9
    assert metrics["updates_skipped"] == 0.0


def test_the_gradient_is_clipped(crafted, getkey):
    learner, batch, _ = crafted
    algorithm = on_policy(num_minibatches=1, batch_size=16, num_epochs=1, learning_rate=1.0, max_grad_norm=0.01)
    after, _ = update(algorithm, learner, batch, getkey())
    moved = np.sqrt(sum(np.sum((new - old) ** 2) for new, old in zip(weights(after), weights(learner))))
    np.testing.assert_allclose(moved, 0.01, rtol=1e-3)


@pytest.mark.parametrize(
    "unit, policy, critic",
    [("learner", 0.06, 0.08), ("module", 0.1, 0.1)],  # of norms 3 and 4, together 5; each above the limit by itself
)
def test_what_the_gradients_norm_is_of(unit, policy, critic):
    algorithm = on_policy(grad_norm_unit=unit, learning_rate=1.0, max_grad_norm=0.1)
    gradients = jnp.array([3.0, 0.0]), {"weight": jnp.array([0.0, 4.0])}
    transformation = algorithm._optimizer()
    steps, _ = transformation.update(gradients, transformation.init(gradients))
    np.testing.assert_allclose(steps[0], [-policy, 0.0], rtol=1e-6)
    np.testing.assert_allclose(steps[1]["weight"], [0.0, -critic], rtol=1e-6)


def test_a_large_gradient_of_the_values_shrinks_the_policys_step_in_one_unit_only(crafted, getkey):
    learner, batch, _ = crafted
    far = with_targets(batch, batch.target + 1e4)
    moved = {}
    for unit in ("learner", "module"):
        settings = {"num_minibatches": 1, "batch_size": 16, "num_epochs": 1, "learning_rate": 1.0}
        after, _ = update(on_policy(grad_norm_unit=unit, max_grad_norm=0.01, **settings), learner, far, getkey())
        change = [np.sum((new - old) ** 2) for new, old in zip(weights(after), weights(learner))]
        moved[unit] = np.sqrt(sum(change[:4])), np.sqrt(sum(change[4:]))  # the policy's, the critic's
    np.testing.assert_allclose(moved["module"], 0.01, rtol=1e-3)
    np.testing.assert_allclose(moved["learner"][1], 0.01, rtol=1e-3)
    assert moved["learner"][0] < 1e-5


def test_the_unit_of_the_norm_leaves_the_optimizers_state_as_it_is():
    """Checkpoints made with either load with the other, and those made before there was a choice too."""
    states = [
        jax.eval_shape(lambda u=unit: on_policy(grad_norm_unit=u).create(Spaces(2, 3, 2), key=jax.random.key(0)))
        for unit in ("learner", "module")
    ]
    assert jax.tree.structure(states[0].optimizer) == jax.tree.structure(states[1].optimizer)
    assert on_policy().grad_norm_unit == "learner"


def test_every_epoch_visits_every_sequence_once(crafted, getkey):
    """At learning rate 0 the mean over equal minibatches is that over the batch, and so is the largest value."""
    learner, batch, rows = crafted
    every = eqx.tree_at(lambda b: b.transition.valid, batch, jnp.ones((16, 3), bool))
    after, metrics = update(on_policy(learning_rate=0.0), learner, every, getkey())
    expected = ppo(weights(learner), learner, {**rows, "valid": np.ones(48, bool)})
    for name in ("loss/value", "cost/EntropyBonus", "kl", "clip_fraction", "log_ratio_max"):
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-4, err_msg=name)
    for new, old in zip(weights(after), weights(learner)):
        np.testing.assert_array_equal(new, old)


def test_a_poisoned_minibatch_is_skipped_and_counted(crafted, getkey):
    learner, batch, _ = crafted
    after, metrics = update(on_policy(), learner, with_targets(batch, batch.target.at[5, 0].set(jnp.nan)), getkey())
    assert metrics["updates_skipped"] == 2.0  # one of two minibatches in each of two epochs
    assert all(np.all(np.isfinite(x)) for x in weights(after))
    assert all(np.any(new != old) for new, old in zip(weights(after), weights(learner)))  # the others count


def test_metrics_are_means_over_the_updates_that_count(crafted, getkey):
    learner, batch, _ = crafted
    nowhere = jax.tree.map(jnp.zeros_like, learner.critic.body)  # V = 0: the value loss is 2² wherever it is finite
    learner = eqx.tree_at(lambda m: m.critic.body, learner, nowhere)
    target = jnp.full((16, 3), 2.0).at[5, 0].set(jnp.nan)
    _, metrics = update(on_policy(learning_rate=0.0), learner, with_targets(batch, target), getkey())
    assert metrics["updates_skipped"] == 2.0
    np.testing.assert_allclose(metrics["loss/value"], 4.0, rtol=1e-5)


@pytest.mark.parametrize(
    "settings, standardize",
    [
        ({"normalize_advantage": False}, lambda a: a),
        ({"advantage_epsilon": 2.5}, lambda a: (a - np.mean(a)) / (np.std(a) + 2.5)),
    ],
)
def test_how_advantages_are_normalised(crafted, getkey, settings, standardize):
    learner, batch, rows = crafted
    one = {"num_minibatches": 1, "batch_size": 16, "num_epochs": 1, "learning_rate": 0.0}
    _, metrics = update(on_policy(**one, **settings), learner, batch, getkey())
    expected = ppo(weights(learner), learner, rows, standardize)["loss/policy"]
    assert abs(expected - ppo(weights(learner), learner, rows)["loss/policy"]) > 0.003
    np.testing.assert_allclose(metrics["loss/policy"], expected, rtol=1e-4, atol=1e-6)


# ---- where advantages are computed ----


def test_in_a_minibatch_advantages_are_its_sequences_with_the_critic_as_it_is(crafted, getkey):
    """Whatever the batch says of them: each sequence of 3 steps bootstraps at its own end."""
    learner, batch, rows = crafted
    rng = np.random.default_rng(1)
    shape = (16, 3)
    moves = eqx.tree_at(
        lambda m: (m.valid, m.reward, m.terminated, m.next_critic_obs),
        batch.transition,
        (jnp.ones(shape, bool), jnp.asarray(rng.standard_normal(shape), jnp.float32),
         jnp.asarray(rng.random(shape) < 0.2),
         jnp.asarray(rng.standard_normal((*shape, 3)), jnp.float32)),
    )  # fmt: skip
    turned = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), moves)  # [T, B], as a rollout
    advantage, target = (x.T.reshape(48) for x in advantages(turned, learner, 0.9, 0.8, 2.0))
    algorithm = on_policy(num_minibatches=1, batch_size=16, num_epochs=1, advantage_unit="minibatch")
    after, metrics = update(algorithm, learner, Batch(moves, batch.advantage, batch.target), getkey())
    check_sgd_step(
        learner,
        after,
        {**rows, "advantage": advantage, "target": target, "valid": np.ones(48, bool)},
        metrics,
        atol=5e-5,
    )


def unit_pair(key, **changes):
    """The learner after one iteration, by unit."""
    begin_key, key = jax.random.split(key)
    env, results = squashed(Walk(center=0.2)), []
    for unit in ("iteration", "minibatch"):
        algorithm = on_policy(advantage_unit=unit, **changes)
        results.append(weights(iterate(algorithm, env, begin(algorithm, env, begin_key), key)[0].learner))
    return results


def test_units_agree_where_a_sequence_is_the_rollout_and_the_critic_has_not_changed(getkey):
    whole = {"unroll_length": 12, "batch_size": 4, "num_minibatches": 1}
    for one, other in zip(*unit_pair(getkey(), **whole, num_epochs=1)):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_epochs": 1, "num_minibatches": 1, "batch_size": 16},
        {"unroll_length": 12, "batch_size": 4, "num_minibatches": 1},
    ],
)
def test_units_differ_where_sequences_are_shorter_or_the_critic_moves(getkey, changes):
    assert max(np.max(np.abs(one - other)) for one, other in zip(*unit_pair(getkey(), **changes))) > 1e-3


def test_the_estimator_is_a_setting(getkey):
    """lambda = 0 and V = 0: GAE gives the reward, Brax looks one step further, within a rollout of two steps."""
    reward = jnp.array([[1.0, 2.0], [10.0, 20.0]])  # [T, B]
    no, obs = jnp.zeros((2, 2), bool), jnp.zeros((2, 2, 1))
    rollout = Transition(obs, None, obs, reward, reward, obs, no, no, ~no, no, reward)
    for estimator, expected in (
        (GeneralizedAdvantage(), [[1.0, 2.0], [10.0, 20.0]]),
        (BraxAdvantage(), [[10.0, 20.0], [10.0, 20.0]]),
    ):
        algorithm = on_policy(advantage=estimator, gae_lambda=0.0, reward_scale=1.0)
        critic = jax.tree.map(jnp.zeros_like, algorithm.create(Spaces(1, 1, 1), key=getkey()).critic)
        np.testing.assert_allclose(algorithm.advantages(critic, rollout, 1)[1].advantage, expected, rtol=1e-6)


# ---- one iteration ----


def observations(rollout):
    return np.asarray(rollout.obs, np.float64).reshape(48, 1)


def test_an_iteration_is_a_rollout_its_advantages_and_one_step(getkey):
    algorithm, env = on_policy(num_minibatches=1, batch_size=16, num_epochs=1), squashed(Walk(center=0.2))
    rollout_of = eqx.filter_jit(
        lambda state, key: algorithm.rollout(env, state, EPISODES, key=key)[1], compiler_options=QUICK
    )
    keys, states, rollouts = [getkey(), getkey()], [begin(algorithm, env, getkey())], []
    for key in keys:  # the second one is compared: before it, the normalizers have learned something
        rollouts.append(rollout_of(states[-1], jax.random.split(key)[0]))
        state, metrics = iterate(algorithm, env, states[-1], key)
        states.append(state)
    learner, rollout = states[1].learner, rollouts[1]

    assert rollout.obs.shape == (12, 4, 1) and jnp.all(rollout.valid)
    assert (
        jnp.any(rollout.terminated)
        and jnp.any(rollout.truncated)
        and not jnp.any(rollout.terminated & rollout.truncated)
    )
    moved = np.asarray(rollout.obs + 0.5 * jnp.tanh(jnp.clip(rollout.action, -3.0, 3.0)))
    np.testing.assert_allclose(rollout.next_critic_obs, moved, atol=1e-6)  # what came before any reset
    np.testing.assert_allclose(rollout.reward, moved[..., 0] - 0.2, atol=1e-6)
    stays = ~np.asarray(rollout.terminated | rollout.truncated)[:-1]
    np.testing.assert_array_equal(rollout.obs[1:][stays], rollout.next_critic_obs[:-1][stays])

    advantage, target = advantages(rollout, learner, 0.9, 0.8, 2.0)
    obs, flat = observations(rollout), lambda x: np.asarray(x, np.float64).reshape(48)
    rows = {
        "obs": obs,
        "critic_obs": obs,
        "action": flat(rollout.action)[:, None],
        "old_log_prob": flat(rollout.extras),
    }
    rows |= {"advantage": flat(advantage), "target": flat(target), "valid": np.ones(48, bool)}
    check_sgd_step(learner, states[2].learner, rows, metrics, atol=5e-5)
    assert metrics["episodes"] == jnp.sum(rollout.finished) > 0
    np.testing.assert_allclose(metrics["return"], np.mean(rollout.episode_return[rollout.finished]), rtol=1e-5)

    seen = np.concatenate([observations(r) for r in rollouts])
    for normalizer in (states[2].learner.policy.normalizer, states[2].learner.critic.normalizer):
        np.testing.assert_allclose(
            [normalizer.count, normalizer.mean[0], normalizer.variance[0]],
            [96.0, np.mean(seen), np.var(seen)],
            rtol=1e-4,
        )


def test_a_sequence_is_consecutive_steps_of_one_lane(getkey):
    """The observation of step t in lane b is 100 b + t, which is also the reward; V = 0 and lambda = 0."""
    algorithm = on_policy(gae_lambda=0.0, reward_scale=1.0)
    place = jnp.arange(12.0)[:, None] + 100.0 * jnp.arange(4.0)[None]  # [T, B]
    no, obs = jnp.zeros((12, 4), bool), place[..., None]
    rollout = Transition(obs, None, obs, place, place, obs, no, no, ~no, no, place)
    critic = jax.tree.map(jnp.zeros_like, algorithm.create(Spaces(1, 1, 1), key=getkey()).critic)
    batch = eqx.filter_jit(algorithm.sequences)(rollout, critic)
    expected = [[100.0 * lane + start + t for t in range(3)] for lane in range(4) for start in (0, 3, 6, 9)]
    for x in (batch.transition.obs[..., 0], batch.transition.extras, batch.advantage, batch.target):
        np.testing.assert_array_equal(x, expected)


ADAM = OptaxCall(function=optax.adam, numbers={}, options=())


def test_the_ratio_is_1_before_any_update_of_an_iteration(getkey):
    """Even where the normalizers' statistics move a lot from one iteration to the next."""
    algorithm, env = on_policy(optimizer=ADAM, learning_rate=0.01), squashed(Walk(center=5.0))
    state = begin(algorithm, env, getkey())
    acting = state.learner.policy
    for _ in range(5):
        state, metrics = iterate(algorithm, env, state, getkey())
        assert metrics["log_ratio_first"] < 1e-5
        assert metrics["log_ratio_max"] > max(1e-3, 10 * metrics["log_ratio_first"])  # later minibatches do move
    # What this guards against: statistics that change between acting and the first update.
    obs = jnp.array([5.3])
    sample, extras = acting.sample(obs, key=getkey())
    observed = eqx.tree_at(lambda p: p.normalizer, acting, state.learner.policy.normalizer)
    assert abs(acting.log_ratio(obs, sample, extras, key=getkey())[0]) < 1e-5
    assert abs(observed.log_ratio(obs, sample, extras, key=getkey())[0]) > 0.01


def test_statistics_before_the_update_spoil_the_ratio(getkey):
    """The published defect: the policy that acted saw other inputs. The statistics themselves end up the same."""
    env, key, start = squashed(Walk(center=5.0)), getkey(), getkey()
    after, before = (
        iterate(a, env, begin(a, env, start), key) for a in (on_policy(statistics=s) for s in ("after", "before"))
    )
    assert after[1]["log_ratio_first"] < 1e-5
    assert before[1]["log_ratio_first"] > 0.05
    for one, other in zip(
        jax.tree.leaves(after[0].learner.policy.normalizer), jax.tree.leaves(before[0].learner.policy.normalizer)
    ):
        np.testing.assert_array_equal(one, other)


def by_statistics(key, learning_rate=0.0, known=lambda state: state):
    """(learner, metrics) after one iteration from one state, by when the statistics are updated."""
    env, (start, key) = squashed(Walk(center=5.0)), jax.random.split(key)
    found = {}
    for choice in ("after", "before", "first"):
        algorithm = on_policy(statistics=choice, learning_rate=learning_rate)
        state, metrics = iterate(algorithm, env, known(begin(algorithm, env, start)), key)
        found[choice] = state.learner, metrics
    return found


def with_statistics(module):
    return module.observe(jnp.array([[3.0], [4.0], [8.0]]), jnp.ones(3))


def test_the_first_statistics_come_before_the_first_update_and_leave_the_ratio_at_1(getkey):
    """At learning rate 0 an update's metrics are those of the inputs it sees: with 'first', those with 'before'."""
    found = by_statistics(getkey())
    (after, raw), (before, spoiled), (first, metrics) = found.values()
    assert metrics["log_ratio_first"] < 1e-5 and raw["log_ratio_first"] < 1e-5 and spoiled["log_ratio_first"] > 0.05
    for name in ("loss/value", "cost/EntropyBonus", "cost/LatentKL"):
        np.testing.assert_allclose(metrics[name], spoiled[name], rtol=1e-5)
        assert abs(metrics[name] - raw[name]) > 1e-3 * abs(raw[name])
    for a, b, f in zip(*(jax.tree.leaves((m.policy.normalizer, m.critic.normalizer)) for m in (after, before, first))):
        np.testing.assert_array_equal(f, a)  # counted once
        np.testing.assert_array_equal(f, b)


def test_a_learner_with_statistics_is_updated_as_with_after(getkey):
    both = lambda m: (m.learner.policy, m.learner.critic)
    known = lambda state: eqx.tree_at(both, state, tuple(map(with_statistics, both(state))))
    found = by_statistics(getkey(), learning_rate=0.5, known=known)
    for choice in ("after", "before"):
        same = [
            np.array_equal(a, f)
            for a, f in zip(jax.tree.leaves(found[choice]), jax.tree.leaves(found["first"]), strict=True)
        ]
        assert all(same) == (choice == "after")


def test_only_the_normalizers_that_have_seen_nothing_begin_early(getkey):
    """A new policy with a kept critic: the values stay those of 'after', the policy's inputs those of 'before'."""
    known = lambda state: eqx.tree_at(lambda s: s.learner.critic, state, with_statistics(state.learner.critic))
    found = by_statistics(getkey(), known=known)
    (after, late), (_, early), (first, metrics) = found.values()
    assert metrics["log_ratio_first"] < 1e-5
    np.testing.assert_allclose(metrics["loss/value"], late["loss/value"], rtol=1e-6)
    assert abs(metrics["loss/value"] - early["loss/value"]) > 1e-3
    np.testing.assert_allclose(metrics["cost/LatentKL"], early["cost/LatentKL"], rtol=1e-5)
    for f, a in zip(jax.tree.leaves(first.critic.normalizer), jax.tree.leaves(after.critic.normalizer)):
        np.testing.assert_array_equal(f, a)


def test_a_policy_that_cannot_rescore_is_named():
    with pytest.raises(ConfigError, match=r"Mute has no method rescore, which OnPolicy\.statistics = 'first' needs"):
        Mute().rescore(jnp.zeros(1), jnp.zeros(1), None)


def test_an_iteration_of_infinite_returns_changes_no_weight(getkey):
    algorithm, env = on_policy(optimizer=ADAM, reward_scale=np.inf), squashed(Walk(center=5.0))
    state = begin(algorithm, env, getkey())
    after, metrics = iterate(algorithm, env, state, getkey())
    assert metrics["updates_skipped"] == 4.0
    assert np.isnan(metrics["loss/policy"])  # a mean over no update at all
    for new, old in zip(weights(after.learner), weights(state.learner)):
        np.testing.assert_array_equal(new, old)
    for new, old in zip(jax.tree.leaves(after.learner.optimizer), jax.tree.leaves(state.learner.optimizer)):
        np.testing.assert_array_equal(new, old)
    assert after.learner.policy.normalizer.count == 48.0


# ---- settings ----


def test_sizes_that_fit_pass():
    algorithm = on_policy(num_envs=8, num_minibatches=3, batch_size=16, unroll_length=5)
    algorithm.check(EPISODE_LENGTH)
    assert algorithm.env_steps_per_iteration == 3 * 16 * 5


def test_sequences_must_be_shared_evenly():
    message = (
        r"num_minibatches x batch_size = 3 x 8 = 24 sequences cannot be shared evenly by num_envs = 16\."
        r" Make num_envs a divisor of 24, or batch_size a multiple of num_envs\."
    )
    with pytest.raises(ConfigError, match=message):
        on_policy(num_envs=16, num_minibatches=3, batch_size=8).check(EPISODE_LENGTH)


@pytest.mark.parametrize("name", ["num_envs", "unroll_length", "batch_size", "num_minibatches", "num_epochs"])
def test_sizes_must_be_positive(name):
    with pytest.raises(ConfigError, match=rf"OnPolicy\.{name} = 0: it must be >= 1\."):
        on_policy(**{name: 0}).check(EPISODE_LENGTH)


@pytest.mark.parametrize("name, value", [("discount", 1.5), ("gae_lambda", -0.5), ("discount", np.nan)])
def test_fractions_must_be_fractions(name, value):
    with pytest.raises(ConfigError, match=rf"OnPolicy\.{name} = {value}: it must be in \[0, 1\]\."):
        on_policy(**{name: value}).check(EPISODE_LENGTH)


@pytest.mark.parametrize(
    "setting, message",
    [
        (
            {"advantage_unit": "minibatches"},
            r"OnPolicy\.advantage_unit = 'minibatches': it is 'iteration' or 'minibatch'\. Did you mean minibatch\?",
        ),
        (
            {"statistics": "befor"},
            r"OnPolicy\.statistics = 'befor': it is 'after' or 'before' or 'first'\. Did you mean before\?",
        ),
        ({"grad_norm_unit": "policy"}, r"OnPolicy\.grad_norm_unit = 'policy': it is 'learner' or 'module'\."),
    ],
)
def test_choices_are_known(setting, message):
    with pytest.raises(ConfigError, match=message):
        on_policy(**setting)


def test_the_advantages_epsilon_is_no_less_than_0():
    with pytest.raises(ConfigError, match=r"OnPolicy\.advantage_epsilon = -1\.0: it must be >= 0"):
        on_policy(advantage_epsilon=-1.0).check(EPISODE_LENGTH)


@pytest.mark.parametrize("name", ["value_cost", "reward_scale"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_factors_that_are_not_finite_are_named(name, value):
    with pytest.raises(ConfigError, match=rf"OnPolicy\.{name} = {value}: it must be finite"):
        on_policy(**{name: value}).check(EPISODE_LENGTH)


def test_a_gradient_norm_that_nothing_passes_is_named():
    with pytest.raises(ConfigError, match=r"max_grad_norm = 0\.0: it must be > 0"):
        on_policy(max_grad_norm=0.0).create(Spaces(2, 2, 1), key=jax.random.key(0))


# ---- the five probes: each says which part is broken ----


def train(env, key):
    """PPO as one would use it, on 40 iterations of 512 steps."""
    network = mlp(16, 1, activation=jnp.tanh, output_scale=0.1)
    start, end = np.asarray(5e-3, np.float32), np.asarray(0.0, np.float32)
    algorithm = on_policy(
        policy=functools.partial(
            GaussianPolicy, body=network, normalizer=NORMALIZER, min_std=1e-3, max_std=10.0, initial_std=0.5
        ),
        critic=functools.partial(Critic, body=network, normalizer=NORMALIZER),
        regularizers=[EntropyBonus(0.03)],
        optimizer=ADAM,
        learning_rate=OptaxCall(
            optax.linear_schedule, {"init_value": start, "end_value": end}, (("transition_steps", 40 * 16),)
        ),
        max_grad_norm=1.0,
        reward_scale=1.0,
        num_envs=16,
        unroll_length=4,
        batch_size=32,
        num_minibatches=4,
        num_epochs=4,
    )
    algorithm.check(EPISODE_LENGTH)
    env = squashed(env)
    state, skipped = begin(algorithm, env, key), []
    for i in range(40):
        state, metrics = iterate(algorithm, env, state, jax.random.fold_in(key, i))
        skipped.append(metrics["updates_skipped"])
    assert not np.any(skipped)
    return state.learner


def values(learner, *obs):
    return [float(learner.critic(jnp.array([x]))) for x in obs]


def actions(learner, *obs):
    return [float(jnp.tanh(learner.policy.mode(jnp.array([x]), key=jax.random.key(0)))[0]) for x in obs]


def test_probe_constant_reward(getkey):
    np.testing.assert_allclose(values(train(ConstantReward(), getkey()), 0.0), [1.0], atol=0.01)


def test_probe_reward_from_observation(getkey):
    np.testing.assert_allclose(values(train(RewardFromObservation(), getkey()), -1.0, 1.0), [-1.0, 1.0], atol=0.02)


def test_probe_delayed_reward(getkey):
    np.testing.assert_allclose(values(train(DelayedReward(), getkey()), 0.0, 1.0), [0.9, 1.0], atol=0.02)


def test_probe_reward_from_action(getkey):
    np.testing.assert_allclose(actions(train(RewardFromAction(), getkey()), 0.0), [0.5], atol=0.02)


def test_probe_reward_from_both(getkey):
    np.testing.assert_allclose(actions(train(RewardFromBoth(), getkey()), -1.0, 1.0), [-0.5, 0.5], atol=0.02)
