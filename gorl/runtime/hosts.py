"""Several processes, such as one a host, that train one run together: all compute, the first one writes.

Each of them is started with the same command and three environment variables. They run the same programs in the same
order, so what decides on the order and is not computed (a signal, a clock, a checkpoint) is agreed on here.
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
    """Joins the other processes, if the environment names any. Before JAX starts a device."""
    given = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    if not given:
        return
    if missing := [name for name in VARIABLES if name not in given]:
        raise ConfigError(
            f"{', '.join(given)} is set, but not {', '.join(missing)}. Set all three (docs/devices.md), or none."
        )
    count, own = (_number(name, given[name]) for name in (PROCESSES, PROCESS))
    if not 0 <= own < count:
        raise ConfigError(
            f"{PROCESS} = {own}: of {PROCESSES} = {count} processes the first is 0 and the last {count - 1}."
        )
    try:
        jax.distributed.initialize(given[COORDINATOR], count, own)
    except Exception as err:
        text = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise RunError(
            f"process {own} of {count} cannot join the others at {COORDINATOR} = {given[COORDINATOR]} ({text})."
        ) from err


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as err:
        raise ConfigError(f"{name} = {text!r}: it is a whole number.") from err


def many() -> bool:
    return jax.distributed.is_initialized() and jax.process_count() > 1


def count() -> int:
    return jax.process_count() if many() else 1


def is_primary() -> bool:
    """Whether this process writes."""
    return not many() or jax.process_index() == 0


@contextlib.contextmanager
def explain_lost_process() -> Iterator[None]:
    """Inside, what JAX raises where another process ended is a RunError."""
    try:
        yield
    except jax.errors.JaxRuntimeError as err:
        raise RunError(
            f"process {jax.process_index()} goes no further; process 0 says why, unless it was lost ({str(err).splitlines()[0]})."
        ) from err


def all_max(number: int) -> int:
    """The largest of all processes' numbers, which are small."""
    return int(_every(np.asarray(number, np.int32)).max()) if many() else number


def require_same(what: str, text: str) -> None:
    """Raises ConfigError, in all processes, if one has another text than the first."""
    if many():
        found = _every(np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8))
        if others := [i for i, row in enumerate(found) if (row != found[0]).any()]:
            raise ConfigError(
                f"process {others[0]} has another {what} than process 0. Start all processes with the same command, of the same gorl."
            )


def broadcast(value: Any) -> Any:
    """The first process's value, which JSON can hold."""
    if not many():
        return value
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(_from_first([np.asarray(data.size, np.int32)])[0])
    (data,) = _from_first([data if is_primary() else np.zeros((size,), np.uint8)])
    return json.loads(data.tobytes())


def broadcast_arrays(arrays: Sequence[Any]) -> list[np.ndarray]:
    """The first process's arrays, bit by bit; the others give some of the same shapes and types."""
    arrays = [np.asarray(x) for x in arrays]
    found = _from_first([np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in arrays])
    return [y.view(x.dtype).reshape(x.shape) for x, y in zip(arrays, found, strict=True)]


def _every(x: np.ndarray) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x)).reshape(count(), *x.shape)


def _from_first(arrays: list[np.ndarray]) -> list[np.ndarray]:
    from jax.experimental import multihost_utils

    return [np.asarray(x) for x in multihost_utils.broadcast_one_to_all(arrays)]
