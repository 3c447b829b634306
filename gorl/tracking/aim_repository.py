"""Aim's repositories: creating one, and opening, finding, closing and deleting the runs in it."""

import contextlib
import gc
import importlib.util
import os
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

from gorl.errors import RunError
from gorl.runs.files import parse_json, read_plain, write_json
from gorl.runs.summary import swap_series
from gorl.tracking import local

_NOTE = "aim.json"
"""File in a run's folder: the latest `repo`, the Aim run's `hash` in it, the `folder`, and `others` {repo: hash}."""

_HASH = re.compile(r"[0-9a-f]+")
"""Aim's name of a run and of its files. A note may come from anybody, so other names, such as '../..', are ignored."""

_LOCK_TIMEOUT = 20.0
"""Seconds to wait for a process that is creating the repository."""


def available() -> bool:
    return importlib.util.find_spec("aim") is not None


def repository(path: str | None = None) -> pathlib.Path:
    """Returns the folder of a repository: `path`, else $GORL_AIM_REPO, else the working directory."""
    return pathlib.Path(path or os.environ.get("GORL_AIM_REPO") or ".").absolute()


def open_run(path: pathlib.Path, run_hash: str | None, *, experiment: str) -> Any:
    """Returns a new Aim run in the repository at `path`, or reopens the run `run_hash`.

    A missing repository is created under a lock, by one process.
    """
    import filelock
    from aim import Repo

    path.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(str(path / ".aim_init.lock"), timeout=_LOCK_TIMEOUT):  # VERSION is written before the rest
        if not _is_repository(path):
            Repo.from_path(str(path), init=True)
    return _open(path, run_hash, experiment=experiment, system_tracking_interval=30)


def _is_repository(path: pathlib.Path) -> bool:
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
    """Sets a run's status as a parameter, which runs can be sorted by, and as a tag, shown in Aim's run table."""
    before = run.get("status")
    run.set("status", status, strict=False)
    if before in run.tags:
        run.remove_tag(before)
    run.add_tag(status)


def finish(run: Any, status: str, summary: dict[str, Any]) -> None:
    """Writes a run's status, summary and swaps, closes and indexes it. The caller must then drop the run object.

    Each number of a swap is a scalar, `swap/return_after` for example. Its step is the stage that the swap begins.
    """
    set_status(run, status)
    run.set("summary", summary, strict=False)
    for stage, name, value in swap_series(summary):
        run.track(float(value), name=f"swap/{name}", step=stage, context={"subset": "swap"})
    path, run_hash = pathlib.Path(run.repo.root_path), run.hash
    run.close()
    index(path, [run_hash])


def index(path: pathlib.Path, hashes: list[str] | None = None) -> None:
    """Indexes runs (None: all), which makes them visible to Aim's queries while `aim up` is not running."""
    import aimrocks
    from aim import Repo

    repo = Repo(str(path))
    manager = _indexer(repo)
    for run_hash in repo.list_all_runs() if hashes is None else hashes:
        with contextlib.suppress(aimrocks.errors.RocksIOError):  # `aim up` is indexing it now
            manager.index(run_hash)


def _indexer(repo: Any) -> Any:
    """Returns Aim's manager of an index without its watchers, which would leave an inotify instance and a thread."""
    from aim.sdk.index_manager import RepoIndexManager

    class Indexer(RepoIndexManager):
        def __init__(self, repo: Any):
            self.repo, self.repo_path = repo, repo.path
            self.chunks_dir = pathlib.Path(repo.path) / "meta" / "chunks"
            self._corrupted_runs, self._watches = set(), {}

    return Indexer(repo)


def find_hash(folder: pathlib.Path, path: pathlib.Path) -> str | None:
    """Returns the hash of the run in `folder` in the repository at `path`, by the folder's note, or None.

    A copy of a run's folder has the note of the original, which is not its own.
    """
    note = {} if is_copy(folder) else _read_note(folder)
    run_hash = note["hash"] if note.get("repo") == str(path) else note.get("others", {}).get(str(path))
    return run_hash if isinstance(run_hash, str) and _HASH.fullmatch(run_hash) and holds(path, run_hash) else None


def is_copy(folder: pathlib.Path) -> bool:
    """Whether the note in a run's folder is that of another folder, which still has it. A moved folder is no copy."""
    where = _read_note(folder).get("folder")
    if not isinstance(where, str) or where == str(folder.absolute()):
        return False
    return (pathlib.Path(where) / _NOTE).is_file()


def holds(path: pathlib.Path, run_hash: str) -> bool:
    """Whether the repository at `path` contains a run's files."""
    return (path / ".aim" / "meta" / "chunks" / run_hash).exists()


def save_hash(folder: pathlib.Path, path: pathlib.Path, run_hash: str) -> None:
    """Writes a run's hash into the note in its folder, which keeps the hashes for other repositories."""
    note = {} if is_copy(folder) else _read_note(folder)
    others = {**note.get("others", {}), **({note["repo"]: note["hash"]} if note else {})}
    others.pop(str(path), None)
    own = {"repo": str(path), "hash": run_hash, "folder": str(folder.absolute())}
    write_json(folder / _NOTE, own | ({"others": others} if others else {}))


def _read_note(folder: pathlib.Path) -> dict[str, Any]:
    try:
        note = parse_json(read_plain(folder / _NOTE))
        return note if {"repo", "hash"} <= note.keys() else {}
    except (RunError, OSError, ValueError, AttributeError):
        return {}


def delete(path: pathlib.Path, folder: pathlib.Path) -> int:
    """Deletes every Aim run of the run in `folder` from the repository at `path`. Returns their number.

    They are found by the folder's note and by the folder that Aim has stored.
    """
    from aim import Repo

    if not _is_repository(path):
        return 0
    found = {run_hash for run_hash, where in _folders(path).items() if where == str(folder.absolute())}
    found |= {find_hash(folder, path)} - {None}
    for run_hash in found:
        Repo(str(path)).delete_run(run_hash)
    gc.collect()
    return len(found)


def close_dead_runs(path: pathlib.Path) -> dict[str, str]:
    """Closes the runs that Aim shows in progress although their process has ended. Returns {run's folder: status}.

    Aim shows a run in progress while `.aim/meta/progress/<hash>` exists, which a killed process does not remove. The
    run's folder shows whether the process is alive. A run whose folder is not on this machine remains unchanged.
    """
    import aimrocks
    from aim import Repo

    if not _is_repository(path):
        return {}
    closed = {}
    active = Repo(str(path)).list_active_runs()
    index(path, active)  # runs that are not indexed cannot be read
    for run_hash, where in _folders(path, active).items():
        folder = pathlib.Path(where)
        status = local.final_status(folder)
        if status is None:
            continue
        with contextlib.suppress(aimrocks.errors.RocksIOError):  # another process is writing it
            run = _open(path, run_hash, system_tracking_interval=None)
            finish(run, status, local.finite_summary(folder))
            del run
            closed[where] = status
        gc.collect()
    return closed


def studies(path: pathlib.Path) -> dict[str, bool]:
    """Returns {study: whether it has pictures} of an indexed repository, sorted by name."""
    from aim import Run

    found: dict[str, bool] = {}
    for run_hash in sorted(_folders(path)):
        run = Run(run_hash, repo=str(path), read_only=True)
        name = str(run.experiment)
        found[name] = found.get(name, False) or bool(run.collect_sequence_info(("images",))["images"])
    gc.collect()
    return dict(sorted(found.items()))


def _folders(path: pathlib.Path, hashes: list[str] | None = None) -> dict[str, str]:
    """Returns {hash: the run's folder} of gorl's runs in a repository (None: of all hashes)."""
    from aim import Repo

    return dict(_iterate_folders(path, Repo(str(path)).list_all_runs() if hashes is None else hashes))


def _iterate_folders(path: pathlib.Path, hashes: list[str]) -> Iterator[tuple[str, str]]:
    from aim import Run

    for run_hash in hashes:
        try:
            where = Run(run_hash, repo=str(path), read_only=True).get("dir")
        except Exception:  # Aim cannot read the run: its files are damaged or being written
            continue
        if isinstance(where, str):
            yield run_hash, where
    gc.collect()
