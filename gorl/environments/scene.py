"""How MuJoCo draws an environment."""

import dataclasses
from collections.abc import Callable
from typing import Any

from gorl.state import EnvState


@dataclasses.dataclass(frozen=True)
class Scene:
    """`model`: MuJoCo's own (an MjModel). `dt`: seconds of a control step. `pose(state)`: the fields of an MjData that place everything, by name."""

    model: Any
    dt: float
    pose: Callable[[EnvState], dict[str, Any]]


POSE = ("qpos", "mocap_pos", "mocap_quat")


def pose_of(data: Any) -> dict[str, Any]:
    """The pose in MJX's data."""
    return {name: getattr(data, name) for name in POSE}
