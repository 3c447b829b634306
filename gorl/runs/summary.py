"""The summary of a run, computed from the record of one seed."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from gorl.runs.record import RecordEntry, read_entries


def summary(record: pathlib.Path) -> dict[str, Any]:
    """Returns one seed's steps, seconds and returns as plain values. Raises RunError if the record is broken.

    Returns are those of the untrained policy, of the best evaluation and, for each stage that ended with an Evaluate
    phase, of its best and last policy on fresh episodes.
    """
    last, entries = last_and_evaluations(record)
    result: dict[str, Any] = {}
    if last:
        result |= {"env_steps": last.env_steps, "wall_s": last.wall_s}
    for name, entry in evaluations(entries):
        result[f"return_{name.replace(' ', '').replace(',', '_')}"] = entry.metrics["return"]
    found = [e.metrics.get("return", np.nan) for e in entries if e.subset == "eval"]
    returns = [value for value in found if np.isfinite(value)]
    if returns:
        result["return_best_evaluation"] = max(returns)
    for entry in entries:
        if entry.subset in ("final_best", "final_last"):
            result[f"return_{entry.subset}"] = entry.metrics["return"]
    return result


def last_and_evaluations(record: pathlib.Path) -> tuple[RecordEntry | None, list[RecordEntry]]:
    """Returns the last entry and all entries of evaluations, keeping no others (a record may exceed memory)."""
    last, found = None, []
    for last in read_entries(record):
        if last.subset in ("eval", "final_best", "final_last"):
            found.append(last)
    return last, found


def evaluations(entries: Sequence[RecordEntry]) -> list[tuple[str, RecordEntry]]:
    """Returns the run's first evaluation and those of its Evaluate phases, each with its name."""
    first = next((e for e in entries if e.subset == "eval" and "return" in e.metrics), None)
    rows = [] if first is None else [("untrained", first)]
    finals = [e for e in entries if e.subset in ("final_best", "final_last")]
    return rows + [(f"stage {e.stage}, {e.subset.removeprefix('final_')}", e) for e in finals]


def finite_summary(path: pathlib.Path) -> dict[str, int | float]:
    """Returns the finite values of the summary of one seed's run folder. Raises RunError if the record is broken."""
    return {k: v for k, v in summary(path / "metrics.jsonl").items() if math.isfinite(v)}
