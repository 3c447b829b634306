"""The cells of a table. Each knows its progress and its remaining time, and runs until a deadline."""

import abc
import functools
import pathlib
import signal
import time
from collections.abc import Callable, Sequence

from experiments.reproduce import outcomes
from experiments.reproduce.forecasts import Forecast
from experiments.reproduce.scales import AbstractBlock, Entry, Physics, Scale, Training, folder_name
from gorl import runs
from gorl.environments import speed
from gorl.runs.files import write_json
from gorl.studies.executors.base import Watch
from gorl.studies.folder import ENDED, Job, StudyFolder
from gorl.studies.jobs import JobSettings
from gorl.studies.plan import Plan, make_plan

CUT, FAILED = "cut off", "failed"


class AbstractCell(abc.ABC):
    """One measurement of a table, whose result is the file `path`."""

    def __init__(self, entry: Entry, path: pathlib.Path):
        self.entry, self.path = entry, path

    @property
    def name(self) -> str:
        return f"{self.entry.method or self.entry.kind}/{self.entry.task}"

    @abc.abstractmethod
    def share(self) -> float:
        """Returns the share of the cell that is done, from 0 to 1."""

    @abc.abstractmethod
    def expected(self, forecast: Forecast) -> float | None:
        """Returns the remaining seconds, or None if nothing is known about them."""

    @abc.abstractmethod
    def run(self, deadline: float) -> str:
        """Runs the cell until its end or a monotonic-clock deadline, writes its result, and returns how it ended.

        Raises KeyboardInterrupt if a person stops it. The result is written in this case, too.
        """


class PhysicsCell(AbstractCell):
    """The speed of one task's physics."""

    def __init__(self, entry: Entry, path: pathlib.Path, block: Physics):
        super().__init__(entry, path)
        self._block = block

    def share(self) -> float:
        return float(self.path.is_file())

    def expected(self, forecast: Forecast) -> float | None:
        del forecast
        return self._block.seconds

    def run(self, deadline: float) -> str:
        del deadline
        block, task = self._block, self.entry.task
        found = speed.compare_implementations(
            task, block.implementations, speed.Setting(block.num_envs, block.steps, block.rounds)
        )
        sizes = ["--envs", str(block.num_envs), "--steps", str(block.steps), "--rounds", str(block.rounds)]
        known = {k: v for k, v in runs.facts().items() if k in outcomes.PROVENANCE}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, {"command": ["gorl", "bench", "physics", task, *sizes], **known, **found.as_json()})
        return "finished"


class TrainingCell(AbstractCell):
    """One task of a method's study with all of its seeds, which is a job of `gorl sweep`."""

    def __init__(self, entry: Entry, path: pathlib.Path, words: Sequence[str], folder: pathlib.Path, aim: bool):
        super().__init__(entry, path)
        self._words, self._folder, self._aim = list(words), folder, aim
        self._named = f"Study.name = {entry.method!r}"
        self._reason = ""

    def share(self) -> float:
        known = outcomes.read(self.path)
        return known.share if known else 0.0

    def expected(self, forecast: Forecast) -> float | None:
        whole = forecast.seconds(self.entry)
        return None if whole is None else whole * (1.0 - self.share())

    def run(self, deadline: float) -> str:
        plan = _plan(*self._words, self._named)
        study = StudyFolder.begin(self._folder, plan)
        try:
            return self._train(plan, study, deadline)
        finally:
            study.close()

    def _train(self, plan: Plan, study: StudyFolder, deadline: float) -> str:
        (variant,) = [v for v in plan.variants if v.name == self.entry.task]
        (job,) = [j for j in study.jobs() if j.variants == (variant.folder,)]
        declared = variant.configuration.experiment.env_steps()
        clock = _Deadline(deadline)
        try:
            plan.sweep.executor.run(
                study,
                [job],
                JobSettings(aim=self._aim, plugins=plan.source.plugins),
                Watch(_nothing, self._ended, clock.tick),
            )
        except KeyboardInterrupt:
            if not clock.passed:
                raise
        finally:
            self._keep(study, job, declared)
        status = study.status(job)
        return status if status in ENDED else CUT if clock.passed else f"{FAILED}: {self._reason}"

    def _ended(self, job: Job, code: int, reason: str) -> None:
        del job
        self._reason = reason or f"exit code {code}"

    def _keep(self, study: StudyFolder, job: Job, declared: int) -> None:
        if (study.path / job.folder / "run.json").is_file():
            words = [
                part for word in (*self._words, self._named) for part in (["--set", word] if "=" in word else [word])
            ]
            outcomes.write(
                self.path, outcomes.of_run(self.entry, study.status(job), declared, study.path / job.folder, words)
            )


@functools.cache
def _plan(*words: str) -> Plan:
    """Returns the plan of a study. It is cached, since a study has a cell per task and building it takes seconds."""
    return make_plan([w for w in words if "=" not in w], [w for w in words if "=" in w])


class _Deadline:
    """Sends SIGTERM to the process once the deadline has passed, so that the current run saves and ends."""

    def __init__(self, deadline: float, clock: Callable[[], float] = time.monotonic):
        self._deadline, self._clock = deadline, clock
        self.passed = False

    def tick(self, jobs: Sequence[Job]) -> None:
        if jobs and not self.passed and self._clock() >= self._deadline:
            self.passed = True
            signal.raise_signal(signal.SIGTERM)


def _nothing(*_: object) -> None:
    pass


def make(scale: Scale, out: pathlib.Path, results: pathlib.Path, *, aim: bool = True) -> list[AbstractCell]:
    """Returns all cells in order of priority. `out` is the folder of the studies; `aim` is whether Aim tracks them."""
    return [
        _cell(scale.block_of(entry), scale, entry, out, outcomes.path_of(results, scale, entry), aim)
        for entry in scale.entries()
    ]


@functools.singledispatch
def _cell(
    block: AbstractBlock, scale: Scale, entry: Entry, out: pathlib.Path, path: pathlib.Path, aim: bool
) -> AbstractCell:
    raise NotImplementedError(f"no cell for a {type(block).__name__}")


@_cell.register
def _(block: Physics, scale: Scale, entry: Entry, out: pathlib.Path, path: pathlib.Path, aim: bool) -> AbstractCell:
    del scale, out, aim
    return PhysicsCell(entry, path, block)


@_cell.register
def _(block: Training, scale: Scale, entry: Entry, out: pathlib.Path, path: pathlib.Path, aim: bool) -> AbstractCell:
    del block
    return TrainingCell(entry, path, scale.studies[entry.method], out / scale.name / folder_name(entry.method), aim)
