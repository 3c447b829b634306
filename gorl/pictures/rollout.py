"""A rendered episode."""

import dataclasses
import logging
import pathlib

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PRNGKeyArray

from gorl.acting.agent import Agent
from gorl.acting.evaluator import Evaluator
from gorl.environments.task import Task
from gorl.fields import require
from gorl.phases.base import StageEnd
from gorl.pictures import rendering
from gorl.pictures.base import AbstractPicture, CannotDraw, picture_keys, require_policy, with_extension
from gorl.runtime import trees
from gorl.state import EnvState

_log = logging.getLogger(__name__)
_warned: set[str] = set()


@gin.register(module="gorl")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Rollout(AbstractPicture):
    """One episode rendered by MuJoCo, as a small GIF and, if ffmpeg is installed, an MP4.

    The agent acts by the rule of `evaluator`, from the same reset in every stage. `camera`: a camera of the model
    (None: its first, or MuJoCo's free camera). The GIF has at most `gif_frames` frames of `gif_size` pixels, evenly
    spaced over the episode. The MP4 has `film_rate` frames per second of simulated time (`film_size` = 0: no MP4).
    """

    evaluator: Evaluator
    camera: str | None
    gif_size: int
    gif_frames: int
    film_size: int
    film_rate: float

    def __post_init__(self):
        require(
            isinstance(self.evaluator, Evaluator),
            f"Rollout.evaluator is {self.evaluator!r}; did you forget '()' after its name?",
        )
        for name in ("gif_size", "gif_frames"):
            require(getattr(self, name) >= 4, f"Rollout.{name} = {getattr(self, name)}: it must be >= 4.")
        require(
            self.film_size >= 0 and self.film_rate > 0,
            "Rollout.film_size must be >= 0 pixels, Rollout.film_rate > 0 frames a second.",
        )

    def draw(self, end: StageEnd, path: pathlib.Path) -> list[pathlib.Path]:
        task, policy = end.context.task, require_policy(end)
        scene = task.environment.scene()
        if scene is None:
            raise CannotDraw(f"{type(task.environment).__name__} has no MuJoCo model to draw.")
        cameras = [rendering.Camera(scene, self.camera, size) for size in (self.gif_size, self._film_size())]
        rendering.backend()
        agent = Agent(policy, end.run.decoder, task.action_bound, self.evaluator.rule)
        alive, poses = jax.device_get(record_episode(task, agent, picture_keys(end, "Rollout")[0]))
        length = max(1, int(alive.sum()))
        pose = lambda i: jax.tree.map(lambda x: x[i], poses)
        with cameras[0].activate() as camera:
            frames = [camera.take(pose(i)) for i in evenly_spaced(length, self.gif_frames)]
        written = [with_extension(path, ".gif")]
        rendering.write_gif(written[0], frames, length * scene.dt)
        if self._writes_film():
            stride = max(1, round(1.0 / (self.film_rate * scene.dt)))
            with cameras[1].activate() as camera:
                frames = [camera.take(pose(i)) for i in range(0, length, stride)]
            written.append(with_extension(path, ".mp4"))
            rendering.write_film(written[1], frames, 1.0 / (stride * scene.dt))
        return written

    def _writes_film(self) -> bool:
        if self.film_size and not rendering.can_film() and "ffmpeg" not in _warned:
            _warned.add("ffmpeg")
            _log.warning(
                "Rollout writes no MP4, because ffmpeg is not installed. Install it, or bind Rollout.film_size = 0."
            )
        return bool(self.film_size) and rendering.can_film()

    def _film_size(self) -> int:
        return (self.film_size or self.gif_size) // 16 * 16  # the codec requires even sides


def evenly_spaced(length: int, count: int) -> list[int]:
    """Returns at most `count` evenly spaced steps of 0 ... length - 1, including the first and the last."""
    return np.unique(np.linspace(0, length - 1, min(length, count)).round().astype(int)).tolist()


@eqx.filter_jit
def record_episode(task: Task, agent: Agent, key: PRNGKeyArray) -> tuple[Bool[Array, " L"], dict[str, Array]]:
    """Simulates one episode from a fresh reset. Returns, before each step, (whether it is still running, pose)."""
    env, pose = task.squashed, task.environment.scene().pose
    reset_key, act_key = jax.random.split(key)
    state = trees.strip_weak_types(env.reset(reset_key))

    def step(carry: tuple[EnvState, Bool[Array, ""]], key: PRNGKeyArray) -> tuple[tuple, tuple]:
        state, alive = carry
        after = trees.strip_weak_types(env.step(state, agent.control(state.obs, key=key)))
        return (after, alive & ~after.invalid & ~after.terminated), (alive, pose(state))

    start = (state, ~state.invalid & jnp.ones((), bool))
    return jax.lax.scan(step, start, jax.random.split(act_key, task.episode_length))[1]
