"""Atomic writing of files: a crash leaves the old or the new file, a full disk raises an error with the fix. No JAX."""

import contextlib
import json
import math
import os
import pathlib
import re
from collections.abc import Iterator
from typing import IO, Any

from gorl.errors import RunError


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """Opens a file that replaces `path` once it is complete and on disk. Raises OSError and then keeps the old file."""
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
    """Writes a JSON file atomically. Raises OSError."""
    with replacing(path) as file:
        file.write(json.dumps(plain(value), indent=2, default=str, allow_nan=False).encode() + b"\n")


def plain(value: Any) -> Any:
    """Returns a value with every number that is not finite, which JSON does not have, replaced by None (null)."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def writing(folder: pathlib.Path, what: str) -> Iterator[None]:
    """Turns a failure to write `what` of the run in `folder` into a RunError.

    Orbax raises OSError, or ValueError for an error of its C++ code.
    """
    try:
        yield
    except (OSError, ValueError) as err:
        raise RunError(
            f"cannot write {what} of {folder}: {reason(err)}. Earlier checkpoints are intact. "
            f"Fix this, then run: gorl train --resume {folder}"
        ) from err


def reason(err: Exception) -> str:
    """Returns the operating system's description of an error."""
    number = re.search(r"os_error_code='(\d+)'", str(err))  # raised by C++ code
    return os.strerror(int(number[1])) if number else getattr(err, "strerror", None) or str(err)


def inside(folder: pathlib.Path, name: object, what: str, *, under: pathlib.Path | None = None) -> pathlib.Path:
    """Returns folder/name. Raises RunError, about `what`, unless that is below `under` (None: the folder).

    Symbolic links are not resolved.
    """
    if not isinstance(name, str) or "\0" in name:
        raise RunError(f"{what}: {name!r} is not the name of a folder.")
    path, limit = folder / name, under or folder
    if not pathlib.Path(os.path.abspath(path)).is_relative_to(os.path.abspath(limit)):
        raise RunError(
            f"{what}: {name!r} leads out of {limit}, so it is not followed. gorl writes no such name: "
            "do not trust the files that came with it."
        )
    return path
