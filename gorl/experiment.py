"""Declarations: an experiment is a task and a list of stages, and a stage is a list of phases."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import gin
import jax
from jaxtyping import PRNGKeyArray

from gorl.decoders.base import AbstractDecoder, require_decoder
from gorl.environments.task import Task
from gorl.errors import ConfigError
from gorl.fields import as_factory, instances, require
from gorl.networks import sealed
from gorl.phases.base import AbstractPhase, PhaseContext, PhaseInputs, Unit
from gorl.pictures.base import AbstractPicture
from gorl.runtime import hosts
from gorl.runtime.precision import PRECISIONS
from gorl.state import PyTree, RunState, Spaces
from gorl.tracking.base import AbstractTracker

MOST_SEEDS = 10_000


@gin.register(module="gorl")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """Phases that run in order."""

    phases: list[AbstractPhase]

    def __post_init__(self):
        object.__setattr__(self, "phases", instances(AbstractPhase, "Stage.phases")(self.phases))
        require(self.phases, "Stage.phases is empty, so the stage does nothing. List its phases, or remove the stage.")


@dataclasses.dataclass(frozen=True)
class PlannedPhase:
    """A phase in its place: its number `phase` in the stage with the number `stage`."""

    stage: int
    phase: int
    declaration: AbstractPhase

    @property
    def name(self) -> str:
        return type(self.declaration).__name__


@gin.register(module="gorl")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """The declaration of a run. The trainer executes it and knows no more than this.

    `decoder`: the decoder before any was fitted. `num_seeds`: how many independent runs train in one program, with the
    seeds `seed`, `seed` + 1, and so on. `divergence_limit`: a seed that makes no sound update for this many units in a
    row is given up. `precision`: the precision of the networks' matrix products: 'highest' (float32),
    'tensorfloat32' or 'bfloat16'; JAX's 'high' and 'default' are what the device makes of them. Weights and sums are
    float32. `devices`: how many devices each process uses; None takes all it has, or one where the physics takes no
    more (`gorl.runtime.devices`). `budget`: the environment steps of the whole run, which every stage takes from; a
    stage begins only if its steps are left, and the last one ends where they end (None: as many as the stages
    declare). `checkpoint_interval`: seconds between checkpoints inside a phase; every phase also
    ends with one. `trackers`: where metrics go beside the run's own record, which is always written. `pictures`: what
    is drawn after every stage, of every seed.
    """

    task: Task
    decoder: Callable[..., AbstractDecoder]
    stages: list[Stage]
    seed: int
    num_seeds: int
    divergence_limit: int
    precision: str
    checkpoint_interval: float
    trackers: list[AbstractTracker]
    pictures: list[AbstractPicture] = ()  # runs from before there were any have none
    devices: int | None = None
    budget: int | None = dataclasses.field(default=None, metadata={"budget": True})

    def __post_init__(self):
        set_field = object.__setattr__
        set_field(self, "stages", instances(Stage, "Experiment.stages")(self.stages))
        set_field(self, "trackers", instances(AbstractTracker, "Experiment.trackers")(self.trackers))
        set_field(self, "pictures", instances(AbstractPicture, "Experiment.pictures")(self.pictures))
        set_field(self, "decoder", as_factory(self.decoder))
        require(
            isinstance(self.task, Task),
            f"Experiment.task is {self.task!r}, not a Task; did you forget '()' after its name?",
        )
        require(
            self.precision in PRECISIONS,
            f"Experiment.precision = {self.precision!r}: it is one of {', '.join(map(repr, PRECISIONS))}.",
        )
        for name in ("num_seeds", "divergence_limit"):
            require(getattr(self, name) >= 1, f"Experiment.{name} = {getattr(self, name)}: it must be >= 1.")
        require(
            self.num_seeds <= MOST_SEEDS,
            f"Experiment.num_seeds = {self.num_seeds}: it must be at most {MOST_SEEDS:_}; each has a folder.",
        )
        last = self.seed + self.num_seeds - 1
        require(
            0 <= self.seed and last < 2**31,
            f"Experiment.seed = {self.seed}: every seed (to {last}) must be in [0, 2^31).",
        )
        require(
            self.devices is None or self.devices >= 1,
            f"Experiment.devices = {self.devices}: it must be >= 1, or None for all of them.",
        )
        require(
            self.checkpoint_interval >= 0,
            f"Experiment.checkpoint_interval = {self.checkpoint_interval}: it must be >= 0 seconds.",
        )

    def check(self) -> None:
        """Raises ConfigError for what cannot run. Starts no device and builds no model."""
        self.task.environment.check()
        require(len(self.stages) > 0, "Experiment.stages is empty: there is nothing to run.")
        inputs = PhaseInputs()
        for planned in self.planned_phases():
            with _named(planned):
                inputs = planned.declaration.check(self.task, inputs)
        self._check_schedule()
        self.check_devices(self.devices or 1)

    def _check_schedule(self) -> None:
        require(
            self.num_seeds == 1 or not self.is_adaptive,
            f"Experiment.num_seeds = {self.num_seeds} with a rule in ImprovePolicy.end: seeds of one program run in"
            " lockstep, and a rule ends the stages of each at another step. Train each seed in a process of its own:"
            f" Experiment.num_seeds = 1 and `gorl sweep` with Study.seeds = {self.num_seeds} and"
            " Study.seeds_together = False.",
        )
        least = self.least_env_steps(0)
        require(
            self.budget is None or self.budget >= least,
            f"Experiment.budget = {self.budget}, but stage 0 needs at least {least:_} environment steps. Raise it, or"
            " set it to None.",
        )

    def check_devices(self, count: int) -> None:
        """Raises ConfigError where `count` devices cannot share the lanes evenly."""
        if count > 1:
            for planned in self.planned_phases():
                with _named(planned):
                    planned.declaration.check_devices(count)

    def check_modules(self, spaces: Spaces) -> None:
        """Builds every module abstractly, for an environment of these sizes. Raises whatever a module raises."""

        def build() -> AbstractDecoder:
            key = jax.random.key(0)
            decoder = self._first_decoder(spaces, key)
            for planned in self.planned_phases():
                decoder = planned.declaration.create(spaces, decoder, key=key)
                require_decoder(decoder, f"{planned.name}.decoder")
            return decoder

        eqx.filter_eval_shape(build)

    def choose_devices(self) -> list[jax.Device]:
        """Returns the devices to run on, the same number from every process. Starts the JAX backend.

        Raises ConfigError, before anything is compiled, where there are too few or lanes cannot be shared out evenly.
        """
        asked, here = self.devices, jax.local_device_count()
        if asked is not None and asked > here:
            there_are = f"there is 1 {jax.default_backend()} device here"
            if here > 1:
                there_are = f"there are {here} {jax.default_backend()} devices here"
            raise ConfigError(f"Experiment.devices = {asked}, but {there_are}. Lower it; None takes all of them.")
        if self.task.environment.one_device:
            require(
                asked in (None, 1) and not hosts.is_distributed(),
                f"Experiment.devices = {asked} on {hosts.process_count()} processes: the physics of"
                f" {self.task.describe()['name']} runs on one device, since XLA cannot share it out."
                " Set Experiment.devices = 1 in one process, or take physics written in JAX (impl = 'jax').",
            )
            asked = 1
        each = asked or here
        self.check_devices(each * hosts.process_count())
        by_process: dict[int, list[jax.Device]] = {}
        for device in jax.devices():
            by_process.setdefault(device.process_index, []).append(device)
        if any(len(devices) < each for devices in by_process.values()):
            raise ConfigError(
                f"this process has {each} devices to use, and another has fewer."
                " Set Experiment.devices to what every process has."
            )
        return [device for devices in by_process.values() for device in devices[:each]]

    def planned_phases(self) -> Iterator[PlannedPhase]:
        """Yields every phase of every stage, in order."""
        for s, stage in enumerate(self.stages):
            for p, phase in enumerate(stage.phases):
                yield PlannedPhase(s, p, phase)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.num_seeds))

    def context(self, planned: PlannedPhase, seed: Any = None) -> PhaseContext:
        """Returns a phase's context for one seed (the first one by default), or for all seeds in the array `seed`."""
        return PhaseContext(self.task, self.seed if seed is None else seed, planned.stage, planned.phase)

    def units(self, planned: PlannedPhase) -> tuple[Unit, ...]:
        return tuple(planned.declaration.units(self.task))

    def env_steps(self) -> int:
        """Counts every training step of the environment, collection included: the most, if the run may take fewer."""
        total = sum(unit.env_steps for planned in self.planned_phases() for unit in self.units(planned))
        return total if self.budget is None else min(total, self.budget)

    @property
    def is_adaptive(self) -> bool:
        """Whether a rule decides how many units of a phase run."""
        return any(planned.declaration.may_end_early for planned in self.planned_phases())

    @property
    def may_take_fewer(self) -> bool:
        """Whether the run may take fewer steps than `env_steps`."""
        return self.is_adaptive or self.budget is not None

    def least_env_steps(self, stage: int, after: int = -1) -> int:
        """Returns the environment steps that a stage needs after its phase number `after`."""
        phases = self.stages[stage].phases[after + 1 :]
        return sum(phase.least_env_steps(self.task) for phase in phases)

    def initial_state(self, seed: Any) -> RunState:
        """Returns the state that a run with this seed starts from."""
        return RunState(self._first_decoder(self.task.environment.spaces(), jax.random.key(seed)))

    def _first_decoder(self, spaces: Spaces, key: PRNGKeyArray) -> AbstractDecoder:
        decoder = self.decoder(spaces.observation, spaces.action, key=key)
        return sealed(require_decoder(decoder, "Experiment.decoder"))

    def template(self, position: int, started: bool, skipped: Sequence[int] = ()) -> PyTree:
        """Returns the shapes of one seed's state at the phase with this number in `planned_phases`.

        It is the phase's own state if it has started, else what the phase will be given. The number behind the last
        phase's is the end of the run. `skipped`: the numbers of the phases before it that were not run.
        """
        planned_phases = list(self.planned_phases())

        def state_at() -> PyTree:
            run = self.initial_state(self.seed)
            for planned in [p for i, p in enumerate(planned_phases[:position]) if i not in skipped]:
                context = self.context(planned)
                run = planned.declaration.finish(context, planned.declaration.start(context, run))
            if not started:
                return run
            planned = planned_phases[position]
            return planned.declaration.start(self.context(planned), run)

        return eqx.filter_eval_shape(state_at)


@contextlib.contextmanager
def _named(planned: PlannedPhase) -> Iterator[None]:
    """Adds the phase and its place to a ConfigError that is raised inside."""
    try:
        yield
    except ConfigError as err:
        raise ConfigError(f"stage {planned.stage}, phase {planned.phase} ({planned.name}): {err}") from err
