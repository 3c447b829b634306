"""Aim, the browser of experiments (https://github.com/aimhubio/aim, 3.29.1).

Metrics go to Aim from a thread, at an interval, off the training loop's path. Aim failing is a warning, never the end of
a run: the record has everything.
"""

import dataclasses
import gc
import logging
import pathlib
import queue
import threading
import time
from typing import Any

import gin

from gorl.tracking import aim_repository as repositories
from gorl.tracking.base import AbstractTracked, AbstractTracker, Entry, RunInfo

_PATIENCE = 60.0  # seconds without one write, after which the end of a run no longer waits for Aim
_log = logging.getLogger(__name__)


@gin.register(module="gorl")
class AimTracker(AbstractTracker):
    """One Aim run for each configuration and seed; `return` is one series (subset eval) over all stages.

    `repo`: the folder that holds .aim (None: $GORL_AIM_REPO, else the working directory); `interval`: seconds between
    writes; `experiment`: Aim's experiment name (None: the study's).
    """

    def __init__(self, *, repo: str | None, interval: float, experiment: str | None):
        self._settings = (repo, interval, experiment)

    def start(self, info: RunInfo) -> "AimRun":
        return AimRun(info, *self._settings)


@dataclasses.dataclass(frozen=True)
class _Picture:
    path: pathlib.Path
    name: str
    step: int
    unit: int
    caption: str


@dataclasses.dataclass(frozen=True)
class _End:
    status: str
    summary: dict[str, Any]


class AimRun(AbstractTracked):
    """A thread that writes one Aim run."""

    def __init__(self, info: RunInfo, repo: str | None, interval: float, experiment: str | None):
        self._repo, self._interval, self._experiment = repo, interval, experiment
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._run: Any = None
        self._written = 0
        if not repositories.available():
            _log.warning("Aim is not installed: the run's own record is complete (pip install aim, Python 3.11 or 3.12).")
            self.failed = True
            return
        self._thread = threading.Thread(target=self._work, args=(info,), name="gorl-aim", daemon=True)
        self._thread.start()

    def log(self, entry: Entry) -> None:
        if not self.failed:
            self._queue.put(entry)

    def picture(self, path: pathlib.Path, name: str, step: int, unit: int, caption: str) -> None:
        if not self.failed:
            self._queue.put(_Picture(path, name, step, unit, caption))

    def close(self, status: str, summary: dict[str, Any]) -> None:
        if self._thread is None:
            return
        self._queue.put(_End(status, summary))
        before = -1
        while self._thread.is_alive() and self._written > before:
            before = self._written
            self._thread.join(timeout=_PATIENCE)

    def _work(self, info: RunInfo) -> None:
        self._attempt(lambda: self._open(info))
        end = None
        while end is None:
            time.sleep(0 if not self._queue.empty() else 0.05)
            *items, last = self._drain()
            end = last if isinstance(last, _End) else None
            for item in items if end else [*items, last]:
                self._attempt(lambda x=item: self._track(x))
        self._attempt(lambda: self._finish(end))

    def _drain(self) -> list[Any]:
        """Waits for something, then for the interval or the end, and returns all there is; the end is the last."""
        items = [self._queue.get()]
        deadline = time.monotonic() + self._interval
        while not isinstance(items[-1], _End) and (left := deadline - time.monotonic()) > 0:
            try:
                items.append(self._queue.get(timeout=left))
            except queue.Empty:
                break
        return items

    def _attempt(self, action: Any) -> None:
        for attempt in range(3):
            if self.failed:
                return
            try:
                action()
                self._written += 1
                return
            except Exception as err:
                if attempt == 2:
                    self.failed = True
                    _log.warning("Aim tracking stops (%s: %s); the run goes on, and its record has everything.", type(err).__name__, err)
                time.sleep(0.2)

    def _open(self, info: RunInfo) -> None:
        path, folder = repositories.repository(self._repo), pathlib.Path(info.folder)
        known = repositories.known(folder, path) if info.resumed else None
        run = repositories.open_run(path, known, experiment=self._experiment or info.study)
        repositories.remember(folder, path, run.hash)
        run.name = info.name
        parameters = {"hparams": info.hparams, "gin": info.parameters.get("gin", {}), "sys": info.facts, "dir": info.folder, "study": info.study}
        for name, value in parameters.items():
            run.set(name, value, strict=False)
        repositories.set_status(run, "running")
        if known is None:
            from aim import Text

            run.track(Text(info.config), name="operative_config.gin")
        self._run = run

    def _track(self, item: Entry | _Picture) -> None:
        if isinstance(item, _Picture):
            from aim import Image

            image = Image(str(item.path), caption=item.caption)
            self._run.track(image, name=item.name, step=item.step, epoch=item.unit, context={"subset": "picture"})
            return
        for name, value in item.metrics.items():
            context = {"subset": item.subset} if name.startswith("return") else {"subset": item.subset, "phase": item.phase}
            self._run.track(float(value), name=name, step=item.step, epoch=item.unit, context=context)
        for name, value in (("stage", item.stage), ("wall_s", max(item.wall_s, 1e-3))):  # an x axis must have no 0
            self._run.track(float(value), name=name, step=item.step, epoch=item.unit, context={"subset": item.subset})

    def _finish(self, end: _End) -> None:
        run, self._run = self._run, None
        repositories.finish(run, end.status, end.summary)
        del run
        gc.collect()
