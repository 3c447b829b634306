"""DM Control tasks through our interface against the library called directly."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl import config
from gorl.acting.lanes import LaneEnvironment
from gorl.environments.names import dm_control_names
from gorl.environments.playground import PlaygroundEnvironment, resolve_implementation
from gorl.environments.task import EpisodeRules
from gorl.environments.wrappers import SquashedEnvironment
from gorl.errors import ConfigError
from gorl.fields import as_float32
from gorl.reuse.identity import identities

# Playground 0.2.0 draws nothing at their resets: every episode begins in the same state, whatever the key.
ALWAYS_THE_SAME = ("BallInCup", "HumanoidStand", "HumanoidWalk", "HumanoidRun")
SIZES = {"CartpoleBalance": (5, 1), "PendulumSwingup": (3, 1), "PointMass": (4, 2)}  # of observation and action


pytestmark = pytest.mark.usefixtures("third_party")


@dataclasses.dataclass
class Compiled:
    """A task's batched reset and step, compiled once for all tests of this module."""

    env: PlaygroundEnvironment
    reset: Any
    step: Any
    traces: list


@functools.cache
def compiled(name):
    env, traces = playground(name), []

    def step(state, action):
        traces.append(1)
        return jax.vmap(env.step)(state, action)

    return Compiled(env, jax.jit(jax.vmap(env.reset)), jax.jit(step), traces)


KEYS = lambda: jax.random.split(jax.random.key(7), 3)


def playground(name, *, impl="jax", overrides=None, obs_key=None, critic_obs_key=None):
    return PlaygroundEnvironment(name, impl, overrides or {}, obs_key, critic_obs_key)


def test_names_are_the_librarys():
    from mujoco_playground import dm_control_suite

    assert dm_control_names() == dm_control_suite.ALL_ENVS
    assert len(dm_control_names()) == 25
    for name in dm_control_names():
        playground(name).check()


@pytest.mark.parametrize(
    "name, guess",
    [
        ("PendulumSwingUp", "Did you mean PendulumSwingup"),
        ("cheetahrun", "Did you mean CheetahRun?"),
        ("FishSwimm", "Did you mean FishSwim?"),
    ],
)
def test_a_misspelt_name_is_an_error_that_names_the_right_one(name, guess):
    with pytest.raises(ConfigError) as caught:
        playground(name).check()
    assert guess in str(caught.value) and f"PlaygroundEnvironment.name = '{name}'" in str(caught.value)


def test_a_misspelt_name_is_found_when_the_configuration_is_built():
    with pytest.raises(ConfigError, match="Did you mean PendulumSwingup") as caught:
        config.build(["ppo.gin"], ["ENV = 'PendulumSwingUp'"])
    assert "command line" in str(caught.value)


def test_implementations_are_checked_with_a_suggestion():
    playground("CartpoleBalance", impl="jax").check()
    with pytest.raises(ConfigError, match="'jax', 'warp', 'native'.*Did you mean warp"):
        playground("CartpoleBalance", impl="wrap").check()


def test_the_implementation_and_overrides_are_recorded():
    env = playground("CartpoleBalance", impl="warp", overrides={"sim_dt": 0.005, "ctrl_dt": 0.01})
    assert env.describe() == {
        "library": "mujoco_playground", "name": "CartpoleBalance", "impl": "warp",
        "overrides": {"sim_dt": 0.005, "ctrl_dt": 0.01},
    }  # fmt: skip
    assert env == playground("CartpoleBalance", impl="warp", overrides={"ctrl_dt": 0.01, "sim_dt": 0.005})
    assert hash(env) != hash(playground("CartpoleBalance", impl="warp"))


BOUND = {
    "as shipped": ([], "impl"),
    "by a macro": (["PHYSICS = 'auto'", "PlaygroundEnvironment.impl = %PHYSICS"], "PHYSICS"),
    "in a scope": (
        ["Task.environment = @my/PlaygroundEnvironment()", "my/PlaygroundEnvironment.impl = 'auto'"],
        "impl",
    ),
}


@pytest.mark.parametrize("bindings, name", BOUND.values(), ids=BOUND)
def test_a_run_keeps_the_implementation_that_it_began_with(bindings, name, tmp_path, monkeypatch):
    def line(configuration):
        (found,) = (x.strip() for x in configuration.config.splitlines() if f"{name} =" in x and "jax" not in x)
        return found

    asked = config.build(["ppo.gin"], bindings)
    assert line(asked) == f"{name} = 'auto'"
    begun = config.build_here(["ppo.gin"], bindings)
    assert line(begun) == f"{name} = 'native'"
    assert begun.experiment.task.environment.impl == "native" and "'auto'" not in begun.operative
    assert asked.tree != begun.tree and [i.key for i in identities(asked)] == [i.key for i in identities(begun)]
    begun.save(tmp_path)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # another machine
    again = config.build_here([str(tmp_path / "config.gin")])
    assert again.experiment.task.environment.impl == "native" and again.config == begun.config


def test_the_fastest_is_native_on_a_cpu_but_for_small_tasks_without_contacts(monkeypatch):
    small = {"AcrobotSwingup", "AcrobotSwingupSparse", "CartpoleBalance", "CartpoleBalanceSparse", "CartpoleSwingup",
             "CartpoleSwingupSparse", "PendulumSwingup", "PointMass"}  # fmt: skip
    assert {name for name in dm_control_names() if resolve_implementation(name, "auto") == "jax"} == small
    assert {resolve_implementation(name, "auto") for name in set(dm_control_names()) - small} == {"native"}
    assert (
        resolve_implementation("PointMass", "native") == "native"
        and resolve_implementation("CheetahRun", "jax") == "jax"
    )  # what is bound is bound
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert {resolve_implementation(name, "auto") for name in dm_control_names()} == {"jax"}


@pytest.mark.parametrize(
    "overrides, words",
    [
        ({"ctrl_dtt": 0.02}, ["'ctrl_dtt'", "ctrl_dt, naconmax, njmax, sim_dt", "Did you mean ctrl_dt?"]),
        (
            {"ctrl_dt": "fast"},
            ["overrides['ctrl_dt'] = 'fast'", "has a number or text of another kind there, such as "],
        ),
        ({"impl": "warp"}, ["bind PlaygroundEnvironment.impl"]),
        ({"episode_length": 500}, ["bind Task.episode_length"]),
        ({"action_repeat": 2}, ["raise 'ctrl_dt'"]),
        ({"ctrl_dt": 0.025}, ["ctrl_dt = 0.025 and sim_dt = 0.01", "a whole number"]),
        (
            {"sim_dt": 0.02},
            ["ctrl_dt = 0.01 and sim_dt = 0.02", "a whole number"],
        ),  # 0 physics steps: the task would stand still
        ({"ctrl_dt": 0.0}, ["a whole number"]),
    ],
)
def test_an_override_that_would_not_apply_is_an_error(overrides, words):
    for act in (lambda env: env.check(), lambda env: env.library):
        with pytest.raises(ConfigError) as caught:
            act(playground("CartpoleBalance", overrides=overrides))
        assert all(word in str(caught.value) for word in words)


def test_a_wrong_override_is_found_when_the_configuration_is_built():
    with pytest.raises(ConfigError, match="has the settings ctrl_dt.*Did you mean sim_dt"):
        config.build(["ppo.gin"], ["PlaygroundEnvironment.overrides = {'simdt': 0.02}"])


def test_overrides_change_the_physics():
    plain, slow = compiled("PendulumSwingup"), playground("PendulumSwingup", overrides={"ctrl_dt": 0.1})
    assert (plain.env.library.n_substeps, slow.library.n_substeps) == (2, 10)
    start, action = plain.reset(KEYS()), jnp.ones((3, 1))
    states = [start]
    for _ in range(5):
        states.append(plain.step(states[-1], action))
    once = jax.jit(jax.vmap(slow.step))(start, action)
    np.testing.assert_allclose(once.obs, states[5].obs, rtol=1e-4, atol=1e-5)
    moved = lambda state: np.abs(np.asarray(state.obs - start.obs)[:, -1])  # its velocity
    assert (moved(once) > 2 * moved(states[1])).all()


def test_keys_for_dict_observations_are_an_error_where_there_is_no_dict():
    for bad in ({"obs_key": "state"}, {"critic_obs_key": "privileged_state"}):
        with pytest.raises(ConfigError, match="is one array, not a dict: leave .* at None"):
            playground("CartpoleBalance", **bad).spaces()


def rollout(name, keys, actions):
    """(observations, rewards) of a reset and the steps after it [T + 1, B, ...]."""
    task = compiled(name)
    states = [task.reset(keys)]
    for action in actions:
        states.append(task.step(states[-1], action))
    assert not any(np.asarray(s.terminated | s.invalid).any() for s in states)
    for s in states:  # what is shown is what the library returned
        np.testing.assert_array_equal(s.obs, s.sim.obs)
        np.testing.assert_array_equal(s.reward, s.sim.reward)
    return np.stack([s.obs for s in states]), np.stack([s.reward for s in states])


def directly(name, keys, actions):
    """The same of the library's own environment."""
    from mujoco_playground import dm_control_suite

    env = dm_control_suite.load(name, config_overrides={"impl": "jax"})

    @jax.jit
    @jax.vmap
    def run(key, actions):
        first = env.reset(key)
        _, rest = jax.lax.scan(
            lambda s, a: (lambda n: (jax.tree.map(lambda x, y: x.astype(y.dtype), n, s), (n.obs, n.reward)))(
                env.step(s, a)
            ),
            first,
            actions,
        )
        return jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), (first.obs, first.reward), rest)

    return jax.tree.map(lambda x: np.swapaxes(x, 0, 1), run(jax.random.key_data(keys), jnp.swapaxes(actions, 0, 1)))


def moves(name):
    return jax.random.uniform(jax.random.key(8), (5, 3, compiled(name).env.action_size), minval=-1.0)


@pytest.mark.parametrize(
    "name", ["PendulumSwingup", *(pytest.param(n, marks=pytest.mark.slow) for n in ("CartpoleBalance", "PointMass"))]
)
def test_steps_are_finite_and_compile_once(name):
    obs_size, action_size = SIZES[name]
    task = compiled(name)
    spaces = task.env.spaces()
    assert (spaces.observation, spaces.critic_observation, spaces.action) == (obs_size, obs_size, action_size)
    before = len(task.traces)
    obs, reward = rollout(name, KEYS(), moves(name))
    assert (
        len(task.traces) <= before + 1 and task.step._cache_size() == 1
    )  # the first call had a reset's types, the later ones a step's
    assert obs.shape == (6, 3, obs_size) and reward.shape == (6, 3)
    assert obs.dtype == reward.dtype == np.float32
    assert np.isfinite(obs).all() and np.isfinite(reward).all()
    assert len(np.unique(obs[0], axis=0)) == 3
    assert np.ptp(obs[-1] - obs[0]) > 1e-3  # it moves


def assert_equals_the_library(name):
    obs, reward = rollout(name, KEYS(), moves(name))
    expected_obs, expected_reward = directly(name, KEYS(), moves(name))
    np.testing.assert_allclose(obs, expected_obs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(reward, expected_reward, rtol=1e-4, atol=1e-5)


def test_observations_and_rewards_are_the_librarys():
    assert_equals_the_library("PendulumSwingup")


def test_the_librarys_done_is_not_a_termination():
    """It is isnan of the state: here the physics of one lane is broken on purpose."""
    task = compiled("PendulumSwingup")
    state = task.reset(KEYS())
    qvel = state.sim.data.qvel.at[1].set(jnp.nan)
    after = task.step(eqx.tree_at(lambda s: s.sim.data, state, state.sim.data.replace(qvel=qvel)), jnp.zeros((3, 1)))
    np.testing.assert_array_equal(np.asarray(after.sim.done) > 0, [False, True, False])
    np.testing.assert_array_equal(np.asarray(after.invalid), [False, True, False])
    assert not np.asarray(after.terminated).any()
    assert float(after.reward[1]) == 0.0 and np.isfinite(np.asarray(after.obs)).all()


@pytest.mark.slow
def test_lanes_give_a_diverged_task_a_fresh_state():
    lane = LaneEnvironment(
        SquashedEnvironment(playground("PendulumSwingup"), as_float32(3.0)), 3, EpisodeRules(50, True, True)
    )
    break_one = lambda lanes, broken: eqx.tree_at(
        lambda s: s.env.sim.data,
        lanes,
        lanes.env.sim.data.replace(
            qpos=lanes.env.sim.data.qpos.at[1].set(jnp.where(broken, jnp.inf, lanes.env.sim.data.qpos[1]))
        ),
    )
    step = jax.jit(
        lambda lanes, broken: (lambda ready: (ready, *lane.step(break_one(ready, broken), jnp.zeros((3, 1)))))(
            lane.refresh(lanes)
        )
    )
    _, lanes, result = step(lane.start(jax.random.key(0)), True)
    np.testing.assert_array_equal(np.asarray(result.valid), [True, False, True])
    np.testing.assert_array_equal(np.asarray(lanes.needs_reset), [False, True, False])
    calm = np.asarray(lanes.env.obs)
    ready, lanes, result = step(lanes, False)
    assert np.isfinite(np.asarray(ready.env.sim.data.qpos)).all()
    np.testing.assert_array_equal(np.asarray(ready.env.obs)[[0, 2]], calm[[0, 2]])
    assert np.asarray(result.valid).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", dm_control_names())
def test_every_task_steps_as_in_the_library(name):
    task = compiled(name)
    assert task.env.spaces().observation == task.env.library.observation_size
    assert_equals_the_library(name)
    obs, reward = rollout(name, KEYS(), moves(name))
    assert len(task.traces) == task.step._cache_size() == 1
    assert np.isfinite(obs).all() and np.isfinite(reward).all()
    assert len(np.unique(obs[0], axis=0)) == (1 if name in ALWAYS_THE_SAME else 3)
    assert not np.array_equal(obs[0], obs[-1])
    compiled.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("name, num_envs", [("CartpoleBalance", 8), ("CartpoleBalance", 1), ("HopperStand", 4)])
def test_lanes_reset_under_warp(name, num_envs):
    """Warp's leaves have no batch axis. Until physics differ, its lanes do what MJX's JAX implementation does."""
    pytest.importorskip("warp")
    length, steps = 10, 24

    def history(impl):
        env = SquashedEnvironment(playground(name, impl=impl), as_float32(3.0))
        lane = LaneEnvironment(env, num_envs, EpisodeRules(length, True, True))

        def step(lanes, action):
            asked, lanes = lanes.needs_reset, lane.refresh(lanes)
            obs = lanes.env.obs
            lanes, result = lane.step(lanes, action)
            return lanes, (obs, asked, result.truncated, result.valid, result.after.reward)

        actions = 0.1 * jax.random.normal(jax.random.key(3), (steps, num_envs, env.action_size))
        return jax.tree.map(
            np.asarray, jax.jit(lambda s: jax.lax.scan(step, s, actions))(lane.start(jax.random.key(0)))[1]
        )

    (obs, asked, truncated, valid, reward), (obs_jax, asked_jax, truncated_jax, valid_jax, reward_jax) = (
        history("warp"),
        history("jax"),
    )
    assert valid.all() and valid_jax.all()
    np.testing.assert_array_equal(asked, asked_jax)
    np.testing.assert_array_equal(truncated, truncated_jax)
    assert asked.sum() >= 2 * num_envs + num_envs
    tolerance = {"rtol": 1e-2, "atol": 1e-2}
    np.testing.assert_allclose(obs[asked], obs_jax[asked], **tolerance)  # the initial states
    if name == "CartpoleBalance":  # no contacts: the two implementations agree for whole episodes
        np.testing.assert_allclose(obs, obs_jax, **tolerance)
        np.testing.assert_allclose(reward, reward_jax, **tolerance)
    assert len(np.unique(obs[asked], axis=0)) == asked.sum()
    assert (np.abs(obs[1:] - obs[:-1]).max(-1)[~asked[1:]] > 0).all()
