"""How fast an environment's physics is on this machine, on each implementation."""

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from gorl.environments.playground import IMPLEMENTATIONS, PlaygroundEnvironment
from gorl.errors import ConfigError
from gorl.fields import require
from gorl.runtime import trees


@dataclasses.dataclass(frozen=True)
class Setting:
    """`num_envs` at once take `steps` random actions in one compiled program; `rounds` of that, the implementations in turn."""

    num_envs: int
    steps: int
    rounds: int

    def __post_init__(self):
        for name in ("num_envs", "steps", "rounds"):
            require(getattr(self, name) >= 1, f"{name.replace('_', ' ')} = {getattr(self, name)}: it must be >= 1.")


@dataclasses.dataclass(frozen=True)
class Speed:
    """`start_s`: loading the task, tracing, compiling (or loading from the cache), and a first round. `rounds`: env steps/s of each."""

    impl: str
    start_s: float
    rounds: tuple[float, ...]

    @property
    def env_steps_per_s(self) -> float:
        return statistics.median(self.rounds)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The fastest first. `absent`: why an implementation was not measured. `load`: runnable processes a core, while it was."""

    name: str
    setting: Setting
    speeds: tuple[Speed, ...]
    absent: dict[str, str]
    load: float

    @property
    def busy(self) -> bool:
        """Others computed on this machine at the time: the ratios are worth more than the numbers."""
        return self.load > 1.25

    def as_json(self) -> dict[str, Any]:
        numbers = lambda s: {
            "env_steps_per_s": round(s.env_steps_per_s),
            "start_s": round(s.start_s, 2),
            "rounds": [round(r) for r in s.rounds],
        }
        speeds = {s.impl: numbers(s) for s in self.speeds}
        return {
            "environment": self.name,
            **dataclasses.asdict(self.setting),
            "speeds": speeds,
            "absent": self.absent,
            "load_per_core": round(self.load, 2),
        }


def compare(
    name: str, implementations: Sequence[str], setting: Setting, said: Callable[[str], None] = lambda text: None
) -> Comparison:
    """Measures a DM Control task. `implementations`: which ones (none named: all that run here); `said` is told what is going on."""
    ready: dict[str, _Ready] = {}
    absent: dict[str, str] = {}
    for impl in implementations or IMPLEMENTATIONS:
        env = PlaygroundEnvironment(name, impl, {}, None, None)
        try:
            env.check()
            said(f"{impl}: compiling ...")
            ready[impl] = _Ready(env, setting)
        except ConfigError as err:
            if impl in implementations or "name" in str(err).partition(":")[0]:
                raise
            absent[impl] = str(err)
    rounds: dict[str, list[float]] = {impl: [] for impl in ready}
    for i in range(setting.rounds):
        said(f"round {i + 1} of {setting.rounds}")
        for impl, candidate in ready.items():
            rounds[impl].append(setting.num_envs * setting.steps / candidate.seconds())
    load = os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0
    speeds = (Speed(impl, candidate.start_s, tuple(rounds[impl])) for impl, candidate in ready.items())
    return Comparison(name, setting, tuple(sorted(speeds, key=lambda s: -s.env_steps_per_s)), absent, load)


class _Ready:
    """Compiled and run once."""

    def __init__(self, env: PlaygroundEnvironment, setting: Setting):
        began = time.perf_counter()
        keys, actions = (
            jax.random.split(jax.random.key(0), setting.num_envs),
            (setting.steps, setting.num_envs, env.action_size),
        )
        self._state = trees.strip_weak_types(jax.jit(jax.vmap(env.reset))(keys))
        self._actions = jax.random.uniform(jax.random.key(1), actions, minval=-1.0)
        self._run = jax.jit(
            lambda state, actions: jax.lax.scan(
                lambda s, a: (trees.strip_weak_types(jax.vmap(env.step)(s, a)), None), state, actions
            )[0]
        )
        self.seconds()
        self.start_s = time.perf_counter() - began

    def seconds(self) -> float:
        """Of one round: from the same states, which are fresh ones, with the same actions."""
        began = time.perf_counter()
        jax.block_until_ready(self._run(self._state, self._actions))
        return time.perf_counter() - began
