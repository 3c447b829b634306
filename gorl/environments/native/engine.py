"""MuJoCo's own engine for batches of states, on all cores.

A control step is a pure function of a row of float32 numbers: the integration state goes in and comes out, and the
engine keeps none of it. So a resumed run continues with the same bits, whatever the number of threads and whatever was
simulated before.
"""

import concurrent.futures
import functools
import hashlib
import logging
import math
import os
import threading
from collections.abc import Iterator

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float
from mujoco.rollout import Rollout

from gorl.environments.dropped import dropped_by_mjx
from gorl.environments.native import host_call
from gorl.errors import ConfigError

CONTROL_SPEC = int(
    mujoco.mjtState.mjSTATE_CTRL | mujoco.mjtState.mjSTATE_MOCAP_POS | mujoco.mjtState.mjSTATE_MOCAP_QUAT
)
# Without the last one, MuJoCo's mjSTATE_FULLPHYSICS; models with more state are refused.
INTEGRATED = ("time", "qpos", "qvel", "act", "qacc_warmstart")
INPUTS = ("ctrl", "mocap_pos", "mocap_quat")  # CONTROL_SPEC, in MuJoCo's order
ROW = (*INTEGRATED, *INPUTS)
"""The fields of a row, in order: all that the next state depends on (mjSTATE_INTEGRATION; applied forces stay zero)."""

INTEGRATED_SPEC = int(
    mujoco.mjtState.mjSTATE_TIME
    | mujoco.mjtState.mjSTATE_QPOS
    | mujoco.mjtState.mjSTATE_QVEL
    | mujoco.mjtState.mjSTATE_ACT
    | mujoco.mjtState.mjSTATE_WARMSTART
)
ROW_SPEC = INTEGRATED_SPEC | CONTROL_SPEC

MAX_PHYSICS_STEPS = 2**16  # in one call of MuJoCo, which returns the states of all of them

_log = logging.getLogger(__name__)
Rows = np.ndarray  # float32


def field_shapes(model: mujoco.MjModel) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every field of a state row."""
    return {
        "time": (),
        "qpos": (model.nq,),
        "qvel": (model.nv,),
        "act": (model.na,),
        "qacc_warmstart": (model.nv,),
        "ctrl": (model.nu,),
        "mocap_pos": (model.nmocap, 3),
        "mocap_quat": (model.nmocap, 4),
    }


class Engine:
    """MuJoCo's engine for one model, which simulates batches of state rows on `threads` threads.

    `threads` None means one for each core that this process may use. Between control steps a state is float32, as MJX's
    is at every physics step; within a control step MuJoCo computes in float64.
    """

    def __init__(self, model: mujoco.MjModel, threads: int | None):
        if model.nhistory or model.npluginstate or model.nuserdata:
            dropped = dropped_by_mjx(model)
            lacks = f"MJX does not simulate {', '.join(dropped)} either. Take it out of the model."
            raise ConfigError(
                "native physics does not carry the state of delays, plugins or user data. "
                + (lacks if dropped else "Bind PlaygroundEnvironment.impl = 'jax'.")
            )
        # Without this flag MuJoCo resets a state that diverges to the model's initial one, and continues.
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        self.model = model
        self._slices = dict(_slices(field_shapes(model)))
        self._width = self._slices["qacc_warmstart"].stop  # of the fields in INTEGRATED
        self._rollout_has_warmstart = model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
        self._pools: dict[int, _Pool] = {}
        self._steppers: dict[int, _Stepper] = {}
        self._threads = threads or _cores()
        self._name = f"gorl_mujoco_{_model_hash(model)}_{threads or 'all'}"
        _redirect_warnings()

    def step(self, row: dict[str, Array], steps: int) -> tuple[dict[str, Array], Float[Array, " S"]]:
        """Integrates `steps` physics steps inside a compiled program. Unbatched: use `vmap` for a batch.

        Returns the fields in INTEGRATED after the last step, and the sensors as of the beginning of that step.
        """
        out = self._call(
            f"step{steps}", functools.partial(self.advance, steps=steps), row, self._width + self.model.nsensordata
        )
        shapes = field_shapes(self.model)
        return {name: out[self._slices[name]].reshape(shapes[name]) for name in INTEGRATED}, out[self._width :]

    def measure(self, row: dict[str, Array]) -> Float[Array, " S"]:
        """Returns the sensors of a state, inside a compiled program. Unbatched: use `vmap` for a batch."""
        return self._call("sense", self.sense, row, self.model.nsensordata)

    def _call(self, name: str, function: host_call.Function, row: dict[str, Array], size: int) -> Float[Array, " M"]:
        host_call.register(f"{self._name}_{name}", function)
        flat = jnp.concatenate([jnp.asarray(row[field], jnp.float32).reshape(-1) for field in ROW])
        return host_call.call(f"{self._name}_{name}", flat, size)

    def advance(self, rows: Rows, out: Rows, *, steps: int) -> None:
        """Does the work of `step` on the host: writes integrated fields and sensors [B, E + S] of rows [B, N] to `out`.

        A row that is not finite, or whose simulation MuJoCo aborted, becomes NaN. `qacc_warmstart`, from which the next
        solve starts, is MuJoCo's own, but under Euler with joint damping, where it includes the damping.
        """
        if self._rollout_has_warmstart:
            self._advance_by_rollout(rows, out, steps)
        else:
            self._advance_by_steps(rows, out, steps)

    def _advance_by_rollout(self, rows: Rows, out: Rows, steps: int) -> None:
        """Simulates with `mujoco.rollout`, which returns states and no accelerations.

        The Euler integrator changes velocities by the acceleration, so that follows from the states. Joint damping, if
        any, is included: it moves the start of the solver, and its solution by rounding.
        """
        velocity, dt = self._slices["qvel"], self.model.opt.timestep
        for initial, part, valid, states, sensors in self._blocks(rows, out, steps):
            end = states[:, -1]
            before = states[:, -2] if steps > 1 else initial
            part[:, : end.shape[1]] = end
            part[:, self._slices["qacc_warmstart"]] = (end[:, velocity] - before[:, velocity]) / dt
            part[:, self._width :] = sensors[:, -1]
            valid &= np.abs(end[:, 0] - initial[:, 0] - steps * dt) < 0.5 * dt  # MuJoCo stops stepping after a warning
            part[~valid] = np.nan

    def _advance_by_steps(self, rows: Rows, out: Rows, steps: int) -> None:
        """Simulates with `mj_step`, row by row.

        Other integrators do not change velocities by the acceleration from which the next solve starts.
        """
        stepper = self._steppers.setdefault(os.getpid(), _Stepper(self.model, self._threads))
        block, finite = self._finite_rows(rows)
        out[:, : self._width], out[:, self._width :] = stepper.run(block, steps, self._width)
        out[~finite] = np.nan

    def _finite_rows(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows in float64, with the initial state for those that are not finite, and which rows are finite."""
        block, finite = rows.astype(np.float64), np.isfinite(rows).all(axis=1)
        block[~finite] = 0.0
        block[~finite, self._slices["qpos"]] = self.model.qpos0
        return block, finite

    def sense(self, rows: Rows, out: Rows) -> None:
        """Does the work of `measure` on the host: writes the sensors [B, S] of rows [B, N] to `out`."""
        for _, part, valid, _, sensors in self._blocks(rows, out, 1):
            part[:] = sensors[:, -1]
            part[~valid] = np.nan

    def _blocks(self, rows: Rows, out: Rows, steps: int) -> Iterator[tuple[np.ndarray, ...]]:
        """Simulates b rows at a time.

        Yields (the rows in float64, their part of `out`, which of them are finite, states [b, steps, ...], sensors
        [b, steps, S]).
        """
        size = max(1, MAX_PHYSICS_STEPS // steps)
        pool = self._pools.setdefault(os.getpid(), _Pool(self.model, self._threads))
        for start in range(0, len(rows), size):
            block, finite = self._finite_rows(rows[start : start + size])
            initial = np.ascontiguousarray(block[:, : self._slices["act"].stop])
            warmstart = np.ascontiguousarray(block[:, self._slices["qacc_warmstart"]])
            control = np.repeat(block[:, None, self._width :], steps, axis=1)
            yield block, out[start : start + size], finite, *pool.run(initial, warmstart, control)


class _Pool:
    """Threads, each with its own MjData, that simulate one batch at a time.

    They are started at first use and belong to one process, because threads do not survive a fork.
    """

    def __init__(self, model: mujoco.MjModel, threads: int):
        self._model, self._threads = model, threads
        self._lock = threading.Lock()
        self._rollout: tuple[Rollout, list[mujoco.MjData]] | None = None

    def run(self, initial: np.ndarray, warmstart: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the states and sensors [B, T, ...] at every step."""
        size, steps = control.shape[:2]
        states, sensors = np.empty((size, steps, initial.shape[1])), np.empty((size, steps, self._model.nsensordata))
        with self._lock:
            if self._rollout is None:
                threads = self._threads if self._threads > 1 else 0  # 0: the calling thread simulates
                self._rollout = Rollout(nthread=threads), [mujoco.MjData(self._model) for _ in range(self._threads)]
            rollout, data = self._rollout
            rollout.rollout(
                [self._model] * size,
                data,
                initial,
                control,
                control_spec=CONTROL_SPEC,
                skip_checks=True,
                nstep=steps,
                initial_warmstart=warmstart,
                state=states,
                sensordata=sensors,
            )
        return states, sensors


class _Stepper:
    """Threads, each with its own MjData, that call `mj_step` on their share of a batch.

    MuJoCo computes outside Python's global lock. A row's result depends on the row alone, so the number of threads
    changes no bit. The threads belong to one process, because they do not survive a fork.
    """

    def __init__(self, model: mujoco.MjModel, threads: int):
        self._model = model
        self._data = [mujoco.MjData(model) for _ in range(threads)]
        self._executor = concurrent.futures.ThreadPoolExecutor(threads) if threads > 1 else None
        self._lock = threading.Lock()

    def run(self, rows: np.ndarray, steps: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the integrated fields [B, width] and the sensors [B, S] after the last step, NaN after a warning."""
        size = len(rows)
        states, sensors = np.empty((size, width)), np.empty((size, self._model.nsensordata))

        def work(data: mujoco.MjData, start: int, stop: int) -> None:
            warnings = data.warning
            for i in range(start, stop):
                mujoco.mj_setState(self._model, data, rows[i], ROW_SPEC)
                mujoco.mj_step(self._model, data, steps)
                mujoco.mj_getState(self._model, data, states[i], INTEGRATED_SPEC)
                sensors[i] = data.sensordata
                if warnings.number.any():  # `mujoco.rollout` ends there, too
                    states[i] = sensors[i] = np.nan
                    warnings.number[:] = 0

        bounds = [size * i // len(self._data) for i in range(len(self._data) + 1)]
        with self._lock:
            if self._executor is None:
                work(self._data[0], 0, size)
            else:
                list(self._executor.map(work, self._data, bounds[:-1], bounds[1:]))
        return states, sensors


def _slices(shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, slice]]:
    start = 0
    for name in ROW:
        stop = start + math.prod(shapes[name])
        yield name, slice(start, stop)
        start = stop


def _model_hash(model: mujoco.MjModel) -> str:
    """Returns a hash of a model's numbers, equal across processes."""
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return hashlib.sha256(buffer).hexdigest()[:32]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _redirect_warnings() -> None:
    """Logs MuJoCo's warnings, instead of MuJoCo writing them to the console and a file.

    Their cause is reported as invalid steps.
    """
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(lambda text: _log.debug("MuJoCo: %s", text))
