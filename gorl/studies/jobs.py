"""Runs one job of a study, in this process, from wherever it stands. It needs nothing but the study's folder, and the plugins where they were."""

import dataclasses
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

from gorl import config
from gorl.config import Configuration
from gorl.errors import RunError
from gorl.reuse.identity import reuse_of
from gorl.runs.files import write_json
from gorl.runs.folder import RunFolder
from gorl.runtime import compilation
from gorl.studies.folder import ENDED, Job, StudyFolder
from gorl.training import execution
from gorl.training.trained import reopened

_ORPHAN = 60.0
"""Seconds in which a job's process whose sweep was killed saves and ends."""


@dataclasses.dataclass(frozen=True)
class JobSettings:
    """Of a sweep's runs. `stages`: how many to run (None: all); `plugins`: as named for the sweep, not as its folder says."""

    aim: bool = True
    reuse: bool = True
    stages: int | None = None
    plugins: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """On a worker's command line."""
        stages = [] if self.stages is None else ["--stages", str(self.stages)]
        plugins = [word for plugin in self.plugins for word in ("--plugin", plugin)]
        return [*stages, *([] if self.aim else ["--no-aim"]), *([] if self.reuse else ["--no-reuse"]), *plugins]


def run_job(
    study: StudyFolder, job: Job, settings: JobSettings, *, progress: Callable[..., None] = lambda **_: None
) -> int:
    """Trains, and returns what the command would exit with. Raises GorlError."""
    compilation.use_persistent_cache()
    if study.status(job) in ENDED:
        return 0
    resumed, folder, configurations = _prepared(study, job, settings.plugins)
    common = {"progress": progress, "resumed": resumed, "track": settings.aim, "stages": settings.stages}
    with execution.locked(folder, wait=_ORPHAN):
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
    """(whether it goes on, the folder of the run or group, the configuration of each of its variants and, where they are together, seeds)."""
    path = study.path / job.folder
    if study.status(job) != "new":
        folder = RunFolder.open(path)
        described = folder.members if len(job.variants) > 1 else [folder]
        return True, folder, [reopened(f, plugins) for f in described]
    known = study.read()
    variants = {v["folder"]: v for v in known["variants"]}
    if len(job.variants) == 1:
        folder, configuration = _begin(study, known, plugins, variants[job.variants[0]], job.seeds, job.folder)
        return False, folder, [configuration]
    begun = [
        _begin(study, known, plugins, variants[v], (seed,), f"{v}/seed{seed}")
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
    known: dict[str, Any],
    plugins: tuple[str, ...],
    variant: dict[str, Any],
    seeds: tuple[int, ...],
    name: str,
) -> tuple[RunFolder, Configuration]:
    """A new run folder of a variant."""
    _clear(study.path / name)
    bindings = [b.format(first=seeds[0], count=len(seeds)) for b in variant["seed_bindings"]]
    configuration = config.build_here([str(study.config_path(variant["folder"]))], bindings, plugins)
    again = ["gorl", "train", *variant["files"]]
    for binding in (*known["bindings"], *variant["bindings"], *bindings):
        again += ["--set", binding]
    about = {"variant": variant["name"], "axes": variant["axes"], "command": again, "swept_by": known["command"]}
    return execution.begin(configuration, study.path / name, study=known["name"], name=name, **about), configuration


def _clear(path: pathlib.Path) -> None:
    """Removes what a job left that ended before it was described: nothing was trained then."""
    if path.exists():
        if any(path.rglob("checkpoints")):
            raise RunError(f"{path} has checkpoints but no run.json. Move it away, and start the sweep again.")
        shutil.rmtree(path)
