"""Handles the signals that ask a run or a sweep to stop."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C, the end that a person or a scheduler asks for, a terminal that is closed, and SLURM's usual warning."""

_BOUNCE = 0.3
"""Seconds after a signal in which another one is the same request: a wrapper and the terminal may both send it."""

_own_process = False


def own_process() -> None:
    """Says that this process is a command of gorl, so that a second Ctrl-C may end it wherever it is."""
    global _own_process
    _own_process = True


class StopSignals:
    """Context manager that records the signals `STOPPING` instead of letting them end the process.

    `received` is the number of the first, or 0. A thread hears them, so that they are answered while the main thread
    compiles: `say(number)` is called for the first one. At a second Ctrl-C a command of gorl calls `leave(number)`,
    which should make a note, and ends at once. Elsewhere, such as in a notebook, it raises KeyboardInterrupt. Without
    `leave`, all after the first are ignored.

    SIGHUP stays ignored where it is (nohup). Outside the main thread nothing is handled: only that one can.
    """

    def __init__(self, *, say: Callable[[int], None] | None = None, leave: Callable[[int], None] | None = None):
        self.received = 0
        self._say, self._leave = say, leave
        self._began = 0.0
        self._old: dict[int, Callable | int | None] = {}
        self._pipe: tuple[int, int] | None = None
        self._old_wakeup = -1

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in STOPPING:
            if number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) == signal.SIG_IGN:
                continue
            self._old[number] = signal.signal(number, self._note)
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._old_wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, args=(self._pipe[0],), name="gorl-signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        if self._pipe is not None:
            signal.set_wakeup_fd(self._old_wakeup)
            os.close(self._pipe[1])  # which the thread takes for the end
            self._thread.join()
            os.close(self._pipe[0])
            self._pipe = None

    def _listen(self, pipe: int) -> None:
        heard = False
        while numbers := os.read(pipe, 64):
            for number in numbers:
                if number in self._old and not heard:
                    heard = True
                    self._record(number)
                    if self._say is not None:
                        self._say(number)
                elif number == signal.SIGINT and _own_process and self._leave is not None and self._is_another():
                    self._end(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received and number == signal.SIGINT and not _own_process and self._leave and self._is_another():
            raise KeyboardInterrupt
        self._record(number)

    def _record(self, number: int) -> None:
        if not self.received:
            self.received, self._began = number, time.monotonic()

    def _is_another(self) -> bool:
        return time.monotonic() - self._began > _BOUNCE

    def _end(self, number: int) -> NoReturn:
        """Ends the process without its clean-up, which would wait for the compiler, or find it half-way."""
        try:
            self._leave(number)
            if sys.stdout is not None and sys.stdout.isatty():
                sys.stdout.write("\x1b[?25h\n")  # a live display hides the cursor
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        finally:
            os._exit(128 + number)


def name(number: int) -> str:
    """Returns what a signal is to a person, such as 'Ctrl-C' or 'SIGTERM'."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
