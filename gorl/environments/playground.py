"""MuJoCo Playground's DM Control suite (Zakka et al., arXiv 2502.08844)."""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import gin
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.environments.base import AbstractEnvironment, cast_like, make_state
from gorl.environments.names import dm_control_names
from gorl.environments.scene import Scene, pose_of
from gorl.errors import ConfigError, did_you_mean
from gorl.fields import require, structural
from gorl.runtime.precision import in_float32
from gorl.state import EnvState, PyTree

NOT_OVERRIDES = {  # settings that Playground's tasks do not read, or that have a binding in gorl
    "impl": "bind PlaygroundEnvironment.impl",
    "episode_length": "bind Task.episode_length",
    "action_repeat": "raise 'ctrl_dt', the seconds that an action is held",
}


MJX = ("jax", "warp")
"""MJX's implementations of physics."""
AUTO = "auto"
_NO_CONTACTS = ("Acrobot", "Cartpole", "Pendulum", "PointMass")
"""Prefixes of the tasks that run faster on MJX than natively on a CPU, because they are so small that the call of the
engine dominates (experiments/results/physics.json)."""


def resolve_implementation(name: str, impl: str) -> str:
    """Returns `impl`, with 'auto' replaced by the fastest implementation of the task. Initializes the JAX backend.

    The choice was measured on CPUs. On other devices it is MJX's 'jax', which needs no further package.
    """
    if impl != AUTO:
        return impl
    return "native" if jax.default_backend() == "cpu" and not name.startswith(_NO_CONTACTS) else "jax"


def check_implementation(impl: str, where: str, known: Iterable[str] = MJX) -> None:
    """Raises ConfigError, naming the binding `where`, if `impl` is unknown or its package is not installed."""
    if impl not in known:
        names = ", ".join(map(repr, known))
        raise ConfigError(f"{where} = {impl!r}: the physics implementations are {names}.{did_you_mean(impl, known)}")
    if impl == "warp" and importlib.util.find_spec("warp") is None:
        raise ConfigError(f"{where} = 'warp' needs the package warp-lang: pip install warp-lang, or bind 'jax'.")


def as_items(overrides: Any) -> tuple[tuple[str, Any], ...]:
    """Converts a dict of settings to a hashable value: sorted items, with lists as tuples."""
    items = dict(overrides) if isinstance(overrides, (dict, tuple)) else None
    require(
        items is not None and all(isinstance(key, str) for key in items),
        f"{overrides!r} is not a dict of settings: write {{'name': value}}.",
    )
    hashable = lambda value: tuple(map(hashable, value)) if isinstance(value, (list, tuple)) else value
    return tuple(sorted((key, hashable(value)) for key, value in items.items()))


@gin.register(module="gorl")
class PlaygroundEnvironment(AbstractEnvironment):
    """A task of `mujoco_playground.dm_control_suite` by name. Its actions are in [-1, 1] already.

    `impl` is the physics implementation: MJX on 'jax' or 'warp'; 'native', MuJoCo's own engine on the CPU; or 'auto',
    the fastest one on the machine where the run begins, which the run then keeps. `threads` is the number of threads of
    'native' (None: one per core); no result depends on it. `overrides` are Playground's own settings, such as
    {'ctrl_dt': 0.02}. `obs_key` and `critic_obs_key` are the entries of a dict observation that the policy and the
    critic see.
    """

    name: str = structural()
    impl: str = structural()
    overrides: tuple = structural(converter=as_items)
    obs_key: str | None = structural()
    critic_obs_key: str | None = structural()
    threads: int | None = structural(default=None)

    settled_when_begun: ClassVar[dict[str, Callable[[dict[str, Any]], Any]]] = {
        "impl": lambda bound: resolve_implementation(bound["name"], bound["impl"])
    }

    @property
    def _task(self) -> "Simulated":
        return _load_task(self.name, resolve_implementation(self.name, self.impl), self.overrides, self.threads)

    @property
    def library(self) -> Any:
        """The underlying Playground environment."""
        return self._task.library

    def check(self) -> None:
        names = dm_control_names()
        if self.name not in names:
            guess = did_you_mean(self.name, names)
            raise ConfigError(
                f"PlaygroundEnvironment.name = {self.name!r}: the DM Control suite has no such task.{guess}"
                " `gorl list environments` shows all."
            )
        check_implementation(self.impl, "PlaygroundEnvironment.impl", (*IMPLEMENTATIONS, AUTO))
        require(
            self.threads is None or self.threads >= 1,
            f"PlaygroundEnvironment.threads = {self.threads}: it must be >= 1, or None for one a core.",
        )
        if self.overrides:  # without overrides Playground need not be imported
            check_overrides(self.name, dict(self.overrides))

    @property
    def action_size(self) -> int:
        return self.library.action_size

    @in_float32
    def reset(self, key: PRNGKeyArray) -> EnvState:
        return self._state(self._task.reset(jax.random.key_data(key)))

    @in_float32
    def step(self, state: EnvState, action: Float[Array, " D_a"]) -> EnvState:
        after = self._task.step(state.sim, action)
        return self._state(cast_like(after, state.sim))

    def _state(self, sim: PyTree) -> EnvState:
        return make_state(
            sim,
            sim.obs,
            sim.reward,
            sim.done,
            obs_key=self.obs_key,
            critic_obs_key=self.critic_obs_key,
            physics=(sim.data.qpos, sim.data.qvel),
        )

    def with_physics(self, implementation: str) -> "PlaygroundEnvironment":
        check_implementation(implementation, "physics", IMPLEMENTATIONS)
        return dataclasses.replace(self, impl=implementation)

    def scene(self) -> Scene:
        return Scene(self.library.mj_model, float(self.library.dt), lambda state: pose_of(state.sim.data))

    @property
    def one_device(self) -> bool:
        """Whether physics is a foreign function to XLA, as Warp's and MuJoCo's own engine are."""
        return resolve_implementation(self.name, self.impl) != "jax"

    def model_hash(self) -> None:
        return None  # the library's version says what the model is

    def describe(self) -> dict[str, Any]:
        return {"library": "mujoco_playground", "name": self.name, "impl": self.impl, "overrides": dict(self.overrides)}


@dataclasses.dataclass(frozen=True)
class Simulated:
    """A task of Playground, with its reset and step on one physics implementation."""

    library: Any
    reset: Callable[[Array], PyTree]
    step: Callable[[PyTree, Array], PyTree]


def _load_mjx(impl: str, load: Callable[[str], Any], threads: int | None) -> Simulated:
    del threads
    library = load(impl)
    return Simulated(library, library.reset, library.step)


def _load_native(impl: str, load: Callable[[str], Any], threads: int | None) -> Simulated:
    from gorl.environments.native.task import NativeTask

    del impl
    task = NativeTask(lambda: load("jax"), threads)
    return Simulated(task.library, task.reset, task.step)


IMPLEMENTATIONS = {**dict.fromkeys(MJX, _load_mjx), "native": _load_native}


@functools.cache
def _load_task(name: str, impl: str, overrides: tuple[tuple[str, Any], ...], threads: int | None) -> Simulated:
    from mujoco_playground import dm_control_suite

    def load(mjx: str) -> Any:
        with jax.ensure_compile_time_eval():  # the first call may come while a program is traced
            return dm_control_suite.load(name, config_overrides={"impl": mjx, **dict(overrides)})

    check_overrides(name, dict(overrides))
    return IMPLEMENTATIONS[impl](impl, load, threads)


def check_overrides(name: str, overrides: dict[str, Any]) -> None:
    """Raises ConfigError for settings that the task does not have, or that would have no effect."""
    from mujoco_playground import dm_control_suite

    settings = dm_control_suite.get_default_config(name).lock()
    known = sorted(set(settings.keys()) - set(NOT_OVERRIDES))
    for key, value in overrides.items():
        where = f"PlaygroundEnvironment.overrides[{key!r}] = {value!r}"
        require(key not in NOT_OVERRIDES, f"{where} is not set there: {NOT_OVERRIDES.get(key)} instead.")
        require(
            key.partition(".")[0] in known,
            f"{where}: {name} has the settings {', '.join(known)}.{did_you_mean(key, known)}",
        )
        try:
            settings.update_from_flattened_dict({key: value})
        except (TypeError, ValueError) as err:
            raise ConfigError(
                f"{where}: {name} has a number or text of another kind there, such as {settings.get(key)!r}."
            ) from err
        except (KeyError, AttributeError) as err:
            raise ConfigError(f"{where}: Playground rejects it for {name}: {str(err).splitlines()[0]}") from err
    control, physics = settings.ctrl_dt, settings.sim_dt
    steps = control / physics if control and physics and physics > 0 else 0.0
    require(
        round(steps) >= 1 and abs(steps - round(steps)) < 1e-6 * steps,
        f"PlaygroundEnvironment.overrides = {overrides!r}: {name} would have ctrl_dt = {control} and sim_dt = {physics}"
        " seconds, but ctrl_dt must be a whole number of sim_dt, or its physics steps would not add up to it.",
    )
