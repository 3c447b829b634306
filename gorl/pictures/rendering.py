"""Rendering MuJoCo scenes to frames, and writing frames to files."""

import contextlib
import ctypes.util
import importlib
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from gorl.environments.scene import Scene
from gorl.pictures.base import CannotDraw
from gorl.state import Array

_BACKENDS = ("egl", "osmesa", "glfw", "cgl", "wgl")
_FIX = "Install libegl1 or libosmesa6 and set MUJOCO_GL=egl or MUJOCO_GL=osmesa."


def backend() -> str:
    """Returns MuJoCo's OpenGL backend: $MUJOCO_GL, else EGL or OSMesa if installed, else the window system's.

    macOS always uses CGL. Raises CannotDraw if there is no backend, or $MUJOCO_GL names none.
    """
    requested = os.environ.get("MUJOCO_GL", "").lower()
    if requested in _BACKENDS:
        return requested
    if requested in ("disable", "disabled", "off", "false", "0"):
        raise CannotDraw(f"MUJOCO_GL={requested} disables rendering.")
    if requested not in ("", "enable", "enabled", "on", "true", "1"):
        raise CannotDraw(f"MUJOCO_GL={requested!r:.40} is no rendering backend: it is one of {', '.join(_BACKENDS)}.")
    if sys.platform == "darwin":
        return "cgl"
    for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if ctypes.util.find_library(library):
            return name
    if sys.platform == "win32" or os.environ.get("DISPLAY"):
        return "glfw"
    raise CannotDraw(f"there is no OpenGL library to draw MuJoCo's scenes with. {_FIX}")


class Camera:
    """A renderer of a scene from one of the model's cameras (None: its first, or else MuJoCo's free camera)."""

    def __init__(self, scene: Scene, camera: str | None, size: int):
        """`size`: the longer side in pixels (4:3). Raises CannotDraw for an unknown camera or too large a size."""
        import mujoco

        self._model = scene.model
        self._data = mujoco.MjData(scene.model)
        self.width, self.height = size, size * 3 // 4
        buffer = scene.model.vis.global_
        if self.width > buffer.offwidth or self.height > buffer.offheight:
            raise CannotDraw(
                f"the model has room for {buffer.offwidth} x {buffer.offheight} pixels, "
                f"fewer than {self.width} x {self.height}."
            )
        self._view = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(scene.model, self._view)
        names = [scene.model.camera(i).name for i in range(scene.model.ncam)]
        if camera is not None and camera not in names:
            raise CannotDraw(f"the model has no camera {camera!r}; it has {', '.join(map(repr, names)) or 'none'}.")
        if names:
            self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
            self._view.fixedcamid = 0 if camera is None else names.index(camera)
        self._rect = mujoco.MjrRect(0, 0, self.width, self.height)
        self._scene = mujoco.MjvScene(scene.model, maxgeom=10_000)
        self._option, self._perturb = mujoco.MjvOption(), mujoco.MjvPerturb()

    @contextlib.contextmanager
    def activate(self) -> Iterator["Camera"]:
        """Context manager in which `take` may be called. Raises CannotDraw if OpenGL fails."""
        import mujoco

        name = backend()
        try:
            context = importlib.import_module(f"mujoco.{name}").GLContext(self.width, self.height)
            context.make_current()
            self._render = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._render)
        except Exception as err:  # each backend has its own errors
            reason = " ".join(str(err).split()) or type(err).__name__
            raise CannotDraw(f"MuJoCo cannot draw with {name} ({reason[:120]}). {_FIX}") from err
        try:
            yield self
        finally:
            self._render.free()
            with contextlib.suppress(Exception):  # OSMesa's cleanup fails with new versions of PyOpenGL
                context.free()

    def take(self, pose: Mapping[str, Array | Sequence[float]]) -> UInt8[np.ndarray, "H W 3"]:
        """Returns one frame of the pose, a dict of MjData fields."""
        import mujoco

        for name, value in pose.items():
            getattr(self._data, name)[:] = value
        mujoco.mj_forward(self._model, self._data)
        mujoco.mjv_updateScene(
            self._model,
            self._data,
            self._option,
            self._perturb,
            self._view,
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
        mujoco.mjr_render(self._rect, self._scene, self._render)
        pixels = np.empty((self.height, self.width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, self._rect, self._render)
        return pixels[::-1]


def write_gif(path: pathlib.Path, frames: Sequence[UInt8[np.ndarray, "H W 3"]], seconds: float) -> None:
    """Writes an endless GIF that lasts `seconds`, with one palette for all frames."""
    import PIL.Image

    images = [PIL.Image.fromarray(f) for f in frames]
    sampled = np.concatenate(frames[:: max(1, len(frames) // 8)])
    palette = PIL.Image.fromarray(sampled).quantize(64)
    images = [i.quantize(palette=palette, dither=PIL.Image.Dither.NONE) for i in images]
    duration = max(20, round(1000 * seconds / len(images)))  # browsers slow down shorter frames
    images[0].save(path, save_all=True, append_images=images[1:], duration=duration, loop=0)


def can_film() -> bool:
    """Whether ffmpeg, which writes MP4 files, is installed."""
    return shutil.which("ffmpeg") is not None


def write_film(path: pathlib.Path, frames: Sequence[UInt8[np.ndarray, "H W 3"]], rate: float) -> None:
    """Writes an MP4 of `rate` frames per second with ffmpeg."""
    import mediapy

    mediapy.write_video(path, frames, fps=rate)
