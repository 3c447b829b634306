"""Native physics is MuJoCo's own, also where its solver ends early. (Euler: without joint damping.)"""

import mujoco
import numpy as np
import pytest

from gorl.environments.native.engine import ROW, Engine, field_shapes

XML = """
<mujoco>
  <option timestep="0.005" integrator="{integrator}" iterations="2"/>
  <worldbody>
    <geom type="plane" size="2 2 .1"/>
    <body pos="0 0 .4">
      <joint name="shoulder" type="hinge" axis="0 1 0" damping="{damping}"/>
      <geom type="capsule" fromto="0 0 0 .3 0 0" size=".04"/>
      <body pos=".3 0 0">
        <joint name="elbow" type="hinge" axis="0 1 0" damping="{damping}" range="-90 90" limited="true"/>
        <geom type="capsule" fromto="0 0 0 .3 0 0" size=".04"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="shoulder" gear="3"/><motor joint="elbow" gear="3"/></actuator>
  <sensor><jointvel joint="elbow"/></sensor>
</mujoco>
"""
STATES, SUBSTEPS, CONTROL_STEPS = 16, 4, 8


def model(integrator, damping=0.0):
    return mujoco.MjModel.from_xml_string(XML.format(integrator=integrator, damping=damping))


def random_states(physics, seed=0):
    """[B, N] rows with random positions, velocities and controls."""
    rng, shapes = np.random.default_rng(seed), field_shapes(physics)
    fields = {name: np.zeros((STATES, int(np.prod(shape)))) for name, shape in shapes.items()}
    fields["qpos"] = rng.uniform(-2, 2, fields["qpos"].shape)
    fields["qvel"] = rng.uniform(-5, 5, fields["qvel"].shape)
    fields["ctrl"] = rng.uniform(-1, 1, fields["ctrl"].shape)
    return np.concatenate([fields[name] for name in ROW], axis=1).astype(np.float32)


def native(physics, rows, threads=1):
    """[T, B, E + S] of control steps, each of which begins with what the last one returned."""
    engine, rows, found = Engine(physics, threads), rows.copy(), []
    for _ in range(CONTROL_STEPS):
        out = np.empty((len(rows), 1 + 3 * physics.nv + physics.nsensordata), np.float32)
        engine.advance(rows, out, steps=SUBSTEPS)
        rows[:, : 1 + 3 * physics.nv] = out[:, : 1 + 3 * physics.nv]
        found.append(out)
    return np.stack(found)


def mujoco_itself(physics, rows):
    """[T, B, E + S] of `mj_step`, with its own warm start, rounded to float32 after each control step."""
    nv, found = physics.nv, np.empty((CONTROL_STEPS, len(rows), 1 + 3 * physics.nv + physics.nsensordata))
    for row, given in enumerate(rows.astype(np.float64)):
        data = mujoco.MjData(physics)
        data.qpos[:], data.qvel[:], data.ctrl[:] = given[1 : 1 + nv], given[1 + nv : 1 + 2 * nv], given[-2:]
        for step in range(CONTROL_STEPS):
            mujoco.mj_step(physics, data, SUBSTEPS)
            state = np.concatenate([[data.time], data.qpos, data.qvel, data.qacc_warmstart])
            found[step, row] = [*state, *data.sensordata]
            rounded = state.astype(np.float32)
            data.time, data.qpos[:], data.qvel[:] = rounded[0], rounded[1 : 1 + nv], rounded[1 + nv : 1 + 2 * nv]
            data.qacc_warmstart[:] = rounded[1 + 2 * nv :]
    return found


@pytest.mark.parametrize(
    "integrator, damping",
    [("Euler", 0.0), ("implicit", 0.5), ("implicitfast", 0.5), ("RK4", 0.5)],
)
def test_control_steps_are_those_of_mujoco(integrator, damping):
    physics = model(integrator, damping)
    rows = random_states(physics)
    ours, theirs = native(physics, rows), mujoco_itself(physics, rows)
    for field, columns in {"qpos": slice(1, 3), "qvel": slice(3, 5), "sensors": slice(7, 8)}.items():
        np.testing.assert_allclose(ours[..., columns], theirs[..., columns], rtol=1e-5, atol=1e-5, err_msg=field)
    np.testing.assert_allclose(ours[..., 5:7], theirs[..., 5:7], rtol=1e-4, atol=1e-2)  # the acceleration
    assert np.abs(theirs[-1, :, 3:5]).max() > 0.1  # they still move


@pytest.mark.parametrize("integrator", ["Euler", "implicitfast"])
def test_threads_change_no_bit(integrator):
    physics = model(integrator, 0.5)
    rows = random_states(physics)
    np.testing.assert_array_equal(native(physics, rows, threads=1), native(physics, rows, threads=3))


@pytest.mark.parametrize("integrator", ["Euler", "implicitfast"])
def test_a_row_that_diverges_is_nan_and_the_others_are_not(integrator):
    physics = model(integrator)
    rows = random_states(physics)
    alone = native(physics, rows[:1])
    rows[1, 4] = 1e12  # a velocity beyond what MuJoCo accepts
    rows[2, 1] = np.nan
    found = native(physics, rows)
    assert np.isnan(found[0, 1:3]).all() and np.isfinite(found[:, [0, *range(3, STATES)]]).all()
    np.testing.assert_array_equal(found[:, :1], alone)
