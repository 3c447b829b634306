"""Writing files so that a crash leaves the old or the new one, and a full disk an error that says what to do. Without JAX."""

import contextlib
import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import IO, Any

from gorl.errors import RunError


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
