"""The status of a run whose process has ended."""

import os
import pathlib

from gorl.errors import RunError
from gorl.runs.files import open_plain, parse_json, read_plain, take_lock


def final_status(path: pathlib.Path) -> str | None:
    """Returns the final status of the run in a folder, or None if the run is still running or its state is unknown.

    The status is 'killed' if status.json says that the run is running but no process holds it.
    """
    try:
        state = parse_json(read_plain(path / "status.json"))
        status, pid = str(state["status"]), state.get("pid")
    except (RunError, OSError, ValueError, KeyError, TypeError, AttributeError):  # missing or damaged
        status, pid = "unknown", None
    if status not in ("running", "unknown"):
        return status
    alive = _is_locked(path / ".lock")
    if alive is None:  # nobody could lock it
        alive = _process_exists(pid) if isinstance(pid, int) else None
    return "killed" if alive is False else None


def _is_locked(path: pathlib.Path) -> bool | None:
    """Whether a process holds the lock, or None if there is no lock file, or the file system has no locks."""
    try:
        with open_plain(path) as file:
            return False if take_lock(file, shared=True) else None
    except (FileNotFoundError, RunError):
        return None
    except OSError:
        return True


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
