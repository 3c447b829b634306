"""Whether the process of a run still lives."""

import fcntl
import json
import os
import pathlib


def final_status(path: pathlib.Path) -> str | None:
    """How the run in a folder ended: its status, or 'killed' where that says it runs but no process does. None: it runs, or nobody knows."""
    try:
        state = json.loads((path / "status.json").read_text())
        status, pid = str(state["status"]), state.get("pid")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or damaged
        status, pid = "unknown", None
    if status not in ("running", "unknown"):
        return status
    alive = _locked(path / ".lock")
    if alive is None:  # it was started without a lock
        alive = _exists(pid) if isinstance(pid, int) else None
    return "killed" if alive is False else None


def _locked(path: pathlib.Path) -> bool | None:
    """Whether a process holds the lock; None without a lock file."""
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return None
    except OSError:
        return True


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


fate = final_status
