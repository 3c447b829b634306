"""Study folders: what a sweep leaves on disk.

study.json              what was declared, the variants, their seeds, what successive halving decided
configs/VARIANT.gin     each variant's configuration, flattened; runs by itself
VARIANT/seedN/          a run folder for each variant and seed
programs/N/             of variants that are trained together: which runs, and their status
logs/                   what the runs' processes printed
report/                 what `gorl report` writes
"""

import dataclasses
import datetime
import fcntl
import json
import pathlib
import sys
from typing import Any

from gorl.errors import RunError
from gorl.runs.files import inside, write_json
from gorl.runs.folder import RunFolder
from gorl.studies.plan import Plan, Variant

FORMAT = 1
ENDED = ("finished", "diverged", "stopped")


@dataclasses.dataclass(frozen=True)
class Job:
    """Seeds of one variant, or of several, that one program trains. `folder`: relative to the study's: the run's, or that of the group
    of runs; it tells jobs apart. `variants`: names of folders."""

    variant: str
    variants: tuple[str, ...]
    folder: str
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        return (
            f"{self.variant} seed {self.seeds[0]}"
            if len(self.seeds) == 1
            else f"{self.variant} seeds {self.seeds[0]} to {self.seeds[-1]}"
        )


class StudyFolder:
    """A study on disk."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._lock: Any = None

    @classmethod
    def open(cls, path: pathlib.Path) -> "StudyFolder":
        folder = cls(path)
        try:
            known = folder._known()
        except (OSError, ValueError) as err:
            raise RunError(f"{path} is not a gorl study folder: its study.json cannot be read ({err}).") from err
        if not isinstance(known, dict):
            raise RunError(f"{path} is not a gorl study folder: its study.json should hold an object, {{...}}.")
        if known.get("format") != FORMAT:
            raise RunError(f"{path} has study format {known.get('format')}; this gorl reads format {FORMAT}.")
        _check_entries(known, path / "study.json")
        folder._check_places(known)
        return folder

    @classmethod
    def begin(cls, path: pathlib.Path, plan: Plan) -> "StudyFolder":
        """Makes the folder and locks it, or goes on with the one that is there.

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
            (path / "configs").mkdir(parents=True, exist_ok=True)
            folder._take_lock()
        except OSError as err:
            raise RunError(
                f"cannot write to the study folder {path}: {err.strerror}. Name another with --dir."
            ) from err
        decisions: list[dict[str, Any]] = []
        if (path / "study.json").exists():
            decisions = cls.open(path).read()["halving"]
            _check_unchanged(folder, plan)
        for variant in plan.variants:
            folder.config_path(variant.folder).write_text(variant.configuration.config, encoding="utf-8")
        write_json(path / "study.json", _described(plan, decisions))
        return folder

    def read(self) -> dict[str, Any]:
        known = self._known()
        self._check_places(known)
        return known

    def _known(self) -> Any:
        return json.loads((self.path / "study.json").read_text())

    def _check_places(self, known: dict[str, Any]) -> None:
        """Raises RunError if a run would be outside of the study."""
        for variant in known.get("variants", []):
            for seed in known.get("seeds", []):
                inside(self.path, f"{variant['folder']}/seed{seed}", f"study.json of {self.path}")

    def close(self) -> None:
        """Lets another sweep have the folder. (The end of the process does, too.)"""
        self._lock.close()

    def _take_lock(self) -> None:
        self._lock = open(self.path / ".lock", "a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise RunError(f"another process is sweeping {self.path}.") from err

    def config_path(self, variant_folder: str) -> pathlib.Path:
        return self.path / "configs" / f"{variant_folder}.gin"

    def jobs(self) -> list[Job]:
        """In the order in which they are best run: a variant's seeds one after another, so that later variants find what they share."""
        known = self.read()
        seeds, names = tuple(known["seeds"]), {v["folder"]: v["name"] for v in known["variants"]}
        found = []
        for number, program in enumerate(known["programs"]):
            if len(program) > 1:
                found.append(Job(", ".join(names[f] for f in program), tuple(program), f"programs/{number}", seeds))
                continue
            (folder,) = program
            for group in [seeds] if known["seeds_together"] else [(seed,) for seed in seeds]:
                found.append(
                    Job(names[folder], (folder,), folder if len(group) > 1 else f"{folder}/seed{group[0]}", group)
                )
        return found

    def job(self, folder: str) -> Job:
        (found,) = [job for job in self.jobs() if job.folder == folder]
        return found

    def status(self, job: Job) -> str:
        """Of its seeds together: 'new', 'finished', 'diverged' (all of them), 'stopped', 'paused', 'unfinished' or 'unreadable'."""
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
        return "finished" if found <= {"finished", "diverged"} else "unfinished"

    def stop(self, job: Job) -> None:
        """Marks the runs of a job as ended by successive halving."""
        for folder in {
            f.path: f for f in (RunFolder(self.path / job.folder), *RunFolder(self.path / job.folder).members)
        }.values():
            known = folder.status()
            if known["status"] != "diverged":
                folder.set_status("stopped", **{k: v for k, v in known.items() if k != "status"})

    def decide(self, decision: dict[str, Any]) -> None:
        """Adds a decision of successive halving."""
        known = self.read()
        write_json(self.path / "study.json", {**known, "halving": [*known["halving"], decision]})


def _check_entries(known: dict[str, Any], path: pathlib.Path) -> None:
    """Raises RunError where a study does not say what its folder is read by."""
    for name in ("variants", "seeds", "programs", "halving"):
        if not isinstance(known.get(name), list):
            raise RunError(f"cannot read {path}: its {name!r} is {known.get(name)!r}, not a list.")
    for variant in known["variants"]:
        if not isinstance(variant, dict) or not {"name", "folder"} <= set(variant):
            raise RunError(f"cannot read {path}: {variant!r} stands there for a variant.")


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


def _check_unchanged(folder: StudyFolder, plan: Plan) -> None:
    """The variants that have runs must still say what they said."""
    for variant in plan.variants:
        path = folder.config_path(variant.folder)
        if (
            path.exists()
            and (folder.path / variant.folder).exists()
            and path.read_text() != variant.configuration.config
        ):
            raise RunError(
                f"{folder.path / variant.folder} has runs of another configuration: {_first_difference(path.read_text(), variant)}."
                " Name another folder with --dir, or remove that one."
            )


def _first_difference(before: str, variant: Variant) -> str:
    """'it had `X = 1`, now `X = 2`', of the first line that is not in the other."""
    old, new = before.splitlines(), variant.configuration.config.splitlines()
    gone = [line.strip() for line in old if line not in new]
    come = [line.strip() for line in new if line not in old]
    return f"it had `{gone[0] if gone else '(nothing)'}`, now `{come[0] if come else '(nothing)'}`"
