"""Playground's tasks on MuJoCo's own engine.

A task reaches the simulator in `reset` and `step`, by the names `mjx` and `mjx_env` of its module. Here these two methods run
with other values of those names; rewards and observations are the task's own code.
"""

import contextvars
import threading
import types
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from gorl.environments.native import engine, model
from gorl.errors import ConfigError, did_you_mean

_loading = threading.Lock()  # MuJoCo remembers one XML, the last it read
_asked: contextvars.ContextVar[set[str]] = contextvars.ContextVar("asked")
"""Collects what a task reads of `derived`, while that is found out."""


class NotComputed(ConfigError, AttributeError):
    """A task asks for `field` of the simulation, which native physics does not have."""

    def __init__(self, field: str, known: Sequence[str]):
        super().__init__(
            f"native physics: a task uses {field!r} of the simulation where there are only {', '.join(known)}.{did_you_mean(field, known)}"
            " PlaygroundEnvironment.impl = 'jax' computes everything."
        )
        self.field = field


class NativeData(eqx.Module):
    """What a task sees of the simulation. The state is all that the next step depends on.

    `derived`: MuJoCo's quantities by name, as of the last physics step's beginning, while a task computes its rewards and
    observations; empty between control steps. What is not there raises: nothing old is ever read.
    """

    time: Float[Array, "*batch"]
    qpos: Float[Array, "*batch Q"]
    qvel: Float[Array, "*batch V"]
    act: Float[Array, "*batch A"]
    qacc_warmstart: Float[Array, "*batch V"]
    ctrl: Float[Array, "*batch U"]
    mocap_pos: Float[Array, "*batch M 3"]
    mocap_quat: Float[Array, "*batch M 4"]
    derived: dict[str, Array]

    def __getattr__(self, name: str) -> Array:
        if name.startswith("__"):
            raise AttributeError(name)
        derived = object.__getattribute__(self, "derived")
        if (asked := _asked.get(None)) is not None:
            asked.add(name)
        if name not in derived:
            raise NotComputed(name, (*engine.ROW, *derived))
        return derived[name]

    def replace(self, **changes: Any) -> "NativeData":
        """With other values in the state, of the same shapes."""
        for name, value in changes.items():
            if name not in engine.ROW:
                raise NotComputed(name, engine.ROW)
            old = getattr(self, name)
            changes[name] = (
                jnp.broadcast_to(jnp.asarray(value, old.dtype), old.shape)
                if jnp.ndim(value) == 0
                else jnp.asarray(value, old.dtype)
            )
            if changes[name].shape != old.shape:
                raise ConfigError(
                    f"native physics: {name} has the shape {old.shape}, and cannot be replaced by one of {changes[name].shape}."
                )
        return eqx.tree_at(lambda d: [getattr(d, n) for n in changes], self, list(changes.values()))

    def bare(self) -> "NativeData":
        """The state alone."""
        return eqx.tree_at(lambda d: d.derived, self, {})


class NativePhysics:
    """What a task calls instead of MJX: `make_data`, `forward` and `step`."""

    def __init__(self, model: mujoco.MjModel, fields: tuple[str, ...], threads: int | None):
        self._fields = fields
        self._engine = engine.Engine(model, threads)

    def make_data(
        self,
        model: Any,
        qpos: Any = None,
        qvel: Any = None,
        ctrl: Any = None,
        act: Any = None,
        mocap_pos: Any = None,
        mocap_quat: Any = None,
        **sizes: Any,
    ) -> NativeData:  # noqa: E501
        """The model's first state, or another. `sizes` are of MJX's buffers."""
        del model, sizes
        host = self._engine.model
        mocap = [i for i in range(host.nbody) if host.body_mocapid[i] >= 0]  # in the order of their ids
        first = {name: jnp.zeros(shape) for name, shape in engine.shapes(host).items()}
        first |= {"qpos": host.qpos0, "mocap_pos": host.body_pos[mocap], "mocap_quat": host.body_quat[mocap]}
        given = {"qpos": qpos, "qvel": qvel, "ctrl": ctrl, "act": act, "mocap_pos": mocap_pos, "mocap_quat": mocap_quat}
        first = {name: jnp.asarray(value, jnp.float32) for name, value in first.items()}
        return NativeData(**first, derived={}).replace(
            **{name: jnp.reshape(value, first[name].shape) for name, value in given.items() if value is not None}
        )

    def forward(self, model: Any, data: NativeData) -> NativeData:
        del model
        return self._with_derived(data, self._engine.measure(_row(data)))

    def step(self, model: Any, data: NativeData, action: Float[Array, " U"], n_substeps: int = 1) -> NativeData:
        del model
        data = data.replace(ctrl=action)
        evolved, sensors = self._engine.step(_row(data), n_substeps)
        return self._with_derived(data.replace(**evolved), sensors)

    def _with_derived(self, data: NativeData, sensors: Float[Array, " S"]) -> NativeData:
        derived = model.split(self._engine.model, sensors, self._fields)
        return eqx.tree_at(lambda d: d.derived, data, _with_anchors(self._engine.model, derived))


def _row(data: NativeData) -> dict[str, Array]:
    return {name: getattr(data, name) for name in engine.ROW}


def _with_anchors(model: mujoco.MjModel, derived: dict[str, Array]) -> dict[str, Array]:
    """Adds `xanchor` where it follows from the bodies' poses: the anchor of the only joint of a body, about which that turns."""
    turning = np.isin(model.jnt_type, [int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_BALL)]).all()
    if not turning or (model.body_jntnum > 1).any() or not {"xpos", "xmat"} <= derived.keys():
        return derived
    body = model.jnt_bodyid
    offset = jnp.einsum("jab,jb->ja", derived["xmat"][body], jnp.asarray(model.jnt_pos, jnp.float32))
    return {**derived, "xanchor": derived["xpos"][body] + offset}


class NativeTask:
    """A Playground task (`library`, loaded with MJX) whose reset and step are simulated by MuJoCo's own engine."""

    def __init__(self, load: Callable[[], Any], threads: int | None):
        if jax.default_backend() != "cpu":
            raise ConfigError(
                f"PlaygroundEnvironment.impl = 'native' simulates on the CPU, but JAX computes on the {jax.default_backend()} here: bind 'jax' or 'warp',"
                " or set JAX_PLATFORMS=cpu."
            )
        with _loading:
            self.library = load()
            saved = model.last_xml(self.library.mj_model)
            build = lambda fields: NativePhysics(model.measuring(self.library, saved, fields), fields, threads)
            self._use(build(tuple(model.DERIVED)))
            self._use(build(self._asked_for()))

    def _use(self, physics: NativePhysics) -> None:
        from mujoco import mjx
        from mujoco_playground._src import mjx_env

        names = {
            "mjx": _Instead(mjx, forward=physics.forward),
            "mjx_env": _Instead(mjx_env, make_data=physics.make_data, step=physics.step),
        }
        self._reset, self._step = (_with_globals(method, names) for method in (self.library.reset, self.library.step))

    def _asked_for(self) -> tuple[str, ...]:
        """What has to be measured for all that the task reads; on physics that measure everything."""
        key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
        asked: set[str] = set()
        token = _asked.set(asked)
        try:
            jax.eval_shape(lambda key: self.step(self.reset(key), jnp.zeros(self.library.action_size)), key)
        finally:
            _asked.reset(token)
        return tuple(field for field in model.DERIVED if any(field in model.SOURCES.get(name, ()) for name in asked))

    def reset(self, rng: Array) -> Any:
        return _bare(self._reset(rng))

    def step(self, state: Any, action: Float[Array, " U"]) -> Any:
        return _bare(self._step(state, action))


def _bare(state: Any) -> Any:
    return state.replace(data=state.data.bare())


class _Instead:
    """A module with some names replaced."""

    def __init__(self, module: types.ModuleType, **names: Any):
        self._module = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _with_globals(method: Any, names: dict[str, Any]) -> Any:
    """The method, with other values of some of its module's names. Nothing outside of it changes."""
    function = method.__func__
    copy = types.FunctionType(
        function.__code__,
        {**function.__globals__, **names},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return types.MethodType(copy, method.__self__)
