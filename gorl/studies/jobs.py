"""Runs or resumes one job of a study in this process.

It needs only the study's folder, and plugins that are named again.
"""

import dataclasses
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

from gorl import config
from gorl.config import Configuration
from gorl.errors import RunError
from gorl.reuse.identity import reuse_of
from gorl.runs.beginning import begin
from gorl.runs.files import write_json
from gorl.runs.folder import RunFolder
from gorl.runtime import compilation
from gorl.studies.folder import ENDED, Job, StudyFolder
from gorl.training import execution
from gorl.training.trained import reopened

_LOCK_TIMEOUT = 60.0
"""Seconds to wait for a job's process whose sweep was killed to save and end."""


@dataclasses.dataclass(frozen=True)
class JobSettings:
    """Settings shared by all runs of a sweep.

    `stages`: the number of stages to run (None: all). `plugins`: those named for this sweep, not those in its folder.
    """

    aim: bool = True
    reuse: bool = True
    stages: int | None = None
    plugins: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """The settings as a worker's command-line arguments."""
        stages = [] if self.stages is None else ["--stages", str(self.stages)]
        plugins = [word for plugin in self.plugins for word in ("--plugin", plugin)]
        return [*stages, *([] if self.aim else ["--no-aim"]), *([] if self.reuse else ["--no-reuse"]), *plugins]


def run_job(
    study: StudyFolder, job: Job, settings: JobSettings, *, progress: Callable[..., None] = lambda **_: None
) -> int:
    """Trains a job's runs, and returns the exit code that `gorl train` would have. Raises GorlError."""
    compilation.use_persistent_cache()
    if study.status(job) in ENDED:
        return 0
    resumed, folder, configurations = _prepared(study, job, settings.plugins)
    common = {"progress": progress, "resumed": resumed, "track": settings.aim, "stages": settings.stages}
    with execution.locked(folder, wait=_LOCK_TIMEOUT):
        if len(job.variants) > 1:
            declared = [
                execution.DeclaredRun(c, member, c.experiment.seed)
                for c, member in zip(configurations, folder.members, strict=True)
            ]
            return execution.execute_together(declared, [folder], **common).code
        (configuration,) = configurations
        return execution.execute(
            configuration, folder, reuse=reuse_of(configuration) if settings.reuse else None, **common
        ).code


def _prepared(study: StudyFolder, job: Job, plugins: tuple[str, ...]) -> tuple[bool, RunFolder, list[Configuration]]:
    """Returns (whether the job is resumed, the folder of its run or group, configurations).

    The configurations are those of each of its runs if several variants train together, else its one configuration.
    """
    path = study.path / job.folder
    if study.status(job) != "new":
        folder = RunFolder.open(path)
        described = folder.members if len(job.variants) > 1 else [folder]
        return True, folder, [reopened(f, plugins) for f in described]
    contents = study.read()
    variants = {v["folder"]: v for v in contents["variants"]}
    if len(job.variants) == 1:
        folder, configuration = _begin(study, contents, plugins, variants[job.variants[0]], job.seeds, job.folder)
        return False, folder, [configuration]
    begun = [
        _begin(study, contents, plugins, variants[v], (seed,), f"{v}/seed{seed}")
        for v in job.variants
        for seed in job.seeds
    ]
    _clear(path)
    folder = RunFolder.create(path)
    up = "/".join([".."] * len(pathlib.PurePath(job.folder).parts))
    members = [f"{up}/{f.path.relative_to(study.path)}" for f, _ in begun]
    write_json(
        path / "run.json", {**begun[0][0].facts(), "name": job.folder, "variant": None, "axes": {}, "members": members}
    )
    return False, folder, [configuration for _, configuration in begun]


def _begin(
    study: StudyFolder,
    contents: dict[str, Any],
    plugins: tuple[str, ...],
    variant: dict[str, Any],
    seeds: tuple[int, ...],
    name: str,
) -> tuple[RunFolder, Configuration]:
    """Creates a run folder of a variant, and returns it with the run's configuration."""
    _clear(study.path / name)
    bindings = [b.format(first=seeds[0], count=len(seeds)) for b in variant["seed_bindings"]]
    configuration = config.build_here([str(study.config_path(variant["folder"]))], bindings, plugins)
    asked = [*variant["files"], *contents["bindings"], *variant["bindings"]]
    again = ["gorl", "train", *variant["files"]]
    for binding in (*contents["bindings"], *variant["bindings"], *bindings):
        again += ["--set", binding]
    about = {
        "variant": variant["name"],
        "axes": variant["axes"],
        "command": again,
        "asked": asked,
        "swept_by": contents["command"],
    }
    return begin(configuration, study.path / name, study=contents["name"], name=name, **about), configuration


def _clear(path: pathlib.Path) -> None:
    """Removes the files of a job that ended before it wrote its run.json, when nothing was trained yet."""
    if path.exists():
        if any(path.rglob("checkpoints")):
            raise RunError(f"{path} has checkpoints but no run.json. Move it away, and start the sweep again.")
        shutil.rmtree(path)
