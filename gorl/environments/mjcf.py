"""A user's own MuJoCo model."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.environments.base import AbstractEnvironment, make_state
from gorl.environments.playground import check_implementation
from gorl.errors import ConfigError
from gorl.fields import require, structural
from gorl.state import EnvState


@gin.register(module="gorl")
class MJCFEnvironment(AbstractEnvironment):
    """An MJCF file with functions for what the task rewards and shows.

    `xml`: path of the file (relative to the working directory). `substeps`: physics steps per control step.
    `reward(model, data, action) -> []`, `observation(model, data) -> [D_o]` or a dict of such,
    `terminated(model, data) -> [] bool` (None: never), `initial(model, key) -> (qpos, qvel)` (None: the model's qpos0 at
    rest). All are JAX functions of MJX's model and data. In gin, name them with `gin.constant('mine.reward', reward)` in
    a plugin and `MJCFEnvironment.reward = %mine.reward`. Actions in [-1, 1] are mapped to the actuators' control range.
    """

    xml: str = structural()
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
        if not pathlib.Path(self.xml).is_file():
            raise ConfigError(f"MJCFEnvironment.xml = {self.xml!r}: there is no such file under {pathlib.Path.cwd()}.")

    @property
    def action_size(self) -> int:
        return _load(self.xml, self.impl)[0].nu

    def reset(self, key: PRNGKeyArray) -> EnvState:
        from mujoco import mjx

        host, model = _load(self.xml, self.impl)
        data = mjx.make_data(host, impl=self.impl)
        if self.initial is not None:
            qpos, qvel = self.initial(model, key)
            data = data.replace(qpos=qpos, qvel=qvel)
        return self._state(model, mjx.forward(model, data), jnp.zeros(()), jnp.zeros((), bool))

    def step(self, state: EnvState, action: Float[Array, " D_a"]) -> EnvState:
        from mujoco import mjx

        host, model = _load(self.xml, self.impl)
        low, high = jnp.asarray(host.actuator_ctrlrange.T, jnp.float32)
        limited = jnp.asarray(host.actuator_ctrllimited, bool)
        control = jnp.where(limited, low + 0.5 * (action + 1.0) * (high - low), action)
        data = state.sim.replace(ctrl=control)
        data = jax.lax.fori_loop(0, self.substeps, lambda _, d: mjx.step(model, d), data)
        done = jnp.zeros((), bool) if self.terminated is None else self.terminated(model, data)
        return self._state(model, data, self.reward(model, data, action), done)

    def _state(self, model: Any, data: Any, reward: Any, done: Any) -> EnvState:
        return make_state(
            data, self.observation(model, data), reward, done,
            obs_key=self.obs_key, critic_obs_key=self.critic_obs_key, physics=(data.qpos, data.qvel),
        )  # fmt: skip

    def describe(self) -> dict[str, Any]:
        return {"library": "mjcf", "name": pathlib.Path(self.xml).stem, "xml": self.xml, "impl": self.impl}


@functools.lru_cache(maxsize=None)
def _load(xml: str, impl: str) -> tuple[Any, Any]:
    import mujoco
    from mujoco import mjx

    try:
        host = mujoco.MjModel.from_xml_path(xml)
    except ValueError as err:
        raise ConfigError(f"MJCFEnvironment.xml = {xml!r}: MuJoCo cannot read it: {err}") from err
    with jax.ensure_compile_time_eval():  # the first call may come while a program is traced
        return host, mjx.put_model(host, impl=impl)
