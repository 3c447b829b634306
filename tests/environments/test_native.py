"""Playground's tasks on MuJoCo's own engine, against MJX and against MuJoCo called directly."""

import dataclasses
import functools
import json
import pathlib
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from gorl import config, runs
from gorl.acting.lanes import LaneEnvironment
from gorl.environments.names import dm_control_names
from gorl.environments.native import engine as native_engine, model as native_model, task as native
from gorl.environments.playground import PlaygroundEnvironment
from gorl.environments.task import EpisodeRules
from gorl.environments.wrappers import SquashedEnvironment
from gorl.errors import ConfigError
from gorl.fields import as_float32
from gorl.training import trained
from tests.support import mjx_steps
from tests.support.toy_runs import Crash, train_here

pytestmark = pytest.mark.usefixtures("third_party")

KEYS = lambda: jax.random.split(jax.random.key(7), 4)


def playground(name, impl="native", *, overrides=None, threads=None):
    return PlaygroundEnvironment(name, impl, overrides or {}, None, None, threads)


@functools.cache
def compiled(name, impl="native"):
    env = playground(name, impl)
    return env, jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))


def physics(name):
    """What the task calls instead of MJX."""
    return playground(name)._task.step.__self__._step.__func__.__globals__["mjx_env"].step.__self__


def engine(name, threads=None):
    return native_engine.Engine(physics(name)._engine.model, threads)


def rows(name, count):
    """[count, N]: resets of a task, moving, as its engine takes them."""
    env, reset, step = compiled(name)
    state = reset(jax.random.split(jax.random.key(3), count))
    for _ in range(3):
        state = step(state, jax.random.uniform(jax.random.key(4), (count, env.action_size), minval=-1.0))
    data = state.sim.data
    return np.concatenate([np.asarray(getattr(data, f)).reshape(count, -1) for f in native_engine.ROW], axis=1)


def advance(engine, given, steps):
    out = np.empty((len(given), engine._width + engine.model.nsensordata), np.float32)
    engine.advance(given, out, steps=steps)
    return out


def transplanted(sim):
    """MJX's state of a task as that of native physics."""
    return sim.replace(
        data=native.NativeData(
            **{f: jnp.asarray(getattr(sim.data, f), jnp.float32) for f in native_engine.ROW}, derived={}
        )
    )


def compare_with_mjx(name, steps):
    """Largest relative deviations.

    They are those of resets from the same keys; of one step from MJX's states [steps, lanes]; of steps from the first.
    """
    (_, reset, step), (_, mjx_reset, mjx_step) = compiled(name), compiled(name, "jax")
    expected, ours = mjx_reset(KEYS()), reset(KEYS())
    away = lambda a, b: np.max(
        np.abs(
            np.concatenate([a.obs - b.obs, (a.reward - b.reward)[:, None]], 1)
            / (1.0 + np.max(np.abs(a.obs), 1)[:, None])
        ),
        1,
    )
    first = away(expected, ours)
    ours = eqx.tree_at(lambda s: s.sim, ours, transplanted(expected.sim))
    single, several = [], []
    for action in jax.random.uniform(jax.random.key(8), (steps, 4, compiled(name)[0].action_size), minval=-1.0):
        once = step(eqx.tree_at(lambda s: s.sim, ours, transplanted(expected.sim)), action)
        expected, ours = mjx_step(expected, action), step(ours, action)
        single.append(away(expected, once))
        several.append(away(expected, ours))
        assert not np.asarray(expected.invalid | ours.invalid).any()
    return first, np.stack(single), np.stack(several)


@pytest.mark.parametrize("name", mjx_steps.TASKS)
def test_resets_and_steps_are_mjxs(name):
    """Resets from the same keys, and single steps from each of MJX's states, with constraints and contacts."""
    recorded = {
        field: value.reshape(mjx_steps.STEPS * mjx_steps.LANES, *value.shape[2:])
        for field, value in mjx_steps.load(name).items()
    }
    count, lanes = len(recorded["time"]), mjx_steps.LANES
    env, reset, step = compiled(name)
    state = reset(
        jnp.concatenate(
            [jax.random.split(jax.random.key(7), lanes), jax.random.split(jax.random.key(0), count - lanes)]
        )
    )
    for field in ("qpos", "qvel", "mocap_pos"):
        first = recorded[field][:lanes].reshape(lanes, -1)
        np.testing.assert_allclose(
            getattr(state.sim.data, field)[:lanes].reshape(lanes, -1), first, rtol=1e-3, atol=2e-4
        )
    data = state.sim.data.replace(
        **{f: recorded[f].reshape(getattr(state.sim.data, f).shape) for f in native_engine.ROW}
    )
    after = step(eqx.tree_at(lambda s: s.sim.data, state, data), jnp.asarray(recorded["action"]))
    size = 1.0 + np.abs(recorded["next_obs"]).max(1)
    assert np.ptp(recorded["next_obs"], axis=0).max() > 0.1  # something moved
    assert (np.abs(after.obs - recorded["next_obs"]).max(1) / size).max() < 3e-5
    assert np.abs(after.reward - recorded["next_reward"]).max() < 3e-5


@dataclasses.dataclass(frozen=True)
class Within:
    """How far from MJX a task may be: resets, the median of single steps, and all lanes over the first `steps`."""

    reset: float = 1e-5
    step: float = 1e-5
    steps: int = 20
    several: float = 1e-4


# Where bodies touch, Playground's few solver iterations end before the solution does, each implementation elsewhere.
TOUCHING = {
    "CheetahRun": Within(reset=2e-4, several=1e-3),
    **dict.fromkeys(("HopperHop", "HopperStand"), Within(steps=5, several=1e-2)),
    **dict.fromkeys(("WalkerRun", "WalkerStand", "WalkerWalk"), Within(steps=10, several=1e-2)),
    **dict.fromkeys(("HumanoidRun", "HumanoidStand", "HumanoidWalk"), Within(steps=5, several=1e-2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", dm_control_names())
def test_every_task_is_as_in_mjx(name):
    within = TOUCHING.get(name, Within())
    first, single, several = compare_with_mjx(name, within.steps)
    print(
        f"{name}: reset {first.max():.1e}, one step {np.median(single):.1e} (worst {single.max():.1e}), "
        f"{within.steps} steps {several.max():.1e}"
    )
    assert first.max() < within.reset
    assert np.median(single) < within.step
    assert several.max() < within.several
    compiled.cache_clear()


IN_CI = ("PendulumSwingup", "FingerTurnEasy")


@pytest.mark.parametrize(
    "name", [*IN_CI, *(pytest.param(n, marks=pytest.mark.slow) for n in dm_control_names() if n not in IN_CI)]
)
def test_every_task_resets_and_steps(name):
    env, reset, step = compiled.__wrapped__(name)
    first, before = reset(KEYS()), step._cache_size()
    state = first
    for i in range(5):
        state = step(state, jax.random.uniform(jax.random.key(i), (4, env.action_size), minval=-1.0))
    assert step._cache_size() == before + 1  # a step returns what a reset does
    assert not np.asarray(state.invalid).any() and np.isfinite(np.asarray(state.obs)).all()
    assert not np.array_equal(state.obs, first.obs)
    np.testing.assert_allclose(state.sim.data.time, 5 * env.library.dt, rtol=1e-5)
    same = name in ("BallInCup", "HumanoidStand", "HumanoidWalk", "HumanoidRun")  # Playground draws nothing there
    assert len(np.unique(np.asarray(first.obs), axis=0)) == (1 if same else 4)


@pytest.mark.parametrize("name", ["FingerTurnEasy", "HumanoidRun", "SwimmerSwimmer6"])
def test_derived_fields_are_those_of_mujoco(name):
    """Of every body, geom and site; in the state before the last physics step integrated."""
    from mujoco_playground import dm_control_suite

    library, fields = playground(name).library, tuple(native_model.DERIVED)
    saved = native_model.last_xml(dm_control_suite.load(name, config_overrides={"impl": "jax"}).mj_model)
    everything = native.NativePhysics(native_model.with_sensors(library, saved, fields), fields, 1)
    model, reference = library.mj_model, mujoco.MjData(library.mj_model)
    rng = np.random.default_rng(0)
    reference.qpos += 0.1 * rng.normal(size=model.nq)
    mujoco.mj_normalizeQuat(model, reference.qpos)
    reference.qvel[:] = 0.5 * rng.normal(size=model.nv)
    control = rng.uniform(-1, 1, model.nu).astype(np.float32)
    data = everything.make_data(
        model, qpos=jnp.asarray(reference.qpos, jnp.float32), qvel=jnp.asarray(reference.qvel, jnp.float32)
    )
    step = lambda d: everything.step(None, d, jnp.asarray(control), 3)
    found = {"forward": jax.jit(lambda d: everything.forward(None, d))(data), "step": jax.jit(step)(data)}
    mujoco.mj_forward(model, reference)
    assert_equals(found["forward"], model, reference, fields)
    reference.ctrl[:] = control
    for _ in range(3):
        mujoco.mj_step(model, reference)
    assert_equals(found["step"], model, reference, fields)
    np.testing.assert_allclose(found["step"].qpos, reference.qpos, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["step"].qvel, reference.qvel, rtol=1e-3, atol=1e-5)
    if model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER:  # Finger's damps implicitly
        np.testing.assert_allclose(found["step"].qacc_warmstart, reference.qacc_warmstart, rtol=1e-3, atol=1e-3)


def assert_equals(data, model, reference, fields):
    for field in ("sensordata", *fields):
        expected = getattr(reference, field)
        np.testing.assert_allclose(
            getattr(data, field), expected.reshape(getattr(data, field).shape), rtol=1e-4, atol=1e-4, err_msg=field
        )
    if (model.body_jntnum <= 1).all() and (model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE.value).all():
        np.testing.assert_allclose(data.xanchor, reference.xanchor, atol=1e-5)
    else:
        with pytest.raises(native.NotComputed, match="'xanchor'"):
            _ = data.xanchor


def test_the_model_has_the_tasks_numbers_and_options():
    """Finger's spinner is damped after its model is read; Swimmer's model is written by code."""
    for name in ("FingerSpin", "SwimmerSwimmer6", "WalkerWalk"):
        theirs, ours = playground(name).library.mj_model, physics(name)._engine.model
        for field in ("dof_damping", "jnt_range", "body_mass", "geom_friction", "actuator_gear", "geom_size"):
            np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field), err_msg=field)
        for option in ("timestep", "iterations", "ls_iterations", "solver", "integrator", "tolerance"):
            assert getattr(ours.opt, option) == getattr(theirs.opt, option)
        assert ours.opt.disableflags == theirs.opt.disableflags | mujoco.mjtDisableBit.mjDSBL_AUTORESET
        assert ours.nsensor >= theirs.nsensor
    assert playground("FingerSpin").library.mj_model.dof_damping[2] == 0.03


def test_only_fields_that_a_task_reads_are_measured():
    assert [physics(n)._fields for n in ("FingerTurnEasy", "FingerSpin")] == [("xpos", "xmat"), ()]


def test_nothing_old_is_ever_read():
    env, reset, step = compiled("PendulumSwingup")
    state = step(reset(KEYS()), jnp.zeros((4, 1)))
    for field in ("xmat", "cvel", "sensordata"):  # measured for the task's own step, never computed, measured
        with pytest.raises(
            native.NotComputed,
            match=f"'{field}' of the simulation where there are only time, qpos.*impl = 'jax' computes everything",
        ):
            getattr(state.sim.data, field)
    with pytest.raises(native.NotComputed, match="uses 'xfrc_applied'"):
        state.sim.data.replace(xfrc_applied=jnp.zeros(3))
    with pytest.raises(ConfigError, match="qpos has the shape"):
        state.sim.data.replace(qpos=jnp.zeros((4, 2)))
    assert not hasattr(state.sim.data, "xfrc_applied")


def test_the_number_of_threads_changes_no_bit():
    given = rows("HopperStand", 37)
    alone = advance(engine("HopperStand", 1), given, 4)
    assert np.isfinite(alone).all() and len(np.unique(alone, axis=0)) == 37
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(advance(engine("HopperStand", threads), given, 4), alone)


def test_rows_do_not_depend_on_each_other_or_on_their_order(monkeypatch):
    given, ours = rows("HopperStand", 12), engine("HopperStand", 2)
    together = advance(ours, given, 4)
    np.testing.assert_array_equal(advance(ours, given[5:6], 4)[0], together[5])
    np.testing.assert_array_equal(advance(ours, given[::-1].copy(), 4)[::-1], together)
    monkeypatch.setattr(native_engine, "MAX_PHYSICS_STEPS", 20)  # five rows at a time
    np.testing.assert_array_equal(advance(ours, given, 4), together)


def test_vmapped_seeds_step_as_each_does_alone():
    env, reset, step = compiled("HopperStand")
    keys, actions = (
        jax.random.split(jax.random.key(1), (3, 4)),
        jax.random.uniform(jax.random.key(2), (3, 4, env.action_size)),
    )
    together = jax.jit(lambda k, a: jax.vmap(jax.vmap(lambda k, a: env.step(env.reset(k), a)))(k, a))(keys, actions)
    for seed in range(3):
        alone = step(reset(keys[seed]), actions[seed])
        for a, b in zip(jax.tree.leaves(alone.sim.data), jax.tree.leaves(together.sim.data), strict=True):
            np.testing.assert_array_equal(a, b[seed])
        np.testing.assert_array_equal(alone.obs, together.obs[seed])


def test_a_state_that_is_not_finite_is_invalid_and_leaves_no_log_file(tmp_path, monkeypatch, capfd):
    """A state or an action that is NaN, and one whose simulation diverges."""
    monkeypatch.chdir(tmp_path)
    env, reset, step = compiled("HopperStand")
    state = reset(KEYS())
    data = state.sim.data
    broken = data.replace(qvel=data.qvel.at[1].set(jnp.nan).at[2].set(3e9))
    after = step(eqx.tree_at(lambda s: s.sim.data, state, broken), jnp.zeros((4, env.action_size)).at[3].set(jnp.nan))
    np.testing.assert_array_equal(after.invalid, [False, True, True, True])
    assert (
        np.isnan(np.asarray(after.sim.data.qpos)[[1, 2, 3]]).all()
        and np.isfinite(np.asarray(after.sim.data.qpos)[0]).all()
    )
    assert not np.asarray(after.terminated).any() and np.isfinite(np.asarray(after.obs)).all()
    untouched = step(state, jnp.zeros((4, env.action_size)))
    np.testing.assert_array_equal(after.obs[0], untouched.obs[0])
    assert list(tmp_path.iterdir()) == []  # no MUJOCO_LOG.TXT
    assert "WARNING" not in "".join(capfd.readouterr())


def test_lanes_reset_themselves():
    """Each into a state of its own, after as many steps as an episode has."""
    length, steps, lanes = 10, 24, 5
    env = SquashedEnvironment(playground("PendulumSwingup"), as_float32(3.0))
    lane = LaneEnvironment(env, lanes, EpisodeRules(length, True, True))

    def step(state, action):
        asked, state = state.needs_reset, lane.refresh(state)
        obs, time = state.env.obs, state.env.sim.data.time
        state, result = lane.step(state, action)
        return state, (asked, obs, time, result.truncated, result.valid)

    actions = jax.random.normal(jax.random.key(3), (steps, lanes, 1))
    asked, obs, time, truncated, valid = jax.tree.map(
        np.asarray, jax.jit(lambda s: jax.lax.scan(step, s, actions)[1])(lane.start(jax.random.key(0)))
    )
    assert valid.all() and asked[0].all()
    np.testing.assert_array_equal(asked[1:], truncated[:-1])
    assert (time[asked] == 0).all() and (time[~asked] > 0).all()
    assert asked.sum() == lanes + truncated[:-1].sum() and asked[1:].sum() >= 2 * lanes
    assert len(np.unique(obs[asked], axis=0)) == asked.sum()


TINY = [
    "ENV = 'PendulumSwingup'", "PlaygroundEnvironment.impl = 'native'", "Experiment.trackers = []",
    "Experiment.pictures = []", "Experiment.checkpoint_interval = 0.0", "EPISODE_LENGTH = 8", "policy/MLP.depth = 1",
    "critic/MLP.depth = 1",
]  # fmt: skip


def record(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "wall_s"} for line in lines]


def arrays(folder):
    return [np.asarray(x) for x in jax.tree.leaves(eqx.filter(trained.restore(folder)[1], eqx.is_array))]


def test_an_interrupted_run_goes_on_with_the_same_bits(tmp_path):
    whole, halted = tmp_path / "whole", tmp_path / "halted"
    tiny = config.build(["ppo.gin", "parts/debug.gin"], TINY)
    train_here(tiny, whole)
    assert runs.RunFolder.open(whole).facts()["environment"]["impl"] == "native"
    with pytest.raises(Crash):
        train_here(tiny, halted, units=2)
    assert 0 < len(record(halted)) < len(record(whole))
    train_here(None, halted)
    assert record(halted) == record(whole)
    for a, b in zip(arrays(halted), arrays(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_programs_of_two_threads_do_not_wait_for_each_other():
    env, _, _ = compiled("PendulumSwingup")
    step = lambda state, _: (jax.vmap(env.step)(state, jnp.ones((5, 1))), None)
    run = jax.jit(lambda key: jax.lax.scan(step, jax.vmap(env.reset)(jax.random.split(key, 5)), length=60)[0].obs)
    keys = [jax.random.key(i) for i in range(2)]
    expected = [np.asarray(run(key)) for key in keys]
    found = {}

    def work(i):
        for _ in range(5):
            found[i] = np.asarray(run(keys[i]))

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    for i in range(2):
        np.testing.assert_array_equal(found[i], expected[i])


def test_a_forked_process_makes_threads_of_its_own():
    ours = engine("PendulumSwingup", 2)
    given = rows("PendulumSwingup", 8)
    advance(ours, given, 2)
    pools = dict(ours._pools)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_engine.os, "getpid", lambda: -1)  # as in a child
        advance(ours, given, 2)
    assert ours._pools.keys() - pools.keys() == {-1} and ours._pools[-1] is not next(iter(pools.values()))


def test_it_is_recorded_checked_and_drawn():
    env = playground("FishSwim")
    env.check()
    assert env.describe() == {"library": "mujoco_playground", "name": "FishSwim", "impl": "native", "overrides": {}}
    with pytest.raises(ConfigError, match="PlaygroundEnvironment.threads = 0: it must be >= 1"):
        playground("FishSwim", threads=0).check()
    with pytest.raises(ConfigError, match="'jax', 'warp', 'native'.*Did you mean native"):
        playground("FishSwim", "nativ").check()
    scene, state = env.scene(), compiled("FishSwim")[1](KEYS())
    pose = jax.vmap(scene.pose)(state)
    data = mujoco.MjData(scene.model)
    for name, value in pose.items():
        assert getattr(data, name).shape == value.shape[1:], name
    assert len(np.unique(np.asarray(pose["mocap_pos"]).reshape(4, -1), axis=0)) == 4  # the target's place


def test_only_a_cpu_can_simulate(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(ConfigError, match="simulates on the CPU, but JAX computes on the gpu here.*JAX_PLATFORMS=cpu"):
        _ = playground("ReacherHard", overrides={"sim_dt": 0.005}).library


def test_a_model_that_cannot_be_rebuilt_is_an_error(tmp_path):
    @dataclasses.dataclass
    class Task:
        mj_model: mujoco.MjModel
        xml_path: str
        model_assets: dict

    path = pathlib.Path(tmp_path) / "model.xml"
    path.write_text("<mujoco><worldbody><body><geom size='1'/><joint/></body></worldbody></mujoco>")
    other = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><geom size='1'/><freejoint/></body></worldbody></mujoco>"
    )
    with pytest.raises(
        ConfigError, match="Task's model cannot be rebuilt from .*model.xml: bind PlaygroundEnvironment.impl = 'jax'"
    ):
        native_model.with_sensors(Task(other, str(path), {}), None, ())
