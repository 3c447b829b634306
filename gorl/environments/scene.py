"""How MuJoCo draws an environment."""

import dataclasses
from collections.abc import Callable
from typing import Any

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


POSE = ("qpos", "mocap_pos", "mocap_quat")


def pose_of(data: PyTree) -> dict[str, Any]:
    """Returns the pose in MJX's data."""
    return {name: getattr(data, name) for name in POSE}
