"""A user's own MuJoCo model."""

import functools
import pathlib
import traceback
from collections.abc import Callable
from typing import Any

import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.environments.base import AbstractEnvironment, cast_like, make_state
from gorl.environments.dropped import require_simulated
from gorl.environments.playground import check_implementation
from gorl.environments.scene import Scene, pose_of
from gorl.errors import ConfigError
from gorl.fields import input_file, require, structural
from gorl.runtime.inputs import InputFile
from gorl.runtime.precision import in_float32
from gorl.state import EnvState, PyTree


@gin.register(module="gorl")
class MJCFEnvironment(AbstractEnvironment):
    """An MJCF file, with JAX functions that compute the reward, the observation, the termination and the initial state.

    `xml` is the path of the file (relative to the working directory, else to a gin file's folder). `substeps` is the
    number of physics steps per control step.

    The functions take MJX's model and data: `reward(model, data, action) -> []`, `observation(model, data) -> [D_o]`
    or a dict of such arrays, `terminated(model, data) -> [] bool` (None: never) and `initial(model, key) -> (qpos,
    qvel)` (None: the model's qpos0 at rest). To name them in gin, write
    `gin.constant('mine.reward', reward)` in a plugin and `MJCFEnvironment.reward = %mine.reward`.

    Actions in [-1, 1] are mapped to the actuators' control range; an actuator without a range receives the action
    unchanged. After a control step, MuJoCo's derived quantities (xpos, sensors) are those at the beginning of the last
    physics step.
    """

    xml: InputFile = input_file()
    reward: Callable = structural()
    observation: Callable = structural()
    terminated: Callable | None = structural()
    initial: Callable | None = structural()
    substeps: int = structural()
    impl: str = structural()
    obs_key: str | None = structural()
    critic_obs_key: str | None = structural()

    def __check_init__(self):
        require(self.substeps >= 1, f"MJCFEnvironment.substeps = {self.substeps}: it must be >= 1.")

    def check(self) -> None:
        check_implementation(self.impl, "MJCFEnvironment.impl")
        if not self.xml.is_there:
            raise ConfigError(
                f"MJCFEnvironment.xml = {self.xml.name!r}: there is no such file"
                f" (the working directory is {pathlib.Path.cwd()})."
            )
        require(
            _read_model(self.xml).nu > 0,
            f"MJCFEnvironment.xml = {self.xml.name!r}: the model has no actuators, so there is nothing to learn.",
        )
        self._trace_functions()

    def _trace_functions(self) -> None:
        """Calls the user's functions on abstract arrays, so that mistakes are found before anything is compiled."""
        key = jax.eval_shape(lambda: jax.random.key(0))
        action = jax.ShapeDtypeStruct((self.action_size,), jnp.float32)
        try:
            jax.eval_shape(lambda key, action: self.step(self.reset(key), action), key, action)
        except ConfigError:
            raise
        except Exception as err:
            message = str(err).partition("\n")[0]
            raise ConfigError(
                f"MJCFEnvironment.xml = {self.xml!r}: MJX's implementation {self.impl!r} fails on this model,"
                f" perhaps on a sensor that it cannot compute here: {type(err).__name__}: {message}"
            ) from err

    @property
    def action_size(self) -> int:
        return _read_model(self.xml).nu

    @in_float32
    def reset(self, key: PRNGKeyArray) -> EnvState:
        from mujoco import mjx

        host, model = _load_model(self.xml, self.impl)
        data = mjx.make_data(host, impl=self.impl)
        if self.initial is not None:
            qpos, qvel = (jnp.asarray(x, jnp.float32) for x in _call("initial", self.initial, model, key))
            for name, value, size in (("qpos", qpos, host.nq), ("qvel", qvel, host.nv)):
                require(
                    value.shape == (size,),
                    f"MJCFEnvironment.initial returned {name} of shape {value.shape}; the model's has {size} numbers.",
                )
            data = data.replace(qpos=qpos, qvel=qvel)
        return self._state(model, mjx.forward(model, data), jnp.zeros(()), jnp.zeros((), bool))

    @in_float32
    def step(self, state: EnvState, action: Float[Array, " D_a"]) -> EnvState:
        from mujoco import mjx

        host, model = _load_model(self.xml, self.impl)
        low, high = jnp.asarray(host.actuator_ctrlrange.T, jnp.float32)
        limited = jnp.asarray(host.actuator_ctrllimited, bool)
        control = jnp.where(limited, low + 0.5 * (action + 1.0) * (high - low), action)
        data = state.sim.replace(ctrl=control)
        data = jax.lax.fori_loop(0, self.substeps, lambda _, d: cast_like(mjx.step(model, d), d), data)
        done = jnp.zeros((), bool) if self.terminated is None else _call("terminated", self.terminated, model, data)
        return self._state(model, data, _call("reward", self.reward, model, data, action), done)

    def _state(self, model: PyTree, data: PyTree, reward: Any, done: Any) -> EnvState:
        return make_state(
            data,
            _call("observation", self.observation, model, data),
            reward,
            done,
            obs_key=self.obs_key,
            critic_obs_key=self.critic_obs_key,
            physics=(data.qpos, data.qvel),
        )

    def scene(self) -> Scene:
        model = _read_model(self.xml)
        return Scene(model, model.opt.timestep * self.substeps, lambda state: pose_of(state.sim))

    @property
    def one_device(self) -> bool:
        """Whether physics is a foreign function to XLA, as Warp's is."""
        return self.impl != "jax"

    def describe(self) -> dict[str, Any]:
        about = {"xml": self.xml.name, "xml_sha256": self.xml.sha256, "impl": self.impl}
        return {"library": "mjcf", "name": pathlib.Path(self.xml.name).stem, **about}


def _call(name: str, function: Callable, *args: Any) -> Any:
    """Calls a user's function. Its exceptions become a ConfigError with the line of the user's file."""
    try:
        return function(*args)
    except Exception as err:
        frames = traceback.extract_tb(err.__traceback__)[1:]
        file = frames[0].filename if frames else "?"
        line = next((f.lineno for f in reversed(frames) if f.filename == file), "?")
        shown = getattr(function, "__name__", repr(function))
        raise ConfigError(f"MJCFEnvironment.{name} = {shown}: {file}:{line}: {type(err).__name__}: {err}") from err


@functools.cache
def _read_model(xml: InputFile) -> Any:
    """Returns the MjModel of a file. Needs neither MJX nor a device."""
    import mujoco

    try:
        return mujoco.MjModel.from_xml_path(xml.path)
    except ValueError as err:
        raise ConfigError(
            f"MJCFEnvironment.xml = {xml.name!r}: MuJoCo cannot read it: {' '.join(str(err).split())}"
        ) from err


@functools.cache
def _load_model(xml: InputFile, impl: str) -> tuple[Any, Any]:
    """Returns a file's MjModel, and MJX's model of it."""
    from mujoco import mjx

    host = _read_model(xml)
    if impl == "jax":
        require_simulated(host, f"MJCFEnvironment.xml = {xml!r}")
    try:
        with jax.ensure_compile_time_eval():  # the first call may come while a program is traced
            return host, mjx.put_model(host, impl=impl)
    except NotImplementedError as err:
        raise ConfigError(
            f"MJCFEnvironment.xml = {xml.name!r}: MJX's implementation {impl!r} does not support something that the"
            f" model uses: {err}"
        ) from err
