"""Declarations: an experiment is a task and a list of stages, a stage a list of phases."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import gin
import jax

from gorl.decoders.base import AbstractDecoder
from gorl.environments.task import Task
from gorl.errors import ConfigError
from gorl.fields import as_factory, instances, require
from gorl.phases.base import AbstractPhase, PhaseContext, Plan, Unit
from gorl.pictures.base import AbstractPicture
from gorl.precision import PRECISIONS
from gorl.seeds import each
from gorl.state import RunState
from gorl.tracking.base import AbstractTracker

MOST_SEEDS = 10_000


@gin.register(module="gorl")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """Phases, run in order."""

    phases: list[AbstractPhase]

    def __post_init__(self):
        object.__setattr__(self, "phases", instances(AbstractPhase, "Stage.phases")(self.phases))


@dataclasses.dataclass(frozen=True)
class Step:
    """One phase in its place."""

    stage: int
    phase: int
    declaration: AbstractPhase

    @property
    def name(self) -> str:
        return type(self.declaration).__name__


@gin.register(module="gorl")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What to run. The trainer executes it and knows no more than this.

    `decoder`: the decoder before any was fitted. `num_seeds`: independent runs with the seeds `seed`, `seed` + 1, ... in one
    program. `divergence_limit`: units in a row in which a seed could make no sound update, after which it is given up.
    `precision`: of networks' matrix products: 'highest' (float32), 'tensorfloat32', 'bfloat16'; JAX's 'high' and 'default'
    are what the device makes of them. Weights and sums are float32.
    `devices`: how many this process (each, of several) runs on; None: all it has, or one where the physics takes no more (`gorl.devices`).
    `checkpoint_interval`: seconds between checkpoints inside a phase; every phase also ends with one.
    `trackers`: beside the run's own record, which is always written. `pictures`: drawn after every stage, of every seed.
    """

    task: Task
    decoder: Any
    stages: list[Stage]
    seed: int
    num_seeds: int
    divergence_limit: int
    precision: str
    checkpoint_interval: float
    trackers: list[AbstractTracker]
    pictures: list[AbstractPicture] = ()  # runs from before there were any have none
    devices: int | None = None

    def __post_init__(self):
        set_field = object.__setattr__
        set_field(self, "stages", instances(Stage, "Experiment.stages")(self.stages))
        set_field(self, "trackers", instances(AbstractTracker, "Experiment.trackers")(self.trackers))
        set_field(self, "pictures", instances(AbstractPicture, "Experiment.pictures")(self.pictures))
        set_field(self, "decoder", as_factory(self.decoder))
        require(isinstance(self.task, Task), f"Experiment.task is {self.task!r}, not a Task; did you forget '()' after its name?")
        require(self.precision in PRECISIONS, f"Experiment.precision = {self.precision!r}: it is one of {', '.join(map(repr, PRECISIONS))}.")
        for name in ("num_seeds", "divergence_limit"):
            require(getattr(self, name) >= 1, f"Experiment.{name} = {getattr(self, name)}: it must be >= 1.")
        require(self.num_seeds <= MOST_SEEDS, f"Experiment.num_seeds = {self.num_seeds}: it must be at most {MOST_SEEDS:_}; each has a folder.")
        last = self.seed + self.num_seeds - 1
        require(0 <= self.seed and last < 2**31, f"Experiment.seed = {self.seed}: every seed (to {last}) must be in [0, 2^31).")
        require(self.devices is None or self.devices >= 1, f"Experiment.devices = {self.devices}: it must be >= 1, or None for all of them.")
        require(self.checkpoint_interval >= 0, f"Experiment.checkpoint_interval = {self.checkpoint_interval}: it must be >= 0 seconds.")

    def check(self) -> None:
        """Raises ConfigError for what cannot run. Starts no device and builds no model."""
        self.task.environment.check()
        require(len(self.stages) > 0, "Experiment.stages is empty: there is nothing to run.")
        plan = Plan()
        for step in self.steps():
            with _named(step):
                plan = step.declaration.check(self.task, plan)
        self.check_devices(self.devices or 1)

    def check_devices(self, count: int) -> None:
        """Raises ConfigError where so many devices cannot share the lanes evenly."""
        if count > 1:
            for step in self.steps():
                with _named(step):
                    step.declaration.check_devices(count)

    def steps(self) -> Iterator[Step]:
        for s, stage in enumerate(self.stages):
            for p, phase in enumerate(stage.phases):
                yield Step(s, p, phase)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.num_seeds))

    def context(self, step: Step, seed: Any = None) -> PhaseContext:
        """Of one seed (the first), or of several where `seed` is an array."""
        return PhaseContext(self.task, self.seed if seed is None else seed, step.stage, step.phase)

    def of(self, row: int) -> "Experiment":
        """That of one of the seeds (a `gorl.joint.Joint` has several)."""
        del row
        return self

    def settings(self) -> contextlib.AbstractContextManager:
        """What programs are called in."""
        return contextlib.nullcontext()

    def start(self, step: Step, seed: Any, run: Any) -> Any:
        """The phase's state [S, ...], from what the last phase left."""
        return each(lambda s, one: step.declaration.start(self.context(step, s), one), seed, run)

    def finish(self, step: Step, seed: Any, state: Any) -> Any:
        """What the phase leaves [S, ...]."""
        return each(lambda s, one: step.declaration.finish(self.context(step, s), one), seed, state)

    def units(self, step: Step) -> tuple[Unit, ...]:
        return tuple(step.declaration.units(self.task))

    def env_steps(self) -> int:
        """Every training step of the environment, collection included."""
        return sum(unit.env_steps for step in self.steps() for unit in self.units(step))

    def initial_state(self, seed: Any) -> RunState:
        """Of one seed."""
        spaces = self.task.environment.spaces()
        decoder = self.decoder(spaces.observation, spaces.action, key=jax.random.key(seed))
        if not isinstance(decoder, AbstractDecoder):
            raise ConfigError(f"Experiment.decoder built a {type(decoder).__name__}, which is not an AbstractDecoder.")
        return RunState(decoder)

    def template(self, position: int, started: bool) -> Any:
        """The shapes of one seed's state at a phase (by its number in `steps`): its own if started, else what it will be
        given. The number behind the last phase's is the end."""
        steps = list(self.steps())

        def state_at() -> Any:
            run = self.initial_state(self.seed)
            for step in steps[:position]:
                context = self.context(step)
                run = step.declaration.finish(context, step.declaration.start(context, run))
            return steps[position].declaration.start(self.context(steps[position]), run) if started else run

        return eqx.filter_eval_shape(state_at)


@contextlib.contextmanager
def _named(step: Step) -> Iterator[None]:
    """A ConfigError inside says which phase's it is."""
    try:
        yield
    except ConfigError as err:
        raise ConfigError(f"stage {step.stage}, phase {step.phase} ({step.name}): {err}") from err
