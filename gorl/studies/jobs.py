"""Runs one job of a study, in this process, from wherever it stands.

    python -m gorl.studies.jobs STUDY VARIANT_FOLDER SEED[,SEED...] [--stages N] [--no-aim] [--no-reuse] [--cores N[,N...]]

A worker needs nothing but the study's folder, and the plugins where they were. It ends when the process that started it does.
"""

import argparse
import ctypes
import dataclasses
import os
import pathlib
import shutil
import signal
import sys
from collections.abc import Callable
from typing import Any

from gorl.errors import GorlError, RunError
from gorl.studies.folder import ENDED, Job, StudyFolder

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ORPHAN = 60.0
"""Seconds in which a job's process whose sweep was killed saves and ends."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of a sweep's runs. `stages`: how many to run (None: all)."""

    aim: bool = True
    reuse: bool = True
    stages: int | None = None

    @property
    def words(self) -> list[str]:
        """On a worker's command line."""
        stages = [] if self.stages is None else ["--stages", str(self.stages)]
        return [*stages, *([] if self.aim else ["--no-aim"]), *([] if self.reuse else ["--no-reuse"])]


def run_job(study: StudyFolder, job: Job, settings: Settings, *, progress: Callable[..., None] = lambda **_: None) -> int:
    """Trains, and returns what the command would exit with. Raises GorlError."""
    from gorl import compilation, execution
    from gorl.reuse import reuse_of

    compilation.use_persistent_cache()
    if study.status(job) in ENDED:
        return 0
    resumed, folder, configuration = _prepared(study, job)
    reuse = reuse_of(configuration) if settings.reuse else None
    with execution.locked(folder, wait=_ORPHAN):
        outcome = execution.execute(configuration, folder, progress=progress, resumed=resumed, track=settings.aim, reuse=reuse, stages=settings.stages)
    return outcome.code


def _prepared(study: StudyFolder, job: Job) -> tuple[bool, Any, Any]:
    """(whether it goes on, the run's folder, its configuration)."""
    from gorl import config, runs

    path, known = study.path / job.folder, study.read()
    if study.status(job) != "new":
        folder = runs.RunFolder.open(path)
        return True, folder, config.build([str(folder.config_path)], plugins=folder.facts()["plugins"])
    (variant,) = [v for v in known["variants"] if v["name"] == job.variant]
    if path.exists():  # begun, but ended before it was described: nothing was trained
        if any(path.rglob("checkpoints")):
            raise RunError(f"{path} has checkpoints but no run.json. Move it away, and start the sweep again.")
        shutil.rmtree(path)
    bindings = [b.format(first=job.seeds[0], count=len(job.seeds)) for b in variant["seed_bindings"]]
    configuration = config.build([str(study.config_path(variant["folder"]))], bindings, known["plugins"])
    again = ["gorl", "train", *variant["files"]]
    for binding in (*known["bindings"], *variant["bindings"], *bindings):
        again += ["--set", binding]
    about = {"variant": job.variant, "axes": variant["axes"], "command": again, "swept_by": known["command"]}
    return False, runs.begin(configuration, path, study=known["name"], name=job.folder, **about), configuration


def _end_with_parent() -> None:
    """Asks Linux for a SIGTERM, on which the state is saved, when the process that started this one is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def main() -> None:
    from gorl.cli import quiet

    _end_with_parent()
    quiet.before_imports(debug=False)
    parser = argparse.ArgumentParser(prog="python -m gorl.studies.jobs")
    parser.add_argument("study", type=pathlib.Path)
    parser.add_argument("variant")
    parser.add_argument("seeds", type=_numbers)
    parser.add_argument("--stages", type=int)
    parser.add_argument("--no-aim", action="store_true")
    parser.add_argument("--no-reuse", action="store_true")
    parser.add_argument("--cores", type=_numbers)
    args = parser.parse_args()
    if args.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, args.cores)  # before JAX counts them
    try:
        study = StudyFolder.open(args.study)
        job = study.job(args.variant, args.seeds)
        sys.exit(run_job(study, job, Settings(not args.no_aim, not args.no_reuse, args.stages)))
    except GorlError as err:
        print(f"gorl: {err}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
