"""The short result of a run, from the records of its seeds."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from gorl.errors import RunError
from gorl.tracking.base import Entry
from gorl.tracking.record import read


def entries_of(record: pathlib.Path) -> list[Entry]:
    """The entries of a record. Raises RunError, which names the line, where a whole line is none."""
    found: list[Entry] = []
    try:
        for entry in read(record):
            found.append(entry)
    except OSError as err:
        raise RunError(f"cannot read {record}: {err.strerror}.") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise RunError(f"{record}:{len(found) + 1} is broken: this line is no entry of a record.") from err
    return found


def summary(record: pathlib.Path) -> dict[str, Any]:
    """Plain values of one seed: steps, seconds, the returns of the untrained policy, of the best evaluation, and, for each
    stage that ended with an Evaluate phase, of its best and last policy on fresh episodes."""
    entries = entries_of(record)
    result: dict[str, Any] = {}
    if entries:
        result |= {"env_steps": entries[-1].env_steps, "wall_s": entries[-1].wall_s}
    for name, entry in _evaluations(entries):
        result[f"return_{name.replace(' ', '').replace(',', '_')}"] = entry.metrics["return"]
    returns = [e.metrics["return"] for e in entries if e.subset == "eval" and "return" in e.metrics]
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

    seeds = [dict(_evaluations(entries_of(r))) for r in records]
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


def _evaluations(entries: Sequence[Entry]) -> list[tuple[str, Entry]]:
    """The run's first evaluation, and those of its Evaluate phases, named."""
    first = next((e for e in entries if e.subset == "eval" and "return" in e.metrics), None)
    rows = [] if first is None else [("untrained", first)]
    finals = [e for e in entries if e.subset in ("final_best", "final_last")]
    return rows + [(f"stage {e.stage}, {e.subset.removeprefix('final_')}", e) for e in finals]
