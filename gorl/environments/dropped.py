"""Finds what MuJoCo simulates of a model and MJX's implementation 'jax' silently does not (MuJoCo 4.0).

MJX itself refuses most of what it lacks. The rest was found by comparing steps of models with each feature.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gorl.errors import ConfigError

_ARRAYS = {
    "actuator_delay": ("actuator", "a delay"),
    "actuator_actearly": ("actuator", "actearly"),
    "actuator_armature": ("actuator", "armature"),
    "actuator_damping": ("actuator", "damping"),
    "actuator_dampingpoly": ("actuator", "damping with powers of the velocity"),
    "actuator_plugin": ("actuator", "a plugin"),
    "body_plugin": ("body", "a plugin"),
    "dof_dampingpoly": ("dof", "damping with powers of the velocity"),
    "geom_adhesion": ("geom", "adhesion"),
    "geom_fluid": ("geom", "an ellipsoid in a fluid"),
    "geom_surfacevel": ("geom", "a surface velocity"),
    "jnt_plasticadr": ("joint", "plasticity"),
    "jnt_springyield": ("joint", "a spring that yields"),
    "jnt_stiffnesspoly": ("joint", "stiffness with powers of the position"),
    "pair_adhesion": ("contact pair", "adhesion"),
    "sensor_delay": ("sensor", "a delay"),
    "sensor_interval": ("sensor", "an interval"),
    "tendon_dampingpoly": ("tendon", "damping with powers of the velocity"),
    "tendon_plasticadr": ("tendon", "plasticity"),
    "tendon_springyield": ("tendon", "a spring that yields"),
    "tendon_stiffnesspoly": ("tendon", "stiffness with powers of the length"),
}
"""Arrays of MjModel with a row for each object, which MJX does not read: the object, and what a row that is set is."""
_UNSET = {"_plugin": -1, "_plasticadr": -1}
"""The values of rows that are not set, by the end of the array's name; 0 elsewhere."""


def dropped_by_mjx(model: Any) -> list[str]:
    """Returns what MJX's implementation 'jax' would leave out of an MjModel, each with its first object."""
    return [*_arrays(model), *_options(model), *_sensors(model)]


def _arrays(model: Any) -> Iterator[str]:
    for name, (kind, what) in _ARRAYS.items():
        if name == "geom_fluid" and not (model.opt.density or model.opt.viscosity):
            continue
        unset = next((value for end, value in _UNSET.items() if name.endswith(end)), 0)
        rows = np.asarray(getattr(model, name, ()))  # other versions of MuJoCo lack some
        found = np.flatnonzero((rows.reshape(len(rows), -1) != unset).any(axis=1)) if len(rows) else ()
        if len(found):
            yield f"{what} ({kind} {_name(model, kind, int(found[0]))})"


def _options(model: Any) -> Iterator[str]:
    off = [i for i, group in enumerate(model.actuator_group) if model.opt.disableactuator >> int(group) & 1]
    if off:
        yield f"a disabled group of actuators (actuator {_name(model, 'actuator', off[0])})"
    if model.opt.noslip_iterations > 0:
        yield f"noslip_iterations = {model.opt.noslip_iterations}"


def _sensors(model: Any) -> Iterator[str]:
    """Yields sensors of accelerations and forces, if the model has no constraints: MJX then ends before them."""
    import mujoco
    from mujoco import mjx

    late = np.flatnonzero(model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC)
    if late.size and mjx.make_data(model, impl="jax")._impl.efc_J.shape[0] == 0:
        kind = mujoco.mjtSensor(int(model.sensor_type[late[0]])).name.removeprefix("mjSENS_").lower()
        yield f"its {kind} (sensor {_name(model, 'sensor', int(late[0]))}), since the model has no constraints"


def _name(model: Any, kind: str, index: int) -> str:
    import mujoco

    kinds = {"body": "BODY", "geom": "GEOM", "joint": "JOINT", "tendon": "TENDON", "sensor": "SENSOR"}
    kinds |= {"actuator": "ACTUATOR", "contact pair": "PAIR"}
    if kind not in kinds:
        return str(index)
    return mujoco.mj_id2name(model, getattr(mujoco.mjtObj, f"mjOBJ_{kinds[kind]}"), index) or str(index)


def require_simulated(model: Any, where: str) -> None:
    """Raises ConfigError, naming the model by `where`, if MJX's implementation 'jax' would leave out some of it."""
    found = dropped_by_mjx(model)
    if found:
        raise ConfigError(
            f"{where}: MJX does not simulate {', '.join(found)}, and says nothing. Take it out of the model, or train"
            " an environment of your own that calls MuJoCo."
        )
