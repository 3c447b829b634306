"""Benchmark of an environment's physics implementations on this machine."""

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
    """The size of a measurement: `num_envs` environments take `steps` random actions in one compiled program.

    This is repeated for `rounds` rounds, in each of which the implementations take turns.
    """

    num_envs: int
    steps: int
    rounds: int

    def __post_init__(self):
        for option, value in (("--envs", self.num_envs), ("--steps", self.steps), ("--rounds", self.rounds)):
            require(value >= 1, f"{option} {value}: must be >= 1.")


@dataclasses.dataclass(frozen=True)
class Speed:
    """The speed of one implementation: its start-up time and the environment steps per second of every round.

    `start_s` is the seconds for loading the task, tracing, compiling (or loading from the cache) and a first round.
    """

    impl: str
    start_s: float
    rounds: tuple[float, ...]

    @property
    def env_steps_per_s(self) -> float:
        return statistics.median(self.rounds)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The measured speeds of a task's implementations, the fastest first.

    `absent` says why an implementation was not measured. `load` is the number of runnable processes per core at the end
    of the measurement.
    """

    name: str
    setting: Setting
    speeds: tuple[Speed, ...]
    absent: dict[str, str]
    load: float

    @property
    def busy(self) -> bool:
        """Whether other programs ran at the same time, so that only the ratios are meaningful."""
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


def compare_implementations(
    name: str, implementations: Sequence[str], setting: Setting, report: Callable[[str], None] = lambda text: None
) -> Comparison:
    """Measures a DM Control task on the named implementations, or, if none is named, on all that run on this machine.

    `report` receives a line of text as each part begins. Raises ConfigError for an unknown task, and for a named
    implementation that does not run here.
    """
    ready: dict[str, _Candidate] = {}
    absent: dict[str, str] = {}
    for impl in implementations or IMPLEMENTATIONS:
        env = PlaygroundEnvironment(name, impl, {}, None, None)
        try:
            env.check()
            report(f"{impl}: compiling ...")
            ready[impl] = _Candidate(env, setting)
        except ConfigError as err:
            if impl in implementations or "name" in str(err).partition(":")[0]:
                raise
            absent[impl] = str(err)
    rounds: dict[str, list[float]] = {impl: [] for impl in ready}
    for i in range(setting.rounds):
        report(f"round {i + 1} of {setting.rounds}")
        for impl, candidate in ready.items():
            rounds[impl].append(setting.num_envs * setting.steps / candidate.seconds())
    load = os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0
    speeds = (Speed(impl, candidate.start_s, tuple(rounds[impl])) for impl, candidate in ready.items())
    return Comparison(name, setting, tuple(sorted(speeds, key=lambda s: -s.env_steps_per_s)), absent, load)


class _Candidate:
    """An implementation that was compiled and run once."""

    def __init__(self, env: PlaygroundEnvironment, setting: Setting):
        began = time.perf_counter()
        keys = jax.random.split(jax.random.key(0), setting.num_envs)
        shape = (setting.steps, setting.num_envs, env.action_size)
        self._state = trees.strip_weak_types(jax.jit(jax.vmap(env.reset))(keys))
        self._actions = jax.random.uniform(jax.random.key(1), shape, minval=-1.0)
        self._run = jax.jit(
            lambda state, actions: jax.lax.scan(
                lambda s, a: (trees.strip_weak_types(jax.vmap(env.step)(s, a)), None), state, actions
            )[0]
        )
        self.seconds()
        self.start_s = time.perf_counter() - began

    def seconds(self) -> float:
        """Returns the duration of one round. Every round starts from the same fresh states, with the same actions."""
        began = time.perf_counter()
        jax.block_until_ready(self._run(self._state, self._actions))
        return time.perf_counter() - began
