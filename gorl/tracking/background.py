"""Writes a run to a tracker from a thread, off the training loop's path.

A tracker that fails or hangs is one warning, never the end of a run: the record has everything.
"""

import abc
import contextlib
import dataclasses
import logging
import pathlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from gorl.runs.record import RecordEntry
from gorl.tracking.base import AbstractTracked

PATIENCE = 60.0
"""Seconds without one write, after which nobody waits for the tracker any more: not the end of a run, nor what piles up."""

BACKLOG = 10_000
"""Entries that may wait for a tracker that does not write."""

_ATTEMPTS = 3
_PAUSE = 0.2  # seconds between them
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PictureFile:
    """A picture file, at a step of the environment and a unit of the run."""

    path: pathlib.Path
    name: str
    step: int
    unit: int
    caption: str


@dataclasses.dataclass(frozen=True)
class _End:
    status: str
    summary: dict[str, Any]


class AbstractWriter(abc.ABC):
    """How one run is written to a tracker. Called from one thread; it may block, and it may raise."""

    name: str
    """The tracker's."""

    later: str
    """The command that hands over the run afterwards."""

    @abc.abstractmethod
    def open(self) -> None: ...

    @abc.abstractmethod
    def entry(self, entry: RecordEntry) -> None: ...

    @abc.abstractmethod
    def picture(self, picture: PictureFile) -> None: ...

    @abc.abstractmethod
    def flush(self) -> None:
        """Called after some entries. Raises where what was written is gone."""

    @abc.abstractmethod
    def finish(self, status: str, summary: dict[str, Any]) -> None: ...

    @abc.abstractmethod
    def abandon(self) -> None:
        """Lets go of what is held, after a failure."""


class Background(AbstractTracked):
    """A thread that writes one run, at an `interval` in seconds. What fails is tried again, a few times."""

    def __init__(self, writer: AbstractWriter, interval: float):
        self._writer, self._interval = writer, interval
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._written = 0
        self._wrote_at = time.monotonic()
        self._telling = threading.Lock()
        self._lost_a_picture = False
        self._thread = threading.Thread(target=self._work, name=f"gorl-{writer.name}", daemon=True)
        self._thread.start()

    def log(self, entry: RecordEntry) -> None:
        if not self.failed:
            self._queue.put(entry)
            if self._queue.qsize() > BACKLOG and time.monotonic() - self._wrote_at > PATIENCE + self._interval:
                self._give_up(f"it has written nothing for {PATIENCE + self._interval:g} s")

    def picture(self, path: pathlib.Path, name: str, step: int, unit: int, caption: str) -> None:
        if not self.failed:
            self._queue.put(PictureFile(path, name, step, unit, caption))

    def close(self, status: str, summary: dict[str, Any]) -> None:
        self._queue.put(_End(status, summary))
        before = -1
        while self._thread.is_alive() and not self.failed and self._written > before:
            before = self._written
            self._thread.join(timeout=PATIENCE)
        if self._thread.is_alive():
            self._give_up(f"it has written nothing for {PATIENCE:g} s")

    def _work(self) -> None:
        self._attempt(self._writer.open)
        end = None
        while end is None and not self.failed:
            time.sleep(0 if not self._queue.empty() else 0.05)
            *items, last = self._drain()
            end = last if isinstance(last, _End) else None
            for item in items if end else [*items, last]:
                self._write(item)
            self._attempt(self._writer.flush)
        if end is not None:
            self._attempt(lambda: self._writer.finish(end.status, end.summary))
        if self.failed:
            with contextlib.suppress(Exception):
                self._writer.abandon()

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

    def _write(self, item: RecordEntry | PictureFile) -> None:
        if isinstance(item, RecordEntry):
            self._attempt(lambda: self._writer.entry(item))
        else:
            self._attempt(lambda: self._writer.picture(item), self._leave_out)

    def _attempt(self, action: Callable[[], None], fail: Callable[[str], None] | None = None) -> None:
        for attempt in range(_ATTEMPTS):
            if self.failed:
                return
            try:
                action()
            except BaseException as err:  # also what a tracker's own library uses to end a process or a thread
                if attempt == _ATTEMPTS - 1:
                    (fail or self._give_up)(f"{type(err).__name__}: {err}")
                else:
                    time.sleep(_PAUSE)
            else:
                self._written += 1
                self._wrote_at = time.monotonic()
                return

    def _give_up(self, reason: str) -> None:
        with self._telling:
            if not self.failed:
                self.failed = True
                meaning = "the run goes on, and its record has everything. To hand it over later"
                _log.warning("%s tracking stops (%s); %s: %s", self._writer.name, reason, meaning, self._writer.later)

    def _leave_out(self, reason: str) -> None:
        """A picture that cannot be read or is refused says nothing about the next entry."""
        if not self._lost_a_picture:
            self._lost_a_picture = True
            _log.warning(
                "%s is given no picture that fails like this one (%s); the files stay in the run's folder.",
                self._writer.name,
                reason,
            )
