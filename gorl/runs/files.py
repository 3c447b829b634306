"""Writing files so that a crash leaves the old or the new one, and a full disk an error that says what to do. Without JAX."""

import contextlib
import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import IO, Any

from gorl.errors import RunError

from gorl.errors import RunError
import os
import pathlib


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """A file to write that is at `path` once it is whole and on disk. Raises OSError, and leaves what was there."""
    part = path.with_suffix(f".part{os.getpid()}")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes atomically."""
    with replacing(path) as file:
        file.write(json.dumps(value, indent=2, default=str).encode() + b"\n")


@contextlib.contextmanager
def writing(folder: pathlib.Path, what: str) -> Iterator[None]:
    """Failing to write `what` of the run in `folder` is a RunError. (Orbax raises OSError, or ValueError for one of its C++ code.)"""
    try:
        yield
    except (OSError, ValueError) as err:
        raise RunError(
            f"cannot write {what} of {folder}: {reason(err)}. What was saved before is whole. Mend that, then: gorl train --resume {folder}"
        ) from err


def reason(err: Exception) -> str:
    """What the operating system said."""
    number = re.search(r"os_error_code='(\d+)'", str(err))  # of C++ code
    return os.strerror(int(number[1])) if number else getattr(err, "strerror", None) or str(err)


def inside(folder: pathlib.Path, name: object, what: str, *, under: pathlib.Path | None = None) -> pathlib.Path:
    """folder/name, if that is below `under` (None: the folder). Raises RunError, about `what`, where it is not. Links are not followed."""
    if not isinstance(name, str) or "\0" in name:
        raise RunError(f"{what}: {name!r} is not the name of a folder.")
    path, limit = folder / name, under or folder
    if not pathlib.Path(os.path.abspath(path)).is_relative_to(os.path.abspath(limit)):
        raise RunError(f"{what}: {name!r} leads out of {limit}, so it is not followed. gorl writes no such name: do not trust what came with it.")
    return path
