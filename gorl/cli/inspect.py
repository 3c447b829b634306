"""The command `gorl inspect`."""

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gorl.cli import options, terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gorl.analysis.inspection import Checkpoint
    from gorl.runs.folder import RunFolder
    from gorl.runs.record import RecordEntry

_LAST = 5  # number of entries of the record that are shown
_NUMBERS = ("min", "max", "mean", "NaN", "inf")
_MEANINGS = {
    "running": "a process trains here",
    "killed": "its process ended without reporting why",
    "interrupted": "by a signal; the state is saved",
    "diverged": "no sound update could be made any more; the state is saved",
    "unsound": "at its end, without a result",
    "failed": "by an error",
    "paused": "at the end of a stage",
}


def command(
    run: Annotated[pathlib.Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    checkpoint: Annotated[
        int | None,
        typer.Option("--checkpoint", metavar="N", help="The checkpoint to show (default: the newest readable one)."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show every array, not only the parts of the state.")
    ] = False,
    debug: options.Debug = False,
) -> None:
    del debug
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # reading numbers needs no accelerator
    from gorl.runs.folder import RunFolder

    console = terminal.console()
    for member in RunFolder.open(run).members:
        _show(console, member, checkpoint, everything)


def _show(console: "Console", folder: "RunFolder", number: int | None, everything: bool) -> None:
    """Prints the description of one seed's run."""
    from gorl.analysis import inspection
    from gorl.cli.tables import result_tables
    from gorl.errors import RunError
    from gorl.runs.record import read

    try:
        entries = list(read(folder.record_path))
    except (RunError, ValueError, TypeError, KeyError) as err:
        entries = []
        console.print(f"the record {folder.record_path} cannot be read: {inspection.describe_error(err)}")
    found = inspection.checkpoints(folder)
    chosen = inspection.select_checkpoint(found, number)
    _about(console, folder, entries)
    _list_checkpoints(console, found, entries)
    if chosen is not None and chosen.problem is None:
        _list_arrays(console, chosen, everything)
    for table in result_tables([entries]):
        console.print(table)
    _list_record(console, entries)


def _about(console: "Console", folder: "RunFolder", entries: "Sequence[RecordEntry]") -> None:
    from gorl.analysis.inspection import given_up_since
    from gorl.runs.liveness import final_status

    facts, state = folder.facts(), folder.status()
    status = final_status(folder.path) or state["status"]
    environment = facts.get("environment", {}).get("name")
    lines = [("run", f"{folder.path}  (seed {facts.get('seed')}, {environment}, begun {facts.get('created')})")]
    lines += [("status", f"{status}: {_MEANINGS[status]}" if status in _MEANINGS else status)]
    lines += [(name, value) for name, value in state.items() if isinstance(value, str) and name != "status"]
    if (since := given_up_since(entries)) is not None:
        lines += [("diverged", f"no sound update since unit {since.unit}, {_place(since)}")]
    if entries:
        last = entries[-1]
        progress = f"{last.env_steps:,} env steps, {last.wall_s:,.0f} s of training"
        lines += [("position", f"unit {last.unit}, {_place(last)}, {progress}")]
    device, versions = facts.get("device", {}), facts.get("versions", {})
    accelerator = f"{device.get('platform')} {device.get('kind')} x {device.get('count')}"
    lines += [("device", f"{accelerator}, {device.get('cpu')}, {device.get('cores')} cores")]
    packages = [
        f"gorl {facts.get('gorl')}",
        f"python {facts.get('python')}",
        *(f"{k} {v}" for k, v in versions.items() if v),
    ]
    lines += [("versions", ", ".join(packages))]
    _grid(console, lines)


def _grid(console: "Console", lines: Sequence[tuple[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from gorl.runtime.streams import one_line

    table = Table.grid(padding=(0, 2))
    for name, value in lines:
        table.add_row(Text(one_line(name), style="bold"), terminal.plain(value))
    console.print(table)
    console.print()


def _place(entry: "RecordEntry") -> str:
    return f"stage {entry.stage}, {entry.phase} ({entry.kind})"


def _list_checkpoints(
    console: "Console", checkpoints: "Sequence[Checkpoint]", entries: "Sequence[RecordEntry]"
) -> None:
    if not checkpoints:
        console.print("no checkpoint yet\n")
        return
    at = {entry.unit: entry for entry in entries}
    table = _table("checkpoints, newest first", "checkpoint", "", "after", "env steps", "arrays", "not finite")
    for c in checkpoints:
        if c.problem is not None:
            table.add_row(str(c.number), "broken", terminal.plain(f"cannot be read: {c.problem}"))
            continue
        position = c.meta["position"]
        unit = position["total_units"]
        where = f"unit {unit}, {_place(at[unit])}" if unit in at else f"unit {unit}"
        where += ", within the phase" if position["started"] else ""
        where += "; given up there" if c.meta.get("frozen") else ""
        bad = sum(a.nan + a.inf for a in c.arrays)
        table.add_row(
            str(c.number), "sound", terminal.plain(where), f"{position['env_steps']:,}", str(len(c.arrays)), _count(bad)
        )
    console.print(table)


def _list_arrays(console: "Console", checkpoint: "Checkpoint", everything: bool) -> None:
    from gorl.analysis.inspection import group_by_part

    if everything:
        rows, about = checkpoint.arrays, lambda row: (str(list(row.shape)), row.dtype)
        table = _table(f"arrays of checkpoint {checkpoint.number}", "array", "shape", "dtype", *_NUMBERS)
    else:
        rows, about = group_by_part(checkpoint.arrays), lambda row: (str(row.arrays), f"{row.size:,}")
        table = _table(
            f"parts of checkpoint {checkpoint.number} (each array: --all)", "part", "arrays", "numbers", *_NUMBERS
        )
    for row in rows:
        numbers = ("" if x is None else f"{x:.4g}" for x in (row.low, row.high, row.mean))
        style = None if row.sound else "bold red"
        table.add_row(
            *map(terminal.plain, (row.name, *about(row))), *numbers, _count(row.nan), _count(row.inf), style=style
        )
    console.print(table)
    bad = [row for row in checkpoint.arrays if not row.sound]
    text = "every number is finite"
    if bad:
        first = bad[0]
        counts = f"{first.nan:,} NaN and {first.inf:,} infinite of {first.size:,} numbers"
        text = f"first not finite: {first.name} {list(first.shape)}, {counts}"
        text += f"; {len(bad) - 1} more arrays are not (--all)" if len(bad) > 1 else ""
    console.print(text + "\n")


def _list_record(console: "Console", entries: "Sequence[RecordEntry]") -> None:
    from gorl.analysis.inspection import troubles

    if not entries:
        console.print("no record yet")
        return
    table = _table(
        f"the last of {len(entries):,} entries of the record", "unit", "stage", "phase", "env steps", "metrics"
    )
    for e in entries[-_LAST:]:
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in e.metrics.items())
        table.add_row(
            str(e.unit),
            str(e.stage),
            terminal.plain(f"{e.phase} ({e.kind})"),
            f"{e.env_steps:,}",
            terminal.plain(metrics),
        )
    console.print(table)
    found = troubles(entries)
    if not found:
        console.print("every metric was finite; no update was skipped, no step or episode broke")
        return
    table = _table(
        "metrics that were not finite, or count what broke", "metric", "of", "units", "in all", "first", "last"
    )
    for t in found:
        total = "not finite" if t.total is None else f"{t.total:,.6g}"
        first = f"unit {t.first.unit}, stage {t.first.stage}"
        table.add_row(
            terminal.plain(t.metric),
            terminal.plain(t.kind),
            f"{t.units:,} of {t.of:,}",
            total,
            first,
            f"unit {t.last.unit}",
        )
    console.print(table)


def _table(title: str, *columns: str) -> "Table":
    """Returns a table without lines, so that long names have room. Text that is too long is folded, not cut."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    return table


def _count(number: int) -> str:
    return f"{number:,}" if number else "·"
