"""The short result of one run, from its record."""

import pathlib
from typing import Any

from gorl.tracking.base import Entry
from gorl.tracking.record import read


def final_table(record: pathlib.Path) -> tuple[Any, dict[str, Any]]:
    """(a table for the console or None, a summary of plain values).

    Rows: the untrained policy (the run's first evaluation) and, for each stage that ended with an Evaluate phase, its
    best and last policy on fresh episodes.
    """
    from rich.table import Table

    entries = list(read(record))
    evaluations = [e for e in entries if "return" in e.metrics and e.subset == "eval"]
    finals = [e for e in entries if e.subset in ("final_best", "final_last")]
    summary: dict[str, Any] = {}
    if entries:
        summary |= {"env_steps": entries[-1].env_steps, "wall_s": entries[-1].wall_s}
    if not evaluations:
        return None, summary
    table = Table("policy", "env steps", "return on fresh episodes", "min", "max", title="results")
    untrained = evaluations[0]
    table.add_row("untrained", "0", *_cells(untrained))
    summary["return_untrained"] = untrained.metrics["return"]
    summary["return_best_evaluation"] = max(e.metrics["return"] for e in evaluations)
    for entry in finals:
        which = entry.subset.removeprefix("final_")
        table.add_row(f"stage {entry.stage}, {which}", f"{entry.env_steps:,}", *_cells(entry))
        summary[f"return_stage{entry.stage}_{which}"] = entry.metrics["return"]
        summary[f"return_final_{which}"] = entry.metrics["return"]
    return table, summary


def _cells(entry: Entry) -> tuple[str, str, str]:
    m = entry.metrics
    return f"{m['return']:.1f} ± {m['return_std']:.1f}", f"{m['return_min']:.1f}", f"{m['return_max']:.1f}"
