"""MuJoCo's own engine for batches of states, on all cores.

A control step is a pure function of a row of float32: the integration state goes in and comes out, nothing stays here. So a run goes
on with the same bits, and neither the number of threads nor what was simulated before changes any.
"""

import functools
import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float
from mujoco.rollout import Rollout

from gorl.environments import host_call
from gorl.errors import ConfigError

CONTROLS = mujoco.mjtState.mjSTATE_CTRL | mujoco.mjtState.mjSTATE_MOCAP_POS | mujoco.mjtState.mjSTATE_MOCAP_QUAT
STATE = ("time", "qpos", "qvel", "act")  # MuJoCo's mjSTATE_FULLPHYSICS, of models without plugins and delays
INPUTS = ("ctrl", "mocap_pos", "mocap_quat")  # CONTROLS, in MuJoCo's order
ROW = (*STATE, "qacc_warmstart", *INPUTS)
"""Everything that the next state depends on (mjSTATE_INTEGRATION; applied forces stay zero): the fields of a row, in order."""

_log = logging.getLogger(__name__)


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
            raise ConfigError("native physics does not carry the state of delays, plugins or user data: bind PlaygroundEnvironment.impl = 'jax'.")
        self.model = model
        # Without it MuJoCo puts a state that diverges back to the model's first one, and goes on.
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        self.threads = threads or _cores()
        self._slices = dict(_slices(shapes(model)))
        self._pools: dict[int, _Pool] = {}
        buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
        mujoco.mj_saveModel(model, None, buffer)
        self._name = f"gorl_mujoco_{hashlib.sha256(buffer).hexdigest()[:32]}_{threads or 'all'}"
        _quiet()

    @functools.cached_property
    def width(self) -> int:
        return max(s.stop for s in self._slices.values())

    def row(self, fields: dict[str, Array]) -> Float[Array, " N"]:
        return jnp.concatenate([jnp.asarray(fields[name], jnp.float32).reshape(-1) for name in ROW])

    def fields(self, row: Float[Array, " N"]) -> dict[str, Array]:
        return {name: row[self._slices[name]].reshape(shape) for name, shape in shapes(self.model).items()}

    def step(self, row: Float[Array, " N"], steps: int) -> tuple[Float[Array, " N"], Float[Array, " S"]]:
        """The row after so many physics steps, and the sensors before the last of them integrated. In a program; `vmap` it."""
        return self._call(f"step{steps}", functools.partial(self.advance, steps=steps), row)

    def forward(self, row: Float[Array, " N"]) -> tuple[Float[Array, " N"], Float[Array, " S"]]:
        """The same row, with the acceleration to start the solver from, and its sensors."""
        return self._call("forward", self.evaluate, row)

    def _call(self, what: str, function: host_call.Function, row: Float[Array, " N"]) -> tuple[Float[Array, " N"], Float[Array, " S"]]:
        name = f"{self._name}_{what}"
        host_call.register(name, function)
        out = host_call.call(name, row, self.width + self.model.nsensordata)
        return out[: self.width], out[self.width :]

    def advance(self, given: np.ndarray, out: np.ndarray, *, steps: int) -> None:
        """`step` of rows [B, N] into `out` [B, N + S]. A row that is not finite, or whose simulation MuJoCo gave up, becomes NaN."""
        rows, sound = self._sound(given)
        states, sensors = self._rollout(rows, steps)
        end, dt = states[:, -1], self.model.opt.timestep
        sound &= np.abs(end[:, 0] - rows[:, 0] - steps * dt) < 0.5 * dt  # MuJoCo leaves a row alone after a warning
        velocity = self._slices["qvel"]
        before = states[:, -2, velocity] if steps > 1 else rows[:, velocity]
        self._write(out, rows, end, (end[:, velocity] - before) / dt, sensors[:, -1], sound)

    def evaluate(self, given: np.ndarray, out: np.ndarray) -> None:
        """`forward` of rows [B, N] into `out` [B, N + S]."""
        rows, sound = self._sound(given)
        states, sensors = self._rollout(rows, 1)
        velocity = self._slices["qvel"]
        acceleration = (states[:, -1, velocity] - rows[:, velocity]) / self.model.opt.timestep
        self._write(out, rows, rows[:, : states.shape[-1]], acceleration, sensors[:, -1], sound)

    def _sound(self, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows in float64, with the model's first state in the place of those that are not finite."""
        sound = np.isfinite(given).all(axis=1)
        rows = given.astype(np.float64)
        if not sound.all():
            rows[~sound] = 0.0
            rows[~sound, self._slices["qpos"]] = self.model.qpos0
        return rows, sound

    def _write(self, out: np.ndarray, rows: np.ndarray, state: np.ndarray, acceleration: np.ndarray, sensors: np.ndarray, sound: np.ndarray) -> None:
        """What the integrator made of the velocities in its last step is the acceleration to start the next solution from.

        It is MuJoCo's own `qacc_warmstart` under the Euler integrator without implicit damping; else that with the damping in it.
        """
        out[:, : state.shape[1]] = state
        out[:, self._slices["qacc_warmstart"]] = acceleration
        inputs = slice(self._slices[INPUTS[0]].start, self.width)
        out[:, inputs] = rows[:, inputs]
        out[:, self.width :] = sensors
        if not sound.all():
            out[~sound] = np.nan

    def _rollout(self, rows: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """(states [B, steps, ...], sensors [B, steps, S])"""
        size, pool = len(rows), self._pools.setdefault(os.getpid(), _Pool(self.model, self.threads))
        initial = np.ascontiguousarray(rows[:, : self._slices["act"].stop])
        inputs = rows[:, self._slices[INPUTS[0]].start :]
        control = np.ascontiguousarray(np.broadcast_to(inputs[:, None], (size, steps, inputs.shape[1])))
        states = np.empty((size, steps, initial.shape[1]))
        sensors = np.empty((size, steps, self.model.nsensordata))
        pool.run(self.model, steps, control, initial, np.ascontiguousarray(rows[:, self._slices["qacc_warmstart"]]), states, sensors)
        return states, sensors


class _Pool:
    """Threads, each with its own MjData; one batch at a time. Made at first use and for one process: threads do not survive a fork."""

    def __init__(self, model: mujoco.MjModel, threads: int):
        self._model, self._threads = model, threads
        self._lock = threading.Lock()
        self._made: tuple[Rollout, list[Any]] | None = None

    def run(self, model: mujoco.MjModel, steps: int, control: np.ndarray, initial: np.ndarray, warmstart: np.ndarray, states: np.ndarray, sensors: np.ndarray) -> None:  # noqa: E501
        with self._lock:
            if self._made is None:
                threads = self._threads if self._threads > 1 else 0  # 0: the calling thread
                self._made = Rollout(nthread=threads), [mujoco.MjData(self._model) for _ in range(self._threads)]
            rollout, data = self._made
            rollout.rollout(
                [model] * len(initial), data, initial, control, control_spec=int(CONTROLS), skip_checks=True, nstep=steps,
                initial_warmstart=warmstart, state=states, sensordata=sensors,
            )  # fmt: skip


def _slices(sizes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, slice]]:
    start = 0
    for name in ROW:
        stop = start + int(np.prod(sizes[name]))
        yield name, slice(start, stop)
        start = stop


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _quiet() -> None:
    """MuJoCo writes its warnings to the console and into a file; what they are about is reported as invalid steps."""
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(lambda text: _log.debug("MuJoCo: %s", text))


