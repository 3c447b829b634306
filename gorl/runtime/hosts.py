"""Several processes, such as one per host, that train one run together: all of them compute, the first one writes.

Each is started with the same command and three environment variables. All run the same programs in the same order, so
whatever decides that order and is not computed (a signal, a clock, a checkpoint) is agreed on here.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from gorl.errors import ConfigError, RunError

COORDINATOR, PROCESSES, PROCESS = VARIABLES = ("GORL_COORDINATOR", "GORL_PROCESSES", "GORL_PROCESS")


def initialize() -> None:
    """Connects to the other processes if the environment variables name any. Call it before JAX starts a device.

    Raises ConfigError for incomplete or invalid variables, and RunError if the connection fails.
    """
    given = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    if not given:
        return
    if missing := [name for name in VARIABLES if name not in given]:
        raise ConfigError(
            f"{', '.join(given)} is set, but not {', '.join(missing)}. Set all three (docs/devices.md), or none."
        )
    count, process = (_parse_int(name, given[name]) for name in (PROCESSES, PROCESS))
    if not 0 <= process < count:
        raise ConfigError(
            f"{PROCESS} = {process}: it must be between 0 and {count - 1}, because {PROCESSES} = {count}."
        )
    try:
        jax.distributed.initialize(given[COORDINATOR], count, process)
    except Exception as err:
        text = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise RunError(
            f"process {process} of {count} cannot join the others at {COORDINATOR} = {given[COORDINATOR]} ({text})."
        ) from err


def _parse_int(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as err:
        raise ConfigError(f"{name} = {text!r}: it must be a whole number.") from err


def is_distributed() -> bool:
    """Whether several processes train this run."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def process_count() -> int:
    """Returns the number of processes that train this run."""
    return jax.process_count() if is_distributed() else 1


def is_primary() -> bool:
    """Whether this process writes."""
    return not is_distributed() or jax.process_index() == 0


@contextlib.contextmanager
def explain_lost_process() -> Iterator[None]:
    """Context manager that turns JAX's error after the end of another process into a RunError."""
    try:
        yield
    except jax.errors.JaxRuntimeError as err:
        raise RunError(
            f"process {jax.process_index()} stopped because another process ended: see the output of process 0,"
            f" unless that is the one that was lost ({str(err).splitlines()[0]})."
        ) from err


def all_max(number: int) -> int:
    """Returns the largest of all processes' numbers, which must fit 32 bits."""
    return int(_all_gather(np.asarray(number, np.int32)).max()) if is_distributed() else number


def require_same(what: str, text: str) -> None:
    """Raises ConfigError in all processes if the text of any differs from the first's.

    `what` names the text in the message.
    """
    if is_distributed():
        digests = _all_gather(np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8))
        if others := [i for i, digest in enumerate(digests) if (digest != digests[0]).any()]:
            raise ConfigError(
                f"process {others[0]} has a different {what} from process 0."
                " Start all processes with the same command and the same version of gorl."
            )


def broadcast(value: Any) -> Any:
    """Returns the first process's value in every process. The value must be representable in JSON."""
    if not is_distributed():
        return value
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(_from_primary([np.asarray(data.size, np.int32)])[0])
    (data,) = _from_primary([data if is_primary() else np.zeros((size,), np.uint8)])
    return json.loads(data.tobytes())


def broadcast_arrays(arrays: Sequence[jax.Array | np.ndarray]) -> list[np.ndarray]:
    """Returns the first process's arrays, bit for bit, in every process.

    The other processes pass arrays of the same shapes and dtypes.
    """
    arrays = [np.asarray(x) for x in arrays]
    received = _from_primary([np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in arrays])
    return [y.view(x.dtype).reshape(x.shape) for x, y in zip(arrays, received, strict=True)]


def _all_gather(x: np.ndarray) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x)).reshape(process_count(), *x.shape)


def _from_primary(arrays: list[np.ndarray]) -> list[np.ndarray]:
    from jax.experimental import multihost_utils

    return [np.asarray(x) for x in multihost_utils.broadcast_one_to_all(arrays)]
