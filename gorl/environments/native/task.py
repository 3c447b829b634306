"""Playground's tasks on MuJoCo's own engine.

A task calls the simulator in `reset` and `step`, by the names `mjx` and `mjx_env` of its module. Here these two methods
run with other values of those names; rewards and observations are computed by the task's own code.
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
from gorl.state import PyTree

_load_lock = threading.Lock()  # MuJoCo remembers one XML, the last it read
_fields_read: contextvars.ContextVar[set[str]] = contextvars.ContextVar("fields_read")
"""Records which fields of `derived` a task reads, while NativeTask traces it."""


class NotComputed(ConfigError, AttributeError):
    """A task reads `field` of the simulation, which native physics does not compute."""

    def __init__(self, field: str, known: Sequence[str]):
        super().__init__(
            f"native physics: a task uses {field!r} of the simulation where there are only {', '.join(known)}."
            f"{did_you_mean(field, known)} PlaygroundEnvironment.impl = 'jax' computes everything."
        )
        self.field = field


class NativeData(eqx.Module):
    """The simulation as a task sees it: the state, which determines the next step, and derived quantities.

    While a task computes its rewards and observations, `derived` holds MuJoCo's quantities by name, as of the beginning
    of the last physics step. Between control steps it is empty. Reading a missing quantity raises NotComputed, so a
    task never reads an outdated one.
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
        if (fields := _fields_read.get(None)) is not None:
            fields.add(name)
        if name not in derived:
            raise NotComputed(name, (*engine.ROW, *derived))
        return derived[name]

    def replace(self, **changes: Any) -> "NativeData":
        """Returns a copy with other values of state fields, cast to the field's dtype. Scalars are broadcast.

        Raises ConfigError for a value of another shape, and NotComputed for a field that is not part of the state.
        """
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
                    f"native physics: {name} has the shape {old.shape},"
                    f" and cannot be replaced by one of {changes[name].shape}."
                )
        return eqx.tree_at(lambda d: [getattr(d, n) for n in changes], self, list(changes.values()))

    def without_derived(self) -> "NativeData":
        """Returns the state alone."""
        return eqx.tree_at(lambda d: d.derived, self, {})


class NativePhysics:
    """A replacement for the functions of MJX that tasks call: `make_data`, `forward` and `step`."""

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
    ) -> NativeData:
        """Returns the model's initial state with some fields replaced. `sizes` of MJX's buffers are ignored."""
        del model, sizes
        host = self._engine.model
        mocap = [i for i in range(host.nbody) if host.body_mocapid[i] >= 0]  # in the order of their ids
        initial = {name: jnp.zeros(shape) for name, shape in engine.field_shapes(host).items()}
        initial |= {"qpos": host.qpos0, "mocap_pos": host.body_pos[mocap], "mocap_quat": host.body_quat[mocap]}
        initial = {name: jnp.asarray(value, jnp.float32) for name, value in initial.items()}
        changes = {
            "qpos": qpos,
            "qvel": qvel,
            "ctrl": ctrl,
            "act": act,
            "mocap_pos": mocap_pos,
            "mocap_quat": mocap_quat,
        }
        changes = {k: jnp.reshape(value, initial[k].shape) for k, value in changes.items() if value is not None}
        return NativeData(**initial, derived={}).replace(**changes)

    def forward(self, model: Any, data: NativeData) -> NativeData:
        """Returns the data with its derived quantities, as MJX's `forward` does."""
        del model
        return self._with_derived(data, self._engine.measure(_row(data)))

    def step(self, model: Any, data: NativeData, action: Float[Array, " U"], n_substeps: int = 1) -> NativeData:
        """Returns the data after `n_substeps` physics steps under one action, as Playground's `mjx_env.step` does."""
        del model
        data = data.replace(ctrl=action)
        integrated, sensors = self._engine.step(_row(data), n_substeps)
        return self._with_derived(data.replace(**integrated), sensors)

    def _with_derived(self, data: NativeData, sensors: Float[Array, " S"]) -> NativeData:
        derived = model.split_sensors(self._engine.model, sensors, self._fields)
        return eqx.tree_at(lambda d: d.derived, data, _with_anchors(self._engine.model, derived))


def _row(data: NativeData) -> dict[str, Array]:
    return {name: getattr(data, name) for name in engine.ROW}


def _with_anchors(model: mujoco.MjModel, derived: dict[str, Array]) -> dict[str, Array]:
    """Adds `xanchor`, the joints' anchors, if the bodies' poses determine it: if every joint is its body's only one and
    rotational."""
    rotational = np.isin(model.jnt_type, [int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_BALL)]).all()
    if not rotational or (model.body_jntnum > 1).any() or not {"xpos", "xmat"} <= derived.keys():
        return derived
    body = model.jnt_bodyid
    offset = jnp.einsum("jab,jb->ja", derived["xmat"][body], jnp.asarray(model.jnt_pos, jnp.float32))
    return {**derived, "xanchor": derived["xpos"][body] + offset}


class NativeTask:
    """A Playground task (`library`, loaded with MJX) whose reset and step run on MuJoCo's own engine."""

    def __init__(self, load: Callable[[], Any], threads: int | None):
        if jax.default_backend() != "cpu":
            raise ConfigError(
                "PlaygroundEnvironment.impl = 'native' simulates on the CPU, but JAX computes on the"
                f" {jax.default_backend()} here: bind 'jax' or 'warp', or set JAX_PLATFORMS=cpu."
            )
        with _load_lock:
            self.library = load()
            saved = model.last_xml(self.library.mj_model)
            build = lambda fields: NativePhysics(model.with_sensors(self.library, saved, fields), fields, threads)
            self._use(build(tuple(model.DERIVED)))
            self._use(build(self._find_fields()))

    def _use(self, physics: NativePhysics) -> None:
        """Makes the task's reset and step call `physics`."""
        from mujoco import mjx
        from mujoco_playground._src import mjx_env

        names = {
            "mjx": _ModuleWith(mjx, forward=physics.forward),
            "mjx_env": _ModuleWith(mjx_env, make_data=physics.make_data, step=physics.step),
        }
        self._reset, self._step = (_with_globals(method, names) for method in (self.library.reset, self.library.step))

    def _find_fields(self) -> tuple[str, ...]:
        """Returns the fields that must be measured for this task, by tracing it on physics that measures all fields."""
        key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
        read: set[str] = set()
        token = _fields_read.set(read)
        try:
            jax.eval_shape(lambda key: self.step(self.reset(key), jnp.zeros(self.library.action_size)), key)
        finally:
            _fields_read.reset(token)
        return tuple(field for field in model.DERIVED if any(field in model.SOURCES.get(name, ()) for name in read))

    def reset(self, rng: Array) -> PyTree:
        return _without_derived(self._reset(rng))

    def step(self, state: PyTree, action: Float[Array, " U"]) -> PyTree:
        return _without_derived(self._step(state, action))


def _without_derived(state: PyTree) -> PyTree:
    return state.replace(data=state.data.without_derived())


class _ModuleWith:
    """A module with some names replaced."""

    def __init__(self, module: types.ModuleType, **names: Any):
        self._module = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _with_globals(method: types.MethodType, names: dict[str, Any]) -> types.MethodType:
    """Returns a copy of the method with other values of some global names. The original is unchanged."""
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
