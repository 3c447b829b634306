"""MuJoCo's own engine for batches of states, on all cores.

A control step is a pure function of a row of float32: the integration state goes in and comes out, nothing stays here. So a run goes
on with the same bits, and neither the number of threads nor what was simulated before changes any.
"""

import functools
import hashlib
import logging
import math
import os
import threading
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float
from mujoco.rollout import Rollout

from gorl.environments.native import host_call
from gorl.errors import ConfigError

CONTROLS = int(mujoco.mjtState.mjSTATE_CTRL | mujoco.mjtState.mjSTATE_MOCAP_POS | mujoco.mjtState.mjSTATE_MOCAP_QUAT)
EVOLVES = (
    "time",
    "qpos",
    "qvel",
    "act",
    "qacc_warmstart",
)  # but for the last, MuJoCo's mjSTATE_FULLPHYSICS (models with more are refused)
INPUTS = ("ctrl", "mocap_pos", "mocap_quat")  # CONTROLS, in MuJoCo's order
ROW = (*EVOLVES, *INPUTS)
"""Everything that the next state depends on (mjSTATE_INTEGRATION; applied forces stay zero): the fields of a row, in order."""

BLOCK = 2**16  # physics steps in one call of MuJoCo, which returns the states of all

_log = logging.getLogger(__name__)
Rows = np.ndarray  # float32


def shapes(model: mujoco.MjModel) -> dict[str, tuple[int, ...]]:
    """Of the fields of a row."""
    return {
        "time": (), "qpos": (model.nq,), "qvel": (model.nv,), "act": (model.na,), "qacc_warmstart": (model.nv,),
        "ctrl": (model.nu,), "mocap_pos": (model.nmocap, 3), "mocap_quat": (model.nmocap, 4),
    }  # fmt: skip


class Engine:
    """`threads`: how many simulate a batch (None: one for each core that this process may use).

    Between control steps a state is float32, as MJX's is at every physics step; MuJoCo computes in float64 in between.
    """

    def __init__(self, model: mujoco.MjModel, threads: int | None):
        if model.nhistory or model.npluginstate or model.nuserdata:
            raise ConfigError(
                "native physics does not carry the state of delays, plugins or user data: bind PlaygroundEnvironment.impl = 'jax'."
            )
        # Without this flag MuJoCo puts a state that diverges back to the model's first one, and goes on.
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        self.model = model
        self._slices = dict(_slices(shapes(model)))
        self._width = self._slices["qacc_warmstart"].stop  # of what evolves
        self._pools: dict[int, _Pool] = {}
        self._threads = threads or _cores()
        self._name = f"gorl_mujoco_{_digest(model)}_{threads or 'all'}"
        _quiet()

    def step(self, row: dict[str, Array], steps: int) -> tuple[dict[str, Array], Float[Array, " S"]]:
        """What evolved after so many physics steps, and the sensors before the last of them integrated. In a program; `vmap` it."""
        out = self._call(
            f"step{steps}", functools.partial(self.advance, steps=steps), row, self._width + self.model.nsensordata
        )
        evolved = {name: out[self._slices[name]].reshape(shapes(self.model)[name]) for name in EVOLVES}
        return evolved, out[self._width :]

    def measure(self, row: dict[str, Array]) -> Float[Array, " S"]:
        """The sensors in a state. In a program; `vmap` it."""
        return self._call("sense", self.sense, row, self.model.nsensordata)

    def _call(self, what: str, function: host_call.Function, row: dict[str, Array], size: int) -> Float[Array, " M"]:
        host_call.register(f"{self._name}_{what}", function)
        flat = jnp.concatenate([jnp.asarray(row[name], jnp.float32).reshape(-1) for name in ROW])
        return host_call.call(f"{self._name}_{what}", flat, size)

    def advance(self, given: Rows, out: Rows, *, steps: int) -> None:
        """`step` of rows [B, N]; `out`: what evolved, and the sensors [B, E + S].

        A row that is not finite, or whose simulation MuJoCo gave up, becomes NaN. The acceleration from which the next solution
        starts is what the integrator made of the velocities last: MuJoCo's own `qacc_warmstart` under the Euler integrator without
        implicit damping, else that with the damping in it.
        """
        velocity, dt = self._slices["qvel"], self.model.opt.timestep
        for rows, part, sound, states, sensors in self._blocks(given, out, steps):
            end = states[:, -1]
            before = states[:, -2] if steps > 1 else rows
            part[:, : end.shape[1]] = end
            part[:, self._slices["qacc_warmstart"]] = (end[:, velocity] - before[:, velocity]) / dt
            part[:, self._width :] = sensors[:, -1]
            sound &= np.abs(end[:, 0] - rows[:, 0] - steps * dt) < 0.5 * dt  # after a warning MuJoCo steps no further
            part[~sound] = np.nan

    def sense(self, given: Rows, out: Rows) -> None:
        """`measure` of rows [B, N] into `out` [B, S]."""
        for _, part, sound, _, sensors in self._blocks(given, out, 1):
            part[:] = sensors[:, -1]
            part[~sound] = np.nan

    def _blocks(self, given: Rows, out: Rows, steps: int) -> Iterator[tuple[np.ndarray, ...]]:
        """(rows in float64, their part of `out`, which of them are finite, states [b, steps, ...], sensors [b, steps, S]), b rows at a time."""
        size = max(1, BLOCK // steps)
        pool = self._pools.setdefault(os.getpid(), _Pool(self.model, self._threads))
        for start in range(0, len(given), size):
            part = given[start : start + size]
            rows, sound = part.astype(np.float64), np.isfinite(part).all(axis=1)
            rows[~sound] = 0.0
            rows[~sound, self._slices["qpos"]] = self.model.qpos0
            initial = np.ascontiguousarray(rows[:, : self._slices["act"].stop])
            warmstart = np.ascontiguousarray(rows[:, self._slices["qacc_warmstart"]])
            control = np.repeat(rows[:, None, self._width :], steps, axis=1)
            yield rows, out[start : start + size], sound, *pool.run(initial, warmstart, control)


class _Pool:
    """Threads, each with its own MjData; one batch at a time. Made at first use, for one process: threads do not survive a fork."""

    def __init__(self, model: mujoco.MjModel, threads: int):
        self._model, self._threads = model, threads
        self._lock = threading.Lock()
        self._made: tuple[Rollout, list[Any]] | None = None

    def run(self, initial: np.ndarray, warmstart: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The states and sensors [B, T, ...] of every step."""
        size, steps = control.shape[:2]
        states, sensors = np.empty((size, steps, initial.shape[1])), np.empty((size, steps, self._model.nsensordata))
        with self._lock:
            if self._made is None:  # without a pool the calling thread simulates
                self._made = (
                    Rollout(nthread=self._threads if self._threads > 1 else 0),
                    [mujoco.MjData(self._model) for _ in range(self._threads)],
                )
            rollout, data = self._made
            rollout.rollout(
                [self._model] * size, data, initial, control, control_spec=CONTROLS, skip_checks=True, nstep=steps,
                initial_warmstart=warmstart, state=states, sensordata=sensors,
            )  # fmt: skip
        return states, sensors


def _slices(sizes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, slice]]:
    start = 0
    for name in ROW:
        stop = start + math.prod(sizes[name])
        yield name, slice(start, stop)
        start = stop


def _digest(model: mujoco.MjModel) -> str:
    """The same in every process, for a model of the same numbers."""
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return hashlib.sha256(buffer).hexdigest()[:32]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _quiet() -> None:
    """MuJoCo writes its warnings to the console and into a file; what they are about is reported as invalid steps."""
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(lambda text: _log.debug("MuJoCo: %s", text))
