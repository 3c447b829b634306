"""The short result of a run, from the records of its seeds."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gorl.errors import RunError
from gorl.runs.record import RecordEntry
from gorl.runs.record import read
from gorl.runs.record import entries_of

import math
import pathlib






def summary(record: pathlib.Path) -> dict[str, Any]:
    """Plain values of one seed: steps, seconds, the returns of the untrained policy, of the best evaluation, and, for each
    stage that ended with an Evaluate phase, of its best and last policy on fresh episodes."""
    last, entries = last_and_evaluations(record)
    result: dict[str, Any] = {}
    if last:
        result |= {"env_steps": last.env_steps, "wall_s": last.wall_s}
    for name, entry in evaluations(entries):
        result[f"return_{name.replace(' ', '').replace(',', '_')}"] = entry.metrics["return"]
    returns = [e.metrics["return"] for e in entries if e.subset == "eval" and np.isfinite(e.metrics.get("return", np.nan))]
    if returns:
        result["return_best_evaluation"] = max(returns)
    for entry in entries:
        if entry.subset in ("final_best", "final_last"):
            result[f"return_{entry.subset}"] = entry.metrics["return"]
    return result




def last_and_evaluations(record: pathlib.Path) -> tuple[RecordEntry | None, list[RecordEntry]]:
    """The last entry, and those of evaluations. (A record may be larger than the memory.)"""
    last, found = None, []
    for last in entries_of(record):
        if last.subset in ("eval", "final_best", "final_last"):
            found.append(last)
    return last, found


def evaluations(entries: Sequence[RecordEntry]) -> list[tuple[str, RecordEntry]]:
    """The run's first evaluation, and those of its Evaluate phases, named."""
    first = next((e for e in entries if e.subset == "eval" and "return" in e.metrics), None)
    rows = [] if first is None else [("untrained", first)]
    finals = [e for e in entries if e.subset in ("final_best", "final_last")]
    return rows + [(f"stage {e.stage}, {e.subset.removeprefix('final_')}", e) for e in finals]


def finite_summary(path: pathlib.Path) -> dict[str, int | float]:
    return {k: v for k, v in summary(path / "metrics.jsonl").items() if math.isfinite(v)}
