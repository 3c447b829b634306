"""A user's own MuJoCo model: a body on a hinge, without gravity, whose motion is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from gorl import config
from gorl.cli.main import build_app
from gorl.environments.mjcf import MJCFEnvironment
from gorl.errors import ConfigError

DT, INERTIA = 0.01, 0.5

XML = f"""
<mujoco>
  <option timestep="{DT}" gravity="0 0 0"/>
  <worldbody>
    <body>
      <joint name="hinge" type="hinge" axis="0 1 0" ref="30"/>
      <inertial pos="0 0 0" mass="1" diaginertia="{INERTIA} {INERTIA} {INERTIA}"/>
    </body>
  </worldbody>
  <actuator>
    <motor name="limited" joint="hinge" ctrllimited="true" ctrlrange="-2 3"/>
    <motor name="free" joint="hinge"/>
  </actuator>
</mujoco>
"""

PLUGIN = """
import gin
import jax
import jax.numpy as jnp


def reward(model, data, action):
    return data.qvel[0] - action[0]


def observation(model, data):
    return {"state": data.qpos, "privileged": jnp.concatenate([data.qpos, data.qvel, data.ctrl])}


def initial(model, key):
    return jax.random.uniform(key, (1,)), jnp.zeros(1)


def misspelt(model, data, action):
    return data.qvell[0]


for function in (reward, observation, initial, misspelt):
    gin.constant(f"hinge_task.{function.__name__}", function)
"""


pytestmark = pytest.mark.usefixtures("third_party")


@pytest.fixture(scope="module")
def xml(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "hinge.xml"
    path.write_text(XML)
    return str(path)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugin") / "hinge_task.py"
    path.write_text(PLUGIN.lstrip())
    return str(path)


def everything(model, data):
    return jnp.concatenate([data.qpos, data.qvel, data.ctrl])


def speed(model, data, action):
    return data.qvel[0] - action[0]


def mjcf(
    xml,
    *,
    reward=speed,
    observation=everything,
    terminated=None,
    initial=None,
    substeps=4,
    impl="jax",
    obs_key=None,
    critic_obs_key=None,
):
    return MJCFEnvironment(xml, reward, observation, terminated, initial, substeps, impl, obs_key, critic_obs_key)


def test_control_range_and_motion_by_hand(xml):
    env = mjcf(xml, terminated=lambda model, data: data.qpos[0] > 0.53)
    env.check()
    spaces = env.spaces()
    assert (spaces.observation, spaces.critic_observation, spaces.action) == (4, 4, 2)
    state = jax.jit(env.reset)(jax.random.key(0))
    angle = np.deg2rad(30)  # qpos0
    np.testing.assert_allclose(state.obs, [angle, 0, 0, 0], atol=1e-6)
    assert float(state.reward) == 0 and not bool(state.terminated)
    step = jax.jit(env.step)
    speed = 0.0
    # [-1, 1] is mapped to [-2, 3] on the first motor; the second has no range and gets the action as it is.
    for action, control in (([1.0, -0.5], [3.0, -0.5]), ([-1.0, 0.25], [-2.0, 0.25]), ([0.0, 0.0], [0.5, 0.0])):
        for _ in range(4):
            speed += DT * sum(control) / INERTIA
            angle += DT * speed
        state = step(state, jnp.asarray(action))
        np.testing.assert_allclose(state.obs, [angle, speed, *control], rtol=1e-4, atol=1e-5)
        assert float(state.reward) == pytest.approx(speed - action[0], rel=1e-4)
        assert not bool(state.invalid)
        assert bool(state.terminated) == (angle > 0.53)
    assert bool(state.terminated)
    assert step._cache_size() == 1


def test_a_step_has_at_least_one_physics_step(xml):
    with pytest.raises(ConfigError, match="MJCFEnvironment.substeps = 0: it must be >= 1"):
        mjcf(xml, substeps=0)


def test_initial_states_are_the_users_and_differ(xml):
    def initial(model, key):
        return jax.random.uniform(key, (1,), minval=-1.0), np.asarray([2])  # integers and NumPy arrays will do

    env = mjcf(xml, initial=initial)
    keys = jax.random.split(jax.random.key(0), 4)
    state = jax.jit(jax.vmap(env.reset))(keys)
    np.testing.assert_allclose(
        state.obs[:, 0], [float(jax.random.uniform(k, (1,), minval=-1.0)[0]) for k in keys], rtol=1e-6
    )
    np.testing.assert_allclose(state.obs[:, 1], 2.0)
    with pytest.raises(ConfigError, match=r"returned qpos of shape \(3,\); the model's has 1 numbers"):
        mjcf(xml, initial=lambda model, key: (jnp.zeros(3), jnp.zeros(1))).check()


def two_views(model, data):
    return {"state": data.qpos, "privileged": everything(model, data)}


def test_actor_and_critic_may_see_different_observations(xml):
    env = mjcf(xml, observation=two_views, obs_key="state", critic_obs_key="privileged")
    env.check()
    assert (env.spaces().observation, env.spaces().critic_observation) == (1, 4)
    state = jax.eval_shape(env.reset, jax.random.key(0))
    assert state.obs.shape == (1,) and state.critic_obs.shape == (4,)
    same = mjcf(xml, observation=two_views, obs_key="privileged")
    assert (same.spaces().observation, same.spaces().critic_observation) == (4, 4)


@pytest.mark.parametrize(
    "keys, message",
    [
        ({}, "the keys 'state', 'privileged'; obs_key = None names none"),
        (
            {"obs_key": "stat"},
            "the keys 'state', 'privileged'; obs_key = 'stat' names none of them. Did you mean state",
        ),
        (
            {"obs_key": "state", "critic_obs_key": "priviledged"},
            "critic_obs_key = 'priviledged' names none of them. Did you mean privileged",
        ),
    ],
)
def test_a_key_that_names_no_observation_is_an_error_that_names_them(xml, keys, message):
    with pytest.raises(ConfigError, match=message):
        mjcf(xml, observation=two_views, **keys).check()


def test_keys_are_an_error_where_there_is_no_dict(xml):
    for keys in ({"obs_key": "state"}, {"critic_obs_key": "state"}):
        with pytest.raises(ConfigError, match="is one array, not a dict: leave"):
            mjcf(xml, **keys).check()


def test_a_file_that_is_missing_or_no_model_is_an_error(xml, tmp_path):
    with pytest.raises(ConfigError, match="nope.xml'?: there is no such file"):
        mjcf(str(tmp_path / "nope.xml")).check()
    broken = tmp_path / "broken.xml"
    broken.write_text("<mujoco><worldbody></mujoco>")
    with pytest.raises(ConfigError, match="MuJoCo cannot read it: XML parse error.*Line number=1"):
        mjcf(str(broken)).check()
    still = tmp_path / "still.xml"
    still.write_text(XML[: XML.index("<actuator>")] + "</mujoco>")
    with pytest.raises(ConfigError, match="the model has no actuators"):
        mjcf(str(still)).check()
    with pytest.raises(ConfigError, match="MJCFEnvironment.impl = 'jaxx'.*Did you mean jax"):
        mjcf(xml, impl="jaxx").check()


def test_a_reward_that_is_no_number_is_an_error(xml):
    with pytest.raises(ConfigError, match=r"reward is one number a step, but this one has the shape \(1,\)"):
        mjcf(xml, reward=lambda model, data, action: data.qvel).check()
    with pytest.raises(ConfigError, match=r"termination is one number a step, but this one has the shape \(1,\)"):
        mjcf(xml, terminated=lambda model, data: data.qpos > 1.0).check()


def bindings(xml, reward="reward", obs_key="'state'"):
    return [
        f"ENV = '{xml}'", f"MJCFEnvironment.reward = %hinge_task.{reward}",
        "MJCFEnvironment.observation = %hinge_task.observation", "MJCFEnvironment.initial = %hinge_task.initial",
        f"MJCFEnvironment.obs_key = {obs_key}", "MJCFEnvironment.critic_obs_key = 'privileged'",
    ]  # fmt: skip


FILES = ["ppo.gin", "parts/mjcf.gin", "parts/debug.gin"]


def test_gin_builds_it_from_a_plugin(xml, plugin):
    built = config.build(FILES, bindings(xml), [plugin])
    env = built.experiment.task.environment
    assert (env.spaces().observation, env.spaces().critic_observation, env.spaces().action) == (1, 4, 2)
    assert (env.xml.name, env.substeps, env.impl, env.terminated) == (xml, 1, "jax", None)
    assert env.reward.__name__ == "reward" and env.reward.__module__ == "gorl_plugin_hinge_task"
    described = env.describe()
    assert (described["library"], described["name"], described["impl"]) == ("mjcf", "hinge", "jax")
    assert len(described["xml_sha256"]) == 64
    again = config.build(FILES, bindings(xml), [plugin]).experiment.task.environment
    assert again == env and hash(again) == hash(env)  # so both share compiled programs


@pytest.mark.parametrize(
    "change, message",
    [
        ({"obs_key": "'stat'"}, "'state', 'privileged'; obs_key = 'stat' names none of them. Did you mean state"),
        ({"reward": "misspelt"}, r"hinge_task.py:19: AttributeError: .*qvell"),
        ({"reward": "rewrd"}, "hinge_task.rewrd"),
    ],
)
def test_mistakes_are_found_when_the_configuration_is_built(xml, plugin, change, message):
    with pytest.raises(ConfigError, match=message):
        config.build(FILES, bindings(xml, **change), [plugin])


def test_gorl_check_finds_them_too(xml, plugin, tmp_path):
    def check(*arguments):
        options = [x for b in arguments for x in ("--set", b)]
        return CliRunner().invoke(build_app(), ["check", *FILES, "--plugin", plugin, *options])

    sound = check(*bindings(xml))
    assert sound.exit_code == 0, sound.exception
    assert "hinge (mjcf, jax)" in sound.output
    missing = check(*bindings(tmp_path / "nope.xml"))
    assert isinstance(missing.exception, ConfigError) and "there is no such file" in str(missing.exception)
    wrong = check(*bindings(xml, obs_key="None"))
    assert isinstance(wrong.exception, ConfigError) and "obs_key = None names none of them" in str(wrong.exception)
    unbound = check(f"ENV = '{xml}'")
    assert isinstance(unbound.exception, ConfigError) and "MJCFEnvironment.reward" in str(unbound.exception)
