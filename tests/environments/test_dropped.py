"""What MJX leaves out of a model is named, and what it simulates is not. Each feature was compared with MuJoCo."""

import mujoco
import pytest

from gorl.environments.dropped import dropped_by_mjx, require_simulated
from gorl.environments.native.engine import Engine
from gorl.errors import ConfigError

MODEL = """<mujoco><option {option}/>
<worldbody>
  <geom type="plane" size="5 5 1" {floor}/>
  <body name="cart"><joint name="x" type="slide" {joint}/><geom name="ball" size="0.1" {geom}/><site name="s"/></body>
</worldbody>
<tendon><fixed name="rope" {tendon}><joint joint="x" coef="1"/></fixed></tendon>
<actuator><motor name="push" joint="x" {actuator}/></actuator>
<sensor>{sensor}</sensor></mujoco>"""
NO_FLOOR = 'contype="0" conaffinity="0"'


def model(**parts):
    names = ("option", "floor", "joint", "geom", "tendon", "actuator", "sensor")
    return mujoco.MjModel.from_xml_string(MODEL.format(**{name: parts.get(name, "") for name in names}))


@pytest.mark.parametrize(
    "parts, found",
    [
        ({"actuator": 'delay="0.05" nsample="10"'}, "a delay (actuator push)"),
        ({"actuator": 'damping="1"'}, "damping (actuator push)"),
        ({"actuator": 'armature="1"'}, "armature (actuator push)"),
        ({"joint": 'damping="1 2 3"'}, "damping with powers of the velocity (dof 0)"),
        ({"joint": 'stiffness="1 2 3"'}, "stiffness with powers of the position (joint x)"),
        ({"tendon": 'stiffness="1 2 3"'}, "stiffness with powers of the length (tendon rope)"),
        ({"geom": 'surfacevel="1 0 0 0 0 0"'}, "a surface velocity (geom ball)"),
        ({"geom": 'adhesion="1"'}, "adhesion (geom ball)"),
        ({"geom": 'fluidshape="ellipsoid"', "option": 'density="1000"'}, "an ellipsoid in a fluid (geom ball)"),
        ({"option": 'noslip_iterations="3"'}, "noslip_iterations = 3"),
        (
            {"option": 'actuatorgroupdisable="2"', "actuator": 'group="2"'},
            "a disabled group of actuators (actuator push)",
        ),
        ({"sensor": '<jointpos joint="x" delay="0.05" nsample="10"/>'}, "a delay (sensor 0)"),
        (
            {"sensor": '<accelerometer name="felt" site="s"/>', "floor": NO_FLOOR, "geom": NO_FLOOR},
            "its accelerometer (sensor felt), since the model has no constraints",
        ),
    ],
)
def test_what_mjx_leaves_out_is_named(parts, found):
    assert dropped_by_mjx(model(**parts)) == [found]
    with pytest.raises(ConfigError, match="MJX does not simulate"):
        require_simulated(model(**parts), "a.xml")


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"joint": 'damping="1" stiffness="2" armature="0.1" frictionloss="0.1"', "geom": 'gap="0.01" margin="0.05"'},
        {"geom": 'fluidshape="ellipsoid"'},  # in a vacuum
        {"option": 'actuatorgroupdisable="2"', "actuator": 'group="1"'},
        {"sensor": '<accelerometer site="s"/><actuatorfrc actuator="push"/>'},  # with a floor to touch
        {"sensor": '<jointpos joint="x"/>', "floor": NO_FLOOR, "geom": NO_FLOOR},
    ],
)
def test_what_mjx_simulates_is_not(parts):
    assert dropped_by_mjx(model(**parts)) == []


def test_native_physics_does_not_advise_what_lacks_it_too():
    with pytest.raises(ConfigError) as err:
        Engine(model(actuator='delay="0.05" nsample="10"'), 1)
    assert "MJX does not simulate a delay (actuator push) either" in str(err.value) and "Bind" not in str(err.value)
