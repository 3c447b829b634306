"""Writing a run to a tracker from a background thread, so that training does not wait.

A tracker that fails or hangs causes one warning and never stops a run, because the record is complete.
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
"""Seconds without a write after which the run, and the queue of entries, no longer wait for the tracker."""

BACKLOG = 10_000
"""Number of entries that may wait for a tracker that does not write."""

_ATTEMPTS = 3
_PAUSE = 0.2  # seconds between attempts
_IDLE = 1.0  # seconds without an item after which a writer rests
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PictureFile:
    """A picture file with its position in the run: environment steps and unit."""

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
    """The connection of one run to a tracker. One thread calls it; its methods may block and may raise."""

    name: str
    """The tracker's name."""

    later: str
    """The command that imports the run afterwards."""

    @abc.abstractmethod
    def open(self) -> None: ...

    @abc.abstractmethod
    def entry(self, entry: RecordEntry) -> None: ...

    @abc.abstractmethod
    def picture(self, picture: PictureFile) -> None: ...

    @abc.abstractmethod
    def flush(self) -> None:
        """Flushes the entries so far. Raises if files that were written are gone."""

    def rest(self) -> None:  # noqa: B027  most writers have nothing to rest from
        """Gives back what others wait for, such as open files. Called after every write, and while there is none."""

    @abc.abstractmethod
    def finish(self, status: str, summary: dict[str, Any]) -> None: ...

    @abc.abstractmethod
    def abandon(self) -> None:
        """Releases files and connections after a failure."""


class Background(AbstractTracked):
    """A background thread that writes one run every `interval` seconds. It retries what fails a few times."""

    def __init__(self, writer: AbstractWriter, interval: float):
        self._writer, self._interval = writer, interval
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._written = 0
        self._wrote_at = time.monotonic()
        self._warning_lock = threading.Lock()
        self._warned_of_picture = False
        self._thread = threading.Thread(target=self._work, name=f"gorl-{writer.name}", daemon=True)
        self._thread.start()

    @property
    def written(self) -> int:
        """Returns the number of successful writes."""
        return self._written

    @property
    def thread(self) -> threading.Thread:
        """Returns the thread that writes."""
        return self._thread

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
        self._rest()
        end = None
        while end is None and not self.failed:
            time.sleep(0 if not self._queue.empty() else 0.05)
            *items, last = self._drain()
            end = last if isinstance(last, _End) else None
            for item in items if end else [*items, last]:
                self._write(item)
            self._attempt(self._writer.flush)
            if end is None:
                self._rest()
        if end is not None:
            self._attempt(lambda: self._writer.finish(end.status, end.summary))
        if self.failed:
            with contextlib.suppress(Exception):
                self._writer.abandon()

    def _drain(self) -> list[RecordEntry | PictureFile | _End]:
        """Waits for an item, then for the interval or the end, and returns all items. The end is always the last."""
        items = [self._next()]
        deadline = time.monotonic() + self._interval
        while not isinstance(items[-1], _End) and (left := deadline - time.monotonic()) > 0:
            try:
                items.append(self._queue.get(timeout=left))
            except queue.Empty:
                break
        return items

    def _next(self) -> RecordEntry | PictureFile | _End:
        """Waits for an item and returns it. The writer rests meanwhile."""
        while True:
            try:
                return self._queue.get(timeout=_IDLE)
            except queue.Empty:
                self._rest()

    def _rest(self) -> None:
        with contextlib.suppress(Exception):
            self._writer.rest()

    def _write(self, item: RecordEntry | PictureFile) -> None:
        if isinstance(item, RecordEntry):
            self._attempt(lambda: self._writer.entry(item))
        else:
            self._attempt(lambda: self._writer.picture(item), self._skip_picture)

    def _attempt(self, action: Callable[[], None], fail: Callable[[str], None] | None = None) -> None:
        for attempt in range(_ATTEMPTS):
            if self.failed:
                return
            try:
                action()
            except BaseException as err:  # including what a tracker's library raises to end a process or a thread
                if attempt == _ATTEMPTS - 1:
                    (fail or self._give_up)(f"{type(err).__name__}: {err}")
                else:
                    time.sleep(_PAUSE)
            else:
                self._written += 1
                self._wrote_at = time.monotonic()
                return

    def _give_up(self, reason: str) -> None:
        with self._warning_lock:
            if not self.failed:
                self.failed = True
                consequence = "the run continues, and its record is complete. To import it later"
                name, command = self._writer.name, self._writer.later
                _log.warning("%s tracking stops (%s); %s: %s", name, reason, consequence, command)

    def _skip_picture(self, reason: str) -> None:
        """Warns of the first picture that failed. Tracking continues, because other entries may succeed."""
        if not self._warned_of_picture:
            self._warned_of_picture = True
            _log.warning(
                "%s tracking skips pictures that fail (%s); the files remain in the run's folder.",
                self._writer.name,
                reason,
            )
