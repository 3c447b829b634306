"""A MuJoCo model that also measures what tasks read of a simulation beside its state.

MuJoCo's batched rollouts return states and sensors. So the positions and orientations that a task reads become sensors, behind the model's own.
They are evaluated in the forward pass, before it integrates: as MJX's are.
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

from gorl.errors import ConfigError

_AXES = ("framexaxis", "frameyaxis", "framezaxis")  # the columns of a rotation matrix
_OWN = (
    "nsensor",
    "nsensordata",
    "nbuffer",
    "narena",
    "nnames",
    "nnames_map",
    "npaths",
)  # sizes in which the two models may differ


@dataclasses.dataclass(frozen=True)
class Derived:
    """A field of MjData with a row for every object of a kind. `sensors`: what they measure of each, in order."""

    objects: str
    kind: str
    sensors: tuple[str, ...]
    shape: Callable[[Any], Any] = lambda x: x[..., 0, :]  # from [..., objects, sensors, 3 or 4]


def _matrix(axes: Any) -> Any:
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
"""What can be measured, by its name in MjData."""

SOURCES = {**{name: (name,) for name in DERIVED}, "xanchor": ("xpos", "xmat")}
"""What can be read, and what has to be measured for it."""


def measuring(library: Any, saved: str | None, fields: Sequence[str]) -> mujoco.MjModel:
    """The model of a Playground task with a sensor for every row of `fields`, in their order, and every number as the task has it.

    `saved`: the model's XML as MuJoCo wrote it, for tasks that make theirs from more than their file.
    """
    model = library.mj_model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they were given when Playground read the same file
        for text in filter(None, (pathlib.Path(library.xml_path).read_text(), saved)):
            found = _extended(mujoco.MjSpec.from_string(text, library.model_assets), fields)
            if _same_structure(found, model):
                return _copy_numbers(model, found)
    raise ConfigError(
        f"native physics: {type(library).__name__}'s model cannot be rebuilt from {library.xml_path}: bind PlaygroundEnvironment.impl = 'jax' for this task."
    )


def last_xml(model: mujoco.MjModel) -> str | None:
    """The XML that MuJoCo read last, if it made this model."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.xml"
        try:
            mujoco.mj_saveLastXML(str(path), model)
        except mujoco.FatalError:
            return None
        return path.read_text()


def _same_structure(candidate: mujoco.MjModel, model: mujoco.MjModel) -> bool:
    """In sizes, and in what says how things belong together; not in the numbers that a task may change."""
    sizes = (n for n in dir(model) if n.startswith("n") and isinstance(getattr(model, n), int) and n not in _OWN)
    links = (
        n
        for n, value in _arrays(model)
        if n.endswith(("id", "type", "adr", "num")) and np.issubdtype(value.dtype, np.integer)
    )
    return all(getattr(candidate, n) == getattr(model, n) for n in sizes) and all(
        np.array_equal(getattr(candidate, n), getattr(model, n)) for n in links
    )


def _arrays(model: mujoco.MjModel) -> Iterator[tuple[str, np.ndarray]]:
    """Of everything but names and sensors."""
    names = (n for n in dir(model) if not n.startswith(("_", "name", "sensor_")))
    return ((n, getattr(model, n)) for n in names if isinstance(getattr(model, n), np.ndarray))


def _extended(spec: mujoco.MjSpec, fields: Sequence[str]) -> mujoco.MjModel:
    spec.compile()  # gives everything its id
    for field in fields:
        derived = DERIVED[field]
        for item in sorted(getattr(spec, derived.objects), key=lambda item: item.id):
            item.name = item.name or f"gorl/{derived.objects}/{item.id}"
            for sensor in derived.sensors:
                added = spec.add_sensor(name=f"gorl/{field}/{item.id}/{sensor}")
                added.type = getattr(mujoco.mjtSensor, f"mjSENS_{sensor.upper()}")
                added.objtype = getattr(mujoco.mjtObj, f"mjOBJ_{derived.kind.upper()}")
                added.objname = item.name
    return spec.compile()


def _copy_numbers(source: mujoco.MjModel, target: mujoco.MjModel) -> mujoco.MjModel:
    """A task may have changed its model after it was read."""
    for name, value in _arrays(source):
        getattr(target, name)[...] = value
    for part in ("opt", "stat"):
        of, to = getattr(source, part), getattr(target, part)
        for name in (n for n in dir(of) if not n.startswith("_")):
            setattr(to, name, getattr(of, name))
    return target


def split(model: mujoco.MjModel, sensordata: Any, fields: Sequence[str]) -> dict[str, Any]:
    """The library's own sensors, and every field, out of the sensors [..., N] of a `measuring` model."""
    sizes = {"bodies": model.nbody, "geoms": model.ngeom, "sites": model.nsite}
    shapes = [
        (sizes[DERIVED[f].objects], len(DERIVED[f].sensors), 4 if DERIVED[f].sensors == ("framequat",) else 3)
        for f in fields
    ]
    start = model.nsensordata - sum(math.prod(s) for s in shapes)
    found = {"sensordata": sensordata[..., :start]}
    for field, shape in zip(fields, shapes, strict=True):
        stop = start + math.prod(shape)
        found[field] = DERIVED[field].shape(sensordata[..., start:stop].reshape(*sensordata.shape[:-1], *shape))
        start = stop
    return found
