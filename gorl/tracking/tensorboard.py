"""TensorBoard's event files, through tensorboardX (which Brax brings)."""

import logging
import math
import pathlib
from collections.abc import Callable
from typing import Any

import gin

from gorl.tracking.base import AbstractTracked, AbstractTracker, Entry, RunInfo

_log = logging.getLogger(__name__)


@gin.register(module="gorl")
class TensorBoardTracker(AbstractTracker):
    """Scalars by name/subset/phase, the configuration's text, hyperparameters, pictures.

    `root`: the events of a run go to root/<study>/<name> (None: to tensorboard/ in the run's own folder);
    `interval`: seconds between writes. Shown by `tensorboard --logdir` of that folder, or of runs/.
    """

    def __init__(self, *, root: str | None, interval: float):
        self._root, self._interval = root, interval

    def folder(self, info: RunInfo) -> pathlib.Path:
        """Where the event files of a run are."""
        return pathlib.Path(info.folder) / "tensorboard" if self._root is None else pathlib.Path(self._root) / info.study / info.name

    def start(self, info: RunInfo) -> "TensorBoardRun":
        return TensorBoardRun(info, self.folder(info), self._interval)


class TensorBoardRun(AbstractTracked):
    """The event file of one process's part of a run. A thread of tensorboardX's own writes it."""

    def __init__(self, info: RunInfo, folder: pathlib.Path, interval: float):
        self._info = info
        self._attempt(lambda: self._open(info, folder, interval))

    def log(self, entry: Entry) -> None:
        def write() -> None:
            for name, value in {**entry.metrics, "wall_s": entry.wall_s}.items():
                self._writer.add_scalar(f"{name}/{entry.subset}/{entry.phase}", float(value), entry.step)

        self._attempt(write)

    def picture(self, path: pathlib.Path, name: str, step: int, unit: int, caption: str) -> None:
        del unit, caption

        def write() -> None:  # the file as it is: a GIF stays animated
            import PIL.Image
            from tensorboardX.proto.summary_pb2 import Summary

            with PIL.Image.open(path) as opened:
                width, height = opened.size
            image = Summary.Image(encoded_image_string=path.read_bytes(), width=width, height=height, colorspace=3)
            self._writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=f"pictures/{name}", image=image)]), step)

        self._attempt(write)

    def close(self, status: str, summary: dict[str, Any]) -> None:
        def write() -> None:
            from tensorboardX.summary import hparams

            numbers = {f"summary/{k}": float(v) for k, v in summary.items() if math.isfinite(v)}
            for part in hparams({"status": status, **_flat(self._info.hparams)}, numbers):
                self._writer.file_writer.add_summary(part)
            for name, value in numbers.items():
                self._writer.add_scalar(name, value, 0)
            self._writer.close()

        self._attempt(write)

    def _open(self, info: RunInfo, folder: pathlib.Path, interval: float) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), flush_secs=interval)
        if not info.resumed:
            self._writer.add_text("operative_config.gin", "".join(f"    {line}\n" for line in info.config.splitlines()))

    def _attempt(self, action: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            action()
        except Exception as err:
            self.failed = True
            _log.warning("TensorBoard tracking stops (%s: %s); the run goes on, and its record has everything.", type(err).__name__, err)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested parameters as {'task/episode_length': 1000}; what TensorBoard has no type for, as text."""
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in _flat(part, f"{name}/{key}".lstrip("/")).items()}
    return {name: value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)}
