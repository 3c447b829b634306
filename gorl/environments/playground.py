"""MuJoCo Playground's DM Control suite (Zakka et al., arXiv 2502.08844)."""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import gin
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.environments.base import AbstractEnvironment, like, make_state
from gorl.environments.names import dm_control_names
from gorl.environments.scene import Scene, pose_of
from gorl.errors import ConfigError, did_you_mean
from gorl.fields import require, structural
from gorl.runtime.precision import in_float32
from gorl.state import EnvState

ELSEWHERE = {  # settings of Playground that its tasks do not read themselves, or that have a binding of their own
    "impl": "bind PlaygroundEnvironment.impl",
    "episode_length": "bind Task.episode_length",
    "action_repeat": "raise 'ctrl_dt', the seconds that an action is held",
}


MJX = ("jax", "warp")
"""MJX's implementations of physics."""
AUTO = "auto"
_NO_CONTACTS = ("Acrobot", "Cartpole", "Pendulum", "PointMass")
"""The tasks that are faster on MJX than natively on a CPU: so small that calling the engine costs most (experiments/results/physics.json)."""


def fastest(name: str, impl: str) -> str:
    """The implementation for a task, where the choice was left to the machine. Starts the device.

    Measured on CPUs; on others it is MJX's own, which needs no further package.
    """
    if impl != AUTO:
        return impl
    return "native" if jax.default_backend() == "cpu" and not name.startswith(_NO_CONTACTS) else "jax"


def check_implementation(impl: str, where: str, known: Iterable[str] = MJX) -> None:
    if impl not in known:
        raise ConfigError(
            f"{where} = {impl!r}: the physics implementations are {', '.join(map(repr, known))}.{did_you_mean(impl, known)}"
        )
    if impl == "warp" and importlib.util.find_spec("warp") is None:
        raise ConfigError(f"{where} = 'warp' needs the package warp-lang: pip install warp-lang, or bind 'jax'.")


def as_items(overrides: Any) -> tuple[tuple[str, Any], ...]:
    """A dict as something that can be looked up: sorted items, lists as tuples."""
    items = dict(overrides) if isinstance(overrides, (dict, tuple)) else None
    require(
        items is not None and all(isinstance(key, str) for key in items),
        f"{overrides!r} is not a dict of settings: write {{'name': value}}.",
    )
    fixed = lambda value: tuple(map(fixed, value)) if isinstance(value, (list, tuple)) else value
    return tuple(sorted((key, fixed(value)) for key, value in items.items()))


@gin.register(module="gorl")
class PlaygroundEnvironment(AbstractEnvironment):
    """A task of `mujoco_playground.dm_control_suite` by name. Its actions are in [-1, 1] already.

    `impl`: what simulates: MJX on 'jax' or 'warp'; 'native', MuJoCo's own engine, on the CPU by `threads` threads (None: one a core;
    no result depends on it); or 'auto', the fastest where the run begins, which keeps it; `overrides`: Playground's own settings, such as {'ctrl_dt': 0.02};
    `obs_key`, `critic_obs_key`: which entries of a dict observation the policy and the critic see.
    """

    name: str = structural()
    impl: str = structural()
    overrides: tuple = structural(converter=as_items)
    obs_key: str | None = structural()
    critic_obs_key: str | None = structural()
    threads: int | None = structural(default=None)

    settled_when_begun: ClassVar[dict[str, Callable[[dict[str, Any]], Any]]] = {
        "impl": lambda bound: fastest(bound["name"], bound["impl"])
    }

    @property
    def _task(self) -> "Simulated":
        return _task(self.name, fastest(self.name, self.impl), self.overrides, self.threads)

    @property
    def library(self) -> Any:
        """Playground's own environment."""
        return self._task.library

    def check(self) -> None:
        names = dm_control_names()
        if self.name not in names:
            guess = did_you_mean(self.name, names)
            raise ConfigError(
                f"PlaygroundEnvironment.name = {self.name!r}: the DM Control suite has no such task.{guess} `gorl list environments` shows all."
            )
        check_implementation(self.impl, "PlaygroundEnvironment.impl", (*IMPLEMENTATIONS, AUTO))
        require(
            self.threads is None or self.threads >= 1,
            f"PlaygroundEnvironment.threads = {self.threads}: it must be >= 1, or None for one a core.",
        )
        if self.overrides:  # else Playground need not be imported
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
        return self._state(like(after, state.sim))

    def _state(self, sim: Any) -> EnvState:
        return make_state(
            sim, sim.obs, sim.reward, sim.done,
            obs_key=self.obs_key, critic_obs_key=self.critic_obs_key, physics=(sim.data.qpos, sim.data.qvel),
        )  # fmt: skip

    def scene(self) -> Scene:
        return Scene(self.library.mj_model, float(self.library.dt), lambda state: pose_of(state.sim.data))

    @property
    def one_device(self) -> bool:
        """Warp's and MuJoCo's own engine are foreign functions to XLA."""
        return fastest(self.name, self.impl) != "jax"

    def describe(self) -> dict[str, Any]:
        return {"library": "mujoco_playground", "name": self.name, "impl": self.impl, "overrides": dict(self.overrides)}


@dataclasses.dataclass(frozen=True)
class Simulated:
    """A task of Playground, and its reset and step on some physics."""

    library: Any
    reset: Callable[[Array], Any]
    step: Callable[[Any, Array], Any]


def _on_mjx(impl: str, load: Callable[[str], Any], threads: int | None) -> Simulated:
    del threads
    library = load(impl)
    return Simulated(library, library.reset, library.step)


def _natively(impl: str, load: Callable[[str], Any], threads: int | None) -> Simulated:
    from gorl.environments.native.task import NativeTask

    del impl
    task = NativeTask(lambda: load("jax"), threads)
    return Simulated(task.library, task.reset, task.step)


IMPLEMENTATIONS = {**dict.fromkeys(MJX, _on_mjx), "native": _natively}


@functools.cache
def _task(name: str, impl: str, overrides: tuple[tuple[str, Any], ...], threads: int | None) -> Simulated:
    from mujoco_playground import dm_control_suite

    def load(mjx: str) -> Any:
        with jax.ensure_compile_time_eval():  # the first call may come while a program is traced
            return dm_control_suite.load(name, config_overrides={"impl": mjx, **dict(overrides)})

    check_overrides(name, dict(overrides))
    return IMPLEMENTATIONS[impl](impl, load, threads)


def check_overrides(name: str, overrides: dict[str, Any]) -> None:
    """Raises ConfigError for settings that the task does not have, or that would not do what they say."""
    from mujoco_playground import dm_control_suite

    settings = dm_control_suite.get_default_config(name).lock()
    known = sorted(set(settings.keys()) - set(ELSEWHERE))
    for key, value in overrides.items():
        where = f"PlaygroundEnvironment.overrides[{key!r}] = {value!r}"
        require(key not in ELSEWHERE, f"{where} is not set there: {ELSEWHERE.get(key)} instead.")
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
            raise ConfigError(f"{where}: Playground does not take it for {name}: {str(err).splitlines()[0]}") from err
    control, physics = settings.ctrl_dt, settings.sim_dt
    steps = control / physics if control and physics and physics > 0 else 0.0
    require(
        round(steps) >= 1 and abs(steps - round(steps)) < 1e-6 * steps,
        f"PlaygroundEnvironment.overrides = {overrides!r}: {name} would have ctrl_dt = {control} and sim_dt = {physics} seconds, but ctrl_dt"
        " must be a whole number of sim_dt, or its physics steps would not add up to it.",
    )
