"""MuJoCo's import, which a rendering backend that is missing must not end: only pictures need one.

MuJoCo imports the backend that MUJOCO_GL names, and fails where its library is missing or the name is unknown. Then it
is imported without one, and whoever draws says what is wrong (`gorl.pictures.rendering.backend`).
"""

import importlib
import os
import sys


def make_importable() -> None:
    """Imports MuJoCo if MUJOCO_GL is set, without that variable if it does not work."""
    value = os.environ.get("MUJOCO_GL")
    if value is None:
        return
    try:
        importlib.import_module("mujoco")
    except Exception:  # each backend has its own errors
        os.environ["MUJOCO_GL"] = "disable"
        try:
            importlib.import_module("mujoco")
        finally:
            os.environ["MUJOCO_GL"] = value
        for name, module in list(sys.modules.items()):  # the first attempt imported them into another module
            package, _, child = name.rpartition(".")
            if package.split(".")[0] == "mujoco":
                setattr(sys.modules[package], child, module)
