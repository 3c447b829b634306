"""Episodes drawn by MuJoCo: where OpenGL is, the frames; where it is not, one line."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from gorl.acting.agent import Agent
from gorl.acting.evaluator import Evaluator
from gorl.decoders.identity import IdentityDecoder
from gorl.environments import mjcf
from gorl.environments.toy import Slider
from gorl.pictures import CannotDraw, Rollout, rendering
from gorl.pictures.rollout import evenly_spaced, record_episode
from gorl.policies.base import AbstractPolicy
from tests.support.ends import end

XML = """<mujoco><option timestep="0.05"/><worldbody><light pos="0 0 3"/>
<camera name="side" pos="0 -3 0"  xyaxes="1 0 0 0 0 1"/>
<body><joint name="x" type="slide" axis="1 0 0"/><geom size=".3" mass="1" rgba="1 0 0 1"/></body></worldbody>
<actuator><motor joint="x" gear="20" ctrlrange="-1 1" ctrllimited="true"/></actuator></mujoco>"""


class Right(AbstractPolicy):
    """Always pushes to the right."""

    normalizer: None = None

    def mode(self, obs, *, key):
        return jnp.full((1,), 3.0)

    def sample(self, obs, *, key):
        return -self.mode(obs, key=key), None

    def log_ratio(self, obs, action, extras, *, key):
        return jnp.zeros((1,))


def ended(environment):
    return end(environment, Right(), IdentityDecoder(2, 1, key=jax.random.key(0)))


@pytest.fixture
def environment(tmp_path, third_party):
    (tmp_path / "slide.xml").write_text(XML)
    return mjcf.MJCFEnvironment(
        xml=str(tmp_path / "slide.xml"), reward=lambda m, d, a: d.qpos[0],
        observation=lambda m, d: jnp.concatenate([d.qpos, d.qvel]), terminated=lambda m, d: d.qpos[0] > 1.0,
        initial=None, substeps=1, impl="jax", obs_key=None, critic_obs_key=None,
    )  # fmt: skip


def picture(**more):
    return Rollout(
        **{
            **dict(
                evaluator=Evaluator(num_envs=4, rule="mode"),
                camera=None,
                gif_size=64,
                gif_frames=6,
                film_size=0,
                film_rate=10.0,
            ),
            **more,
        }
    )


def can_render():
    code = "import mujoco; from gorl.pictures import rendering as r; from gorl.environments.scene import Scene\n"
    code += f"scene = Scene(mujoco.MjModel.from_xml_string('''{XML}'''), 1.0, None)\n"
    code += "with r.Camera(scene, None, 64).activate(): print('yes')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "yes\n"


RENDERS = can_render()


def test_steps_are_spread_over_the_episode():
    assert (
        evenly_spaced(5, 60) == [0, 1, 2, 3, 4]
        and evenly_spaced(1, 4) == [0]
        and evenly_spaced(101, 5) == [0, 25, 50, 75, 100]
    )


def test_a_scene_says_where_everything_is(environment):
    scene = environment.scene()
    assert scene.dt == 0.05 and scene.model.nq == 1
    pose = scene.pose(environment.reset(jax.random.key(0)))
    assert pose["qpos"].tolist() == [0.0] and set(pose) == {"qpos", "mocap_pos", "mocap_quat"}
    assert Slider().scene() is None


def test_without_a_model_or_opengl_there_is_one_line(environment, tmp_path, monkeypatch):
    with pytest.raises(CannotDraw, match="Slider has no MuJoCo model to draw"):
        picture().draw(ended(Slider()), tmp_path / "x")
    with pytest.raises(CannotDraw, match="the model has no camera 'top'; it has 'side'"):
        picture(camera="top").draw(ended(environment), tmp_path / "x")
    with pytest.raises(CannotDraw, match="the model has room for 640 x 480 pixels, fewer than 1280 x 960"):
        picture(film_size=1280).draw(ended(environment), tmp_path / "x")
    monkeypatch.setenv("MUJOCO_GL", "off")
    with pytest.raises(CannotDraw, match="MUJOCO_GL=off disables rendering"):
        picture().draw(ended(environment), tmp_path / "x")
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with pytest.raises(CannotDraw, match="no OpenGL library .* Install libegl1 or libosmesa6"):
        rendering.backend()
    monkeypatch.setattr("ctypes.util.find_library", lambda name: name == "OSMesa")
    assert rendering.backend() == "osmesa"


def test_a_backend_that_fails_is_one_line(environment, monkeypatch):
    monkeypatch.setattr(rendering, "backend", lambda: "nothing")
    with (
        pytest.raises(CannotDraw, match=r"MuJoCo cannot draw with nothing \(No module named 'mujoco.nothing'\)"),
        rendering.Camera(environment.scene(), None, 64).activate(),
    ):
        pass


@pytest.mark.skipif(not RENDERS, reason="no OpenGL here")
def test_frames_show_the_pose(environment):
    """The red ball is in the middle at 0, and to the right of it at 0.5."""
    with rendering.Camera(environment.scene(), None, 64).activate() as camera:
        frames = [camera.take({"qpos": [x]}) for x in (0.0, 0.5)]
    assert frames[0].shape == (48, 64, 3)
    red = [np.argwhere(f[..., 0].astype(int) > f[..., 1].astype(int) + 40).mean(0) for f in frames]
    assert abs(red[0][1] - 31.5) < 1.5 and red[1][1] > red[0][1] + 4 and abs(red[1][0] - red[0][0]) < 1.5


def test_frames_become_a_gif_of_so_many_seconds(tmp_path):
    frames = [np.full((6, 8, 3), 60 * i, np.uint8) for i in range(4)]
    rendering.write_gif(tmp_path / "a.gif", frames, 2.0)
    with PIL.Image.open(tmp_path / "a.gif") as image:
        assert (image.n_frames, image.size, image.info["duration"], image.info["loop"]) == (4, (8, 6), 500, 0)
        image.seek(3)
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - 180).max() < 70


@pytest.mark.skipif(not RENDERS, reason="no OpenGL here")
@pytest.mark.parametrize("ffmpeg", [True, False])
def test_an_episode_is_drawn_to_its_end(environment, tmp_path, monkeypatch, caplog, ffmpeg):
    films = []
    monkeypatch.setattr(rendering, "can_film", lambda: ffmpeg)
    monkeypatch.setattr(
        rendering, "write_film", lambda path, frames, rate: films.append((path.name, len(frames), rate))
    )
    monkeypatch.setattr("gorl.pictures.rollout._warned", set())
    e = ended(environment)
    alive, poses = record_episode(
        e.context.task, Agent(e.run.policy, e.run.decoder, np.asarray(3.0, np.float32), "mode"), jax.random.key(0)
    )
    length = int(alive.sum())
    assert (
        2 < length < 20 and poses["qpos"].shape == (20, 1) and poses["qpos"][length - 1] < 1.0 < poses["qpos"][length]
    )
    written = picture(film_size=64).draw(e, tmp_path / "stage0-Rollout")
    assert [p.name for p in written] == (
        ["stage0-Rollout.gif", "stage0-Rollout.mp4"] if ffmpeg else ["stage0-Rollout.gif"]
    )
    with PIL.Image.open(written[0]) as image:
        assert image.size == (64, 48) and image.n_frames <= 6
    assert films == ([("stage0-Rollout.mp4", -(-length // 2), 10.0)] if ffmpeg else [])


def test_egl_is_asked_for_where_nothing_is_said(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: f"lib{name}")
    assert rendering.backend() == ("cgl" if sys.platform == "darwin" else "egl")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert rendering.backend() == "osmesa" and os.environ["MUJOCO_GL"] == "osmesa"
