"""How many files the runs that are tracked may have open together: a process has a limit, and each run a dozen."""

import resource
import threading

FILES_EACH = 24
"""Open files that a tracked run is allowed for. Aim 3.29 has 14, and more while it merges files."""

_OTHERS = 128  # open files for everything else: locks, records, checkpoints, devices
_MOST_FILES = 65_536
_MOST = 64  # tracked runs that are open at once; each has threads, too


def allowed() -> int:
    """Returns how many runs may be open at once. Raises the limit of open files first as far as this process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    files = _MOST_FILES if soft == resource.RLIM_INFINITY else soft
    return max(1, min(_MOST, (files - _OTHERS) // FILES_EACH))


class Turns:
    """Turns of writers of which `most` (None: `allowed`, found out at the first) may have a run open at once.

    A writer joins and leaves once. In between it takes a turn whenever it needs its run open. While there are more
    writers than turns (`crowded`), it should give its turn back as soon as it has written.
    """

    def __init__(self, most: int | None = None):
        self._most = most
        self._changed = threading.Condition()
        self._writers = self._taken = 0

    def join(self) -> None:
        with self._changed:
            self._most = self._most or allowed()
            self._writers += 1

    def leave(self) -> None:
        with self._changed:
            self._writers -= 1

    @property
    def crowded(self) -> bool:
        return self._most is not None and self._writers > self._most

    def take(self) -> None:
        """Waits for a turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self._most)
            self._taken += 1

    def give(self) -> None:
        with self._changed:
            self._taken -= 1
            self._changed.notify()
