"""SIGINT and SIGTERM while a run or a sweep is under way."""

import signal
from types import FrameType
from typing import Any


class StopSignals:
    """Notes SIGINT and SIGTERM inside its block instead of ending the process.

    `received` is the number of the last signal, or 0. With `second_interrupts`, a second signal raises
    KeyboardInterrupt. In a thread other than the main one nothing is noted: whoever started it handles signals.
    """

    def __init__(self, *, second_interrupts: bool = False):
        self.received = 0
        self._second_interrupts = second_interrupts
        self._old: dict[int, Any] = {}

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
