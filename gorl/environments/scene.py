"""How MuJoCo draws an environment."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from gorl.state import EnvState, PyTree


@dataclasses.dataclass(frozen=True)
class Scene:
    """How MuJoCo draws an environment.

    `model` is an MjModel, `dt` the duration of a control step in seconds. `pose(state)` returns the fields of an MjData
    that determine where everything is, by name.
    """

    model: Any
    dt: float
    pose: Callable[[EnvState], dict[str, Any]]


def model_hash(model: Any) -> str:
    """Returns a hash of an MjModel's whole content, meshes and textures included, but not of where its files are."""
    digest = hashlib.sha256()
    for part in (model, model.opt, model.stat):
        for name in sorted(dir(part)):
            value = (
                None if name.startswith("_") or name in _PLACES or name.endswith("_pathadr") else getattr(part, name)
            )
            if isinstance(value, (np.ndarray, int, float, bytes)):
                content = value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
                digest.update(b"%s\0%d\0" % (name.encode(), len(content)) + content)
    return digest.hexdigest()


_PLACES = ("paths", "npaths", "nbuffer")
"""Fields of an MjModel that depend on where its files are."""

POSE = ("qpos", "mocap_pos", "mocap_quat")


def pose_of(data: PyTree) -> dict[str, Any]:
    """Returns the pose in MJX's data."""
    return {name: getattr(data, name) for name in POSE}
