"""MuJoCo models with extra sensors for the derived quantities that tasks read.

MuJoCo's batched rollouts return states and sensors. So the positions and orientations that a task reads become sensors,
added after the model's own. Like MJX's, they are evaluated in the forward pass, before integration.
"""

import dataclasses
import math
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Array, Float

from gorl.errors import ConfigError

_AXES = ("framexaxis", "frameyaxis", "framezaxis")  # the columns of a rotation matrix
# Sizes in which the model with extra sensors may differ from the task's.
_SENSOR_SIZES = ("nsensor", "nsensordata", "nbuffer", "narena", "nnames", "nnames_map", "npaths")


@dataclasses.dataclass(frozen=True)
class Derived:
    """A field of MjData with a row for every object of a kind, and the sensors that measure one object, in order."""

    objects: str
    kind: str
    sensors: tuple[str, ...]
    shape: Callable[[Array], Array] = lambda x: x[..., 0, :]  # from [..., objects, sensors, 3 or 4]


def _matrix(axes: Array) -> Array:
    return axes.swapaxes(-1, -2)


DERIVED = {
    "xpos": Derived("bodies", "xbody", ("framepos",)),
    "xquat": Derived("bodies", "xbody", ("framequat",)),
    "xmat": Derived("bodies", "xbody", _AXES, _matrix),
    "xipos": Derived("bodies", "body", ("framepos",)),
    "ximat": Derived("bodies", "body", _AXES, _matrix),
    "geom_xpos": Derived("geoms", "geom", ("framepos",)),
    "geom_xmat": Derived("geoms", "geom", _AXES, _matrix),
    "site_xpos": Derived("sites", "site", ("framepos",)),
    "site_xmat": Derived("sites", "site", _AXES, _matrix),
    "subtree_com": Derived("bodies", "body", ("subtreecom",)),
}
"""The quantities that sensors can measure, by their names in MjData."""

SOURCES = {**{name: (name,) for name in DERIVED}, "xanchor": ("xpos", "xmat")}
"""The quantities that a task can read, and those that must be measured for each."""


def with_sensors(library: Any, saved: str | None, fields: Sequence[str]) -> mujoco.MjModel:
    """Returns a Playground task's model with all its numbers, and a sensor for every row of `fields`, in their order.

    `saved` is the model's XML as MuJoCo wrote it, for tasks that build their model from more than their file. Raises
    ConfigError if neither XML gives a model of the same structure.
    """
    model = library.mj_model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they were shown when Playground read the same file
        for text in filter(None, (pathlib.Path(library.xml_path).read_text(), saved)):
            candidate = _add_sensors(mujoco.MjSpec.from_string(text, library.model_assets), fields)
            if _same_structure(candidate, model):
                return _copy_numbers(model, candidate)
    raise ConfigError(
        f"native physics: {type(library).__name__}'s model cannot be rebuilt from {library.xml_path}:"
        " bind PlaygroundEnvironment.impl = 'jax' for this task."
    )


def last_xml(model: mujoco.MjModel) -> str | None:
    """Returns the XML that MuJoCo read last, or None if this model was not built from it."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.xml"
        try:
            mujoco.mj_saveLastXML(str(path), model)
        except mujoco.FatalError:
            return None
        return path.read_text()


def _same_structure(candidate: mujoco.MjModel, model: mujoco.MjModel) -> bool:
    """Whether two models agree in sizes and in the ids that link their objects, whatever numbers a task has changed."""
    sizes = (
        n for n in dir(model) if n.startswith("n") and isinstance(getattr(model, n), int) and n not in _SENSOR_SIZES
    )
    links = (
        n
        for n, value in _arrays(model)
        if n.endswith(("id", "type", "adr", "num")) and np.issubdtype(value.dtype, np.integer)
    )
    return all(getattr(candidate, n) == getattr(model, n) for n in sizes) and all(
        np.array_equal(getattr(candidate, n), getattr(model, n)) for n in links
    )


def _arrays(model: mujoco.MjModel) -> Iterator[tuple[str, np.ndarray]]:
    """Returns every array of the model except names and sensors."""
    names = (n for n in dir(model) if not n.startswith(("_", "name", "sensor_")))
    return ((n, getattr(model, n)) for n in names if isinstance(getattr(model, n), np.ndarray))


def _add_sensors(spec: mujoco.MjSpec, fields: Sequence[str]) -> mujoco.MjModel:
    spec.compile()  # gives everything its id
    for field in fields:
        derived = DERIVED[field]
        for item in sorted(getattr(spec, derived.objects), key=lambda item: item.id):
            item.name = item.name or f"gorl/{derived.objects}/{item.id}"
            for sensor in derived.sensors:
                new = spec.add_sensor(name=f"gorl/{field}/{item.id}/{sensor}")
                new.type = getattr(mujoco.mjtSensor, f"mjSENS_{sensor.upper()}")
                new.objtype = getattr(mujoco.mjtObj, f"mjOBJ_{derived.kind.upper()}")
                new.objname = item.name
    return spec.compile()


def _copy_numbers(source: mujoco.MjModel, target: mujoco.MjModel) -> mujoco.MjModel:
    """Copies all numbers to `target`: a task may have changed its model after reading the XML."""
    for name, value in _arrays(source):
        getattr(target, name)[...] = value
    for part in ("opt", "stat"):
        old, new = getattr(source, part), getattr(target, part)
        for name in (n for n in dir(old) if not n.startswith("_")):
            setattr(new, name, getattr(old, name))
    return target


def split_sensors(
    model: mujoco.MjModel, sensordata: Float[Array, "*batch N"], fields: Sequence[str]
) -> dict[str, Array]:
    """Splits the sensors [..., N] of a model from `with_sensors` into the task's own (`sensordata`) and `fields`."""
    sizes = {"bodies": model.nbody, "geoms": model.ngeom, "sites": model.nsite}
    shapes = [
        (sizes[DERIVED[f].objects], len(DERIVED[f].sensors), 4 if DERIVED[f].sensors == ("framequat",) else 3)
        for f in fields
    ]
    start = model.nsensordata - sum(math.prod(s) for s in shapes)
    derived = {"sensordata": sensordata[..., :start]}
    for field, shape in zip(fields, shapes, strict=True):
        stop = start + math.prod(shape)
        derived[field] = DERIVED[field].shape(sensordata[..., start:stop].reshape(*sensordata.shape[:-1], *shape))
        start = stop
    return derived
