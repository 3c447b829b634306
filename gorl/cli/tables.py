"""Tables of a run's results for the command line: its evaluations on fresh episodes, and its swaps."""

from collections.abc import Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from gorl.runs.record import RecordEntry
from gorl.runs.summary import SWAP_NUMBERS, best_stage, evaluations, mean_swaps, swaps

NONE = "—"


def result_tables(seeds: Sequence[Sequence[RecordEntry]]) -> list[Table]:
    """Returns the tables of one run, from the entries of each seed: none before the first evaluation."""
    return [table for table in (_final_table(seeds), _swap_table(seeds)) if table is not None]


def _final_table(seeds: Sequence[Sequence[RecordEntry]]) -> Table | None:
    """Returns the table of the evaluations. The spread is over episodes for one seed, and over seeds for several."""
    found = [dict(evaluations(entries)) for entries in seeds]
    names = list(dict.fromkeys(name for rows in found for name in rows))
    if not names:
        return None
    sampled = any(name.endswith(", stochastic") for name in names)
    title = "results" if len(seeds) == 1 else f"results: mean ± standard deviation over {len(seeds)} seeds"
    columns = ("policy", "env steps", "return on fresh episodes", "min", "max", *(["stochastic"] if sampled else []))
    table = Table(*columns, title=title)
    rows = [(name, [name] * len(seeds)) for name in names if not name.endswith(", stochastic")]
    stages = [best_stage(entries) for entries in seeds]
    if sum(name.endswith(", best") for name in names) > 1:
        which = ", ".join(NONE if stage is None else str(stage) for stage in stages)
        rows.append((f"best of all stages (of stage {which})", [f"stage {stage}, best" for stage in stages]))
    for label, of_seed in rows:
        # A seed that was given up has no later entries.
        entries = [rows[name] for rows, name in zip(found, of_seed, strict=True) if name in rows]
        also = [rows[f"{name}, stochastic"] for rows, name in zip(found, of_seed) if f"{name}, stochastic" in rows]
        if entries:
            steps = sorted({0 if label == "untrained" else e.env_steps for e in entries})
            cells = (*_spread(entries, len(seeds)), *(_spread(also, len(seeds))[:1] if sampled else ()))
            table.add_row(label, " to ".join(f"{n:,}" for n in dict.fromkeys((steps[0], steps[-1]))), *cells)
    return table


def _spread(entries: Sequence[RecordEntry], seeds: int) -> tuple[str, str, str]:
    """Returns mean ± spread, lowest and highest, of the episodes of one seed or of the means of several."""
    if not entries:
        return NONE, NONE, NONE
    means = [e.metrics["return"] for e in entries]
    spread, low, high = float(np.std(means)), min(means), max(means)
    if seeds == 1:
        spread, low, high = (entries[0].metrics[f"return_{name}"] for name in ("std", "min", "max"))
    return f"{np.mean(means):.1f} ± {spread:.1f}", f"{low:.1f}", f"{high:.1f}"


def _swap_table(seeds: Sequence[Sequence[RecordEntry]]) -> Table | None:
    """Returns the table of the swaps, or None without any."""
    found = mean_swaps([swaps(entries) for entries in seeds])
    if not found:
        return None
    title = "swaps: what a new decoder keeps" + ("" if len(seeds) == 1 else f", means over {len(seeds)} seeds")
    table = Table("stage", *SWAP_NUMBERS.values(), title=title, box=SIMPLE_HEAD)
    for stage, (_, numbers) in found.items():
        table.add_row(str(stage), *(_swap_cell(name, numbers.get(name)) for name in SWAP_NUMBERS))
    return table


def _swap_cell(name: str, value: float | None) -> str:
    """Returns a number of a swap as text: returns with one decimal, and others with three digits."""
    return NONE if value is None else f"{value:.1f}" if name.startswith("return") else f"{value:.3g}"
