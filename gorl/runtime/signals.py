"""Handles SIGINT and SIGTERM during a run or a sweep."""

import signal
from collections.abc import Callable
from types import FrameType


class StopSignals:
    """Context manager that records SIGINT and SIGTERM instead of letting them end the process.

    `received` is the number of the last signal, or 0. With `second_interrupts`, a second signal raises
    KeyboardInterrupt. Outside the main thread it does nothing, because only the main thread can handle signals.
    """

    def __init__(self, *, second_interrupts: bool = False):
        self.received = 0
        self._second_interrupts = second_interrupts
        self._old: dict[int, Callable | int | None] = {}

    def __enter__(self) -> "StopSignals":
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._old[number] = signal.signal(number, self._note)
            except ValueError:  # this is not the main thread
                pass
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received and self._second_interrupts:
            raise KeyboardInterrupt
        self.received = number
