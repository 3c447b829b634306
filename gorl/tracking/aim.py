"""Aim, the browser of experiments (https://github.com/aimhubio/aim, 3.29.1).

Metrics go to Aim from a thread, at an interval, off the training loop's path. Aim failing is a warning, never the end of
a run: the record has everything.
"""

import gc
import importlib.util
import json
import logging
import os
import pathlib
import queue
import sys
import threading
import time
from typing import Any

import gin

from gorl.tracking.base import AbstractTracked, AbstractTracker, Entry, RunInfo

_log = logging.getLogger(__name__)
_STOP = object()


def available() -> bool:
    return importlib.util.find_spec("aim") is not None


def repository(path: str | None = None) -> pathlib.Path:
    """Where runs are tracked: as bound, else $GORL_AIM_REPO, else the working directory."""
    return pathlib.Path(path or os.environ.get("GORL_AIM_REPO") or ".").absolute()


@gin.register(module="gorl")
class AimTracker(AbstractTracker):
    """One Aim run for each configuration and seed; `return` is one series (subset eval) over all stages.

    `repo`: the folder that holds .aim (None: $GORL_AIM_REPO, else the working directory); `interval`: seconds between
    writes; `experiment`: Aim's experiment name (None: the configuration's).
    """

    def __init__(self, *, repo: str | None, interval: float, experiment: str | None):
        self._settings = (repo, interval, experiment)

    def start(self, info: RunInfo) -> "AimRun":
        return AimRun(info, *self._settings)


class AimRun(AbstractTracked):
    """A thread that writes one Aim run."""

    def __init__(self, info: RunInfo, repo: str | None, interval: float, experiment: str | None):
        self._repo, self._interval, self._experiment = repo, interval, experiment
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._run: Any = None
        self._broken = False
        if not available():
            _log.warning("Aim is not installed: the run's own record is complete (pip install aim, Python 3.11 or 3.12).")
            self._broken = True
            return
        self._thread = threading.Thread(target=self._work, args=(info,), name="gorl-aim", daemon=True)
        self._thread.start()

    def log(self, entry: Entry) -> None:
        if not self._broken:
            self._queue.put(entry)

    def close(self, status: str, summary: dict[str, Any]) -> None:
        if self._thread is not None:
            self._queue.put((_STOP, status, summary))
            self._thread.join(timeout=60)

    def _work(self, info: RunInfo) -> None:
        self._attempt(lambda: self._open(info))
        closing = None
        while closing is None:
            time.sleep(0 if not self._queue.empty() else 0.05)
            batch = self._drain()
            closing = next((x for x in batch if isinstance(x, tuple)), None)
            entries = [x for x in batch if isinstance(x, Entry)]
            if entries and self._run is not None:
                self._attempt(lambda e=entries: [self._track(x) for x in e])
        if self._run is not None:
            self._attempt(lambda: self._finish(*closing[1:]))

    def _drain(self) -> list[Any]:
        """Waits for something, then for the interval or the end, and returns all there is."""
        items = [self._queue.get()]
        deadline = time.monotonic() + self._interval
        while not isinstance(items[-1], tuple) and (left := deadline - time.monotonic()) > 0:
            try:
                items.append(self._queue.get(timeout=left))
            except queue.Empty:
                break
        return items

    def _attempt(self, action: Any) -> None:
        if self._broken:
            return
        for attempt in range(3):
            try:
                action()
                return
            except Exception as err:
                if attempt == 2:
                    self._broken = True
                    _log.warning("Aim tracking stops (%s: %s); the run goes on, and its record has everything.", type(err).__name__, err)
                time.sleep(0.2)

    def _open(self, info: RunInfo) -> None:
        path = repository(self._repo)
        note = pathlib.Path(info.folder) / "aim.json"
        known = json.loads(note.read_text()) if info.resumed and note.exists() else None
        reopen = known["hash"] if known and known["repo"] == str(path) and _has_run(path, known["hash"]) else None
        run = open_run(path, reopen, experiment=self._experiment or info.study)
        note.write_text(json.dumps({"repo": str(path), "hash": run.hash}))
        run.name = info.name
        run.set("hparams", {"seed": info.seed, **info.parameters.get("macros", {})}, strict=False)
        run.set("gin", info.parameters.get("gin", {}), strict=False)
        run.set("sys", info.facts, strict=False)
        run.set("dir", info.folder, strict=False)
        run.set("study", info.study, strict=False)
        if reopen is None:
            from aim import Text

            run.track(Text(info.config), name="operative_config.gin")
        self._run = run

    def _track(self, entry: Entry) -> None:
        for name, value in entry.metrics.items():
            context = {"subset": entry.subset} if name.startswith("return") else {"subset": entry.subset, "phase": entry.phase}
            self._run.track(float(value), name=name, step=entry.step, epoch=entry.unit, context=context)
        for name, value in (("stage", entry.stage), ("wall_s", max(entry.wall_s, 1e-3))):
            self._run.track(float(value), name=name, step=entry.step, epoch=entry.unit, context={"subset": entry.subset})

    def _finish(self, status: str, summary: dict[str, Any]) -> None:
        run, self._run = self._run, None
        run.set("summary", {"status": status, **summary}, strict=False)
        path, run_hash = pathlib.Path(run.repo.root_path), run.hash
        run.close()
        del run
        gc.collect()
        index(path, [run_hash])


def open_run(path: pathlib.Path, run_hash: str | None, *, experiment: str) -> Any:
    """A new Aim run in the repository at `path` (made if missing, once, under a lock), or a known one reopened."""
    if sys.version_info[:2] == (3, 12):  # CPython 3.12.0-2 cannot start threads at exit: close without one
        from aim.ext.cleanup import AutoClean

        AutoClean.cleanup = staticmethod(AutoClean._cleanup)
    import filelock
    from aim import Repo, Run

    path.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(str(path / ".aim_init.lock")):
        if not (path / ".aim" / "VERSION").exists():
            Repo.from_path(str(path), init=True)
    return Run(
        run_hash, repo=str(path), experiment=experiment, force_resume=run_hash is not None,
        system_tracking_interval=30, capture_terminal_logs=False, log_system_params=False,
    )  # fmt: skip


def index(path: pathlib.Path, hashes: list[str] | None = None) -> None:
    """Makes runs visible to Aim's queries without `aim up` running."""
    import aimrocks
    from aim import Repo
    from aim.sdk.index_manager import RepoIndexManager

    repo = Repo(str(path))
    manager = RepoIndexManager(repo)
    for run_hash in repo.list_all_runs() if hashes is None else hashes:
        try:
            manager.index(run_hash)
        except aimrocks.errors.RocksIOError:  # `aim up` is indexing it now
            pass


def _has_run(path: pathlib.Path, run_hash: str) -> bool:
    return (path / ".aim" / "meta" / "chunks" / run_hash).exists()
