"""Runs the cells of a scale of seeds, one process on each core.

After a signal or a kill the same call resumes them. A cell is `gorl train` in its own folder, and then
`gorl evaluate --physics jax` of what it trained. Both are pinned to one core. A cell that failed does not stop the
others.
"""

import contextlib
import ctypes
import dataclasses
import inspect
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from experiments.reproduce.scales import ROOT, SeedCell, SeedScale
from experiments.reproduce.seeds import record
from gorl.cli import evaluate
from gorl.cli.clock import clock
from gorl.config import files
from gorl.errors import ConfigError, GorlError, RunError
from gorl.runs.files import write_json
from gorl.runs.folder import RunFolder
from gorl.runtime.signals import StopSignals

_TICK = 0.25  # seconds
_RELEASE = 60.0  # seconds to wait for a process whose driver was killed to save and end
_ENDED = (0, 3, 4)  # exit codes of a run that finished, diverged or has no result
_PR_SET_PDEATHSIG = 1
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclasses.dataclass(frozen=True)
class Places:
    """The folders of the runs and of the results."""

    work: pathlib.Path
    results: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Processes:
    """How processes are started: the numbers of the cores, one process on each, their niceness, and the command."""

    cores: tuple[int, ...]
    nice: int
    command: tuple[str, ...] = (sys.executable, "-m", "gorl.cli.main")


@dataclasses.dataclass
class _Job:
    """The process of one cell, which is at one of two steps."""

    cell: SeedCell
    step: str  # "train" or "evaluate"
    process: subprocess.Popen
    began: float


class Runner:
    """Runs cells of a scale. `say` prints a line for the user."""

    def __init__(self, scale: SeedScale, places: Places, processes: Processes, say: Callable[[str], None]):
        self._scale, self._places, self._processes, self._say = scale, places, processes, say
        self._evaluates = can_evaluate()

    def folder(self, cell: SeedCell) -> pathlib.Path:
        return self._places.work / self._scale.name / cell.place

    def result(self, cell: SeedCell) -> record.SeedResult | None:
        return record.read(record.path_of(self._places.results, self._scale, cell), cell)

    def step(self, cell: SeedCell) -> str | None:
        """Returns what is left of a cell: 'train', 'evaluate', or None."""
        result = self.result(cell)
        if result is None or not result.ended:
            return "train"
        trained = (self.folder(cell) / "run.json").is_file()
        return "evaluate" if self._evaluates and trained and not result.facts["mjx"] else None

    def missing(self, cell: SeedCell) -> str | None:
        """Returns the first of a cell's files that does not exist, or None."""
        for name in self._scale.words(cell)[0]:
            try:
                files.find(name, None)
            except ConfigError:
                return name
        return None

    def run(self, cells: Sequence[SeedCell], deadline: float = float("inf")) -> dict[str, list[str]]:
        """Runs cells until all have ended or the monotonic clock is at `deadline`, and returns names by how they ended.

        Raises KeyboardInterrupt after SIGINT or SIGTERM, once every process has saved and ended.
        """
        ends: dict[str, list[str]] = {}
        waiting, running = self._waiting(cells, ends), {}
        if not self._evaluates:
            self._say("gorl evaluate has no --physics here, so nothing is evaluated under MJX")
        with StopSignals() as signals:
            stopped = False
            while running or (waiting and not stopped):
                if not stopped and (signals.received or time.monotonic() >= deadline):
                    stopped = True
                    for job in running.values():
                        job.process.send_signal(signal.SIGTERM)  # they save and end
                for core in [c for c in self._processes.cores if c not in running]:
                    if waiting and not stopped:
                        with self._noting(waiting[0], ends):
                            running[core] = self._start(waiting[0], core)
                        del waiting[0]
                for core, job in list(running.items()):
                    if (code := self._poll(job)) is not None:
                        del running[core]
                        with self._noting(job.cell, ends):
                            if self._ended(job, code, ends) and not stopped:
                                running[core] = self._start(job.cell, core)
                time.sleep(_TICK)
        if signals.received:
            raise KeyboardInterrupt
        ends["left"] = [str(cell) for cell in waiting] + ends.pop("stopped", [])
        return ends

    def _waiting(self, cells: Sequence[SeedCell], ends: dict[str, list[str]]) -> list[SeedCell]:
        """Returns the cells that have something left and all of their files."""
        waiting = []
        for cell in cells:
            if self.step(cell) is None:
                ends.setdefault("done before", []).append(str(cell))
            elif missing := self.missing(cell):
                ends.setdefault(f"without {missing}", []).append(str(cell))
            else:
                waiting.append(cell)
        return waiting

    @contextlib.contextmanager
    def _noting(self, cell: SeedCell, ends: dict[str, list[str]]) -> Iterator[None]:
        """Context manager that notes an error about a cell, which must not stop the others."""
        try:
            yield
        except GorlError as err:
            ends.setdefault("failed", []).append(str(cell))
            self._say(f"    {cell} failed: {err}")

    def _start(self, cell: SeedCell, core: int) -> _Job:
        """Starts the process of a cell's next step. It inherits the core, so that its libraries count one."""
        folder, step = self.folder(cell), self.step(cell)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _release(folder)
        words = self._train_words(cell) if step == "train" else self._evaluate_words(cell)
        command = ["nice", "-n", str(self._processes.nice), *self._processes.command, *words]
        env = {**os.environ, **{name: "1" for name in THREADS}, "JAX_PLATFORMS": "cpu", "COLUMNS": "200"}
        self._say(f"core {core}: {step} {cell}")
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})
        try:
            with open(self._log(cell, step), "ab" if step == "train" else "wb") as log:
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=env,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    preexec_fn=_end_with_parent,
                )
        finally:
            os.sched_setaffinity(0, before)
        return _Job(cell, step, process, time.monotonic())

    def _train_words(self, cell: SeedCell) -> list[str]:
        folder = self.folder(cell)
        if (folder / "run.json").is_file():
            return ["train", "--resume", str(folder)]
        if folder.exists():  # killed before the run existed
            if any(folder.rglob("checkpoints")):
                raise RunError(f"{folder} has checkpoints but no run.json. Move it away, and start again.")
            shutil.rmtree(folder)
        return ["train", *self._words(cell), "--run-dir", str(folder)]

    def _evaluate_words(self, cell: SeedCell) -> list[str]:
        return ["evaluate", str(self.folder(cell)), "--physics", "jax", "--episodes", str(self._scale.episodes)]

    def _words(self, cell: SeedCell) -> list[str]:
        names, bindings = self._scale.words(cell)
        return [*names, *(word for binding in bindings for word in ("--set", binding))]

    def _log(self, cell: SeedCell, step: str) -> pathlib.Path:
        return self.folder(cell).with_suffix(f".{step}.log")

    def _poll(self, job: _Job) -> int | None:
        """Returns the exit code of a process that ended, and adds its processor time to the cell's."""
        pid, status, usage = os.wait4(job.process.pid, os.WNOHANG)
        if pid == 0:
            return None
        job.process.returncode = os.waitstatus_to_exitcode(status)
        if job.step == "train":
            write_json(self._spent_path(job.cell), self._spent(job.cell) + usage.ru_utime + usage.ru_stime)
        return job.process.returncode

    def _spent_path(self, cell: SeedCell) -> pathlib.Path:
        return self.folder(cell).with_suffix(".seconds.json")

    def _spent(self, cell: SeedCell) -> float:
        path = self._spent_path(cell)
        return json.loads(path.read_text()) if path.is_file() else 0.0

    def _ended(self, job: _Job, code: int, ends: dict[str, list[str]]) -> bool:
        """Writes the result of a step and notes how it ended. Returns whether the cell has another step."""
        cell, took = job.cell, clock(time.monotonic() - job.began)
        path = record.path_of(self._places.results, self._scale, cell)
        if job.step == "evaluate":
            self._evaluated(cell, code, path, ends)
            return False
        if code not in _ENDED:
            how = "stopped" if code in (-signal.SIGTERM, 128 + signal.SIGTERM) else "failed"
            ends.setdefault(how, []).append(str(cell))
            self._say(f"    {cell} {how} after {took}: {_last_line(self._log(cell, 'train'))}")
            return False
        facts = record.of_run(self.folder(cell), cell, self._words(cell), self._spent(cell))
        record.write(path, facts)
        self._say(f"    {cell} {facts['status']} after {took}: best {facts['best']}, newest {facts['newest']}")
        ends.setdefault(facts["status"], []).append(str(cell))
        return self.step(cell) is not None

    def _evaluated(self, cell: SeedCell, code: int, path: pathlib.Path, ends: dict[str, list[str]]) -> None:
        log = self._log(cell, "evaluate")
        if code:
            self._say(f"    {cell} has no return under MJX: {_last_line(log)}")
            return
        found = policies(log.read_text(errors="replace"))
        facts = self.result(cell).facts
        record.write(path, {**facts, "mjx": {**found, "episodes": self._scale.episodes}})
        ends.setdefault("evaluated", []).append(str(cell))
        self._say(f"    {cell} under MJX: {found}")


def can_evaluate() -> bool:
    """Returns whether `gorl evaluate` takes --physics."""
    return "physics" in inspect.signature(evaluate.command).parameters


def policies(output: str) -> dict[str, float]:
    """Returns the mean return of each policy in the table that `gorl evaluate` printed."""
    head = next((line for line in output.splitlines() if line.count("┃") >= 4), "")
    names = [part.strip() for part in head.split("┃")]
    lines = [line.split("│") for line in output.splitlines() if line.count("│") == len(names) - 1]
    rows = [dict(zip(names, map(str.strip, line), strict=True)) for line in lines]
    return {row["policy"]: float(row["return"]) for row in rows if row["seed"].isdigit()}


def show(runner: Runner, cells: Sequence[SeedCell], say: Callable[[str], None]) -> None:
    """Prints the cells in order, and what is left of each."""
    left = 0
    for number, cell in enumerate(cells, 1):
        step, missing = runner.step(cell), runner.missing(cell)
        begun = " (begun)" if step == "train" and (runner.folder(cell) / "run.json").is_file() else ""
        say(f"{number:4d}  {cell!s:60s}{'done' if step is None else f'without {missing}' if missing else step + begun}")
        left += step is not None
    say(f"{len(cells)} cells, {left} left")


def usable_cores(count: int) -> tuple[int, ...]:
    """Returns the numbers of the first `count` cores that this process may use, or of all for 0. Raises ConfigError."""
    cores = sorted(os.sched_getaffinity(0))
    if not 0 <= count <= len(cores):
        raise ConfigError(f"--cores {count}: this process may use {len(cores)} cores.")
    return tuple(cores[: count or len(cores)])


def _end_with_parent() -> None:
    """Asks Linux for a SIGTERM when the driver ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _release(folder: pathlib.Path) -> None:
    """Waits for a process that still trains in a folder, whose driver was killed. Raises RunError."""
    if (folder / "run.json").is_file():
        run = RunFolder(folder)
        run.lock(wait=_RELEASE)
        run.unlock()


def _last_line(path: pathlib.Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return f"{lines[-1].strip()} ({path})" if lines else str(path)
