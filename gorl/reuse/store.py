"""Results of phases on disk, by key: safe with several writers, bounded in size, verified when read.

    <key>/entry.json     format, what the result depends on, sizes, checksums
    <key>/result.json    the phase's lines of the record, and its cost
    <key>/state.npz      the arrays of the state after it, [S, ...]
    <key>.lock           locked by the process that computes it

An entry is written under another name and then renamed, so it is either complete or absent. An entry that cannot be
read, or whose checksum does not match, is removed and computed again.
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
from gorl.state import PyTree

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
    """A lock that is released when its process ends."""

    def __init__(self, path: pathlib.Path):
        self._lock = filelock.FileLock(str(path))
        self.held = False

    def try_acquire(self) -> bool:
        """Acquires the lock if no other process holds it, and returns whether it is held."""
        try:
            self._lock.acquire(blocking=False)
            self.held = True  # and so to be released
        except filelock.Timeout:
            return False
        except NotImplementedError:  # a file system without locks: others may compute the same
            return True
        return True

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: object) -> None:
        if self.held:
            self._lock.release()


class PhaseStore:
    """The results in `folder`, of at most `limit` bytes together. The least recently used are removed first."""

    def __init__(self, folder: pathlib.Path, limit: int = DEFAULT_LIMIT):
        self.folder = folder
        self.limit = limit

    def claim(self, key: str) -> Claim:
        """Returns the lock on computing a result. It is not acquired yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return Claim(self.folder / f"{key}.lock")

    def has(self, key: str) -> bool:
        """Whether a result is stored."""
        return (self.folder / key / "entry.json").is_file()

    def result(self, key: str) -> dict[str, Any] | None:
        """Returns the stored `result`, or None if it cannot be read; the entry is then removed."""
        return self._read(
            key, lambda path, entry: json.loads(_verified(path / "result.json", entry["result_sha256"]).read_text())
        )

    def state(self, key: str, template: PyTree, seeds: int) -> PyTree | None:
        """Returns the stored state [S, ...] on the host, or None if it cannot be read; the entry is then removed.

        `template`: one seed's state, whose structure the result has.
        """

        def read(path: pathlib.Path, entry: dict[str, Any]) -> PyTree:
            expected = arrays.leaves(template)[1]
            arrays.check_arrays(expected, entry["leaves"], f"the stored phase {key}")
            with np.load(_verified(path / "state.npz", entry["state_sha256"]), allow_pickle=False) as file:
                state = arrays.refill(template, [file[f"arr_{i}"] for i in range(len(expected))], seeds=seeds)
            os.utime(path / "entry.json")
            return state

        return self._read(key, read)

    def add(self, key: str, parts: dict[str, Any], result: dict[str, Any], state: PyTree) -> None:
        """Stores a result. Warns if that fails (a full or read-only disk), because the run does not need it."""
        if self.has(key):
            return
        try:
            self._add(key, parts, result, state)
            self.prune(self.limit, keep=key)
        except OSError as err:
            _log.warning("the result of a phase could not be stored for reuse in %s: %s", self.folder, err)

    def _add(self, key: str, parts: dict[str, Any], result: dict[str, Any], state: PyTree) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        found, leaves = arrays.leaves(state, axes=1)
        part = self.folder / f"{key[:16]}.part{os.getpid()}-{time.monotonic_ns()}"
        part.mkdir()
        try:
            with open(part / "state.npz", "wb") as file:
                np.savez(file, *map(arrays.to_stored, found))
                file.flush()
                os.fsync(file.fileno())
            (part / "result.json").write_text(json.dumps(result, allow_nan=False))
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
        """Returns all readable results, the least recently used first."""
        found = []
        for path in self.folder.glob("*/entry.json"):
            try:
                entry, used = json.loads(path.read_text()), path.stat().st_mtime
                facts = [
                    kind(entry[name])
                    for name, kind in (("parts", dict), ("bytes", int), ("seconds", float), ("env_steps", int))
                ]
                found.append(StoredPhase(path.parent.name, *facts, used))
            except (OSError, ValueError, KeyError, TypeError):  # removed meanwhile, truncated, or something else
                continue
        return sorted(found, key=lambda e: e.used)

    def prune(self, limit: int, *, keep: str | None = None) -> list[StoredPhase]:
        """Removes the least recently used results, except `keep`, until at most `limit` bytes remain. Returns them."""
        entries = self.entries()
        total, removed = sum(e.bytes for e in entries), []
        for entry in entries:
            if total <= limit:
                break
            if entry.key != keep:
                self.remove(entry.key)
                total -= entry.bytes
                removed.append(entry)
        self._remove_leftovers()
        return removed

    def remove(self, key: str) -> None:
        """Removes a result. It is renamed first, so that no other process reads half of it."""
        trash = self.folder / f"{key[:16]}.gone{os.getpid()}-{time.monotonic_ns()}"
        try:
            (self.folder / key).rename(trash)
        except OSError:  # another process removed it
            return
        shutil.rmtree(trash, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        """Removes folders that killed processes left at least a day ago.

        Locks are kept: they are empty, and removing one that is held would lose it.
        """
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


def _verified(path: pathlib.Path, digest: str) -> pathlib.Path:
    """Returns the path. Raises RunError if the file does not have the checksum."""
    if _digest(path) != digest:
        raise RunError(f"{path.name} is damaged")
    return path


def default_store() -> PhaseStore:
    """Returns the store in `phases` in gorl's cache folder, of at most $GORL_CACHE_GB gibibytes (default: 20)."""
    text = os.environ.get("GORL_CACHE_GB")
    try:
        limit = DEFAULT_LIMIT if text is None else int(float(text) * 1024**3)
    except ValueError:
        raise ConfigError(f"GORL_CACHE_GB = {text!r}: it is a number of gibibytes, such as 20.") from None
    return PhaseStore(cache_folder() / "phases", limit)
