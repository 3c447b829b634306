"""Results of phases on disk, by key: safe with several writers, bounded in size, checked when they are read.

    <key>/entry.json     format, what the result depends on, sizes, checksums
    <key>/result.json    the phase's lines of the record, and what it took
    <key>/state.npz      the arrays of the state after it, [S, ...]
    <key>.lock           who computes it

An entry is written beside its place and renamed, so it is there whole or not at all. What cannot be read, or does not have
the checksum that it was written with, is removed and computed again.
"""

import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import shutil
import time
import zipfile
from collections.abc import Callable
from typing import Any

import filelock
import numpy as np

from gorl.errors import ConfigError, RunError
from gorl.runs import arrays
from gorl.runtime.compilation import cache_folder

FORMAT = 1
DEFAULT_LIMIT = 20 * 1024**3  # bytes
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class StoredPhase:
    """A stored result as `gorl cache` lists it."""

    key: str
    parts: dict[str, Any]
    bytes: int
    seconds: float
    env_steps: int
    used: float  # when it was last read or written: seconds since 1970


class Claim:
    """A lock that goes with its process."""

    def __init__(self, path: pathlib.Path):
        self._lock = filelock.FileLock(str(path))
        self.held = False

    def try_acquire(self) -> bool:
        try:
            self._lock.acquire(blocking=False)
            self.held = True
        except filelock.Timeout:
            pass
        return self.held

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: Any) -> None:
        if self.held:
            self._lock.release()


class PhaseStore:
    """The results in `folder`, of at most `limit` bytes together: the ones that were not used for longest go."""

    def __init__(self, folder: pathlib.Path, limit: int = DEFAULT_LIMIT):
        self.folder = folder
        self.limit = limit

    def claim(self, key: str) -> Claim:
        self.folder.mkdir(parents=True, exist_ok=True)
        return Claim(self.folder / f"{key}.lock")

    def has(self, key: str) -> bool:
        return (self.folder / key / "entry.json").is_file()

    def result(self, key: str) -> dict[str, Any] | None:
        """What was stored as `result`, or None (and the entry is removed) where it cannot be read."""
        return self._read(
            key, lambda path, entry: json.loads(_sound(path / "result.json", entry["result_sha256"]).read_text())
        )

    def state(self, key: str, template: Any, seeds: int) -> Any | None:
        """The state [S, ...], on the host, in the structure of `template` (one seed's), or None (and the entry is removed)."""

        def read(path: pathlib.Path, entry: dict[str, Any]) -> Any:
            expected = arrays.leaves(template)[1]
            arrays.compare(expected, entry["leaves"], f"the stored phase {key}")
            with np.load(_sound(path / "state.npz", entry["state_sha256"]), allow_pickle=False) as file:
                state = arrays.refill(template, [file[f"arr_{i}"] for i in range(len(expected))], seeds=seeds)
            os.utime(path / "entry.json")
            return state

        return self._read(key, read)

    def add(self, key: str, parts: dict[str, Any], result: dict[str, Any], state: Any) -> None:
        """Stores a result. Failing to (a full disk, a folder that cannot be written) is a warning: the run does not need it."""
        if self.has(key):
            return
        try:
            self._add(key, parts, result, state)
            self.prune(self.limit, keep=key)
        except OSError as err:
            _log.warning("the result of a phase could not be stored for reuse in %s: %s", self.folder, err)

    def _add(self, key: str, parts: dict[str, Any], result: dict[str, Any], state: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        found, leaves = arrays.leaves(state, axes=1)
        part = self.folder / f"{key[:16]}.part{os.getpid()}-{time.monotonic_ns()}"
        part.mkdir()
        try:
            with open(part / "state.npz", "wb") as file:
                np.savez(file, *(np.asarray(arrays.plain(x)) for x in found))
                file.flush()
                os.fsync(file.fileno())
            (part / "result.json").write_text(json.dumps(result))
            entry = {
                "format": FORMAT,
                "parts": parts,
                "leaves": leaves,
                "seconds": result["seconds"],
                "env_steps": result["env_steps"],
            }
            entry |= {"state_sha256": _digest(part / "state.npz"), "result_sha256": _digest(part / "result.json")}
            entry["bytes"] = sum(p.stat().st_size for p in part.iterdir())
            (part / "entry.json").write_text(json.dumps(entry))
            part.rename(self.folder / key)
        except OSError:
            shutil.rmtree(part, ignore_errors=True)
            if not self.has(key):  # else another process was first
                raise

    def entries(self) -> list[StoredPhase]:
        """All results, the ones not used for longest first."""
        found = []
        for path in self.folder.glob("*/entry.json"):
            try:
                entry, used = json.loads(path.read_text()), path.stat().st_mtime
                about = [
                    kind(entry[name])
                    for name, kind in (("parts", dict), ("bytes", int), ("seconds", float), ("env_steps", int))
                ]
                found.append(StoredPhase(path.parent.name, *about, used))
            except (OSError, ValueError, KeyError, TypeError):  # removed meanwhile, torn, or something else
                continue
        return sorted(found, key=lambda e: e.used)

    def prune(self, limit: int, *, keep: str | None = None) -> list[StoredPhase]:
        """Removes results, the ones not used for longest first, until `limit` bytes are left at most. Returns what went."""
        entries = self.entries()
        total, gone = sum(e.bytes for e in entries), []
        for entry in entries:
            if total <= limit:
                break
            if entry.key != keep:
                self.remove(entry.key)
                total -= entry.bytes
                gone.append(entry)
        self._sweep()
        return gone

    def remove(self, key: str) -> None:
        """Renamed first, so that no other process reads half of it."""
        grave = self.folder / f"{key[:16]}.gone{os.getpid()}-{time.monotonic_ns()}"
        try:
            (self.folder / key).rename(grave)
        except OSError:  # another process removed it
            return
        shutil.rmtree(grave, ignore_errors=True)

    def _sweep(self) -> None:
        """What killed processes left, a day ago or more. (Locks stay: they are empty, and removing one that is taken would lose it.)"""
        for path in (*self.folder.glob("*.part*"), *self.folder.glob("*.gone*")):
            try:
                if time.time() - path.stat().st_mtime > 86_400:
                    shutil.rmtree(path, ignore_errors=True)
            except OSError:
                continue

    def _read(self, key: str, read: Callable[[pathlib.Path, dict[str, Any]], Any]) -> Any | None:
        path = self.folder / key
        try:
            entry = json.loads((path / "entry.json").read_text())
            if entry["format"] != FORMAT:
                raise RunError(f"it has the format {entry['format']}, this gorl reads {FORMAT}")
            return read(path, entry)
        except (RunError, OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as err:
            _log.warning("a stored phase cannot be reused and is computed again (%s): %s", path, err)
            self.remove(key)
            return None


def _digest(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sound(path: pathlib.Path, digest: str) -> pathlib.Path:
    """The path, if what lies there has the checksum."""
    if _digest(path) != digest:
        raise RunError(f"{path.name} is damaged")
    return path


def default_store() -> PhaseStore:
    """In `phases`, in gorl's cache folder; $GORL_CACHE_GB gibibytes at most (20)."""
    text = os.environ.get("GORL_CACHE_GB")
    try:
        limit = DEFAULT_LIMIT if text is None else int(float(text) * 1024**3)
    except ValueError:
        raise ConfigError(f"GORL_CACHE_GB = {text!r}: it is a number of gibibytes, such as 20.") from None
    return PhaseStore(cache_folder() / "phases", limit)
