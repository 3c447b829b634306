import functools
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gorl import config
from gorl.algorithms import SAC
from gorl.algorithms.critics import TwinCritic
from gorl.algorithms.replay import Experience
from gorl.decoders import AbstractDecoder
from gorl.environments.task import EpisodeRules
from gorl.environments.toy import (
    AbstractToy,
    ConstantReward,
    DelayedReward,
    RewardFromAction,
    RewardFromBoth,
    RewardFromObservation,
    Slider,
)
from gorl.environments.wrappers import DecodedEnvironment, SquashedEnvironment
from gorl.errors import ConfigError
from gorl.networks import MLP, LayerNormMLP, RunningNormalizer, trainable
from gorl.objectives.entropy import LatentEntropy, SquashedEntropy
from gorl.objectives.regularizers import LatentKL, LatentL2
from gorl.optimizers import OptaxCall
from gorl.policies import GaussianPolicy
from gorl.runs.checkpoint import CheckpointStore
from gorl.runtime import seeds, trees
from gorl.state import Spaces
from tests.support.networks import NORMALIZER, mlp

EPISODE_LENGTH = 4
EPISODES = EpisodeRules(EPISODE_LENGTH, True, True)
QUICK = {"xla_backend_optimization_level": 0}  # the programs here take longer to compile than to run
ADAM = OptaxCall(function=optax.adam, numbers={}, options=())
SGD = OptaxCall(function=optax.sgd, numbers={}, options=())


def network(kind, width=16):
    return mlp(width, 1, activation=jnp.tanh, output_scale=0.1, kind=kind)


def gaussian(body=MLP):
    return functools.partial(
        GaussianPolicy, body=network(body), normalizer=NORMALIZER, min_std=1e-3, max_std=10.0, initial_std=0.5
    )


def sac(**changes):
    settings = {
        "policy": gaussian(),
        "critic": functools.partial(TwinCritic, body=network(LayerNormMLP), normalizer=NORMALIZER, squash=True),
        "entropy": SquashedEntropy(-1.0),
        "regularizers": [],
        "optimizer": ADAM,
        "learning_rate": 5e-3,
        "temperature_learning_rate": 1e-2,
        "max_grad_norm": np.inf,
        "discount": 0.9,
        "reward_scale": 1.0,
        "target_rate": 0.05,
        "initial_temperature": 0.1,
        "num_envs": 8,
        "unroll_length": 10,
        "updates_per_step": 2,
        "batch_size": 32,
        "min_replay": 90,
        "replay_capacity": 100,
    }
    return SAC(**{**settings, **changes})


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


# ---- one update, by hand ----


class Line(eqx.Module):
    """W x, so that every number below can be followed with a pencil."""

    weight: jax.Array

    def __call__(self, x):
        return self.weight @ x


def linear(critic_rows, policy_rows=((0.0,), (0.0,))):
    """(algorithm, learner): Q_i(s, a) = w_i . [s, a] on raw observations and actions; the policy from its two rows."""
    settings = {
        "body": lambda i, o, *, key: Line(jnp.zeros((o, i))),
        "normalizer": functools.partial(RunningNormalizer, epsilon=0.0, clip=np.inf),
    }
    algorithm = sac(
        policy=functools.partial(GaussianPolicy, min_std=1e-3, max_std=10.0, initial_std=0.5, **settings),
        critic=functools.partial(TwinCritic, squash=False, **settings),
        entropy=LatentEntropy(0.7),
        optimizer=SGD,
        initial_temperature=0.5,
        reward_scale=2.0,
        learning_rate=0.1,
        temperature_learning_rate=0.1,
    )
    learner = algorithm.create(Spaces(1, 1, 1), key=jax.random.key(0))
    q, pi = jnp.asarray(critic_rows)[:, None, :], jnp.asarray(policy_rows)
    weights = lambda m: (m.critic.bodies.weight, m.target.bodies.weight, m.policy.body.weight)
    return algorithm, eqx.tree_at(weights, learner, (q, q, pi))


def rows(**changes):
    """Five transitions that all lead from s = 1 to s' = 3 with a = 2 and r = 1."""
    column = lambda x: jnp.full((5, 1), x)
    no, yes = jnp.zeros(5, bool), jnp.ones(5, bool)
    settings = {
        "obs": column(1.0),
        "critic_obs": None,
        "action": column(2.0),
        "reward": jnp.ones(5),
        "next_obs": column(3.0),
        "next_critic_obs": None,
    }
    return Experience(**{**settings, "terminated": no, "valid": yes, **changes})


def draws(key, count=5):
    """The standard normal numbers behind an update's samples: (actions at s, actions at s')."""
    one = lambda k: np.asarray(jax.vmap(lambda k: jax.random.normal(k, (1,)))(jax.random.split(k, count)), np.float64)[
        :, 0
    ]
    return [one(k) for k in jax.random.split(key)]


def test_the_target_bootstraps_unless_terminated_and_invalid_rows_have_no_weight(getkey):
    """The target critic is (5 s', 4 s'), so its minimum is 12, and log pi(a'|s') is that of the loss' own draws."""
    algorithm, learner = linear([[1.0, 0.5], [2.0, 0.0]])
    learner = eqx.tree_at(lambda m: m.target.bodies.weight, learner, jnp.array([[[5.0, 0.0]], [[4.0, 0.0]]]))
    std = 0.5  # body 0: the initial std, whatever s
    q = np.array([1.0 * 1 + 0.5 * 2, 2.0 * 1])  # both 2
    key = getkey()
    _, noise = draws(key)
    log_prob = -0.5 * noise**2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    soft = 12.0 - 0.5 * log_prob
    expected = 2.0 * 1.0 + 0.9 * soft
    expected[1] = 2.0 * 1.0  # terminated
    error = 0.5 * np.sum((q[None] - expected[:, None]) ** 2, axis=1)
    terminated = jnp.zeros(5, bool).at[1].set(True)
    valid = jnp.ones(5, bool).at[4].set(False)
    _, found = update(algorithm, learner, rows(terminated=terminated, valid=valid), key)
    np.testing.assert_allclose(found["loss/critic"], np.mean(error[:4]), rtol=1e-4)
    absurd = rows(terminated=terminated, valid=valid, reward=jnp.ones(5).at[4].set(1e9))
    np.testing.assert_allclose(
        update(algorithm, learner, absurd, key)[1]["loss/critic"], found["loss/critic"], rtol=1e-6
    )


def test_the_policy_climbs_the_smaller_q(getkey):
    """Q = (3 a, 1 a): the minimum's slope is 1 where a > 0 and 3 where a < 0."""
    algorithm, learner = linear([[0.0, 3.0], [0.0, 1.0]])
    for shift, slope in ((100.0, 1.0), (-100.0, 3.0)):
        moved = eqx.tree_at(
            lambda m: m.policy.body.weight, learner, jnp.array([[shift], [0.0]])
        )  # the mean is `shift` at s = 1
        after, metrics = update(algorithm, moved, rows(), getkey())
        np.testing.assert_allclose(after.policy.body.weight[0, 0] - shift, 0.1 * slope, rtol=1e-3)
        smaller = 1.0 if shift > 0 else 3.0
        np.testing.assert_allclose(-metrics["loss/policy"], smaller * shift, rtol=0.05)
    np.testing.assert_allclose(metrics["q"], 2.0, rtol=1e-6)  # of the stored a = 2: min(6, 2)


def test_the_temperature_falls_where_entropy_exceeds_its_target(getkey):
    """d/dlog(alpha) = alpha (entropy - target); one step of SGD at rate 0.1 from alpha = 0.5."""
    for std, sign in ((2.0, -1), (0.1, 1)):
        raw = np.log(np.expm1(std - 1e-3)) - np.log(np.expm1(0.5 - 1e-3))
        algorithm, learner = linear([[0.0, 0.0], [0.0, 0.0]], ((0.0,), (raw,)))
        key = getkey()
        after, metrics = update(algorithm, learner, rows(), key)
        entropy = np.mean(0.5 * draws(key)[0] ** 2) + np.log(std) + 0.5 * np.log(2 * np.pi)
        np.testing.assert_allclose(metrics["entropy"], entropy, atol=1e-4)
        target = 0.5 * np.log(2 * np.pi * np.e) + np.log(0.7)
        moved = float(after.log_temperature - learner.log_temperature)
        np.testing.assert_allclose(moved, -0.1 * 0.5 * (entropy - target), rtol=1e-3)
        assert np.sign(moved) == sign


def test_the_target_network_is_the_average_of_critics(getkey):
    algorithm, learner = linear([[1.0, 0.5], [2.0, 0.0]])
    first = np.asarray(learner.target.bodies.weight, np.float64)
    expected = first
    for _ in range(3):
        learner, _ = update(algorithm, learner, rows(), getkey())
        expected = 0.95 * expected + 0.05 * np.asarray(learner.critic.bodies.weight, np.float64)
        np.testing.assert_allclose(learner.target.bodies.weight, expected, rtol=1e-6)
    assert np.max(np.abs(expected - first)) > 1e-3
    assert jax.tree.leaves(learner.target.normalizer) == []  # the critic's own is used


def test_regularizers_are_costs_of_the_policy(getkey):
    """Alone against Q = 0 and no temperature to speak of: SGD on c KL(N(m, s²) || N(0, 1)) and c L2."""
    for regularizer in (LatentKL(0.3), LatentL2(0.3)):
        algorithm, learner = linear([[0.0, 0.0], [0.0, 0.0]], ((4.0,), (0.0,)))
        algorithm = eqx.tree_at(lambda a: a.regularizers, algorithm, (regularizer,))
        learner = eqx.tree_at(lambda m: m.log_temperature, learner, jnp.asarray(-30.0))
        after, metrics = update(algorithm, learner, rows(), getkey())
        slope = 4.0 if isinstance(regularizer, LatentKL) else 8.0  # d/dm of m²/2, or of m²
        np.testing.assert_allclose(4.0 - after.policy.body.weight[0, 0], 0.1 * 0.3 * slope, rtol=1e-3)
        cost = 0.5 * (0.25 + 16.0 - 1.0 - 2 * np.log(0.5)) if isinstance(regularizer, LatentKL) else 16.0 + 0.25
        np.testing.assert_allclose(metrics[f"cost/{type(regularizer).__name__}"], cost, rtol=1e-4)


def test_a_poisoned_update_is_skipped_and_counted(getkey):
    algorithm, learner = linear([[1.0, 0.5], [2.0, 0.0]])
    after, metrics = update(algorithm, learner, rows(reward=jnp.ones(5).at[2].set(jnp.nan)), getkey())
    assert metrics["updates_skipped"] == 1.0 and metrics["loss/critic"] == 0.0
    assert eqx.tree_equal(after, learner)
    after, metrics = update(algorithm, learner, rows(), getkey())
    assert metrics["updates_skipped"] == 0.0
    assert not eqx.tree_equal(after.critic, learner.critic) and not eqx.tree_equal(after.policy, learner.policy)


def test_an_update_whose_gradient_is_finite_but_not_its_square_is_skipped(getkey):
    """Losses of 1e30 and gradients of 1e25: the norm that would scale them is infinite."""
    algorithm, learner = linear([[1.0, 0.5], [2.0, 0.0]])
    after, metrics = update(algorithm, learner, rows(obs=jnp.full((5, 1), 1e10), reward=jnp.full(5, 1e15)), getkey())
    assert metrics["updates_skipped"] == 1.0
    assert eqx.tree_equal(after, learner)


def test_nothing_but_invalid_rows_moves_nothing(getkey):
    algorithm, learner = linear([[1.0, 0.5], [2.0, 0.0]])
    after, metrics = update(algorithm, learner, rows(valid=jnp.zeros(5, bool), reward=jnp.full(5, 1e9)), getkey())
    assert metrics["updates_skipped"] == 1.0
    assert eqx.tree_equal(after, learner)


def test_a_state_is_valued_at_the_smaller_q_of_the_mode():
    _, learner = linear([[1.0, 3.0], [2.0, 0.5]], ((4.0,), (0.0,)))
    # s = 2 for the critic, s = 0.5 for the policy: the mode is 2.
    np.testing.assert_allclose(learner.value(jnp.array([2.0]), jnp.array([0.5])), min(2.0 + 6.0, 4.0 + 1.0), rtol=1e-6)


def test_a_critic_squashes_actions_where_told(getkey):
    key, obs = getkey(), jnp.ones(1)
    make = lambda squash: TwinCritic(1, 1, body=network(LayerNormMLP), normalizer=NORMALIZER, squash=squash, key=key)
    critic, as_it_is = make(True), make(False)
    np.testing.assert_allclose(critic(obs, jnp.array([30.0])), critic(obs, jnp.array([50.0])))
    np.testing.assert_allclose(as_it_is(obs, jnp.tanh(jnp.array([0.7]))), critic(obs, jnp.array([0.7])), rtol=1e-6)
    assert not np.allclose(as_it_is(obs, jnp.array([0.7])), critic(obs, jnp.array([0.7])))
    first, second = critic(obs, jnp.zeros(1))
    assert first != second  # drawn apart


# ---- a whole iteration ----


def test_warm_up_wrap_around_and_shapes(getkey):
    """8 lanes x 10 steps: the 90th transition comes with the 12th step, and the 100 places are full after the 13th."""
    algorithm, env = sac(), squashed(Slider())
    state = begin(algorithm, env, getkey())
    assert algorithm.env_steps_per_iteration == 80
    first, metrics = iterate(algorithm, env, state, getkey())
    assert (
        metrics["updates"] == 0
        and metrics["replay_size"] == 80
        and metrics["updates_skipped"] == 0
        and np.isnan(metrics["loss/critic"])
    )
    trained = lambda m: (
        eqx.filter((m.policy, m.critic), trainable((m.policy, m.critic))),
        m.log_temperature,
        m.target,
        m.optimizer,
    )
    assert eqx.tree_equal(trained(first.learner), trained(state.learner))
    assert first.learner.policy.normalizer.count == 80 == first.learner.critic.normalizer.count
    second, metrics = iterate(algorithm, env, first, getkey())
    assert metrics["updates"] == 2 * 9 and metrics["replay_size"] == 100 and metrics["updates_skipped"] == 0
    for new, old in zip(
        *(
            jax.tree.leaves(eqx.filter((m.policy, m.critic), trainable((m.policy, m.critic))))
            for m in (second.learner, first.learner)
        )
    ):
        assert np.any(new != old)
    assert second.learner.policy.normalizer.count == 160
    old, new = first.replay.experience.obs[0], second.replay.experience.obs[0]
    assert new.shape == (100, 2) and second.replay.current_index == 60
    np.testing.assert_array_equal(new[60:80], old[60:80])  # not yet overwritten
    assert np.all(np.any(np.asarray(new[:60] != old[:60]), axis=1)) and np.all(
        np.any(np.asarray(new[80:]) != 0, axis=1)
    )
    assert all(x.shape == () and x.dtype == jnp.float32 for x in metrics.values())
    shape = lambda tree: jax.tree.map(
        lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False)), eqx.filter(tree, eqx.is_array)
    )
    assert shape(second) == shape(first)


def test_the_replay_holds_the_steps_that_were_taken(getkey):
    """x'' = a with dt = 0.1 in every row, rewards from the next x, and the observation before any reset."""
    algorithm, env = sac(), squashed(Slider())
    state, _ = iterate(algorithm, env, begin(algorithm, env, getkey()), getkey())
    stored = jax.tree.map(lambda x: np.asarray(x)[0, :80], state.replay.experience)
    speed = np.clip(stored.obs[:, 1] + 0.1 * np.tanh(np.clip(stored.action[:, 0], -3, 3)), -2, 2)
    place = np.clip(stored.obs[:, 0] + 0.1 * speed, -2, 2)
    np.testing.assert_allclose(stored.next_obs, np.stack([place, speed], axis=1), atol=1e-6)
    np.testing.assert_allclose(stored.reward, 1 - np.minimum(place**2, 1), atol=1e-6)
    assert np.all(stored.valid) and not np.any(stored.terminated)  # a time limit does not terminate


class Shift(AbstractDecoder):
    """u = latent + 1."""

    latent_size = 1

    def __init__(self, obs_size, action_size, *, key):
        pass

    def __call__(self, obs, latent):
        return latent + 1.0

    def loss(self, obs, action, latent, *, key):
        raise NotImplementedError

    def observe(self, obs, weight):
        return self


def test_a_decoder_swap_begins_with_an_empty_buffer(getkey):
    """The same latent is another action under another decoder: `start` keeps the learner and drops what was stored."""

    algorithm, env = sac(), squashed(Slider())
    state, _ = iterate(algorithm, env, begin(algorithm, env, getkey()), getkey())
    assert state.replay.current_index == 80
    decoded = DecodedEnvironment(env, Shift(1, 1, key=getkey()))
    again = algorithm.start(decoded, state.learner, EPISODES, key=getkey())
    assert again.replay.current_index == 0 and not again.replay.is_full and not np.any(again.replay.experience.obs)
    assert eqx.tree_equal(again.learner, state.learner)
    refilled, metrics = iterate(algorithm, decoded, again, getkey())
    assert metrics["replay_size"] == 80 and metrics["updates"] == 0  # it waits once more
    stored = jax.tree.map(lambda x: np.asarray(x)[0, :80], refilled.replay.experience)
    speed = np.clip(stored.obs[:, 1] + 0.1 * np.tanh(np.clip(stored.action[:, 0] + 1.0, -3, 3)), -2, 2)
    np.testing.assert_allclose(stored.next_obs[:, 1], speed, atol=1e-6)  # under the new decoder, every one


def test_seeds_side_by_side_are_as_alone(getkey):
    algorithm, env = sac(), squashed(Slider())
    states = [iterate(algorithm, env, begin(algorithm, env, getkey()), getkey())[0] for _ in range(2)]
    keys = jnp.stack([getkey(), getkey()])
    alone = [iterate(algorithm, env, s, k) for s, k in zip(states, keys)]
    stack = lambda *trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)
    both = eqx.filter_jit(jax.vmap(lambda s, k: algorithm.iterate(env, s, EPISODES, key=k)), compiler_options=QUICK)(
        stack(*states), keys
    )
    np.testing.assert_array_equal(both[1]["updates"], [18, 18])
    for found, expected in zip(jax.tree.leaves(both), jax.tree.leaves(stack(*alone))):
        if not jnp.issubdtype(found.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert not np.allclose(both[0].learner.log_temperature[0], both[0].learner.log_temperature[1], atol=1e-7)


def test_a_checkpoint_takes_the_state(tmp_path):
    """An iteration does not change the types that the template says, and what is stored comes back."""
    experiment = config.build(["gorl_sac.gin", "parts/debug.gin"], ["Task.environment = @Slider()"]).experiment
    step = next(experiment.planned_phases())
    template = experiment.template(0, True)
    context = experiment.context(step, np.zeros(1, np.int32))
    iterated = eqx.filter_eval_shape(
        lambda s: seeds.take_seed(step.declaration.iterate(context, seeds.add_seed_axis(s), 0)[0]), template
    )
    leaves = lambda tree: [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]
    assert leaves(iterated) == leaves(template) and jax.tree.structure(iterated) == jax.tree.structure(template)
    count = iter(range(10**6))
    fill = lambda x: x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else jnp.full(x.shape, next(count), x.dtype)
    state = jax.tree.map(fill, trees.zeros(template))
    store = CheckpointStore(tmp_path)
    store.save(1, seeds.add_seed_axis(state), {}, row=0)
    restored = store.restore(1, template)
    store.close()
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert restored.training.replay.experience.obs.shape == (1, 320, 2)
    assert eqx.tree_equal(restored.training.replay, state.training.replay) and eqx.tree_equal(
        restored.training.learner, state.training.learner
    )


# ---- settings ----


@pytest.mark.parametrize(
    "name", ["num_envs", "unroll_length", "updates_per_step", "batch_size", "min_replay", "replay_capacity"]
)
def test_sizes_must_be_positive(name):
    with pytest.raises(ConfigError, match=rf"SAC\.{name} = 0: it must be >= 1\."):
        sac(**{name: 0}).check(EPISODE_LENGTH)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch_size": 101}, r"SAC\.batch_size = 101 transitions do not fit in SAC\.replay_capacity = 100"),
        ({"min_replay": 101}, r"SAC\.min_replay = 101 transitions do not fit"),
        ({"num_envs": 101}, r"SAC\.num_envs = 101 transitions do not fit"),
        ({"replay_capacity": 2**31}, r"at least 44 GiB of memory for each seed"),
        ({"discount": 1.5}, r"SAC\.discount = 1\.5: it must be in \[0, 1\]"),
        ({"target_rate": 0.0}, r"SAC\.target_rate = 0\.0: it must be in \(0, 1\]"),
        ({"initial_temperature": 0.0}, r"SAC\.initial_temperature = 0\.0: it must be > 0"),
    ],
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ConfigError, match=message):
        sac(**changes).check(EPISODE_LENGTH)


def test_a_policy_without_a_density_is_refused(getkey):
    with pytest.raises(
        ConfigError,
        match=r"SAC\.policy builds MLP, which is not an AbstractGaussianPolicy\. "
        r"SAC moves along samples and needs their density",
    ):
        sac(policy=network(MLP)).create(Spaces(1, 1, 1), key=getkey())
    with pytest.raises(ConfigError, match=r"SAC\.critic builds GaussianPolicy, which is not an AbstractActionCritic"):
        sac(critic=gaussian()).create(Spaces(1, 1, 1), key=getkey())


def test_without_flashbax_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "flashbax", None)
    with pytest.raises(ConfigError, match="needs the package flashbax.*pip install flashbax"):
        sac().check(EPISODE_LENGTH)


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
    algorithm = sac(num_envs=16, unroll_length=100, batch_size=64, min_replay=64, replay_capacity=4096)
    algorithm.check(EPISODE_LENGTH)
    numbers, keys = jnp.arange(5), jax.random.split(jax.random.key(0), 5)
    states = [begin(algorithm, squashed(probe), key) for probe, key in zip(PROBES, keys)]
    state = jax.tree.map(lambda *x: jnp.stack(x), *states)
    run = lambda number, state, key: algorithm.iterate(squashed(Probe(number)), state, EPISODES, key=key)
    run = eqx.filter_jit(jax.vmap(run), compiler_options=QUICK)
    for i in range(8):
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
    assert abs(float(metrics["temperature"] * metrics["entropy"])) < 0.01
    np.testing.assert_allclose(values(learner, 0.0, 1.0), [0.9, 1.0], atol=0.02)


def test_probe_reward_from_action(trained):
    learner, _ = trained[RewardFromAction]
    np.testing.assert_allclose(actions(learner, 0.0), [0.5], atol=0.1)
    np.testing.assert_allclose(values(learner, 0.0), [1.0], atol=0.03)


def test_probe_reward_from_both(trained):
    learner, metrics = trained[RewardFromBoth]
    np.testing.assert_allclose(actions(learner, -1.0, 1.0), [-0.5, 0.5], atol=0.1)
    np.testing.assert_allclose(values(learner, -1.0, 1.0), [1.0, 1.0], atol=0.03)
    np.testing.assert_allclose(metrics["entropy"], -1.0, atol=0.15)  # the temperature holds it there
