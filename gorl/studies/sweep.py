"""Drives a study: every job to its end, ending hopeless variants early where the study says so."""

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


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """How many jobs ended in which way, by status, and the reasons of those that failed."""

    statuses: dict[str, int]
    failures: dict[str, str]


class Driver:
    """Runs what is left of a study's jobs. `say(line)`: what a person should read."""

    def __init__(self, plan: Plan, study: StudyFolder, settings: JobSettings, watch: Watch, say: Callable[[str], None]):
        self._plan, self._study, self._settings = plan, study, settings
        self._watch, self._say = watch, say
        self._failures: dict[str, str] = {}

    def run(self) -> SweepResult:
        """Raises KeyboardInterrupt if told to stop; what has run stays, and another call goes on."""
        halving: SuccessiveHalving | None = self._plan.sweep.halving
        total = max(len(v.configuration.experiment.stages) for v in self._plan.variants)
        rungs = [n for n in (halving.after if halving else ()) if n < total]
        jobs = self._study.jobs()
        for stages in rungs:
            self._to(jobs, stages)
            stopped = self._stopped(jobs, stages, halving)
            jobs = [j for j in jobs if j.variant not in stopped]
        self._to(jobs, None)
        statuses: dict[str, int] = {}
        for job in self._study.jobs():
            status = "failed" if job.folder in self._failures else self._study.status(job)
            statuses[status] = statuses.get(status, 0) + 1
        return SweepResult(statuses, self._failures)

    def _to(self, jobs: Sequence[Job], stages: int | None) -> None:
        """Runs these jobs to the end of so many stages (None: of all)."""
        left = [j for j in jobs if self._study.status(j) not in ENDED and not (stages and self._has_reached(j, stages))]
        watch = Watch(self._watch.began, self._ended, self._watch.tick)
        if left:
            self._plan.sweep.executor.run(self._study, left, dataclasses.replace(self._settings, stages=stages), watch)

    def _ended(self, job: Job, code: int, reason: str) -> None:
        if code not in (0, 3):
            self._failures[job.folder] = reason or f"exit code {code}"
        self._watch.ended(job, code, reason)

    def _has_reached(self, job: Job, stages: int) -> bool:
        """Whether a paused job has that many stages behind it."""
        if self._study.status(job) != "paused":
            return False
        return all(_stages_done(m) >= stages for m in RunFolder(self._study.path / job.folder).members)

    def _stopped(self, jobs: Sequence[Job], stages: int, halving: SuccessiveHalving) -> set[str]:
        """The variants that end here: as decided before, or now."""
        known = next((d for d in self._study.read()["halving"] if d["stages"] == stages), None)
        if known is None:
            scores = {name: self._scores(jobs, name, halving.score) for name in dict.fromkeys(j.variant for j in jobs)}
            kept = halving.survivors(scores)
            shown = {name: [v if math.isfinite(v) else None for v in values] for name, values in scores.items()}
            known = {
                "stages": stages,
                "score": halving.score,
                "scores": shown,
                "stopped": [n for n in scores if n not in kept],
            }
            self._study.decide(known)
            self._say(
                f"after {stages} stage{'s' * (stages > 1)}, by {halving.score}: {', '.join(kept)} go on; {', '.join(known['stopped'])} end here."
            )
        for job in jobs:
            if job.variant in known["stopped"] and self._study.status(job) not in ENDED:
                self._study.stop(job)
        return set(known["stopped"])

    def _scores(self, jobs: Sequence[Job], variant: str, score: str) -> list[float]:
        members = [
            m
            for j in jobs
            if j.variant == variant
            for m in RunFolder(self._study.path / j.folder).members
            if m.path.exists()
        ]
        return [float(m.status().get(score, math.nan)) for m in members]


def _stages_done(member: RunFolder) -> int:
    return member.status().get("stages_done", 0)


def outcome(study: StudyFolder, job: Job) -> dict[str, Any]:
    """Of a job's seeds: the statuses, and the means of the numbers in their status.json."""
    found = [m.status() for m in RunFolder(study.path / job.folder).members]
    names = [k for k, v in found[0].items() if isinstance(v, (int, float))] if found else []
    means = {name: sum(f.get(name, math.nan) for f in found) / len(found) for name in names}
    reused = next((f["reused"] for f in found if "reused" in f), {"phases": 0, "env_steps": 0, "seconds": 0.0})
    return {"status": study.status(job), **means, "reused": reused}
