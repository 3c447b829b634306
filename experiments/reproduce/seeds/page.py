"""The part of docs/results.md about a scale of seeds."""

import csv
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.reproduce.scales import HERE, SeedScale
from experiments.reproduce.seeds.record import SeedResult
from gorl.analysis import statistics
from gorl.analysis.page import Block, Heading, Listing, Table, Text
from gorl.analysis.statistics import Estimate

Published = Mapping[tuple[str, str], float]
SOURCE = (
    "Each number is the return of the best policy of all stages in fresh episodes, as the mean over seeds with its "
    "95 % bootstrap interval. The stage is chosen by its evaluations in training. The number in parentheses is the "
    "published one of that method at 180 million steps. Records are means of public curves up to 200 million steps "
    "(experiments/reproduce/records.csv has them and others). Steps and core-minutes are means over a method's runs."
)


class Scores:
    """The results of a scale, by method and task."""

    def __init__(self, scale: SeedScale, results: Sequence[SeedResult]):
        self.scale = scale
        self.results = [result for result in results if result.ended]

    def of(self, method: str, task: str) -> list[SeedResult]:
        return [r for r in self.results if (r.cell.method, r.cell.task) == (method, task)]

    def seeds(self, method: str, task: str) -> int:
        """Returns how many seeds are declared."""
        return sum((cell.method, cell.task) == (method, task) for cell in self.scale.cells())

    def values(self, method: str, task: str) -> list[float]:
        return [r.score for r in self.of(method, task) if r.score is not None]

    @property
    def methods(self) -> list[str]:
        """The methods with a result, in the order of the scale."""
        return [m for m in self.scale.methods if any(r.cell.method == m for r in self.results)]


def mean(values: Sequence[float]) -> Estimate | None:
    """Returns the mean with its interval, or None without values."""
    return statistics.aggregates(np.array(values)[:, None], names=("mean",))["mean"] if values else None


def interval(estimate: Estimate, digits: int) -> str:
    return "" if math.isnan(estimate.low) else f" [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def cell(scores: Scores, method: str, task: str, published: Published) -> str:
    """Returns our mean, how many seeds are missing, and the published number."""
    values = scores.values(method, task)
    if (estimate := mean(values)) is None:
        return "–"
    declared = scores.seeds(method, task)
    of = f", {len(values)} of {declared} seeds" if len(values) < declared else ""
    theirs = published.get((scores.scale.published.get(method, ""), task))
    return f"**{estimate.value:.0f}**{interval(estimate, 0)}{of}" + ("" if theirs is None else f" ({theirs:.0f})")


def main_table(scores: Scores, published: Published, records: Mapping[str, tuple[float, str]]) -> Table:
    rows = []
    for method in scores.methods:
        ours = [r.facts for r in scores.results if r.cell.method == method]
        steps = f"{np.mean([f['env_steps'] for f in ours]) / 1e6:.1f}M"
        minutes = f"{np.mean([f['core_minutes'] for f in ours]):.1f}"
        rows.append((method, *(cell(scores, method, t, published) for t in scores.scale.tasks), steps, minutes))
    best = ["{:.0f}, {}".format(*records[t]) if t in records else "–" for t in scores.scale.tasks]
    rows.append(("record", *best, "to 200M", ""))
    return Table(("method", *scores.scale.tasks, "steps", "core-minutes"), tuple(rows))


def mjx_table(scores: Scores) -> Table | None:
    """Compares the newest phase's best policies on native physics and on MJX, or returns None if none is evaluated."""
    rows = []
    for method in scores.methods:
        row = [method]
        for task in scores.scale.tasks:
            found = [r for r in scores.of(method, task) if r.mjx is not None and r.native is not None]
            pair = mean([r.native for r in found]), mean([r.mjx for r in found])
            row.append("–" if pair[0] is None else f"{pair[0].value:.0f} → {pair[1].value:.0f} ({len(found)})")
        if set(row[1:]) != {"–"}:
            rows.append(tuple(row))
    return Table(("method", *scores.scale.tasks), tuple(rows)) if rows else None


def pair_rows(scores: Scores) -> list[tuple[str, ...]]:
    """Returns P(a run of the first method scores above one of the second) by task, where both have results."""
    rows = []
    for ours, theirs in scores.scale.pairs:
        row = [f"{ours} above {theirs}"]
        for task in scores.scale.tasks:
            a, b = (np.array(scores.values(name, task))[:, None] for name in (ours, theirs))
            found = statistics.probability_of_improvement(a, b) if len(a) and len(b) else None
            row.append("–" if found is None else f"{found.value:.2f}{interval(found, 2)}")
        if set(row[1:]) != {"–"}:
            rows.append(tuple(row))
    return rows


def unmeasured(scores: Scores) -> str:
    """Returns one line about the cells without a result, or nothing."""
    done, parts = {r.cell for r in scores.results}, []
    for name in scores.scale.blocks:
        declared = scores.scale.cells([name])
        if left := sum(cell not in done for cell in declared):
            parts.append(f"{left} of {len(declared)} cells of block {name}")
    command = f"`python -m experiments.reproduce.run --scale {scores.scale.name} --dry-run`"
    return f"Unmeasured: {', '.join(parts)}; {command} lists them." if parts else ""


def provenance(scores: Scores) -> Listing:
    found: dict[str, int] = {}
    for result in scores.results:
        git, device, versions = (result.facts.get(k) or {} for k in ("git", "device", "versions"))
        dirty = " with uncommitted changes" if git.get("dirty") else ""
        line = (
            f"one core of {device.get('cpu')}; commit {(git.get('commit') or 'unknown')[:10]}{dirty}; "
            f"jax {versions.get('jax')}, mujoco {versions.get('mujoco')}"
        )
        found[line] = found.get(line, 0) + 1
    return Listing(tuple(f"{count} cells: {line}" for line, count in found.items()))


def read_records(path: pathlib.Path = HERE / "records.csv") -> dict[str, tuple[float, str]]:
    """Reads the records by task: (the return, the method that has it)."""
    with open(path, newline="", encoding="utf-8") as file:
        return {row["task"]: (float(row["record"]), row["record of"]) for row in csv.DictReader(file)}


def section(scale: SeedScale, results: Sequence[SeedResult], published: Published) -> list[Block]:
    """Returns the scale's part of the page."""
    scores = Scores(scale, results)
    blocks: list[Block] = [Heading(scale.title), Text(scale.about)]
    if scores.results:
        blocks += [Text(SOURCE), main_table(scores, published, read_records())]
        if rows := pair_rows(scores):
            about = "The probability that a run of the first method scores above a run of the second one, by task."
            blocks += [Heading("Probability of improvement", 3), Text(about)]
            blocks += [Table(("comparison", *scale.tasks), tuple(rows))]
        if table := mjx_table(scores):
            about = (
                "The best policies of the last stage, trained on native physics: their returns in fresh episodes there "
                "and in Playground's own environments on MJX, and how many seeds."
            )
            blocks += [Heading("The same policies on MJX", 3), Text(about), table]
        blocks += [Heading("Provenance", 3), provenance(scores)]
    return blocks + ([Text(line)] if (line := unmeasured(scores)) else [])
