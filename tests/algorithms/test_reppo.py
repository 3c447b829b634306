import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gorl import config
from gorl.algorithms import REPPO, AbstractActionCritic, ActionCritic, CategoricalCritic, TwinCritic
from gorl.algorithms.reppo import Batch
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
from gorl.generative.distributions import DiagonalGaussian
from gorl.networks import MLP, AbstractNormalizer, LayerNormMLP, RunningNormalizer
from gorl.objectives.entropy import LatentEntropy, SquashedEntropy
from gorl.optimizers import OptaxCall
from gorl.policies import GaussianPolicy
from gorl.runtime import seeds
from gorl.state import Spaces, Transition
from tests.support.networks import NORMALIZER, mlp
from tests.support.poison import poison

EPISODE_LENGTH = 4
EPISODES = EpisodeRules(EPISODE_LENGTH, True, True)
QUICK = {"xla_backend_optimization_level": 0}  # the programs here take longer to compile than to run
ADAM = OptaxCall(function=optax.adam, numbers={}, options=())
SGD = OptaxCall(function=optax.sgd, numbers={}, options=())
RAW = functools.partial(RunningNormalizer, epsilon=0.0, clip=np.inf)
STD = 0.5  # of a policy whose network gives 0


def network(kind):
    return mlp(16, 1, activation=jnp.tanh, output_scale=0.1, kind=kind)


NETWORK = network(LayerNormMLP)


def gaussian(body=NETWORK, normalizer=NORMALIZER):
    return functools.partial(
        GaussianPolicy, body=body, normalizer=normalizer, min_std=1e-3, max_std=10.0, initial_std=STD
    )


def categorical(squash=True):
    return functools.partial(
        CategoricalCritic, body=network(LayerNormMLP), normalizer=NORMALIZER, squash=squash, v_min=-2.0, v_max=2.0,
        num_bins=41, bin_std=0.75, initial_uniform=1e-3,
    )  # fmt: skip


def reppo(**changes):
    settings = {
        "policy": gaussian(),
        "critic": categorical(),
        "entropy": SquashedEntropy(-1.0),
        "optimizer": ADAM,
        "learning_rate": 5e-3,
        "multiplier_learning_rate": 1e-2,
        "max_grad_norm": np.inf,
        "discount": 0.9,
        "td_lambda": 0.8,
        "reward_scale": 1.0,
        "kl_bound": 0.1,
        "initial_temperature": 0.1,
        "initial_penalty": 0.2,
        "num_envs": 8,
        "unroll_length": 6,
        "num_minibatches": 2,
        "num_epochs": 2,
        "action_samples": 1,
    }
    return REPPO(**{**settings, **changes})


def squashed(env):
    return SquashedEnvironment(env, np.asarray(3.0, np.float32))


@functools.partial(eqx.filter_jit, compiler_options=QUICK)
def iterate(algorithm, env, state, key):
    return algorithm.iterate(env, state, EPISODES, key=key)


@functools.partial(eqx.filter_jit, compiler_options=QUICK)
def step(algorithm, learner, rows, key):
    return algorithm.minibatch_step(learner, rows, key)


def begin(algorithm, env, key):
    make_key, start_key = jax.random.split(key)
    return algorithm.start(env, algorithm.create(env.inner.spaces(), key=make_key), EPISODES, key=start_key)


# ---- one update, by hand ----


class Line(eqx.Module):
    """W x, so that every number below can be followed with a pencil."""

    weight: jax.Array

    def __call__(self, x):
        return self.weight @ x


class Parabola(AbstractActionCritic):
    """Q(s, a) = -(a - 2)² + height."""

    normalizer: AbstractNormalizer
    height: jax.Array

    def __init__(self, obs_size, action_size, *, key):
        del action_size, key
        self.normalizer, self.height = RAW(obs_size), jnp.zeros(1)

    def __call__(self, obs, action):
        return self.height - (action - 2.0) ** 2


def by_hand(critic=Parabola, mean=0.0, raw=0.0, **changes):
    """(algorithm, learner): at s = 1 the policy's mean is `mean` and its network's other output `raw`."""
    algorithm = reppo(
        policy=gaussian(lambda i, o, *, key: Line(jnp.zeros((o, i))), RAW),
        **{"critic": critic, "entropy": LatentEntropy(0.7), "optimizer": SGD, "learning_rate": 0.1,
           "multiplier_learning_rate": 0.1, "action_samples": 3, **changes},
    )  # fmt: skip
    learner = algorithm.create(Spaces(1, 1, 1), key=jax.random.key(0))
    return algorithm, eqx.tree_at(lambda m: m.policy.body.weight, learner, jnp.array([[mean], [raw]]))


def rows(old_mean=0.0, old_std=STD, **changes):
    """Five steps at s = 1 with a = 2 and target 3, by a policy N(old_mean, old_std²)."""
    column = lambda x: jnp.broadcast_to(jnp.asarray(x, jnp.float32), (5,))[:, None]
    settings = {
        "obs": column(1.0),
        "critic_obs": column(1.0),
        "action": column(2.0),
        "target": jnp.full(5, 3.0),
        "old": jax.vmap(DiagonalGaussian)(column(old_mean), column(old_std)),
        "valid": jnp.ones(5, bool),
    }
    return Batch(**{**settings, **changes})


def draws(key, samples=3):
    """[5, K]: the standard normal numbers behind an update's samples."""
    one = lambda k: jax.vmap(lambda k: jax.random.normal(k, (1,)))(jax.random.split(k, samples))[:, 0]
    return np.asarray(jax.vmap(one)(jax.random.split(key, 5)), np.float64)


def softplus_slope(std):
    """d std / d raw at this standard deviation."""
    return 1.0 - np.exp(-(std - 1e-3))


def test_the_policy_climbs_q_along_its_samples(getkey):
    """Of temperature log pi - Q at a = m + s e: d/dm = 2 (m + s e - 2), d/ds = 2 e (m + s e - 2) - temperature / s."""
    algorithm, learner = by_hand(kl_bound=1e3)
    key = getkey()
    after, metrics = step(algorithm, learner, rows(), key)
    noise = draws(key)
    away = STD * noise - 2.0
    slope_mean, slope_std = np.mean(2 * away), np.mean(2 * noise * away) - 0.1 / STD
    moved = np.asarray(after.policy.body.weight - learner.policy.body.weight)[:, 0]
    np.testing.assert_allclose(moved, [-0.1 * slope_mean, -0.1 * slope_std * softplus_slope(STD)], rtol=1e-3)
    log_prob = -0.5 * noise**2 - np.log(STD) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(metrics["loss/policy"], np.mean(0.1 * log_prob + away**2), rtol=1e-4)
    np.testing.assert_allclose(metrics["entropy"], -np.mean(log_prob), rtol=1e-4)
    assert metrics["clip_fraction"] == 0.0


def test_with_many_samples_the_gradient_is_that_of_the_mean(getkey):
    """E[(m + s e - 2)²] = (m - 2)² + s²: the mean moves by 0.1 · 2 (2 - m), the std by 0.1 (temperature / s - 2 s)."""
    algorithm, learner = by_hand(mean=0.5, kl_bound=1e3, action_samples=20_000)
    after, _ = step(algorithm, learner, rows(old_mean=0.5), getkey())
    moved = np.asarray(after.policy.body.weight - learner.policy.body.weight)[:, 0]
    expected = [0.3, 0.1 * (0.1 / STD - 2 * STD) * softplus_slope(STD)]
    np.testing.assert_allclose(moved, expected, atol=2e-3)  # two standard errors of the second one


def test_beyond_the_bound_only_the_divergence_counts(getkey):
    """KL(N(m', s'²) || N(m, s²)): d/dm = (m - m') / s², d/ds = 1 / s - (s'² + (m - m')²) / s³, each times the penalty.

    Two of five rows are within the bound; Q's slope reaches the mean through these alone.
    """
    algorithm, learner = by_hand()
    far = np.array([1.0, -1.0, 2.0, 0.0, 0.0])
    key = getkey()
    after, metrics = step(algorithm, learner, rows(old_mean=far, old_std=0.4), key)
    noise = draws(key)[3:]
    away = STD * noise - 2.0
    kl = np.log(STD / 0.4) + (0.16 + far**2) / (2 * STD**2) - 0.5
    assert np.all((kl > 0.1) == (far != 0))
    of_mean, of_std = -far[:3] / STD**2, 1 / STD - (0.16 + far[:3] ** 2) / STD**3
    slope_mean = (np.sum(0.2 * of_mean) + np.sum(np.mean(2 * away, axis=1))) / 5
    slope_std = (np.sum(0.2 * of_std) + np.sum(np.mean(2 * noise * away, axis=1) - 0.1 / STD)) / 5
    moved = np.asarray(after.policy.body.weight - learner.policy.body.weight)[:, 0]
    np.testing.assert_allclose(moved, [-0.1 * slope_mean, -0.1 * slope_std * softplus_slope(STD)], rtol=1e-3)
    np.testing.assert_allclose(metrics["kl"], np.mean(kl), rtol=1e-5)
    np.testing.assert_allclose(metrics["clip_fraction"], 0.6)


def test_beyond_the_bound_everywhere_q_does_not_matter(getkey):
    algorithm, learner = by_hand()
    higher = eqx.tree_at(lambda m: m.critic.height, learner, jnp.ones(1) * 50.0)
    far, key = rows(old_mean=1.0), getkey()
    ours, metrics = step(algorithm, learner, far, key)
    np.testing.assert_allclose(ours.policy.body.weight[0, 0], 0.1 * 0.2 * 1.0 / STD**2, rtol=1e-4)
    np.testing.assert_allclose(metrics["loss/policy"], 0.2 * 1.0 / (2 * STD**2), rtol=1e-5)
    assert eqx.tree_equal(step(algorithm, higher, far, key)[0].policy, ours.policy)


@pytest.mark.parametrize("std, sign", [(2.0, -1), (0.1, 1)])
def test_the_temperature_falls_where_entropy_exceeds_its_target(getkey, std, sign):
    """d/dlog(alpha) = alpha (entropy - target); one step of SGD at rate 0.1 from alpha = 0.1."""
    raw = np.log(np.expm1(std - 1e-3)) - np.log(np.expm1(STD - 1e-3))
    algorithm, learner = by_hand(raw=raw)
    key = getkey()
    after, _ = step(algorithm, learner, rows(old_std=std), key)
    entropy = np.mean(0.5 * draws(key) ** 2) + np.log(std) + 0.5 * np.log(2 * np.pi)
    target = 0.5 * np.log(2 * np.pi * np.e) + np.log(0.7)
    moved = float(after.log_temperature - learner.log_temperature)
    np.testing.assert_allclose(moved, -0.1 * 0.1 * (entropy - target), rtol=1e-3)
    assert np.sign(moved) == sign


@pytest.mark.parametrize("old_mean, sign", [(1.0, 1), (0.01, -1)])
def test_the_penalty_rises_where_the_divergence_exceeds_its_bound(getkey, old_mean, sign):
    """d/dlog(beta) = beta (bound - KL), from beta = 0.2."""
    algorithm, learner = by_hand()
    after, _ = step(algorithm, learner, rows(old_mean=old_mean), getkey())
    moved = float(after.log_penalty - learner.log_penalty)
    np.testing.assert_allclose(moved, -0.1 * 0.2 * (0.1 - old_mean**2 / (2 * STD**2)), rtol=1e-4)
    assert np.sign(moved) == sign


@pytest.mark.parametrize("kind", [ActionCritic, TwinCritic], ids=lambda x: x.__name__)
def test_the_critic_regresses_on_its_targets(getkey, kind):
    """Q = w · (s, a) from w = 0 toward 3 at (1, 2): the error's gradient is -3 (1, 2), of every estimate."""
    line = lambda i, o, *, key: Line(jnp.zeros((o, i)))
    algorithm, learner = by_hand(functools.partial(kind, body=line, normalizer=RAW, squash=False))
    invalid = rows(valid=jnp.ones(5, bool).at[4].set(False), target=jnp.full(5, 3.0).at[4].set(jnp.nan))
    after, metrics = step(algorithm, learner, invalid, getkey())
    weight = (after.critic.bodies if kind is TwinCritic else after.critic.body).weight
    np.testing.assert_allclose(weight, np.broadcast_to([0.3, 0.6], weight.shape), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/critic"], 4.5 * (2 if kind is TwinCritic else 1), rtol=1e-6)
    assert metrics["q"] == 0.0


@pytest.mark.parametrize(
    "changes",
    [{"target": jnp.full(5, 3.0).at[2].set(jnp.nan)}, {"valid": jnp.zeros(5, bool)}, {"target": jnp.full(5, 1e25)}],
    ids=["a target that is NaN", "no valid step", "a loss that overflows"],
)
def test_an_update_that_cannot_be_is_skipped_and_counted(getkey, changes):
    algorithm, learner = by_hand()
    after, metrics = step(algorithm, learner, rows(**changes), getkey())
    assert metrics["updates_skipped"] == 1.0 and metrics["loss/critic"] == 0.0
    assert eqx.tree_equal(after, learner)
    after, metrics = step(algorithm, learner, rows(), getkey())
    assert metrics["updates_skipped"] == 0.0 and not eqx.tree_equal(after.critic, learner.critic)


def test_a_state_is_valued_at_the_mode():
    _, learner = by_hand(mean=4.0)
    np.testing.assert_allclose(learner.value(jnp.array([9.0]), jnp.array([0.5])), 0.0)  # the mode is 2
    np.testing.assert_allclose(learner.value(jnp.array([9.0]), jnp.array([1.0])), -4.0)


def test_the_soft_value_is_that_of_the_samples(getkey):
    algorithm, learner = by_hand(action_samples=4)
    key = getkey()
    found = algorithm.soft_value(learner, jnp.ones(1), jnp.ones(1), key)
    noise = np.array([jax.random.normal(k, (1,))[0] for k in jax.random.split(key, 4)], np.float64)
    log_prob = -0.5 * noise**2 - np.log(STD) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(found, np.mean(-((STD * noise - 2.0) ** 2) - 0.1 * log_prob), rtol=1e-5)


# ---- a whole iteration ----


class Walk(AbstractToy):
    """x <- x + a / 2 within 0.6 of the origin, beyond which it terminates. The reward is x."""

    def first(self, key):
        return jax.random.uniform(key, (1,), minval=-0.5, maxval=0.5)

    def move(self, obs, clock, action):
        new = obs + 0.5 * action
        return new, new[0], jnp.abs(new[0]) > 0.6


def test_targets_follow_each_lanes_episodes(getkey):
    """With Q(s, a) = 7 s and next to no temperature, V(s') = 7 s'. Episodes end in both ways within the rollout."""
    line = lambda i, o, *, key: Line(jnp.array([[7.0, 0.0]]))
    critic = functools.partial(ActionCritic, body=line, normalizer=RAW, squash=False)
    algorithm = reppo(critic=critic, policy=gaussian(normalizer=RAW), reward_scale=2.0, initial_temperature=1e-9)
    env = squashed(Walk())
    state = begin(algorithm, env, getkey())
    rolled = eqx.filter_jit(lambda s, k: algorithm.rollout(env, s, EPISODES, key=k), compiler_options=QUICK)
    _, moves, batch = rolled(state, getkey())
    moves, target = jax.tree.map(np.asarray, (moves, batch.target.reshape(6, 8)))
    expected = np.zeros((6, 8))
    for t in reversed(range(6)):
        value = 7.0 * moves.next_critic_obs[t, :, 0]
        later = expected[t + 1] if t < 5 else value
        mixed = np.where(moves.truncated[t] | (t == 5), value, 0.2 * value + 0.8 * later)
        expected[t] = 2.0 * moves.reward[t] + 0.9 * np.where(moves.terminated[t], 0.0, mixed)
    assert moves.terminated[:-1].any() and moves.truncated[:-1].any()
    np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-4)
    old = jax.vmap(state.learner.policy.distribution)(batch.obs)
    np.testing.assert_allclose(batch.old.mean, old.mean, atol=1e-6)
    np.testing.assert_allclose(batch.old.std, old.std, rtol=1e-5)


def test_the_entropy_of_later_steps_is_in_the_targets(getkey):
    """At lambda = 1, of three steps: y0 = r0 + 0.9 (r1 + b1) + 0.81 (r2 + b2) + 0.729 V, b = -temperature log pi."""
    algorithm, learner = by_hand(td_lambda=1.0, initial_temperature=0.5)
    action, reward = np.array([0.3, -1.0, 2.0]), np.array([1.0, 4.0, 3.0])
    column = lambda x: jnp.asarray(x, jnp.float32).reshape(3, 1)
    no, zero = jnp.zeros((3, 1), bool), jnp.zeros((3, 1, 1))
    moves = Transition(
        zero, None, column(action)[..., None], column(action), column(reward), zero, no, no, ~no, no, column(reward)
    )
    old = jax.vmap(jax.vmap(DiagonalGaussian))(zero, jnp.full((3, 1, 1), STD))
    found = algorithm.targets(learner, moves, old, jnp.full((3, 1), 11.0))
    bonus = -0.5 * (-0.5 * (action / STD) ** 2 - np.log(STD) - 0.5 * np.log(2 * np.pi))
    expected = reward[0] + 0.9 * (reward[1] + bonus[1]) + 0.81 * (reward[2] + bonus[2]) + 0.729 * 11.0
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-5)


def test_an_iteration_has_the_same_bits_again_and_trains_on_sound_steps_alone(getkey):
    """48 steps, some of which break: the counts, the statistics, and every number twice."""
    algorithm, env = reppo(), squashed(poison("observation nan", 0.1))
    state, key = begin(algorithm, env, getkey()), getkey()
    one, metrics = iterate(algorithm, env, state, key)
    again, repeated = iterate(algorithm, env, state, key)
    is_array = lambda tree: eqx.filter(tree, eqx.is_inexact_array)
    assert eqx.tree_equal(is_array(one), is_array(again)) and eqx.tree_equal(metrics, repeated)
    assert 0 < metrics["invalid_steps"] < 48 and metrics["updates_skipped"] == 0.0 and metrics["diverged"] == 0.0
    for module in (one.learner.policy, one.learner.critic):
        assert module.normalizer.count == 48 - metrics["invalid_steps"]
    old, new = (is_array((m.policy.body, m.critic.body, m.log_penalty)) for m in (state.learner, one.learner))
    assert all(np.any(a != b) and np.all(np.isfinite(b)) for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new)))
    assert {name for name, x in metrics.items() if x.shape != () or x.dtype != jnp.float32} == set()
    _, lost = iterate(algorithm, squashed(poison("observation nan", 1.0)), state, key)
    assert lost["diverged"] == 1.0 and lost["updates_skipped"] == 4.0


def test_a_checkpoint_takes_the_state():
    """An iteration does not change the types that the template says."""
    experiment = config.build(["gorl_reppo.gin", "parts/debug.gin"], ["Task.environment = @Slider()"]).experiment
    planned = next(experiment.planned_phases())
    template = experiment.template(0, True)
    context = experiment.context(planned, np.zeros(1, np.int32))
    iterated = eqx.filter_eval_shape(
        lambda s: seeds.take_seed(planned.declaration.iterate(context, seeds.add_seed_axis(s), 0)[0]), template
    )
    leaves = lambda tree: [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]
    assert leaves(iterated) == leaves(template) and jax.tree.structure(iterated) == jax.tree.structure(template)


# ---- settings ----


@pytest.mark.parametrize(
    "changes, message",
    [
        *[({name: 0}, rf"REPPO\.{name} = 0: it must be >= 1\.") for name in (
            "num_envs", "unroll_length", "num_minibatches", "num_epochs", "action_samples")],
        *[({name: 1.5}, rf"REPPO\.{name} = 1\.5: it must be in \[0, 1\]") for name in ("discount", "td_lambda")],
        *[({name: 0.0}, rf"REPPO\.{name} = 0\.0: it must be > 0") for name in (
            "kl_bound", "initial_temperature", "initial_penalty")],
        ({"kl_bound": np.inf}, r"REPPO\.kl_bound = inf: it must be finite"),
        ({"num_minibatches": 5}, r"8 x 6 = 48 steps cannot be shared evenly by num_minibatches = 5\. Make num_minib"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ConfigError, match=message):
        reppo(**changes).check(EPISODE_LENGTH)


def test_modules_of_another_kind_are_refused(getkey):
    with pytest.raises(
        ConfigError,
        match=r"REPPO\.policy builds MLP, which is not an AbstractGaussianPolicy\. REPPO moves along samples",
    ):
        reppo(policy=network(MLP)).create(Spaces(1, 1, 1), key=getkey())
    with pytest.raises(ConfigError, match=r"REPPO\.critic builds GaussianPolicy, which is not an AbstractActionCritic"):
        reppo(critic=gaussian()).create(Spaces(1, 1, 1), key=getkey())


# ---- the five probes: each says which part is broken ----


PROBES = (ConstantReward(), RewardFromObservation(), DelayedReward(), RewardFromAction(), RewardFromBoth())


class Probe(AbstractToy):
    """One of the probes by number, so that all five train in one program."""

    number: jax.Array

    def first(self, key):
        return jax.lax.switch(self.number, [p.first for p in PROBES], key)

    def move(self, obs, clock, action):
        return jax.lax.switch(self.number, [p.move for p in PROBES], obs, clock, action)


@pytest.fixture(scope="module")
def trained():
    """probe -> (learner, metrics) after 12,800 steps and 1,600 updates."""
    algorithm = reppo(num_envs=32, unroll_length=8, num_minibatches=4, num_epochs=8, multiplier_learning_rate=2e-2)
    algorithm.check(EPISODE_LENGTH)
    numbers, keys = jnp.arange(5), jax.random.split(jax.random.key(0), 5)
    states = [begin(algorithm, squashed(probe), key) for probe, key in zip(PROBES, keys)]
    state = jax.tree.map(lambda *x: jnp.stack(x), *states)
    run = lambda number, state, key: algorithm.iterate(squashed(Probe(number)), state, EPISODES, key=key)
    run = eqx.filter_jit(jax.vmap(run), compiler_options=QUICK)
    for i in range(50):
        state, metrics = run(numbers, state, jax.vmap(lambda k, i=i: jax.random.fold_in(k, i))(keys))
        assert not np.any(metrics["updates_skipped"])
    pick = lambda tree, i: jax.tree.map(lambda x: x[i], tree)
    return {type(probe): (pick(state.learner, i), pick(metrics, i)) for i, probe in enumerate(PROBES)}


def values(learner, *obs):
    return [float(learner.value(jnp.array([x]), jnp.array([x]))) for x in obs]


def actions(learner, *obs):
    return [float(jnp.tanh(learner.policy.mode(jnp.array([x]), key=jax.random.key(0)))[0]) for x in obs]


def test_probe_constant_reward(trained):
    np.testing.assert_allclose(values(trained[ConstantReward][0], 0.0), [1.0], atol=0.02)


def test_probe_reward_from_observation(trained):
    np.testing.assert_allclose(values(trained[RewardFromObservation][0], -1.0, 1.0), [-1.0, 1.0], atol=0.02)


def test_probe_delayed_reward(trained):
    """V = discount (1 + alpha entropy) at the first step: that of the second one counts too, and is small here."""
    learner, metrics = trained[DelayedReward]
    assert abs(float(metrics["temperature"] * metrics["entropy"])) < 0.02
    np.testing.assert_allclose(values(learner, 0.0, 1.0), [0.9, 1.0], atol=0.03)


def test_probe_reward_from_action(trained):
    learner, _ = trained[RewardFromAction]
    np.testing.assert_allclose(actions(learner, 0.0), [0.5], atol=0.1)
    np.testing.assert_allclose(values(learner, 0.0), [1.0], atol=0.03)


def test_probe_reward_from_both(trained):
    learner, metrics = trained[RewardFromBoth]
    np.testing.assert_allclose(actions(learner, -1.0, 1.0), [-0.5, 0.5], atol=0.1)
    np.testing.assert_allclose(values(learner, -1.0, 1.0), [1.0, 1.0], atol=0.03)
    np.testing.assert_allclose(metrics["entropy"], -1.0, atol=0.15)  # the temperature holds it there
    np.testing.assert_allclose(metrics["kl"], 0.0, atol=0.1)  # and the bound the divergence
