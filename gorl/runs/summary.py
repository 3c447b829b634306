"""The summary of a run, computed from the record of one seed."""

import math
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gorl.runs.record import RecordEntry, read_entries

FINALS = {
    "final_best": "best",
    "final_last": "last",
    "final_best_stochastic": "best, stochastic",
    "final_last_stochastic": "last, stochastic",
}
"""Subsets of the Evaluate phases, with what a table calls them. Their episodes are fresh, not used for selection."""

SWAP_NUMBERS = {
    "return_before": "return before",
    "return_before_stochastic": "before, stochastic",
    "return_after": "return after",
    "return_after_stochastic": "after, stochastic",
    "latent_kl": "KL(encoder || prior), nats",
    "decoder_validation": "loss of the fit",
}
"""What is known of a swap, the fit of a new decoder after a stage, with what a table calls it.

The return before is that of the best policy of the stage before, on the episodes of its Evaluate phase. The return
after is that of the new decoder with latents from its prior: the prior's mode, or samples.
"""

Swaps = dict[int, dict[str, float]]
"""The numbers of each swap, by the stage that it begins and by name (those of `SWAP_NUMBERS` that the record has)."""

_BEFORE = {"final_best": "return_before", "final_best_stochastic": "return_before_stochastic"}
_AFTER = {"swap_mode": "return_after", "swap_stochastic": "return_after_stochastic"}
_VALIDATION = "loss/decoder_validation"
_SWAP = re.compile(r"swap(\d+)_(.+)")


def summary(record: pathlib.Path) -> dict[str, Any]:
    """Returns one seed's steps, seconds and returns as plain values. Raises RunError if the record is broken.

    Returns are those of the untrained policy, of the best evaluation, for each stage that ended with an Evaluate phase
    of its best and last policy on fresh episodes, and those of `final_returns`. Numbers of swaps are in `swap1_...`.
    """
    last, entries = read_results(record)
    result: dict[str, Any] = {}
    if last:
        result |= {"env_steps": last.env_steps, "wall_s": last.wall_s}
    for name, entry in evaluations(entries):
        result[f"return_{name.replace(' ', '').replace(',', '_')}"] = entry.metrics["return"]
    found = [e.metrics.get("return", np.nan) for e in entries if e.subset == "eval"]
    returns = [value for value in found if np.isfinite(value)]
    if returns:
        result["return_best_evaluation"] = max(returns)
    result |= {f"return_{subset}": value for subset, value in final_returns(entries).items()}
    if (best := best_stage(entries)) is not None:
        result["best_stage"] = best
    for stage, numbers in swaps(entries).items():
        result |= {f"swap{stage}_{name}": value for name, value in numbers.items()}
    return result


def read_results(record: pathlib.Path) -> tuple[RecordEntry | None, list[RecordEntry]]:
    """Returns the last entry of a record, and all entries that the functions here need (a record may exceed memory)."""
    last, found = None, []
    for last in read_entries(record):
        if last.subset in ("eval", *FINALS, *_AFTER) or not {"latent_kl", _VALIDATION}.isdisjoint(last.metrics):
            found.append(last)
    return last, found


def evaluations(entries: Sequence[RecordEntry]) -> list[tuple[str, RecordEntry]]:
    """Returns the run's first evaluation and those of its Evaluate phases, each with its name."""
    first = next((e for e in entries if e.subset == "eval" and "return" in e.metrics), None)
    rows = [] if first is None else [("untrained", first)]
    return rows + [(f"stage {e.stage}, {FINALS[e.subset]}", e) for e in entries if e.subset in FINALS]


def best_stage(entries: Sequence[RecordEntry]) -> int | None:
    """Returns the stage whose best policy had the highest evaluation in training (the first of equals).

    Training's evaluations select, and the Evaluate phase's fresh episodes score: so the score has no selection bias.
    Only stages whose best policy has a finite return there are chosen from; without any, the result is None.
    """
    selected, value = {}, -math.inf
    for entry in entries:
        if entry.subset == "eval":
            value = entry.metrics.get("return_best", value)
        elif entry.subset == "final_best" and math.isfinite(entry.metrics["return"]):
            selected[entry.stage] = value if math.isfinite(value) else -math.inf
    return max(selected, key=selected.__getitem__, default=None)


def final_returns(entries: Sequence[RecordEntry]) -> dict[str, float]:
    """Returns the finite returns on fresh episodes by subset.

    They are those of the best policy of all stages (see `best_stage`), and of the newest policy of the last stage.
    """
    best = best_stage(entries)
    return {
        e.subset: e.metrics["return"]
        for e in entries
        if e.subset in FINALS and math.isfinite(e.metrics["return"])
        if e.stage == best or e.subset not in _BEFORE
    }


def swaps(entries: Sequence[RecordEntry]) -> Swaps:
    """Returns the numbers of every swap. Records of versions that measured none of them have no swaps."""
    before: dict[str, float] = {}
    improved = None  # the last stage that improved its policy; stages may be skipped
    found: Swaps = {}
    divergences: dict[int, list[float]] = {}
    for entry in entries:
        numbers: dict[str, float] = {}
        if entry.subset == "eval" and entry.stage != improved:
            before, improved = {}, entry.stage
        if entry.subset in _BEFORE:
            before[_BEFORE[entry.subset]] = entry.metrics["return"]
        elif entry.subset in _AFTER:
            numbers[_AFTER[entry.subset]] = entry.metrics["return"]
        if "latent_kl" in entry.metrics and entry.subset != "eval":  # of each round of the collection, of equal sizes
            rounds = divergences.setdefault(entry.stage, [])
            rounds.append(entry.metrics["latent_kl"])
            numbers["latent_kl"] = sum(rounds) / len(rounds)
        if _VALIDATION in entry.metrics:
            numbers["decoder_validation"] = entry.metrics[_VALIDATION]  # the last epoch's remains
        if numbers:
            found[entry.stage] = {**found.get(entry.stage, before), **numbers}
    measured = {"latent_kl", *_AFTER.values()}
    return {stage: numbers for stage, numbers in found.items() if not measured.isdisjoint(numbers)}


def mean_swaps(runs: Sequence[Swaps]) -> dict[int, tuple[int, dict[str, float]]]:
    """Returns by stage the number of runs with that swap, and the means of its numbers over the runs that have them."""
    found = {}
    for stage in sorted({stage for run in runs for stage in run}):
        there = [run[stage] for run in runs if stage in run]
        values = {name: [numbers[name] for numbers in there if name in numbers] for name in SWAP_NUMBERS}
        found[stage] = (len(there), {name: sum(known) / len(known) for name, known in values.items() if known})
    return found


def swap_series(summary: Mapping[str, Any]) -> Iterator[tuple[int, str, float]]:
    """Yields (stage, name, value) of every number of a swap in a summary."""
    for name, value in summary.items():
        if match := _SWAP.fullmatch(name):
            yield int(match[1]), match[2], value


def finite_summary(path: pathlib.Path) -> dict[str, int | float]:
    """Returns the finite values of the summary of one seed's run folder. Raises RunError if the record is broken."""
    return {k: v for k, v in summary(path / "metrics.jsonl").items() if math.isfinite(v)}
