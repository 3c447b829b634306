"""TensorBoard's event files, through tensorboardX (which Brax brings)."""

import contextlib
import math
import os
import pathlib
import shlex
import time
from typing import Any

import gin

from gorl.fields import require
from gorl.runs.files import inside
from gorl.runs.record import RecordEntry
from gorl.tracking.background import AbstractWriter, Background, PictureFile
from gorl.tracking.base import AbstractTracked, AbstractTracker, RunInfo


@gin.register(module="gorl")
class TensorBoardTracker(AbstractTracker):
    """Scalars by name/subset/phase, the configuration's text, hyperparameters, pictures.

    `root`: the events of a run go to root/<study>/<name> (None: to tensorboard/ in the run's own folder);
    `interval`: seconds between writes. Shown by `tensorboard --logdir` of that folder, or of runs/.
    """

    def __init__(self, *, root: str | None, interval: float):
        require(0 < interval < math.inf, f"TensorBoardTracker.interval = {interval}: seconds, > 0.")
        self._root, self._interval = root, interval

    def folder(self, info: RunInfo) -> pathlib.Path:
        """Where the event files of a run are. Raises RunError for names that lead out of `root`."""
        if self._root is None:
            return pathlib.Path(info.folder) / "tensorboard"
        return inside(pathlib.Path(self._root), f"{info.study}/{info.name}", f"the study and name of {info.folder}")

    def start(self, info: RunInfo) -> AbstractTracked:
        return Background(TensorBoardWriter(self, info, self._root), self._interval)


class TensorBoardWriter(AbstractWriter):
    """Writes the event file of one process's part of a run.

    By tensorboardX's `EventsWriter`: its `SummaryWriter` has a queue and a thread of its own, and when that thread ends (a full
    disk) the next write waits for ever.
    """

    name = "TensorBoard"

    def __init__(self, tracker: TensorBoardTracker, info: RunInfo, root: str | None):
        self._tracker, self._info = tracker, info
        self._events: Any = None
        where = "" if root is None else f" --repo {shlex.quote(root)}"
        self.later = f"gorl track import {shlex.quote(info.folder)} --to tensorboard{where}"

    def open(self) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.summary import text

        folder, suffix = self._tracker.folder(self._info), f".{os.getpid()}"
        folder.mkdir(parents=True, exist_ok=True)
        self._events = EventsWriter(str(folder / "events"), suffix)
        (*_, self._path) = sorted(folder.glob(f"events.out.tfevents.*{suffix}"))
        if not self._info.resumed:
            self._add(
                text("operative_config.gin", "".join(f"    {line}\n" for line in self._info.config.splitlines())), None
            )
        self.flush()

    def entry(self, entry: RecordEntry) -> None:
        for name, value in {**entry.metrics, "wall_s": entry.wall_s}.items():
            self._scalar(f"{name}/{entry.subset}/{entry.phase}", value, entry.step)

    def picture(self, picture: PictureFile) -> None:  # the file as it is: a GIF stays animated
        import PIL.Image
        from tensorboardX.proto.summary_pb2 import Summary

        with PIL.Image.open(picture.path) as opened:
            width, height = opened.size
        image = Summary.Image(encoded_image_string=picture.path.read_bytes(), width=width, height=height, colorspace=3)
        self._add(Summary(value=[Summary.Value(tag=f"pictures/{picture.name}", image=image)]), picture.step)

    def flush(self) -> None:
        self._events.flush()
        if not self._path.exists():  # what is written into a deleted file is lost without a word
            raise FileNotFoundError(f"{self._path} is gone")

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        from tensorboardX.summary import hparams

        numbers = {f"summary/{k}": float(v) for k, v in summary.items() if math.isfinite(v)}
        for part in hparams({"status": status, **_flat(self._info.hparams)}, numbers):
            self._add(part, None)
        for name, value in numbers.items():
            self._scalar(name, value, 0)
        self._events.close()

    def abandon(self) -> None:
        with contextlib.suppress(Exception):
            self._events.close()

    def _scalar(self, name: str, value: float, step: int) -> None:
        from tensorboardX.summary import scalar

        self._add(scalar(name, float(value)), step)

    def _add(self, summary: Any, step: int | None) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._events.write_event(Event(summary=summary, wall_time=time.time(), step=step))


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested parameters as {'task/episode_length': 1000}; what TensorBoard has no type for, as text."""
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in _flat(part, f"{name}/{key}".lstrip("/")).items()}
    return {name: value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)}
