"""The display of a running experiment: live in a terminal, or plain lines where the output is not a terminal."""

import math
import time

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from gorl.cli.clock import clock
from gorl.experiment import Experiment, PlannedPhase
from gorl.phases.base import Unit
from gorl.runs.record import RecordEntry

SILENCE = 10.0  # seconds without output after which a plain display reports its position


class ConsoleDisplay:
    """Displays stage, phase, progress, environment steps, steps/s, last and best return, and time left."""

    def __init__(self, experiment: Experiment, console: Console):
        self._console = console
        self._live_wanted = console.is_terminal
        self._total = max(1, experiment.env_steps())
        self._stages = len(experiment.stages)
        self._most, self._by_steps = "at most " * experiment.may_take_fewer, experiment.budget is not None
        self._done_before, self._total_work = _work(experiment)
        if self._by_steps:
            self._total_work = float(self._total)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            auto_refresh=False,
        )
        self._task = self._bar.add_task("", total=1.0)
        self._live: Live | None = None
        self._began = time.monotonic()
        self._first: tuple[float, float, int] | None = None  # (time, work, env steps) when the first unit was done
        self._where = ""
        self._env_steps = 0
        self._last = self._best = math.nan
        self._spoke = 0.0
        self._rate = self._left = math.nan

    def __enter__(self) -> "ConsoleDisplay":
        if self._live_wanted:
            self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def progress(self, *, planned: PlannedPhase, unit: Unit, index: int, units: int, env_steps: int) -> None:
        """Shows that a unit begins."""
        count = f"{index + 1} of at most {units}" if planned.declaration.may_end_early else f"{index + 1}/{units}"
        where = f"stage {planned.stage + 1}/{self._stages} · {planned.name} · {unit.name} {count}"
        self._where, self._env_steps = where, env_steps
        done = float(env_steps) if self._by_steps else self._done_before[planned.stage, planned.phase, index]
        now = time.monotonic()
        if index > 0 and self._first is None:
            self._first = (now, done, env_steps)
        self._bar.update(self._task, completed=done / self._total_work)
        self._left = self._estimate(now, done)
        self._show(now)

    def entry(self, entry: RecordEntry) -> None:
        """Shows the evaluation of a unit whose metrics have arrived."""
        value = entry.metrics.get("return")
        if entry.subset == "eval" and value is not None:
            self._last = value
            self._best = value if math.isnan(self._best) else max(self._best, value)
            if self._live is None:
                where = f"stage {entry.stage + 1}/{self._stages} · {entry.phase} · {entry.env_steps:,} steps"
                self._say(f"{where} · return {value:.1f} (best {self._best:.1f}){self._tail()}")

    def _estimate(self, now: float, done: float) -> float:
        if self._first is None or done <= self._first[1]:
            return math.nan
        began, work, steps = self._first
        if now > began:
            self._rate = (self._env_steps - steps) / (now - began)
        return (now - began) / (done - work) * (self._total_work - done)

    def _tail(self) -> str:
        rate = "" if math.isnan(self._rate) or self._rate <= 0 else f" · {self._rate:,.0f} steps/s"
        return rate + ("" if math.isnan(self._left) else f" · {self._most}{clock(self._left)} left")

    def _render(self) -> Table:
        table = Table.grid(padding=(0, 1))
        self._bar.update(self._task, description=self._where)
        table.add_row(self._bar)
        returns = "" if math.isnan(self._last) else f" · return {self._last:.1f} (best {self._best:.1f})"
        elapsed = clock(time.monotonic() - self._began)
        table.add_row(
            f"{self._env_steps:,} of {self._most}{self._total:,} env steps{self._tail()}{returns} · {elapsed}"
        )
        return table

    def _show(self, now: float) -> None:
        if self._live is None and now - self._spoke > SILENCE:
            self._say(f"{self._where} · {self._env_steps:,} steps{self._tail()}")

    def _say(self, line: str) -> None:
        self._spoke = time.monotonic()
        self._console.print(f"[{clock(time.monotonic() - self._began)}] {line}", soft_wrap=True)


def _work(experiment: Experiment) -> tuple[dict[tuple[int, int, int], float], float]:
    """Returns (the work before each unit, the total work), in training steps.

    A planned evaluation step counts a third. A unit without steps counts as 30,000.
    """
    before, total = {}, 0.0
    for planned in experiment.planned_phases():
        for i, unit in enumerate(experiment.units(planned)):
            before[planned.stage, planned.phase, i] = total
            total += unit.env_steps + unit.eval_steps / 3 or 30_000.0
    return before, max(1.0, total)
