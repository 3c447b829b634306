"""Runs a study: every job to its end, except for the variants that successive halving ends early."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from gorl.runs.folder import RunFolder
from gorl.studies.executors.base import Watch
from gorl.studies.folder import ENDED, Job, StudyFolder
from gorl.studies.halving import SuccessiveHalving
from gorl.studies.jobs import JobSettings
from gorl.studies.plan import Plan
from gorl.training.execution import EXIT_CODES


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """The number of jobs by status, and the reason of every failed job by its folder."""

    statuses: dict[str, int]
    failures: dict[str, str]


class Driver:
    """Runs the unfinished jobs of a study. `say(line)` prints a line for the user."""

    def __init__(self, plan: Plan, study: StudyFolder, settings: JobSettings, watch: Watch, say: Callable[[str], None]):
        self._plan, self._study, self._settings = plan, study, settings
        self._watch, self._say = watch, say
        self._failures: dict[str, str] = {}

    def run(self) -> SweepResult:
        """Runs every unfinished job. Raises KeyboardInterrupt on SIGINT or SIGTERM; another call resumes."""
        halving: SuccessiveHalving | None = self._plan.sweep.halving
        total = max(len(v.configuration.experiment.stages) for v in self._plan.variants)
        rungs = [n for n in (halving.after if halving else ()) if n < total]
        jobs = self._study.jobs()
        for stages in rungs:
            self._run_to(jobs, stages)
            stopped = self._stop_variants(jobs, stages, halving)
            jobs = [j for j in jobs if j.variant not in stopped]
        self._run_to(jobs, None)
        statuses: dict[str, int] = {}
        for job in self._study.jobs():
            status = "failed" if job.folder in self._failures else self._study.status(job)
            statuses[status] = statuses.get(status, 0) + 1
        return SweepResult(statuses, self._failures)

    def _run_to(self, jobs: Sequence[Job], stages: int | None) -> None:
        """Runs these jobs to the end of the given number of stages (None: of all)."""
        remaining = [
            j for j in jobs if self._study.status(j) not in ENDED and not (stages and self._has_reached(j, stages))
        ]
        watch = Watch(self._watch.began, self._ended, self._watch.tick)
        if remaining:
            settings = dataclasses.replace(self._settings, stages=stages)
            self._plan.sweep.executor.run(self._study, remaining, settings, watch)

    def _ended(self, job: Job, code: int, reason: str) -> None:
        if code not in EXIT_CODES.values():
            self._failures[job.folder] = reason or f"exit code {code}"
        self._watch.ended(job, code, reason)

    def _has_reached(self, job: Job, stages: int) -> bool:
        """Whether a paused job has finished this number of stages."""
        if self._study.status(job) != "paused":
            return False
        return all(_stages_done(m) >= stages for m in RunFolder(self._study.path / job.folder).members)

    def _stop_variants(self, jobs: Sequence[Job], stages: int, halving: SuccessiveHalving) -> set[str]:
        """Ends the variants that successive halving drops at this stage, as decided earlier or now. Returns them."""
        decision = next((d for d in self._study.read()["halving"] if d["stages"] == stages), None)
        if decision is None:
            scores = {name: self._scores(jobs, name, halving.score) for name in dict.fromkeys(j.variant for j in jobs)}
            kept = halving.survivors(scores)
            shown = {name: [v if math.isfinite(v) else None for v in values] for name, values in scores.items()}
            decision = {
                "stages": stages,
                "score": halving.score,
                "scores": shown,
                "stopped": [n for n in scores if n not in kept],
            }
            self._study.add_halving_decision(decision)
            self._say(
                f"after {stages} stage{'s' * (stages > 1)}, by {halving.score}:"
                f" {', '.join(kept)} continue; {', '.join(decision['stopped'])} end here."
            )
        for job in jobs:
            if job.variant in decision["stopped"] and self._study.status(job) not in ENDED:
                self._study.mark_stopped(job)
        return set(decision["stopped"])

    def _scores(self, jobs: Sequence[Job], variant: str, score: str) -> list[float]:
        members = [
            m
            for j in jobs
            if j.variant == variant
            for m in RunFolder(self._study.path / j.folder).members
            if m.path.exists()
        ]
        return [_number(m.status(), score) for m in members]


def _stages_done(member: RunFolder) -> int:
    return member.status().get("stages_done", 0)


def job_outcome(study: StudyFolder, job: Job) -> dict[str, Any]:
    """Returns a job's status, its reuse totals, and the means over seeds of the numbers in status.json."""
    statuses = [m.status() for m in RunFolder(study.path / job.folder).members]
    names = [k for k, v in statuses[0].items() if isinstance(v, (int, float))] if statuses else []
    means = {name: sum(_number(s, name) for s in statuses) / len(statuses) for name in names}
    reused = next((s["reused"] for s in statuses if "reused" in s), {"phases": 0, "env_steps": 0, "seconds": 0.0})
    return {"status": study.status(job), **means, "reused": reused}


def _number(status: dict[str, Any], name: str) -> float:
    """Returns a number of status.json, where null stands for one that is not finite; NaN without it."""
    value = status.get(name)
    return math.nan if value is None else float(value)
