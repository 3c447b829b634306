"""The short result of a run, from the records of its seeds."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gorl.errors import RunError
from gorl.tracking.base import Entry
from gorl.tracking.record import read


def entries_of(record: pathlib.Path) -> Iterator[Entry]:
    """The entries of a record, one after another. Raises RunError, which names the line, where a whole line is none."""
    lines = 0
    try:
        for entry in read(record):
            lines += 1
            yield entry
    except OSError as err:
        raise RunError(f"cannot read {record}: {err.strerror}.") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise RunError(f"{record}:{lines + 1} is broken: this line is no entry of a record.") from err


def check_record(record: pathlib.Path) -> None:
    """Raises RunError as `entries_of`."""
    for _ in entries_of(record):
        pass


def summary(record: pathlib.Path) -> dict[str, Any]:
    """Plain values of one seed: steps, seconds, the returns of the untrained policy, of the best evaluation, and, for each
    stage that ended with an Evaluate phase, of its best and last policy on fresh episodes."""
    last, entries = _last_and_evaluations(record)
    result: dict[str, Any] = {}
    if last:
        result |= {"env_steps": last.env_steps, "wall_s": last.wall_s}
    for name, entry in _evaluations(entries):
        result[f"return_{name.replace(' ', '').replace(',', '_')}"] = entry.metrics["return"]
    returns = [e.metrics["return"] for e in entries if e.subset == "eval" and np.isfinite(e.metrics.get("return", np.nan))]
    if returns:
        result["return_best_evaluation"] = max(returns)
    for entry in entries:
        if entry.subset in ("final_best", "final_last"):
            result[f"return_{entry.subset}"] = entry.metrics["return"]
    return result


def final_table(records: Sequence[pathlib.Path]) -> Any:
    """A table for the console: the rows of `summary` with the spread over episodes, or over seeds where there are several;
    None before the first evaluation."""
    from rich.table import Table

    seeds = [dict(_evaluations(_last_and_evaluations(r)[1])) for r in records]
    if not seeds[0]:
        return None
    alone = len(seeds) == 1
    title = "results" if alone else f"results: mean ± standard deviation over {len(seeds)} seeds"
    table = Table("policy", "env steps", "return on fresh episodes", "min", "max", title=title)
    for name, entry in seeds[0].items():
        entries = [s[name] for s in seeds if name in s]  # a seed that was given up has no more
        means = [e.metrics["return"] for e in entries]
        spread = entry.metrics["return_std"] if alone else float(np.std(means))
        low = min(e.metrics["return_min"] for e in entries) if alone else min(means)
        high = max(e.metrics["return_max"] for e in entries) if alone else max(means)
        steps = 0 if name == "untrained" else entry.env_steps
        table.add_row(name, f"{steps:,}", f"{np.mean(means):.1f} ± {spread:.1f}", f"{low:.1f}", f"{high:.1f}")
    return table


def _last_and_evaluations(record: pathlib.Path) -> tuple[Entry | None, list[Entry]]:
    """The last entry, and those of evaluations. (A record may be larger than the memory.)"""
    last, found = None, []
    for last in entries_of(record):
        if last.subset in ("eval", "final_best", "final_last"):
            found.append(last)
    return last, found


def _evaluations(entries: Sequence[Entry]) -> list[tuple[str, Entry]]:
    """The run's first evaluation, and those of its Evaluate phases, named."""
    first = next((e for e in entries if e.subset == "eval" and "return" in e.metrics), None)
    rows = [] if first is None else [("untrained", first)]
    finals = [e for e in entries if e.subset in ("final_best", "final_last")]
    return rows + [(f"stage {e.stage}, {e.subset.removeprefix('final_')}", e) for e in finals]
