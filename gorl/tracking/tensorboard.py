"""A tracker that writes TensorBoard event files with tensorboardX (a dependency of Brax)."""

import contextlib
import math
import os
import pathlib
import shlex
import time
from typing import Any

import gin

from gorl.fields import require
from gorl.runs.files import inside, require_plain_tree
from gorl.runs.record import RecordEntry
from gorl.tracking.background import AbstractWriter, Background, PictureFile
from gorl.tracking.base import AbstractTracked, AbstractTracker, RunInfo


@gin.register(module="gorl")
class TensorBoardTracker(AbstractTracker):
    """A tracker of scalars by name/subset/phase, the configuration's text, hyperparameters and pictures.

    `root`: event files go to root/<study>/<name> (None: to tensorboard/ in the run's folder). `interval`: seconds
    between writes. View them with `tensorboard --logdir` of that folder, or of runs/.
    """

    def __init__(self, *, root: str | None, interval: float):
        require(0 < interval < math.inf, f"TensorBoardTracker.interval = {interval}: seconds, > 0.")
        self._root, self._interval = root, interval

    def folder(self, info: RunInfo) -> pathlib.Path:
        """Returns the folder of a run's event files. Raises RunError for names that lead out of `root`."""
        if self._root is None:
            return inside(pathlib.Path(info.folder), "tensorboard", f"the folder {info.folder}")
        return inside(pathlib.Path(self._root), f"{info.study}/{info.name}", f"the study and name of {info.folder}")

    def start(self, info: RunInfo) -> AbstractTracked:
        return Background(TensorBoardWriter(self, info, self._root), self._interval)


class TensorBoardWriter(AbstractWriter):
    """A writer of one run's event file; every process that resumes the run writes another file.

    It uses tensorboardX's `EventsWriter`. `SummaryWriter` has a queue and a thread of its own, and once that thread has
    ended (a full disk) the next write blocks forever.
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
        require_plain_tree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._events = EventsWriter(str(folder / "events"), suffix)
        (*_, self._path) = sorted(folder.glob(f"events.out.tfevents.*{suffix}"))
        if not self._info.resumed:
            indented = "".join(f"    {line}\n" for line in self._info.config.splitlines())
            self._add(text("operative_config.gin", indented), None)
        self.flush()

    def entry(self, entry: RecordEntry) -> None:
        for name, value in {**entry.metrics, "wall_s": entry.wall_s}.items():
            self._scalar(f"{name}/{entry.subset}/{entry.phase}", value, entry.step)

    def picture(self, picture: PictureFile) -> None:  # the file unchanged, so a GIF stays animated
        import PIL.Image
        from tensorboardX.proto.summary_pb2 import Summary

        with PIL.Image.open(picture.path) as opened:
            width, height = opened.size
        image = Summary.Image(encoded_image_string=picture.path.read_bytes(), width=width, height=height, colorspace=3)
        self._add(Summary(value=[Summary.Value(tag=f"pictures/{picture.name}", image=image)]), picture.step)

    def flush(self) -> None:
        self._events.flush()
        if not self._path.exists():  # writes into a deleted file are lost silently
            raise FileNotFoundError(f"{self._path} is gone")

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        from tensorboardX.summary import hparams

        numbers = {f"summary/{k}": float(v) for k, v in summary.items() if math.isfinite(v)}
        for part in hparams({"status": status, **_flatten(self._info.hparams)}, numbers):
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


def _flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Returns nested parameters as {'task/episode_length': 1000}, with values of other than plain types as text."""
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in _flatten(part, f"{name}/{key}".lstrip("/")).items()}
    return {name: value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)}
