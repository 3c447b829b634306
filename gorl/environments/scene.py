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
    """Returns a hash of an MjModel's whole content, meshes and textures included."""
    import mujoco

    content = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, content)
    return hashlib.sha256(content).hexdigest()


POSE = ("qpos", "mocap_pos", "mocap_quat")


def pose_of(data: PyTree) -> dict[str, Any]:
    """Returns the pose in MJX's data."""
    return {name: getattr(data, name) for name in POSE}
