"""Measures the cells of a scale in order of priority, within a budget of time.

    python -m experiments.reproduce.run --scale two_cores --blocks a --cores 2
    python -m experiments.reproduce.run --scale full --budget 8h --dry-run
    python -m experiments.reproduce.run --scale full --only "GoRL-FM/HopperStand"

The same command continues an earlier one: finished cells are not repeated, and a cell that was cut off resumes from
its last save. A cell is started only if it is expected to end in the remaining time, by the speeds measured so far. A
cell that takes longer is saved at the end of the budget, as on SIGTERM. --partial also starts the first cell that is
not expected to end. Each cell is a job of `gorl sweep` (its study is in --work), and writes a small file to --out. To
measure it again, remove this file and its study's folder. Afterwards run: python -m experiments.reproduce.table

A cell of the scale two_cores is one seed. It is `gorl train`, in one process on one core, and --cores processes run at
once. --blocks, --cores and --nice are for that scale; --partial and --aim for the other one.
"""

import argparse
import functools
import math
import os
import pathlib
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence

from experiments.reproduce import cells, outcomes, scales
from experiments.reproduce.forecasts import Forecast
from experiments.reproduce.seeds import runner
from gorl.cli.clock import clock
from gorl.errors import ConfigError, GorlError
from gorl.runtime import quiet

RESULTS = scales.ROOT / "experiments" / "results" / "reproduce"
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Parses '90', '90s', '60m' or '1.5h'. Raises ArgumentTypeError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write 90s, 60m or 1.5h.")
    return float(found[1]) * _UNITS[found[2]]


class Session:
    """One call of the driver. `say` prints a line for the user, and `now` is a monotonic clock."""

    def __init__(
        self,
        scale: scales.Scale,
        results: pathlib.Path,
        budget: float,
        say: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ):
        self._scale, self._results, self._say, self._now = scale, results, say, now
        self.began = now()
        self.deadline = self.began + budget

    def run(self, wanted: Sequence[cells.AbstractCell], *, partial: bool = False) -> dict[str, list[str]]:
        """Runs cells and returns their names by how they ended; 'left' are those without enough time.

        Raises KeyboardInterrupt if a person stops it.
        """
        ends: dict[str, list[str]] = {}
        waiting = self._pass(wanted, ends, partial=False)
        if partial and waiting and self._now() < self.deadline:
            waiting = self._pass(waiting, ends, partial=True)
        ends["left"] = [cell.name for cell in waiting]
        return ends

    def _pass(
        self, wanted: Sequence[cells.AbstractCell], ends: dict[str, list[str]], *, partial: bool
    ) -> list[cells.AbstractCell]:
        """Runs the cells for which there is enough time, and returns the others."""
        waiting = []
        for number, cell in enumerate(wanted, 1):
            if cell.share() >= 1.0:
                ends.setdefault("done before", []).append(cell.name)
                continue
            expected = cell.expected(Forecast(self._scale.guess, outcomes.read_all(self._results, self._scale)))
            if not self._may_begin(cell, expected, partial):
                waiting.append(cell)
                continue
            self._announce(f"{number}/{len(wanted)}", cell, expected)
            began = self._now()
            end = self._run(cell)
            self._say(f"    {end} after {clock(self._now() - began)}")
            ends.setdefault(end.partition(":")[0], []).append(cell.name)
        return waiting

    def _may_begin(self, cell: cells.AbstractCell, expected: float | None, partial: bool) -> bool:
        left = self.deadline - self._now()
        return left > 0.0 and (partial or expected is None or cell.share() > 0.0 or expected <= left)

    def _announce(self, place: str, cell: cells.AbstractCell, expected: float | None) -> None:
        time_needed = "an unknown time" if expected is None else f"about {clock(expected)}"
        progress = f", {cell.share():.0%} done before" if cell.share() > 0.0 else ""
        self._say(f"[{clock(self._now() - self.began)}] [{place}] {cell.name}: {time_needed}{progress}{self._left()}")

    def _left(self) -> str:
        left = self.deadline - self._now()
        return f"; {clock(left)} left" if math.isfinite(left) else ""

    def _run(self, cell: cells.AbstractCell) -> str:
        try:
            return cell.run(self.deadline)
        except GorlError as err:  # a broken cell must not stop the others
            return f"{cells.FAILED}: {err}"


def chosen(every: Sequence[cells.AbstractCell], only: Sequence[str]) -> list[cells.AbstractCell]:
    """Returns the cells whose 'METHOD/TASK' is in `only`, or all if it is empty. Raises ConfigError."""
    if unknown := set(only) - {cell.name for cell in every}:
        raise ConfigError(f"--only {', '.join(sorted(unknown))}: there is no such cell. --dry-run lists them.")
    return [cell for cell in every if not only or cell.name in only]


def show(
    scale: scales.Scale, wanted: Sequence[cells.AbstractCell], results: pathlib.Path, say: Callable[[str], None]
) -> None:
    """Prints the cells that would run, in order, with their expected times."""
    forecast = Forecast(scale.guess, outcomes.read_all(results, scale))
    total = 0.0
    for number, cell in enumerate(wanted, 1):
        expected = 0.0 if cell.share() >= 1.0 else cell.expected(forecast)
        total += expected or 0.0
        state = (
            "done"
            if cell.share() >= 1.0
            else f"{cell.share():.0%} done, " * (cell.share() > 0.0) + ("?" if expected is None else clock(expected))
        )
        say(f"{number:4d}  {cell.name:48s}{state}")
    say(f"{len(wanted)} cells, {clock(total)} expected")


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", required=True, help="two_cores, full, or a .gin file that declares another scale")
    parser.add_argument(
        "--budget", type=seconds, default=float("inf"), help="wall-clock time, such as 60m (default: no limit)"
    )
    parser.add_argument(
        "--work", type=pathlib.Path, default=pathlib.Path("runs/reproduce"), help="the folder of the studies"
    )
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="the folder of the results")
    parser.add_argument(
        "--aim",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="track the runs in Aim if it is installed",
    )
    parser.add_argument("--only", action="append", default=[], metavar="METHOD/TASK", help="this cell; repeatable")
    parser.add_argument(
        "--partial",
        action="store_true",
        help="also start a cell that cannot end in time; it is saved, and the next call resumes it",
    )
    parser.add_argument("--blocks", default="", help="these blocks alone, such as a,b")
    parser.add_argument("--cores", type=int, default=0, help="processes at once, one on each core (default: all)")
    parser.add_argument("--nice", type=int, default=10, help="niceness of these processes")
    parser.add_argument("--dry-run", action="store_true", help="show cells and expected times, and run nothing")
    args = parser.parse_args(words)
    args.work, args.out = args.work.resolve(), args.out.resolve()
    args.scale = str(pathlib.Path(args.scale).resolve()) if args.scale.endswith(".gin") else args.scale
    return args


@functools.singledispatch
def measure(
    scale: scales.Scale | scales.SeedScale, args: argparse.Namespace, say: Callable[[str], None]
) -> dict[str, list[str]]:
    """Measures the chosen cells, or only prints them, and returns their names by how they ended."""
    raise NotImplementedError(f"nothing measures a {type(scale).__name__}")


@measure.register
def _(scale: scales.Scale, args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, list[str]]:
    wanted = chosen(cells.make(scale, args.work, args.out, aim=args.aim), args.only)
    if args.dry_run:
        show(scale, wanted, args.out, say)
        return {}
    return Session(scale, args.out, args.budget, say).run(wanted, partial=args.partial)


@measure.register
def _(scale: scales.SeedScale, args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, list[str]]:
    wanted = scale.cells(args.blocks.split(",") if args.blocks else [])
    if unknown := [name for name in args.only if not any(_names(name, cell) for cell in wanted)]:
        raise ConfigError(f"--only {', '.join(unknown)}: there is no such cell. --dry-run lists them.")
    wanted = [cell for cell in wanted if not args.only or any(_names(name, cell) for name in args.only)]
    processes = runner.Processes(runner.usable_cores(args.cores), args.nice)
    driver = runner.Runner(scale, runner.Places(args.work, args.out), processes, say)
    if args.dry_run:
        runner.show(driver, wanted, say)
        return {}
    return driver.run(wanted, time.monotonic() + args.budget)


def _names(name: str, cell: scales.SeedCell) -> bool:
    """Returns whether METHOD/TASK or METHOD/TASK/seedN names a cell."""
    return name in (str(cell), f"{cell.method}/{cell.task}")


def main(words: Sequence[str] | None = None) -> int:
    args = arguments(words)
    os.chdir(scales.ROOT)  # the studies' files are named relative to it
    say = lambda text: print(text, flush=True)  # noqa: E731
    try:
        began = time.monotonic()
        ends = measure(scales.load(args.scale), args, say)
    except KeyboardInterrupt:
        say("stopped: finished work is saved, and the same command continues")
        return 128 + signal.SIGTERM
    except GorlError as err:
        print(f"run.py: {err}", file=sys.stderr)
        return 2
    if args.dry_run:
        return 0
    say(
        ", ".join(f"{len(names)} {how}" for how, names in ends.items() if names)
        + f" in {clock(time.monotonic() - began)}"
    )
    return 1 if ends.get(cells.FAILED) else 0


if __name__ == "__main__":
    quiet.before_imports(debug=False)
    sys.exit(main())
