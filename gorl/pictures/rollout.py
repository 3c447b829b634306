"""An episode as it looks."""

import dataclasses
import logging
import pathlib
from typing import Any

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
from gorl.pictures.base import AbstractPicture, CannotDraw, file, keys, policy_of
from gorl.runtime import trees
from gorl.state import EnvState

_log = logging.getLogger(__name__)
_said: set[str] = set()


@gin.register(module="gorl")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Rollout(AbstractPicture):
    """One episode by the rule of `evaluator`, from the same reset in every stage, drawn by MuJoCo: a small GIF and, where ffmpeg is, an MP4.

    `camera`: a camera of the model (None: its first, or MuJoCo's free one). The GIF has at most `gif_frames` frames of `gif_size` pixels,
    spread over the episode; the MP4 has `film_rate` frames for every second of simulated time (`film_size` = 0: none).
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
        task, policy = end.context.task, policy_of(end)
        scene = task.environment.scene()
        if scene is None:
            raise CannotDraw(f"{type(task.environment).__name__} has no MuJoCo model to draw.")
        cameras = (
            rendering.Camera(scene, self.camera, self.gif_size),
            rendering.Camera(scene, self.camera, self._film_size()),
        )
        rendering.backend()
        agent = Agent(policy, end.run.decoder, task.action_bound, self.evaluator.rule)
        alive, poses = jax.device_get(episode(task, agent, keys(end, "Rollout")[0]))
        length = max(1, int(alive.sum()))
        pose = lambda i: jax.tree.map(lambda x: x[i], poses)
        with cameras[0].on() as camera:
            frames = [camera.take(pose(i)) for i in spread(length, self.gif_frames)]
        written = [file(path, ".gif")]
        rendering.write_gif(written[0], frames, length * scene.dt)
        if self._films():
            every = max(1, round(1.0 / (self.film_rate * scene.dt)))
            with cameras[1].on() as camera:
                frames = [camera.take(pose(i)) for i in range(0, length, every)]
            written.append(file(path, ".mp4"))
            rendering.write_film(written[1], frames, 1.0 / (every * scene.dt))
        return written

    def _films(self) -> bool:
        if self.film_size and not rendering.can_film() and "ffmpeg" not in _said:
            _said.add("ffmpeg")
            _log.warning("Rollout writes no MP4: there is no ffmpeg. Install it, or bind Rollout.film_size = 0.")
        return bool(self.film_size) and rendering.can_film()

    def _film_size(self) -> int:
        return (self.film_size or self.gif_size) // 16 * 16  # the codec wants even sides


def spread(length: int, count: int) -> list[int]:
    """At most `count` of the steps 0 ... length - 1, at equal distances, the first and the last among them."""
    return np.unique(np.linspace(0, length - 1, min(length, count)).round().astype(int)).tolist()


@eqx.filter_jit
def episode(task: Task, agent: Agent, key: PRNGKeyArray) -> tuple[Bool[Array, " L"], dict[str, Array]]:
    """One episode from a fresh reset: (whether it was still going on, pose) before each step."""
    env, pose = task.squashed, task.environment.scene().pose
    reset_key, act_key = jax.random.split(key)
    state = trees.strip_weak_types(env.reset(reset_key))

    def step(carry: tuple[EnvState, Any], key: PRNGKeyArray) -> tuple[tuple, tuple]:
        state, alive = carry
        after = trees.strip_weak_types(env.step(state, agent.control(state.obs, key=key)))
        return (after, alive & ~after.invalid & ~after.terminated), (alive, pose(state))

    return jax.lax.scan(
        step, (state, ~state.invalid & jnp.ones((), bool)), jax.random.split(act_key, task.episode_length)
    )[1]
