"""Study folders: the files that a sweep writes.

study.json              the declaration, the variants, their seeds, the decisions of successive halving
inputs/                 the user's own models and plugins, as they were when it began
configs/VARIANT.gin     each variant's configuration, flattened; runs by itself
VARIANT/seedN/          a run folder for each variant and seed
programs/N/             the list of runs that are trained together, and their status
logs/                   the output of the runs' processes
report/                 the files that `gorl report` writes
"""

import dataclasses
import datetime
import pathlib
import sys
from collections.abc import Callable
from typing import Any, TextIO

from gorl.errors import RunError
from gorl.runs import inputs
from gorl.runs.files import (
    inside,
    open_plain,
    parse_json,
    read_plain,
    replacing,
    require_plain_tree,
    take_lock,
    write_json,
)
from gorl.runs.folder import RunFolder
from gorl.runs.provenance import provenance_differences, software
from gorl.studies.plan import Plan, Variant

FORMAT = 1
ENDED = ("finished", "diverged", "unsound", "stopped")


@dataclasses.dataclass(frozen=True)
class Job:
    """Seeds of one variant, or of several, that one program trains.

    `variants`: the folder names of the variants. `folder`: the folder of the run or group of runs, relative to the
    study's. It identifies the job.
    """

    variant: str
    variants: tuple[str, ...]
    folder: str
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """The job's name for users: 'VARIANT seed 0' or 'VARIANT seeds 0 to 4'."""
        return (
            f"{self.variant} seed {self.seeds[0]}"
            if len(self.seeds) == 1
            else f"{self.variant} seeds {self.seeds[0]} to {self.seeds[-1]}"
        )


class StudyFolder:
    """A study on disk."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._lock: TextIO | None = None

    @classmethod
    def open(cls, path: pathlib.Path) -> "StudyFolder":
        """Returns an existing study folder, without locking it. Raises RunError if it is not a valid one."""
        folder = cls(path)
        try:
            contents = folder._load()
        except (OSError, ValueError) as err:
            raise RunError(f"{path} is not a gorl study folder: its study.json cannot be read ({err}).") from err
        if not isinstance(contents, dict):
            raise RunError(f"{path} is not a gorl study folder: its study.json should hold an object, {{...}}.")
        if contents.get("format") != FORMAT:
            raise RunError(f"{path} has study format {contents.get('format')}; this gorl reads format {FORMAT}.")
        _check_entries(contents, path / "study.json")
        folder._check_places(contents)
        return folder

    @classmethod
    def begin(cls, path: pathlib.Path, plan: Plan, say: Callable[[str], None] = lambda _: None) -> "StudyFolder":
        """Creates and locks the folder, or locks and updates the existing one. Says what has changed since it began.

        Raises RunError if a run in it has another configuration, or another process sweeps it.
        """
        folder = cls(path)
        if (
            path.exists()
            and not (path / "study.json").exists()
            and {p.name for p in path.iterdir()} - {"configs", ".lock"}
        ):
            raise RunError(f"{path} exists and holds no study. Name another folder with --dir.")
        try:
            require_plain_tree(path / "configs")
            (path / "configs").mkdir(parents=True, exist_ok=True)
            folder._take_lock()
        except OSError as err:
            raise RunError(
                f"cannot write to the study folder {path}: {err.strerror}. Name another with --dir."
            ) from err
        decisions: list[dict[str, Any]] = []
        made_with = {**software(), "plugin_files": plan.variants[0].configuration.plugin_files}
        if (path / "study.json").exists():
            known = cls.open(path).read()
            decisions = known["halving"]
            _check_unchanged(folder, plan)
            _name_changes(folder, known.get("made_with", {}), made_with, say)
            made_with = known.get("made_with", made_with)
        for variant in plan.variants:
            variant.configuration.keep_inputs(path)
        for variant in plan.variants:
            with replacing(folder.config_path(variant.folder)) as file:
                file.write(variant.configuration.config.encode())
        write_json(path / "study.json", {**_described(plan, decisions), "made_with": made_with})
        return folder

    def read(self) -> dict[str, Any]:
        """Returns the contents of study.json. Raises RunError if a run would be outside the study."""
        contents = self._load()
        self._check_places(contents)
        return contents

    def _load(self) -> Any:
        return parse_json(read_plain(self.path / "study.json"))

    def _check_places(self, contents: dict[str, Any]) -> None:
        """Raises RunError if a run would be outside the study."""
        where = f"study.json of {self.path}"
        for variant in contents.get("variants", []):
            inside(self.path / "configs", f"{variant['folder']}.gin", where)
            for seed in contents.get("seeds", []):
                inside(self.path, f"{variant['folder']}/seed{seed}", where)

    def close(self) -> None:
        """Releases the lock, as the end of the process does, so that another sweep can use the folder."""
        self._lock.close()

    def _take_lock(self) -> None:
        self._lock = open_plain(self.path / ".lock", "a")
        try:
            take_lock(self._lock)
        except BlockingIOError as err:
            raise RunError(f"another process is sweeping {self.path}.") from err

    def config_path(self, variant_folder: str) -> pathlib.Path:
        """Returns the path of a variant's flattened configuration."""
        return self.path / "configs" / f"{variant_folder}.gin"

    def jobs(self) -> list[Job]:
        """Returns the jobs in the best order to run them.

        A variant's seeds follow one another, so that later variants find the phases that they share.
        """
        contents = self.read()
        seeds, names = tuple(contents["seeds"]), {v["folder"]: v["name"] for v in contents["variants"]}
        found = []
        for number, program in enumerate(contents["programs"]):
            if len(program) > 1:
                found.append(Job(", ".join(names[f] for f in program), tuple(program), f"programs/{number}", seeds))
                continue
            (folder,) = program
            for group in [seeds] if contents["seeds_together"] else [(seed,) for seed in seeds]:
                found.append(
                    Job(names[folder], (folder,), folder if len(group) > 1 else f"{folder}/seed{group[0]}", group)
                )
        return found

    def job(self, folder: str) -> Job:
        """Returns the job of a folder, relative to the study's."""
        (found,) = [job for job in self.jobs() if job.folder == folder]
        return found

    def status(self, job: Job) -> str:
        """Returns the joint status of a job's seeds.

        It is 'new', 'finished', 'diverged' or 'unsound' (all seeds), 'stopped', 'paused', 'unfinished' or 'unreadable'.
        """
        path = self.path / job.folder
        if not (path / "run.json").is_file():
            return "new"
        try:
            found = {m.status()["status"] for m in RunFolder(path).members}
        except RunError:
            return "unreadable"
        if len(found) == 1:
            (only,) = found
            return only if only in (*ENDED, "paused") else "unfinished"
        return "finished" if found <= {"finished", "diverged", "unsound"} else "unfinished"

    def mark_stopped(self, job: Job) -> None:
        """Marks the runs of a job as ended by successive halving."""
        for folder in {
            f.path: f for f in (RunFolder(self.path / job.folder), *RunFolder(self.path / job.folder).members)
        }.values():
            status = folder.status()
            if status["status"] not in ("diverged", "unsound"):
                folder.set_status("stopped", **{k: v for k, v in status.items() if k != "status"})

    def add_halving_decision(self, decision: dict[str, Any]) -> None:
        """Adds a decision of successive halving to study.json."""
        contents = self.read()
        write_json(self.path / "study.json", {**contents, "halving": [*contents["halving"], decision]})


def _check_entries(contents: dict[str, Any], path: pathlib.Path) -> None:
    """Raises RunError if study.json lacks an entry that the folder is read by."""
    for name in ("variants", "seeds", "programs", "halving"):
        if not isinstance(contents.get(name), list):
            raise RunError(f"cannot read {path}: its {name!r} is {contents.get(name)!r}, not a list.")
    for variant in contents["variants"]:
        if not isinstance(variant, dict) or not {"name", "folder"} <= set(variant):
            raise RunError(
                f'cannot read {path}: expected an object with "name" and "folder" in "variants", found {variant!r}.'
            )


def _described(plan: Plan, decisions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": plan.name,
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "base": list(plan.base),
        "bindings": plan.source.bindings,
        "plugins": list(plan.source.plugins),
        "seeds": list(plan.seeds),
        "seeds_together": plan.seeds_together,
        "programs": [[v.folder for v in program] for program in plan.programs],
        "variants": [
            {
                "name": v.name,
                "folder": v.folder,
                "axes": v.axes,
                "files": list(v.files),
                "bindings": list(v.bindings),
                "seed_bindings": v.seed_bindings,
            }
            for v in plan.variants
        ],
        "halving": decisions,
    }


def _name_changes(folder: StudyFolder, then: dict[str, Any], now: dict[str, Any], say: Callable[[str], None]) -> None:
    """Says what differs from what the study began with."""
    if changed := provenance_differences(then, now):
        say(
            "not the same as when the study began, so its other runs may not be comparable: "
            f"{'; '.join(changed)}. Name another folder with --dir to begin anew."
        )
    for change in inputs.changes(folder.path):
        say(f"{change}. Name another folder with --dir for a study of the new one.")


def _check_unchanged(folder: StudyFolder, plan: Plan) -> None:
    """Raises RunError if the configuration of a variant that has runs has changed."""
    for variant in plan.variants:
        path = folder.config_path(variant.folder)
        if (
            path.exists()
            and (folder.path / variant.folder).exists()
            and path.read_text() != variant.configuration.config
        ):
            raise RunError(
                f"{folder.path / variant.folder} has runs of another configuration:"
                f" {_first_difference(path.read_text(), variant)}."
                " Name another folder with --dir, or remove that one."
            )


def _first_difference(before: str, variant: Variant) -> str:
    """Returns 'it had `X = 1`, now `X = 2`' with the first line of each configuration that the other lacks."""
    old, new = before.splitlines(), variant.configuration.config.splitlines()
    removed = [line.strip() for line in old if line not in new]
    added = [line.strip() for line in new if line not in old]
    return f"it had `{removed[0] if removed else '(nothing)'}`, now `{added[0] if added else '(nothing)'}`"
