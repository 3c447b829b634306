"""Self-resetting lanes and whole episodes, in environments whose every number is known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.acting.agent import Agent
from gorl.acting.episodes import run_episodes
from gorl.acting.lanes import LaneEnvironment
from gorl.decoders.identity import IdentityDecoder
from gorl.environments.base import AbstractEnvironment, make_state
from gorl.environments.task import EpisodeRules
from gorl.fields import as_float32
from gorl.networks import RunningNormalizer
from gorl.policies.base import AbstractPolicy

pytestmark = pytest.mark.usefixtures("quick_compiles")

GO, NAN_OBS, NAN_REWARD, NAN_STATE, INF_OBS, TERMINATE, TERMINATE_WITH_NAN = range(7)


class Obedient(AbstractEnvironment):
    """Does what the action orders. Observation: the reset key in 16-bit pieces (who), and the steps since the reset.

    The reward is 1 + the steps so far. After a termination it goes on, so what is counted after an end shows.
    """

    @property
    def action_size(self):
        return 1

    def reset(self, key):
        words = jax.random.key_data(key)
        who = jnp.concatenate([words >> 16, words & 0xFFFF]).astype(jnp.float32)
        return self._state(key, who, jnp.zeros(()), jnp.zeros(()), jnp.asarray(GO))

    def step(self, state, action):
        who, steps, _, key = state.sim
        return self._state(key, who, steps + 1, steps + 1, jnp.round(action[0]).astype(jnp.int32))

    def _state(self, key, who, steps, reward, order):
        poison = lambda x, *orders: jnp.where(jnp.isin(order, jnp.asarray(orders)), jnp.nan, x)
        physics = poison(jnp.zeros(()), NAN_STATE, TERMINATE_WITH_NAN)
        obs = jnp.concatenate([who, steps[None]])
        obs = jnp.where(order == INF_OBS, jnp.inf, poison(obs, NAN_OBS))
        done = (order == TERMINATE) | (order == TERMINATE_WITH_NAN)
        return make_state(
            (who, steps, physics, key),
            obs,
            poison(reward, NAN_REWARD),
            done,
            obs_key=None,
            critic_obs_key=None,
            physics=(physics,),
        )

    def describe(self):
        return {"library": "test", "name": "Obedient"}


class Mortal(Obedient):
    """Terminates by itself at a random time after the reset: with probability 1/8 at every step."""

    def step(self, state, action):
        _, steps, _, key = state.sim
        dies = jax.random.bernoulli(jax.random.fold_in(key, steps.astype(jnp.int32)), 0.125)
        return super().step(state, jnp.where(dies, float(TERMINATE), action))


def roll(lane, lanes, orders):
    """(lanes, history): `orders` is [T, B]; the history's leaves are [T, B]: before the step, its result, resets."""

    def step(lanes, order):
        asked = lanes.needs_reset
        lanes = lane.refresh(lanes)
        before = lanes
        lanes, result = lane.step(lanes, order[:, None])
        return lanes, {
            "reset": asked,
            "before": before.env.obs,
            "clock": before.clock,
            "partial": before.partial,
            "result": result,
        }

    return jax.lax.scan(step, lanes, orders)


def played(env, *, num_envs, length, orders, seed=0, staggered=True, fresh=True):
    lane = LaneEnvironment(env, num_envs, EpisodeRules(length, staggered, fresh))
    lanes, history = eqx.filter_jit(roll)(lane, lane.start(jax.random.key(seed)), jnp.asarray(orders, jnp.float32))
    return lanes, host(history)


def names(obs):
    """Who each row is: the reset key as a number."""
    return (np.asarray(obs)[..., :4].astype(np.uint64) * np.asarray([1, 2**16, 2**32, 2**48], np.uint64)).sum(-1)


def is_key(x):
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def host(tree):
    return jax.tree.map(lambda x: x if is_key(x) else np.asarray(x), tree)


def numbers(tree):
    """The leaves that are not keys."""
    return [x for x in jax.tree.leaves(tree) if not is_key(x)]


def assert_every_reset_is_fresh(history):
    """`history` of one seed: each state a pool made begins at most one episode, of one lane."""
    who, resets = names(history["before"]), history["reset"]
    assert np.all(history["before"][resets][:, 4] == 0)
    begun = who[resets]
    assert len(set(begun.tolist())) == len(begun) == resets.sum()
    for lane in range(who.shape[1]):
        changes = np.concatenate([[True], who[1:, lane] != who[:-1, lane]])
        np.testing.assert_array_equal(changes, resets[:, lane])


@pytest.mark.parametrize("env", [Obedient(), Mortal()], ids=["truncated", "terminated"])
def test_every_initial_state_is_used_once(env):
    lanes, history = played(env, num_envs=6, length=7, orders=np.zeros((150, 6)))
    assert history["reset"][0].all()
    assert history["reset"].sum() > 6 * 15
    assert_every_reset_is_fresh(history)
    # Three lanes end at different times, so a fill is shared: no initial state of a pool is left out before the next.
    fills = -(-int(history["reset"].sum()) // 6)
    assert int(lanes.pool_used) == int(history["reset"].sum()) - 6 * (fills - 1)


def test_without_fresh_resets_each_lane_goes_back_to_its_first_state():
    """The published defect, as a switch: as many initial states as lanes, however long the run."""
    _, history = played(Mortal(), num_envs=6, length=7, orders=np.zeros((60, 6)), fresh=False)
    who = names(history["before"])
    assert history["reset"].sum() > 6 * 8
    assert np.all(who == who[:1]) and len(set(who[0].tolist())) == 6
    assert np.all(history["before"][history["reset"]][:, 4] == 0)


def test_without_staggered_starts_episodes_run_in_step():
    _, history = played(Obedient(), num_envs=4, length=5, orders=np.zeros((20, 4)), staggered=False)
    np.testing.assert_array_equal(history["clock"], np.broadcast_to((np.arange(20) % 5)[:, None], (20, 4)))
    assert not history["partial"].any()
    assert_every_reset_is_fresh(history)


def test_the_pool_is_filled_again_within_one_scan():
    lane = LaneEnvironment(Obedient(), 4, EpisodeRules(5, True, True))

    def step(lanes, _):
        lanes = lane.refresh(lanes)
        pool = (lanes.pool.obs, lanes.pool_used)
        return lane.step(lanes, jnp.zeros((4, 1)))[0], pool

    _, (pools, used) = jax.jit(lambda s: jax.lax.scan(step, s, length=40))(lane.start(jax.random.key(1)))
    pools, used = names(pools), np.asarray(used)
    filled = np.flatnonzero((pools[1:] != pools[:-1]).all(1)) + 1
    # 40 steps of 4 lanes, 5 steps an episode, clocks spread: one reset a step at most, 4 initial states a pool.
    assert len(filled) == 8
    assert len({who for pool in pools[[0, *filled]] for who in pool.tolist()}) == 4 * 9
    assert ((pools[1:] == pools[:-1]).all(1) | (pools[1:] != pools[:-1]).all(1)).all()
    assert used.min() == 1 and used.max() == 4


def test_first_clocks_are_spread_and_partial_episodes_enter_no_statistic():
    num_envs, length = 8, 16
    _, history = played(Obedient(), num_envs=num_envs, length=length, orders=np.zeros((3 * length, num_envs)))
    clock, result = history["clock"], history["result"]
    np.testing.assert_array_equal(clock[0], [0, 2, 4, 6, 8, 10, 12, 14])
    # A batch of any later step still sees the whole episode.
    for t in range(3 * length):
        assert sorted(clock[t] % length // 2) == list(range(num_envs))
    np.testing.assert_array_equal(history["partial"][0], [False] + [True] * 7)
    for lane in range(num_envs):
        ends = np.flatnonzero(result.truncated[:, lane])
        np.testing.assert_array_equal(ends, length - 1 - 2 * lane + length * np.arange(len(ends)))
        np.testing.assert_array_equal(result.finished[ends, lane], [lane == 0] + [True] * (len(ends) - 1))
        whole = result.episode_return[:, lane][result.finished[:, lane]]
        np.testing.assert_allclose(whole, np.full(len(whole), length * (length + 1) / 2))  # 1 + 2 + ... + length
    assert result.finished.sum() == 3 + 2 * 7
    assert not (result.finished & ~result.truncated).any()


def test_truncation_shows_the_true_next_observation():
    length = 9
    _, history = played(Obedient(), num_envs=3, length=length, orders=np.zeros((60, 3)))
    before, after, truncated = history["before"], history["result"].after, history["result"].truncated
    assert truncated.sum() >= 15
    np.testing.assert_array_equal(names(after.obs), names(before))  # the same episode, before any reset
    np.testing.assert_array_equal(after.obs[..., 4], before[..., 4] + 1)
    whole = history["result"].finished
    np.testing.assert_array_equal(after.obs[..., 4][whole], np.full(whole.sum(), length))
    np.testing.assert_array_equal(before[1:][truncated[:-1]][:, 4], 0)  # and the next one begins
    assert not after.terminated.any()


def test_a_termination_is_not_a_truncation_not_even_at_the_time_limit():
    length = 6
    orders = np.zeros((24, 2))
    orders[length - 1, 0] = TERMINATE  # lane 0 terminates at the very step of its time limit
    orders[1, 1] = TERMINATE  # lane 1 (clock 3 first) in its partial episode, then in the middle of a whole one
    orders[5, 1] = TERMINATE
    _, history = played(Obedient(), num_envs=2, length=length, orders=orders)
    result = history["result"]
    assert (
        result.after.terminated[length - 1, 0]
        and not result.truncated[length - 1, 0]
        and result.finished[length - 1, 0]
    )
    assert result.episode_return[length - 1, 0] == 21
    assert result.after.terminated[1, 1] and not result.finished[1, 1]  # the partial one
    assert result.after.terminated[5, 1] and result.finished[5, 1] and result.episode_return[5, 1] == 1 + 2 + 3 + 4
    assert result.truncated[11, 1] and result.finished[11, 1] and result.episode_return[11, 1] == 21
    assert not (result.after.terminated & result.truncated).any()
    assert result.after.terminated.sum() == 3
    assert_every_reset_is_fresh(history)


def test_random_terminations_have_the_returns_of_their_lengths():
    length = 12
    _, history = played(Mortal(), num_envs=5, length=length, orders=np.zeros((300, 5)), seed=3)
    result, before = history["result"], history["before"]
    ended = result.after.terminated | result.truncated
    assert result.after.terminated.sum() > 50 and result.truncated.sum() > 20
    steps = before[..., 4] + 1
    np.testing.assert_allclose(result.episode_return[ended], (steps * (steps + 1) / 2)[ended])
    np.testing.assert_array_equal(result.finished, ended & ~history["partial"])
    assert (steps[result.truncated & ~history["partial"]] == length).all()
    np.testing.assert_array_equal(history["reset"][1:], ended[:-1])


@pytest.mark.parametrize("order", [NAN_OBS, NAN_REWARD, NAN_STATE, INF_OBS, TERMINATE_WITH_NAN])
def test_numbers_that_are_not_finite_end_the_lane_and_nothing_else(order):
    orders = np.zeros((30, 4))
    _, calm = played(Obedient(), num_envs=4, length=10, orders=orders)
    orders[4, 2] = orders[5, 2] = orders[13, 0] = order
    lanes, history = played(Obedient(), num_envs=4, length=10, orders=orders)
    result = history["result"]
    bad = orders == order
    np.testing.assert_array_equal(result.valid, ~bad)
    np.testing.assert_array_equal(result.after.reward[bad], 0.0)
    assert all(
        np.isfinite(x).all() for x in (result.after.obs, result.after.reward, result.episode_return, history["before"])
    )
    assert not (result.after.terminated | result.truncated | result.finished)[bad].any()
    assert history["reset"][1:][bad[:-1]].all()  # the lane begins anew
    assert not history["partial"][5, 2] and history["clock"][5, 2] == 0
    assert_every_reset_is_fresh(history)
    others = [1, 3]
    for part in ("clock", "reset", "partial"):
        np.testing.assert_array_equal(history[part][:, others], calm[part][:, others])
    np.testing.assert_array_equal(result.after.reward[:, others], calm["result"].after.reward[:, others])
    np.testing.assert_array_equal(result.finished[:, others], calm["result"].finished[:, others])
    np.testing.assert_array_equal(result.episode_return[:, others], calm["result"].episode_return[:, others])
    assert np.isfinite(np.asarray(lanes.episode_return)).all()
    assert result.episode_return[15, 2] == 55 and result.finished[15, 2]  # steps 6 to 15 are a whole episode again


def test_a_time_limit_does_not_hide_a_number_that_is_not_finite():
    orders = np.zeros((8, 1))
    orders[3, 0] = NAN_STATE
    _, history = played(Obedient(), num_envs=1, length=4, orders=orders)
    assert (
        not history["result"].valid[3, 0]
        and not history["result"].truncated[3, 0]
        and not history["result"].finished[3, 0]
    )
    assert history["result"].finished[7, 0] and history["result"].episode_return[7, 0] == 10


class Stillborn(Obedient):
    """Its resets are not finite, its steps are."""

    def reset(self, key):
        state = super().reset(key)
        return make_state(state.sim, state.obs * jnp.nan, 0.0, False, obs_key=None, critic_obs_key=None)


def test_a_transition_from_an_initial_state_that_is_not_finite_is_invalid():
    lanes, history = played(Stillborn(), num_envs=2, length=5, orders=np.zeros((6, 2)))
    assert not history["result"].valid.any()
    assert not history["result"].finished.any()
    assert history["reset"].all()
    np.testing.assert_array_equal(history["result"].after.reward, 0.0)
    assert np.isfinite(history["before"]).all() and np.isfinite(np.asarray(lanes.episode_return)).all()


def test_vmap_over_seeds_changes_no_number():
    seeds, steps, num_envs = 3, 60, 4
    lane = LaneEnvironment(Mortal(), num_envs, EpisodeRules(7, True, True))
    orders = np.zeros((seeds, steps, num_envs))
    orders[1, 10:13, 2] = NAN_STATE  # one seed resets at steps at which no other does
    orders = jnp.asarray(orders)
    keys = jax.random.split(jax.random.key(5), seeds)
    run = lambda key, o: roll(lane, lane.start(key), o)
    together, compiled = jax.jit(jax.vmap(run))(keys, orders), jax.jit(run)
    alone = [compiled(keys[i], orders[i]) for i in range(seeds)]
    for i in range(seeds):
        (lanes, history), (lanes_alone, history_alone) = jax.tree.map(lambda x, i=i: x[i], together), alone[i]
        assert jax.random.key_data(lanes.key).tolist() == jax.random.key_data(lanes_alone.key).tolist()
        for a, b in zip(numbers((lanes, history)), numbers((lanes_alone, history_alone)), strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-6, atol=1e-6)
        assert_every_reset_is_fresh(host(history))
    everyone = names(together[1]["before"])[np.asarray(together[1]["reset"])]
    assert len(set(everyone.tolist())) == len(everyone)  # nor is a state shared by two seeds


class Weak(Obedient):
    """Its steps return weak types where its resets return strong ones, as MJX's tasks do."""

    def step(self, state, action):
        after = super().step(state, action)
        return eqx.tree_at(lambda s: (s.sim[2], s.reward), after, (jnp.asarray(0.5), jnp.asarray(1.0)))


def test_a_second_call_does_not_trace_again():
    lane = LaneEnvironment(Weak(), 4, EpisodeRules(6, True, True))
    traces = []

    @jax.jit
    def step(lanes, action):
        traces.append(1)
        return lane.step(lane.refresh(lanes), action)

    lanes = lane.start(jax.random.key(0))
    start = lanes
    for _ in range(5):
        lanes, result = step(lanes, np.zeros((4, 1), np.float32))
    assert len(traces) == 1
    of = lambda t: [(x.shape, x.dtype) for x in jax.tree.leaves(t)]
    assert of(start) == of(lanes)
    assert not any(x.weak_type for x in numbers((lanes, result)))


def test_starting_runs_no_environment_code():
    class Loud(Obedient):
        def reset(self, key):
            jax.debug.callback(lambda _: resets.append(1), jax.random.key_data(key))
            return super().reset(key)

    resets = []
    lane = LaneEnvironment(Loud(), 4, EpisodeRules(6, True, True))
    lanes = lane.start(jax.random.key(0))
    jax.effects_barrier()
    assert resets == []
    jax.block_until_ready(lane.refresh(lanes))
    jax.effects_barrier()
    assert len(resets) == 4


class Fated(AbstractEnvironment):
    """An episode's fate is drawn at the reset: it ends (kind 0), diverges (1) or lives on (2) at step `life` of 1..8.

    Observation [kind, life, steps], reward 1 before the end, 100 after it.
    """

    @property
    def action_size(self):
        return 1

    def reset(self, key):
        kind_key, life_key = jax.random.split(key)
        kind = jax.random.randint(kind_key, (), 0, 3).astype(jnp.float32)
        life = jax.random.randint(life_key, (), 1, 9).astype(jnp.float32)
        return self._state(kind, life, jnp.zeros(()), jnp.zeros(()))

    def step(self, state, action):
        kind, life, steps = state.sim
        return self._state(kind, life, steps + 1, jnp.where(steps + 1 > life, 100.0, 1.0) + 0.0 * action[0])

    def _state(self, kind, life, steps, reward):
        broken = (steps == jnp.where(kind == 0, life + 1, life)) & (
            kind < 2
        )  # what ended may diverge later, and recover
        obs = jnp.stack([kind, life, jnp.where(broken, jnp.nan, steps)])
        reward = jnp.where(kind == 2, jnp.minimum(reward, 1.0), reward)
        return make_state(
            (kind, life, steps), obs, reward, (steps == life) & (kind == 0), obs_key=None, critic_obs_key=None
        )

    def describe(self):
        return {"library": "test", "name": "Fated"}


class Constant(AbstractPolicy):
    """The latent 9, whatever it sees."""

    normalizer: RunningNormalizer

    def sample(self, obs, *, key):
        return self.mode(obs, key=key) + jax.random.normal(key, (1,)), jnp.zeros(())

    def mode(self, obs, *, key):
        del obs, key
        return jnp.full((1,), 9.0)

    def log_ratio(self, obs, action, extras, *, key):
        raise NotImplementedError


def constant_agent(*, rule="mode", bound=3.0):
    policy = Constant(RunningNormalizer(3, epsilon=1e-6, clip=10.0))
    return Agent(policy, IdentityDecoder(3, 1, key=jax.random.key(0)), as_float32(bound), rule)


def clock_value(critic_obs, obs):
    """As a learner's: of what it sees."""
    return 10.0 * critic_obs[2] + obs[0]


def episodes_of(env, agent, *, num_envs, length, seed=0, record=True):
    run = eqx.filter_jit(run_episodes)
    value = clock_value if record else None
    return host(run(env, agent, jax.random.key(seed), num_envs=num_envs, length=length, value=value))


def test_an_episodes_return_stops_at_its_end():
    length, num_envs = 10, 64
    returns, lengths, diverged, episodes = episodes_of(
        Fated(), constant_agent(), num_envs=num_envs, length=length, seed=2
    )
    kind, life = episodes.obs[:, 0, 0], episodes.obs[:, 0, 1]
    assert {0, 1, 2} == set(kind.tolist()) and len(set(life.tolist())) == 8
    expected = np.select([kind == 0, kind == 1], [life, life - 1], length)  # a step that diverges is not a step
    np.testing.assert_array_equal(lengths, expected)
    np.testing.assert_allclose(returns, expected)
    np.testing.assert_array_equal(diverged, kind == 1)
    np.testing.assert_array_equal(episodes.valid, np.arange(length)[None] < expected[:, None])
    np.testing.assert_allclose(episodes.reward, episodes.valid.astype(np.float32))
    np.testing.assert_array_equal(
        episodes.obs[..., 2][episodes.valid], np.broadcast_to(np.arange(length), (num_envs, length))[episodes.valid]
    )
    np.testing.assert_allclose(episodes.value, 10.0 * episodes.obs[..., 2] + episodes.obs[..., 0])
    assert np.isfinite(episodes.obs).all()
    np.testing.assert_allclose(episodes.action, 3.0)  # the latent 9, clipped to the action bound


def test_episodes_need_not_be_recorded():
    run = lambda record: episodes_of(Fated(), constant_agent(), num_envs=16, length=10, record=record)
    *with_record, episodes = run(True)
    *without, nothing = run(False)
    assert nothing is None and episodes.obs.shape == (16, 10, 3)
    for a, b in zip(with_record, without, strict=True):
        np.testing.assert_array_equal(a, b)


def test_each_episode_has_its_own_reset_and_noise():
    agent = constant_agent(rule="stochastic", bound=1e9)
    *_, episodes = episodes_of(Obedient(), agent, num_envs=8, length=5)
    assert len(set(names(episodes.obs)[:, 0].tolist())) == 8
    assert len(set(episodes.action.reshape(-1).tolist())) == 40


def test_an_episode_that_begins_with_numbers_that_are_not_finite_has_diverged():
    returns, lengths, diverged, episodes = episodes_of(
        Stillborn(), constant_agent(bound=0.1), num_envs=4, length=5
    )  # GO
    assert diverged.all() and not episodes.valid.any()
    np.testing.assert_array_equal(lengths, 0)
    np.testing.assert_array_equal(returns, 0.0)


def test_episodes_under_vmap_over_seeds_are_the_same():
    run = lambda key: run_episodes(Fated(), constant_agent(), key, num_envs=8, length=10, value=clock_value)
    keys = jax.random.split(jax.random.key(9), 3)
    together, alone = jax.jit(jax.vmap(run))(keys), jax.jit(run)
    for i in range(3):
        for a, b in zip(
            jax.tree.leaves(jax.tree.map(lambda x, i=i: x[i], together)), jax.tree.leaves(alone(keys[i])), strict=True
        ):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-6)
