"""Numbers that are not finite: what they reach (a count) and what they do not (everything else)."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gorl import config
from gorl.acting.agent import Agent
from gorl.acting.episodes import run_episodes
from gorl.acting.evaluator import episode_statistics
from gorl.acting.lanes import LaneEnvironment
from gorl.acting.rollout import act, episode_metrics
from gorl.algorithms.on_policy import Batch
from gorl.decoders import IdentityDecoder
from gorl.environments.task import Task
from gorl.environments.toy import Slider
from gorl.environments.wrappers import SquashedEnvironment
from gorl.fields import as_float32
from gorl.optimizers import OptaxCall
from gorl.phases import PhaseContext
from gorl.phases.collect_rollouts import collect
from gorl.phases.latents import PriorLatents
from gorl.runtime import seeds, trees
from gorl.state import Dataset, RunState, Spaces, Transition
from tests.support.poison import KINDS, poison

BOUND = as_float32(3.0)
pytestmark = pytest.mark.usefixtures("quick_compiles")
LENGTH = 12  # of an episode, in training: lanes come to its end in between
SMALL = ["policy/MLP.depth = 1", "EPISODE_LENGTH = 12"]
FILES = {"PPO": "ppo.gin", "FPO": "fpo.gin", "DPPO": "dppo.gin", "SAC": "sac.gin"}
ADAM = OptaxCall(function=optax.adam, numbers={}, options=())


@functools.cache
def experiment(method):
    return config.build([FILES[method], "parts/debug.gin"], SMALL).experiment


@functools.cache
def algorithm_of(method):
    """As its file declares it, with Adam: after one update its first moment is a tenth of the gradient."""
    algorithm = experiment(method).stages[0].phases[0].algorithm
    return dataclasses.replace(algorithm, optimizer=ADAM, max_grad_norm=as_float32(np.inf))


def squashed(env):
    return SquashedEnvironment(env, BOUND)


def rules(method):
    return experiment(method).task.episodes


@functools.cache
def learner_of(method):
    return eqx.filter_jit(lambda key: algorithm_of(method).create(Spaces(2, 3, 1), key=key))(jax.random.key(0))


@functools.cache
def begin(method):
    """What an iteration begins with: the same in every environment, since no lane has begun."""
    return trees.unshare_buffers(
        algorithm_of(method).start(squashed(poison()), learner_of(method), rules(method), key=jax.random.key(1))
    )


@eqx.filter_jit
def iterate(algorithm, env, state, episodes, key):
    return algorithm.iterate(squashed(env), state, episodes, key=key)


@eqx.filter_jit
def roll(algorithm, lane, learner, lanes, keys):
    """The first half of an iteration, seen from outside.

    Its results are ([T, B] transitions, whether the environment broke at them, the rows of a minibatch of all).
    """

    def step(lanes, key):
        lanes, move, after = act(lane, learner.policy, lanes, key)
        return lanes, (move, after.sim[-1])

    _, (moves, broken) = jax.lax.scan(step, lanes, keys)
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), algorithm.sequences(moves, learner.critic))
    return moves, broken, rows


@eqx.filter_jit
def on_policy_step(algorithm, learner, rows):
    one_step_each = jax.tree.map(lambda x: x[:, None], rows)  # [sequences, 1]
    return algorithm.minibatch_step(learner, one_step_each, jax.random.key(5))


@functools.cache
def broken_rollout(method, kind):
    """(algorithm, learner, transitions, broken, rows of a minibatch of all of them)."""
    algorithm, env = algorithm_of(method), poison(kind)
    state = begin(method)
    keys = jax.random.split(jax.random.split(jax.random.key(2))[0], 30)
    moves, broken, rows = roll(
        algorithm, LaneEnvironment(squashed(env), 8, rules(method)), state.learner, state.lanes, keys
    )
    return algorithm, state.learner, moves, np.asarray(broken), rows


def arrays_of(tree):
    return [np.asarray(x) for x in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))]


def assert_same_bits(one, other):
    for a, b in zip(arrays_of(one), arrays_of(other), strict=True):
        np.testing.assert_array_equal(a, b)


def garbled(tree, valid):
    """With NaN in every number of a row that is not valid."""
    bad = lambda x: jnp.where(valid.reshape(valid.shape + (1,) * (x.ndim - valid.ndim)), x, jnp.nan)
    return jax.tree.map(lambda x: bad(x) if eqx.is_inexact_array(x) else x, tree)


# ---- lanes ----


@pytest.mark.parametrize("kind", KINDS)
def test_broken_steps_are_counted_and_are_no_ones_return(kind):
    _, _, moves, broken, _ = broken_rollout("PPO", kind)
    assert 4 < broken.sum() < 30
    np.testing.assert_array_equal(moves.valid, ~broken)
    metrics = episode_metrics(moves)
    assert float(metrics["invalid_steps"]) == broken.sum()
    assert all(np.isfinite(x).all() and np.abs(x).max() < 1e3 for x in arrays_of(moves))
    # An episode counts where it is whole: LENGTH sound steps after a reset. The clock starts anew after a broken step.
    ended, returns, (rewards, finished) = 0, [], (np.asarray(moves.reward), np.asarray(moves.finished))
    for lane in range(8):
        clock, total, whole = lane * LENGTH // 8, 0.0, lane == 0
        for t in range(30):
            clock, total = clock + 1, total + rewards[t, lane]
            if broken[t, lane]:
                clock, total, whole = 0, 0.0, True
            elif clock == LENGTH:
                assert finished[t, lane] == whole and moves.truncated[t, lane]
                returns += [total] if whole else []
                ended, clock, total, whole = ended + 1, 0, 0.0, True
            else:
                assert not finished[t, lane] and not moves.truncated[t, lane]
    assert float(metrics["episodes"]) == len(returns) >= 3 and ended > len(returns)
    np.testing.assert_allclose(metrics["return"], np.mean(returns), rtol=1e-5)


def test_an_action_that_is_not_finite_is_no_step_to_learn_from():
    """Also where the environment does not show it."""
    env = SquashedEnvironment(poison(rate=0.0), BOUND)
    lane = LaneEnvironment(env, 3, rules("PPO"))
    step = eqx.filter_jit(lambda lanes, action: lane.step(lane.refresh(lanes), action)[1].valid)
    valid = step(lane.start(jax.random.key(0)), jnp.array([[0.5], [jnp.inf], [0.5]]))  # clipped, it is a fine action
    np.testing.assert_array_equal(valid, [True, False, True])


# ---- on-policy updates ----


def rows_of_a_rollout():
    algorithm, learner, _, broken, rows = broken_rollout("PPO", "observation huge")
    assert (~rows.transition.valid).sum() == broken.sum()
    return algorithm, learner, rows


def rows_by_hand():
    """40 steps of a policy without a density, every fifth of which broke."""
    algorithm, learner = algorithm_of("FPO"), learner_of("FPO")
    draw = lambda i, *shape: jax.random.normal(jax.random.key(i), (40, *shape))
    sample = eqx.filter_jit(jax.vmap(lambda o, k: learner.policy.sample(o, key=k)))
    action, extras = sample(draw(1, 2), jax.random.split(jax.random.key(2), 40))
    no, valid = jnp.zeros(40, bool), jnp.arange(40) % 5 != 3
    moves = Transition(draw(1, 2), draw(3, 3), action, extras, draw(4), draw(5, 3), no, no, valid, no, draw(6))
    return algorithm, learner, Batch(moves, draw(7), draw(8))


def test_an_update_is_that_of_the_sound_steps_alone():
    algorithm, learner, rows = rows_of_a_rollout()
    rows = jax.tree.map(
        lambda x: x[jnp.argsort(~rows.transition.valid, stable=True)], rows
    )  # the sound ones first: with the same noise
    count = int(rows.transition.valid.sum())
    ours, metrics = on_policy_step(algorithm, learner, rows)
    alone, expected = on_policy_step(algorithm, learner, jax.tree.map(lambda x: x[:count], rows))
    assert float(metrics["updates_skipped"]) == 0.0
    for a, b in zip(arrays_of(ours.optimizer), arrays_of(alone.optimizer), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-7)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("made", [rows_of_a_rollout, rows_by_hand], ids=["PPO", "FPO"])
def test_numbers_of_broken_steps_reach_no_update(made):
    algorithm, learner, rows = made()
    valid = rows.transition.valid
    ours, metrics = on_policy_step(algorithm, learner, rows)
    assert float(metrics["updates_skipped"]) == 0.0 and all(np.any(a) for a in arrays_of(ours.optimizer))
    same, numbers = on_policy_step(
        algorithm, learner, eqx.tree_at(lambda r: r.transition.valid, garbled(rows, valid), valid)
    )
    assert_same_bits((same, numbers), (ours, metrics))


@pytest.mark.parametrize("kind", ["observation nan", "privileged inf", "reward nan", "physics huge", "careless nan"])
def test_an_iteration_counts_broken_steps_and_learns_from_the_others(kind):
    algorithm, learner, moves, broken, _ = broken_rollout("PPO", kind)
    state, metrics = iterate(algorithm, poison(kind), begin("PPO"), rules("PPO"), jax.random.key(2))
    assert float(metrics["invalid_steps"]) == broken.sum()
    assert float(metrics["updates_skipped"]) == 0.0 and float(metrics["diverged"]) == 0.0
    assert all(
        np.isfinite(x).all() for x in arrays_of((state.learner, state.lanes.env.obs, state.lanes.episode_return))
    )
    after = state.learner
    assert all(
        np.any(a != b) for a, b in zip(arrays_of(after.critic.body), arrays_of(learner.critic.body), strict=True)
    )
    for normalizer, seen in ((after.policy.normalizer, moves.obs), (after.critic.normalizer, moves.critic_obs)):
        sound = np.asarray(seen, np.float64)[~broken]
        assert float(normalizer.count) == len(sound) == 240 - broken.sum()
        np.testing.assert_allclose(normalizer.mean, sound.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(normalizer.variance, sound.var(0), rtol=1e-4, atol=1e-6)


def test_an_iteration_without_a_sound_step_changes_no_learner_and_has_diverged():
    algorithm = algorithm_of("PPO")
    env = poison("reward inf", rate=1.0)
    start = begin("PPO")
    for _ in range(2):  # from zero moments, and from those of a real update
        after, metrics = iterate(algorithm, env, start, rules("PPO"), jax.random.key(2))
        assert (
            float(metrics["invalid_steps"]) == 240
            and float(metrics["diverged"]) == 1.0
            and float(metrics["updates_skipped"]) == 6.0
        )
        assert np.isnan(metrics["return"]) and float(metrics["episodes"]) == 0.0
        assert eqx.tree_equal(after.learner, start.learner)
        moved, _ = iterate(algorithm, poison("reward inf", rate=0.0), start, rules("PPO"), jax.random.key(3))
        start = eqx.tree_at(lambda s: s.learner, begin("PPO"), moved.learner)


def test_an_update_whose_gradient_is_finite_but_not_its_square_is_skipped():
    """The gradient's norm is inf then, and by it the update NaN; or, with Adam, the second moment is inf for good."""
    algorithm, learner, _, _, rows = broken_rollout("PPO", "observation nan")
    learner, _ = on_policy_step(algorithm, learner, rows)  # its moments are not 0
    for target in (1.2e19, np.nan, np.inf):  # the first one's square is finite
        bad = dataclasses.replace(rows, target=jnp.full((240,), target))
        after, metrics = on_policy_step(algorithm, learner, bad)
        assert float(metrics["updates_skipped"]) == 1.0 and float(metrics["loss/value"]) == 0.0
        assert eqx.tree_equal(after, learner)
    after, metrics = on_policy_step(algorithm, learner, rows)
    assert float(metrics["updates_skipped"]) == 0.0 and not eqx.tree_equal(after.policy, learner.policy)


# ---- SAC ----


SAC_KINDS = ("observation huge", "privileged nan", "reward inf", "physics nan")


@functools.cache
def sac_run(kind):
    """(algorithm, [(state, metrics) of two iterations], the transitions stored in the first one)."""
    algorithm, env, states = algorithm_of("SAC"), poison(kind, 0.1), []
    state = begin("SAC")
    for seed in (2, 3):
        state, metrics = iterate(algorithm, env, state, rules("SAC"), jax.random.key(seed))
        states.append((state, metrics))
    return algorithm, states, jax.tree.map(lambda x: x[0, :80], states[0][0].replay.experience)


@pytest.mark.parametrize("kind", SAC_KINDS)
def test_sac_counts_broken_steps_and_learns_from_the_others(kind):
    _, [(state, first), (later, second)], stored = sac_run(kind)
    assert 3 < (~stored.valid).sum() == float(first["invalid_steps"])
    assert all(np.isfinite(x).all() and np.abs(x).max() < 1e3 for x in arrays_of(stored))
    assert float(second["updates"]) > 0 and float(second["updates_skipped"]) == 0.0 and float(second["diverged"]) == 0.0
    assert all(np.isfinite(x).all() for x in arrays_of(later.learner))
    for normalizer, seen in (
        (state.learner.policy.normalizer, stored.obs),
        (state.learner.critic.normalizer, stored.critic_obs),
    ):
        sound = np.asarray(seen, np.float64)[stored.valid]
        assert float(normalizer.count) == len(sound)
        np.testing.assert_allclose(normalizer.mean, sound.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(normalizer.variance, sound.var(0), rtol=1e-4, atol=1e-6)


def sac_again(change):
    """(before, after, metrics) of the second iteration, with other numbers in the 80 transitions of the first one."""
    algorithm, [(state, _), _], _ = sac_run("privileged nan")
    env = poison("privileged nan", 0.1)
    other = eqx.tree_at(lambda s: s.replay.experience, state, change(state.replay.experience))
    return state, *iterate(algorithm, env, other, rules("SAC"), jax.random.key(3))


def test_numbers_of_broken_transitions_reach_no_update_of_sac():
    """That the others weigh as much as in a mean over them alone: tests/algorithms/test_sac.py."""
    _, [_, (expected, numbers)], _ = sac_run("privileged nan")
    change = lambda stored: eqx.tree_at(lambda r: r.valid, garbled(stored, stored.valid), stored.valid)
    _, after, metrics = sac_again(change)
    assert_same_bits((after.learner, metrics), (expected.learner, numbers))
    assert float(metrics["updates"]) > 10 and float(metrics["updates_skipped"]) == 0.0


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_poisoned_update_of_sac_changes_nothing(value):
    before, after, metrics = sac_again(
        lambda stored: dataclasses.replace(stored, reward=jnp.full_like(stored.reward, value))
    )
    assert float(metrics["updates_skipped"]) == float(metrics["updates"]) > 10 and float(metrics["diverged"]) == 1.0
    for part in ("target", "log_temperature", "optimizer"):
        assert eqx.tree_equal(getattr(after.learner, part), getattr(before.learner, part))
    for ours, theirs in (
        (after.learner.policy.body, before.learner.policy.body),
        (after.learner.critic.bodies, before.learner.critic.bodies),
    ):
        assert eqx.tree_equal(ours, theirs)


# ---- episodes ----


EPISODES, STEPS = 12, 15


def fate(env, key):
    """[E, L]: the steps before each episode of `run_episodes` breaks, as the environment's own keys tell."""
    resets = jax.random.split(jax.random.split(key)[0], EPISODES)
    own = jax.vmap(lambda k: jax.random.split(k)[1])(resets)
    breaks = jax.vmap(lambda k: jax.vmap(lambda t: env.breaks(k, t))(jnp.arange(STEPS, dtype=jnp.float32)))(own)
    return np.cumsum(np.asarray(breaks), axis=1) == 0


@functools.cache
def gorl_fm():
    sizes = [
        "COLLECT_ENVS = 12",
        "COLLECT_EPISODE_LENGTH = 15",
        "COLLECT_STEPS = 180",
        "decoder/MLP.depth = 1",
        "decoder/MLP.width = 16",
    ]
    return config.build(["gorl_fm.gin", "parts/debug.gin"], [*SMALL, *sizes]).experiment


@functools.cache
def episode_context():
    learner = learner_of("PPO")
    return gorl_fm().stages[1].phases[0], RunState(
        IdentityDecoder(2, 1, key=jax.random.key(0)), learner.policy, learner.policy, learner
    )


@functools.cache
def collected(kind, rate=0.06):
    """The phase's collection in a task that breaks, the metrics, and the key of its episodes."""
    phase, run = episode_context()
    task = eqx.tree_at(lambda t: t.environment, Task(Slider(), STEPS, True, True, 1.0), poison(kind, rate))
    context = PhaseContext(task, np.zeros(1, np.int32), 1, 0)
    buffer = seeds.add_seed_axis(phase.start(PhaseContext(task, 0, 1, 0), run).buffer)
    each = (
        *seeds.add_seed_axis((run.policy, run.learner, run.decoder)),
        context.for_each(0),
        context.key("collect", 0),
    )
    buffer, metrics = collect((phase, task), each, buffer)
    return (
        jax.tree.map(np.asarray, seeds.take_seed(buffer)),
        {k: float(v[0]) for k, v in metrics.items()},
        context.key("collect", 0)[0],
    )


@pytest.mark.parametrize("kind", ["observation nan", "reward inf", "privileged nan", "physics huge", "careless nan"])
def test_collected_data_hold_no_broken_step(kind):
    data, metrics, key = collected(kind)
    sound = fate(poison(kind, 0.06), key)
    whole = sound.all(axis=1)
    assert 2 <= whole.sum() <= EPISODES - 2
    np.testing.assert_array_equal(data.valid, sound)
    calm, _, _ = collected(kind, 0.0)
    for name in ("obs", "action", "reward", "value"):  # the steps before are those of the same episode unbroken
        ours, theirs = getattr(data, name), getattr(calm, name)
        np.testing.assert_array_equal(ours[sound], theirs[sound])
        assert np.isfinite(ours).all()
    assert metrics["diverged_episodes"] == (~whole).sum()
    np.testing.assert_allclose(metrics["return"], calm.reward.sum(axis=1)[whole].mean(), rtol=1e-5)
    saturated = np.abs(calm.action[whole]) >= 1.0
    assert 0 < saturated.mean() < 1
    np.testing.assert_allclose(metrics["action_saturation"], saturated.mean(), rtol=1e-5)


@functools.cache
def fitting():
    """(phase, context, what it is given): the collection of a task that broke, and its decoder to be fitted."""
    phase = dataclasses.replace(gorl_fm().stages[1].phases[1], latents=PriorLatents())  # pairs need no collected action
    _, run = episode_context()
    data, _, _ = collected("observation nan")
    given = dataclasses.replace(run, dataset=Dataset(jax.tree.map(jnp.asarray, data)))
    return phase, PhaseContext(Task(Slider(), STEPS, True, True, 3.0), np.zeros(1, np.int32), 1, 1), given


def fitted(change=lambda episodes: episodes):
    """(state before, state after, metrics) of one epoch on changed data, of one seed."""
    phase, context, given = fitting()
    given = dataclasses.replace(given, dataset=Dataset(change(given.dataset.episodes)))
    before = phase.start(dataclasses.replace(context, seed=0), given)
    after, metrics = phase.epoch(context, trees.unshare_buffers(seeds.add_seed_axis(before)), 0)
    return before, seeds.take_seed(after), {k: float(v[0]) for k, v in metrics.items()}


def test_numbers_of_broken_rows_reach_no_decoder():
    before, after, metrics = fitted()
    valid = np.asarray(before.run.dataset.episodes.valid)
    assert 0 < valid.sum() < valid.size and metrics["updates_skipped"] == 0.0 and metrics["diverged"] == 0.0
    assert float(before.decoder.normalizer.count) == valid.reshape(-1)[np.asarray(before.rows.training)].sum()
    assert not eqx.tree_equal(before.decoder, after.decoder)
    _, same, numbers = fitted(
        lambda episodes: eqx.tree_at(lambda e: e.valid, garbled(episodes, episodes.valid), episodes.valid)
    )
    assert_same_bits((same.decoder, same.optimizer, numbers), (after.decoder, after.optimizer, metrics))


@pytest.mark.parametrize("value", [np.nan, np.inf, 2e18])  # the gradient of the last is finite, its square is not
def test_poisoned_updates_of_a_decoder_change_nothing(value):
    before, after, metrics = fitted(
        lambda episodes: dataclasses.replace(episodes, action=jnp.full_like(episodes.action, value))
    )
    assert metrics["updates_skipped"] == 5.0 and metrics["diverged"] == 1.0
    assert eqx.tree_equal(
        (after.decoder, after.optimizer, after.best), (before.decoder, before.optimizer, before.decoder)
    )


def test_a_fit_without_a_valid_row_has_diverged():
    before, after, metrics = fitted(
        lambda episodes: dataclasses.replace(episodes, valid=jnp.zeros_like(episodes.valid))
    )
    assert metrics["diverged"] == 1.0 and np.isnan(metrics["loss/decoder"]) and metrics["loss/decoder_best"] == np.inf
    assert eqx.tree_equal(after.best, before.decoder)


def test_an_evaluation_is_of_the_episodes_that_did_not_break():
    returns, lengths = jnp.array([1.0, 1e6, 4.0, 7.0]), jnp.array([15, 3, 15, 9])
    found = episode_statistics(returns, lengths, jnp.array([False, True, False, False]))
    expected = {
        "return": 4.0,
        "return_std": np.sqrt(6.0),
        "return_min": 1.0,
        "return_max": 7.0,
        "episode_length": 13.0,
        "diverged_episodes": 1.0,
        "episodes": 4.0,
    }
    assert {k: pytest.approx(float(v)) for k, v in found.items()} == expected
    nothing = episode_statistics(returns, lengths, jnp.ones(4, bool))
    assert nothing.pop("diverged_episodes") == nothing.pop("episodes") == 4.0 and all(
        np.isnan(v) for v in nothing.values()
    )


def test_an_evaluator_leaves_broken_episodes_out():
    _, run = episode_context()
    evaluator = experiment("PPO").stages[0].phases[0].evaluator
    evaluator = dataclasses.replace(evaluator, num_envs=EPISODES)
    task = eqx.tree_at(lambda t: t.environment, Task(Slider(), STEPS, True, True, 3.0), poison("reward nan", 0.06))
    key = jax.random.key(4)
    metrics = evaluator.returns(task, *seeds.add_seed_axis((run.policy, run.decoder)), key=key[None])
    calm = eqx.tree_at(lambda t: t.environment.rate, task, jnp.asarray(0.0))
    agent = Agent(run.policy, run.decoder, BOUND, evaluator.rule)
    returns = run_episodes(calm.squashed, agent, key, num_envs=EPISODES, length=STEPS, value=None)[0]
    whole = fate(task.environment, key).all(axis=1)
    assert 2 <= whole.sum() <= EPISODES - 2
    np.testing.assert_allclose(metrics["return"][0], np.mean(np.asarray(returns)[whole]), rtol=1e-5)
    np.testing.assert_allclose(metrics["return_min"][0], np.min(np.asarray(returns)[whole]), rtol=1e-5)
    assert float(metrics["diverged_episodes"][0]) == (~whole).sum() and float(metrics["episode_length"][0]) == STEPS
