"""Aim's repositories: making one, opening, finding, closing and deleting the runs in it."""

import contextlib
import gc
import importlib.util
import json
import os
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

from gorl.runs.files import write_json
from gorl.tracking import local

_NOTE = "aim.json"
"""In a run's folder: {'repo': where it was tracked last, 'hash': as which run there, 'others': {repo: hash}}."""

_HASH = re.compile(r"[0-9a-f]+")
"""Aim's name of a run, and of its files. A note may come from anybody: one that says something else, such as '../..', is not followed."""

_LOCKED = 20.0
"""Seconds to wait for a process that is making the repository."""


def available() -> bool:
    return importlib.util.find_spec("aim") is not None


def repository(path: str | None = None) -> pathlib.Path:
    """Where runs are tracked: as bound, else $GORL_AIM_REPO, else the working directory."""
    return pathlib.Path(path or os.environ.get("GORL_AIM_REPO") or ".").absolute()


def open_run(path: pathlib.Path, run_hash: str | None, *, experiment: str) -> Any:
    """A new Aim run in the repository at `path` (made if missing, once, under a lock), or a known one reopened."""
    import filelock
    from aim import Repo

    path.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(str(path / ".aim_init.lock"), timeout=_LOCKED):  # VERSION is there before the rest is
        if not _made(path):
            Repo.from_path(str(path), init=True)
    return _open(path, run_hash, experiment=experiment, system_tracking_interval=30)


def _made(path: pathlib.Path) -> bool:
    return (path / ".aim" / "VERSION").exists()


def _open(path: pathlib.Path, run_hash: str | None, **more: Any) -> Any:
    from aim import Run

    if sys.version_info[:2] == (3, 12):  # CPython 3.12.0-2 cannot start threads at exit: close without one
        from aim.ext.cleanup import AutoClean

        AutoClean.cleanup = staticmethod(AutoClean._cleanup)
    return Run(
        run_hash,
        repo=str(path),
        force_resume=run_hash is not None,
        capture_terminal_logs=False,
        log_system_params=False,
        **more,
    )


def set_status(run: Any, status: str) -> None:
    """As a parameter, by which runs can be sorted, and as a tag, which the table of runs shows among its first columns."""
    before = run.get("status")
    run.set("status", status, strict=False)
    if before in run.tags:
        run.remove_tag(before)
    run.add_tag(status)


def finish(run: Any, status: str, summary: dict[str, Any]) -> None:
    """Writes how a run ended, closes it in Aim, and makes it visible to queries. Drop the run object afterwards."""
    set_status(run, status)
    run.set("summary", summary, strict=False)
    path, run_hash = pathlib.Path(run.repo.root_path), run.hash
    run.close()
    index(path, [run_hash])


def index(path: pathlib.Path, hashes: list[str] | None = None) -> None:
    """Makes runs visible to Aim's queries without `aim up` running."""
    import aimrocks
    from aim import Repo
    from aim.sdk.index_manager import RepoIndexManager

    repo = Repo(str(path))
    manager = RepoIndexManager(repo)
    for run_hash in repo.list_all_runs() if hashes is None else hashes:
        with contextlib.suppress(aimrocks.errors.RocksIOError):  # `aim up` is indexing it now
            manager.index(run_hash)


def known(folder: pathlib.Path, path: pathlib.Path) -> str | None:
    """As which run of the repository at `path` the run in `folder` was tracked, by the note in the folder."""
    note = _note(folder)
    run_hash = note["hash"] if note.get("repo") == str(path) else note.get("others", {}).get(str(path))
    return run_hash if isinstance(run_hash, str) and _HASH.fullmatch(run_hash) and holds(path, run_hash) else None


def holds(path: pathlib.Path, run_hash: str) -> bool:
    """Whether the repository at `path` has a run's files."""
    return (path / ".aim" / "meta" / "chunks" / run_hash).exists()


def remember(folder: pathlib.Path, path: pathlib.Path, run_hash: str) -> None:
    """Notes in a run's folder as which run it is tracked, beside what the note says of other repositories."""
    note = _note(folder)
    others = {**note.get("others", {}), **({note["repo"]: note["hash"]} if note else {})}
    others.pop(str(path), None)
    write_json(folder / _NOTE, {"repo": str(path), "hash": run_hash, **({"others": others} if others else {})})


def _note(folder: pathlib.Path) -> dict[str, Any]:
    try:
        note = json.loads((folder / _NOTE).read_text())
        return note if {"repo", "hash"} <= note.keys() else {}
    except (OSError, ValueError, AttributeError):
        return {}


def delete(path: pathlib.Path, folder: pathlib.Path) -> int:
    """Deletes the runs of the repository at `path` that are the run in `folder`, by the note there or by what Aim has. Returns how many."""
    from aim import Repo

    if not _made(path):
        return 0
    found = {h for h, where in _folders(path).items() if where == str(folder.absolute())} | {known(folder, path)} - {
        None
    }
    for run_hash in found:
        Repo(str(path)).delete_run(run_hash)
    gc.collect()
    return len(found)


def close_gone(path: pathlib.Path) -> dict[str, str]:
    """Closes the runs that Aim shows in progress although their process is gone. Returns {run's folder: how it ended}.

    Aim has a run in progress while `.aim/meta/progress/<hash>` is there, which a killed process leaves behind. Whether the
    process lives, the run's folder says; a run whose folder is not on this machine is left alone.
    """
    import aimrocks
    from aim import Repo

    if not _made(path):
        return {}
    closed = {}
    active = Repo(str(path)).list_active_runs()
    index(path, active)  # what is not indexed cannot be read
    for run_hash, where in _folders(path, active).items():
        folder = pathlib.Path(where)
        status = local.fate(folder)
        if status is None:
            continue
        with contextlib.suppress(aimrocks.errors.RocksIOError):  # somebody writes it after all
            run = _open(path, run_hash, system_tracking_interval=None)
            finish(run, status, local.finite_summary(folder))
            del run
            closed[where] = status
        gc.collect()
    return closed


def studies(path: pathlib.Path) -> dict[str, bool]:
    """{study: whether it has pictures} of an indexed repository, by name."""
    from aim import Run

    found: dict[str, bool] = {}
    for run_hash in sorted(_folders(path)):
        run = Run(run_hash, repo=str(path), read_only=True)
        name = str(run.experiment)
        found[name] = found.get(name, False) or bool(run.collect_sequence_info(("images",))["images"])
    gc.collect()
    return dict(sorted(found.items()))


def _folders(path: pathlib.Path, hashes: list[str] | None = None) -> dict[str, str]:
    """{hash: the run's folder} of gorl's runs in a repository."""
    from aim import Repo

    return dict(_each_folder(path, Repo(str(path)).list_all_runs() if hashes is None else hashes))


def _each_folder(path: pathlib.Path, hashes: list[str]) -> Iterator[tuple[str, str]]:
    from aim import Run

    for run_hash in hashes:
        try:
            where = Run(run_hash, repo=str(path), read_only=True).get("dir")
        except (
            Exception
        ):  # a run that Aim cannot read (its files are damaged, or just being written) has no folder to speak of
            continue
        if isinstance(where, str):
            yield run_hash, where
    gc.collect()
