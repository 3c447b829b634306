"""Reading a run from its folder: entries, pictures and status."""

import dataclasses
import pathlib
import re

from gorl.errors import RunError
from gorl.runs.files import inside, parse_json, read_plain, require_plain_tree
from gorl.runs.folder import RunFolder
from gorl.runs.liveness import final_status
from gorl.runs.record import RecordEntry, read
from gorl.runs.saved_config import parse_parameters
from gorl.runs.summary import finite_summary
from gorl.tracking.background import PictureFile
from gorl.tracking.base import RunInfo, caption

_PICTURE = re.compile(r"stage(\d+)-(.+)\.(?:png|gif)")


@dataclasses.dataclass(frozen=True)
class LocalRun:
    """A run with everything that a tracker receives."""

    info: RunInfo
    entries: list[RecordEntry]
    pictures: list[PictureFile]
    status: str
    summary: dict[str, int | float]


def folders(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders of all single-seed runs of a run's, a group's or a study's folder. Raises RunError."""
    if (path / "study.json").is_file():
        where = f"study.json of {path}"
        variants = [inside(path, folder, where) for folder in _variants(path / "study.json")]
        found = [f.parent for variant in variants for f in sorted(variant.glob("seed*/run.json"))]
        found = [inside(path, str(f.relative_to(path)), where) for f in found]
        if not found:
            raise RunError(f"{path} is a study without runs: start it first.")
        return found
    return [member.path for member in RunFolder.open(path).members]


def load_run(path: pathlib.Path) -> LocalRun:
    """Reads the run of one seed. Raises RunError if the folder cannot be read."""
    folder = RunFolder.open(path)
    facts = folder.facts()
    try:
        config = read_plain(path / "operative_config.gin").decode()
        entries = list(read(folder.record_path))
        info = RunInfo(
            folder=str(path.absolute()),
            name=folder.name,
            study=facts["study"],
            variant=facts.get("variant"),
            axes=facts.get("axes", {}),
            seed=facts["seed"],
            parameters=parse_parameters(config),
            config=config,
            facts=facts,
            resumed=False,
        )
    except (OSError, KeyError, TypeError, ValueError, SyntaxError, RecursionError, MemoryError) as err:
        raise RunError(f"{path}: its record cannot be read ({type(err).__name__}: {err}).") from err
    status = final_status(path) or folder.status()["status"]
    return LocalRun(info, entries, pictures(path, entries), status, finite_summary(path))


def pictures(path: pathlib.Path, entries: list[RecordEntry]) -> list[PictureFile]:
    """Returns the files of pictures/, each with the position of its stage's end."""
    ends = {entry.stage: entry for entry in entries}
    found = []
    require_plain_tree(path / "pictures")
    for file in sorted((path / "pictures").glob("stage*")):
        match = _PICTURE.fullmatch(file.name)
        if match and int(match[1]) in ends:
            stage, name, end = int(match[1]), match[2], ends[int(match[1])]
            found.append(PictureFile(file, name, end.env_steps, end.unit, caption(name, stage)))
    return found


def _variants(path: pathlib.Path) -> list[str]:
    """Returns the folders of the variants that a study.json lists. Raises RunError."""
    try:
        return [str(variant["folder"]) for variant in parse_json(read_plain(path))["variants"]]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise RunError(f"cannot read {path}: {type(err).__name__}: {err}") from err
