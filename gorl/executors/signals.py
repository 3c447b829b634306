"""SIGINT and SIGTERM while jobs run elsewhere."""

import signal
from typing import Any


class Told:
    """Notes SIGINT and SIGTERM inside the block, where `signal` is then the number of the last one (else 0)."""

    def __init__(self):
        self.signal = 0

    def __enter__(self) -> "Told":
        self._old = {n: signal.signal(n, self._note) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: Any) -> None:
        self.signal = number
