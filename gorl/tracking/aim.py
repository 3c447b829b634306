"""A tracker for the experiment browser Aim (https://github.com/aimhubio/aim, 3.29.1)."""

import contextlib
import gc
import math
import pathlib
import shlex
from collections.abc import Iterator
from typing import Any

import gin

from gorl.errors import RunError
from gorl.fields import require
from gorl.runs.record import RecordEntry, read_entries
from gorl.tracking import aim_repository as repositories
from gorl.tracking.background import AbstractWriter, Background, PictureFile
from gorl.tracking.base import AbstractTracked, AbstractTracker, RunInfo
from gorl.tracking.turns import Turns

TURNS = Turns()
"""The turns of all writers of this process."""


@gin.register(module="gorl")
class AimTracker(AbstractTracker):
    """A tracker with one Aim run per configuration and seed. `return` is one series (subset eval) over all stages.

    `repo`: the folder that contains .aim (None: $GORL_AIM_REPO, else the working directory). `interval`: seconds
    between writes. `experiment`: Aim's experiment name (None: the study's).
    """

    def __init__(self, *, repo: str | None, interval: float, experiment: str | None):
        require(0 < interval < math.inf, f"AimTracker.interval = {interval}: seconds, > 0.")
        self._repo, self._interval, self._experiment = repo, interval, experiment

    def start(self, info: RunInfo) -> AbstractTracked:
        return Background(AimWriter(info, self._repo, self._experiment), self._interval)


def _recorded(folder: pathlib.Path) -> Iterator[RecordEntry]:
    """Yields the entries of a run's record as far as it can be read."""
    with contextlib.suppress(RunError):
        yield from read_entries(folder / "metrics.jsonl")


class AimWriter(AbstractWriter):
    """A writer of one Aim run, which it closes between writes where a process has too many for its open files."""

    name = "Aim"

    def __init__(self, info: RunInfo, repo: str | None, experiment: str | None):
        self._info, self._experiment = info, experiment
        self._path = repositories.repository(repo)
        self._run: Any = None
        folder = pathlib.Path(info.folder)
        self._before = list(_recorded(folder)) if info.resumed and repositories.is_copy(folder) else []
        self._hash: str | None = None
        self._has_joined = False
        self.later = f"gorl track import {shlex.quote(info.folder)} --repo {shlex.quote(str(self._path))}"

    def open(self) -> None:
        if not repositories.available():
            raise ModuleNotFoundError("Aim is not installed: pip install aim, Python 3.11 or 3.12")
        if not self._has_joined:
            TURNS.join()
            self._has_joined = True
        info, folder = self._info, pathlib.Path(self._info.folder)
        known = repositories.find_hash(folder, self._path) if info.resumed else None
        before = self._before if known is None else []
        run = self._opened(known)
        repositories.save_hash(folder, self._path, run.hash)
        run.name = info.name
        parameters = {
            "hparams": info.hparams,
            "gin": info.parameters.get("gin", {}),
            "sys": info.facts,
            "dir": info.folder,
            "study": info.study,
        }
        for name, value in parameters.items():
            run.set(name, value, strict=False)
        repositories.set_status(run, "running")
        if known is None:
            from aim import Text

            run.track(Text(info.config), name="operative_config.gin")
        for entry in before:
            self.entry(entry)

    def _opened(self, run_hash: str | None = None) -> Any:
        """Returns the run, opened again after a rest, and for the first time as `run_hash` (None: a new run)."""
        if self._run is None:
            TURNS.take()
            try:
                experiment = self._experiment or self._info.study
                self._run = repositories.open_run(self._path, self._hash or run_hash, experiment=experiment)
            except BaseException:
                TURNS.give()
                raise
            self._hash = self._run.hash
        return self._run

    def rest(self) -> None:
        if self._run is not None and TURNS.crowded:
            self._run.close()
            self._release()

    def entry(self, entry: RecordEntry) -> None:
        run = self._opened()
        for name, value in entry.metrics.items():
            phase = {} if name.startswith("return") else {"phase": entry.phase}
            context = {"subset": entry.subset, **phase}
            run.track(float(value), name=name, step=entry.step, epoch=entry.unit, context=context)
        for name, value in (("stage", entry.stage), ("wall_s", max(entry.wall_s, 1e-3))):  # an x axis must have no 0
            run.track(float(value), name=name, step=entry.step, epoch=entry.unit, context={"subset": entry.subset})

    def picture(self, picture: PictureFile) -> None:
        from aim import Image

        image = Image(str(picture.path), caption=picture.caption)
        run = self._opened()
        run.track(image, name=picture.name, step=picture.step, epoch=picture.unit, context={"subset": "picture"})

    def flush(self) -> None:
        if not repositories.holds(self._path, self._hash):  # Aim itself continues to write deleted files
            raise FileNotFoundError(f"the run is gone from the repository in {self._path}")

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        repositories.finish(self._opened(), status, summary)
        self._leave()

    def abandon(self) -> None:
        with contextlib.suppress(Exception):
            self._run.close()
        self._leave()

    def _leave(self) -> None:
        self._release()
        gc.collect()  # a few of its files are closed with what refers to itself
        if self._has_joined:
            TURNS.leave()
            self._has_joined = False

    def _release(self) -> None:
        """Deletes the run object, which makes Aim close the run's files, and gives its turn back."""
        if self._run is not None:
            self._run = None
            TURNS.give()
