"""Files of run folders: written atomically, and read as what a stranger may have made. No JAX.

A crash leaves the old or the new file, and a full disk raises an error with the fix. Links, devices and pipes in a
folder are neither read nor written through, since they lead out of it, or never end.
"""

import contextlib
import errno
import fcntl
import json
import math
import os
import pathlib
import re
import stat
from collections.abc import Iterator
from typing import IO, Any

from gorl.errors import RunError

LARGEST_TEXT = 2**26
"""Bytes of the largest JSON file or configuration in a run's folder that is read."""

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """Opens a file that replaces `path` once it is complete and on disk. Raises OSError and then keeps the old file."""
    part = path.with_suffix(f".part{os.getpid()}")
    part.unlink(missing_ok=True)
    try:
        with open(part, "xb") as file:  # never through a link of that name
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


def require_plain(path: pathlib.Path) -> None:
    """Raises RunError if there is something at `path` that is neither a file nor a folder, such as a link or a pipe."""
    try:
        kind = _KINDS.get(stat.S_IFMT(path.lstat().st_mode))
    except OSError:  # whoever opens it says why
        return
    if kind is not None:
        raise RunError(
            f"{path} is {kind}, so it is neither read nor written. gorl makes none: do not trust the files that came"
            " with it. If it is yours, put the file or folder itself there."
        )


def require_plain_tree(folder: pathlib.Path) -> None:
    """Raises RunError for the first link, device or pipe in a folder, or if the folder itself is one."""
    require_plain(folder)
    for where, folders, names in os.walk(folder):
        for name in (*folders, *names):
            require_plain(pathlib.Path(where) / name)


def open_plain(path: pathlib.Path, mode: str = "rb", **more: Any) -> IO[Any]:
    """Opens a regular file as `open` does. Raises RunError for a link, a device or a pipe, and OSError."""
    require_plain(path)
    quick = lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    return open(path, mode, opener=quick, **more)


def read_plain(path: pathlib.Path) -> bytes:
    """Returns the content of a JSON file or a configuration in a run's folder.

    Raises RunError if it is a link, a device or a pipe, or larger than `LARGEST_TEXT`, and OSError.
    """
    with open_plain(path) as file:
        content = file.read(LARGEST_TEXT + 1)
    if len(content) > LARGEST_TEXT:
        raise RunError(f"{path} has more than {LARGEST_TEXT // 2**20} MiB, so it is not read: gorl writes less.")
    return content


_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)


def take_lock(file: IO[Any], *, shared: bool = False) -> bool:
    """Locks a file, until the process ends. Returns False where the file system has no locks, such as Lustre's default.

    Raises BlockingIOError if another process has locked it.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as err:
        if err.errno in _NO_LOCKS:
            return False
        raise
    return True


def parse_json(text: bytes | str) -> Any:
    """Returns the value of a JSON text. Raises ValueError, also where it is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as err:
        raise ValueError("it is nested too deeply") from err


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

    A name that leads over a symbolic link below `under` is refused too.
    """
    if not isinstance(name, str) or "\0" in name:
        raise RunError(f"{what}: {name!r:.200} is not the name of a folder.")
    path, limit = folder / name, pathlib.Path(os.path.abspath(under or folder))
    whole = pathlib.Path(os.path.abspath(path))
    if not whole.is_relative_to(limit):
        raise RunError(
            f"{what}: {name!r:.200} leads out of {under or folder}, so it is not followed. gorl writes no such name: "
            "do not trust the files that came with it."
        )
    for part in (whole, *whole.parents):
        if part == limit:
            break
        require_plain(part)
    return path
