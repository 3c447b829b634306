"""Generates docs/results.md, its pictures, and the measured parts of docs/comparison.md.

The only input is experiments/results/reproduce:

    python -m experiments.reproduce.table
"""

import argparse
import csv
import dataclasses
import math
import pathlib
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from experiments.reproduce import outcomes, scales
from experiments.reproduce.forecasts import Forecast
from experiments.reproduce.outcomes import Outcome
from experiments.reproduce.run import RESULTS
from experiments.reproduce.scales import Entry, Scale
from experiments.reproduce.seeds import page as seed_page, record
from gorl.analysis import curves as gorl_curves, figures, page, statistics
from gorl.analysis.page import Block, Heading, Listing, Picture, Table, Text
from gorl.analysis.results import Results, Settings
from gorl.analysis.statistics import Estimate, ScoreMatrices
from gorl.cli.clock import clock

SCALES = ("full",)
SEED_SCALES = ("two_cores",)
SCORE = "final_best"
UNMEASURED = "unmeasured"
PRESETS = (
    "The probability that a run of the first setting scores above a run of the second one, where a tie counts one "
    'half. "Our best" was selected on the same runs it is compared on, which biases the comparison in its favor when '
    "there are few seeds."
)
WIDTH = 120
COMMAND = "python -m experiments.reproduce.table"
_PART = re.compile(r"(<!-- measured: (?P<name>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Measured:
    """A scale with the outcomes of its measured cells."""

    scale: Scale
    cells: Mapping[Entry, Outcome]

    def scores(self, method: str, task: str) -> list[float]:
        """Returns the scores of the finished seeds. That of a diverged seed is its last evaluation."""
        outcome = self.cells.get(Entry("train", method, task))
        found = [statistics.score(run, SCORE) for run in outcome.runs] if outcome and outcome.ended else []
        return [value[0] for value in found if value is not None]

    def estimate(self, method: str, task: str) -> Estimate | None:
        scores = self.scores(method, task)
        return statistics.aggregates(np.array(scores)[:, None], names=("mean",))["mean"] if scores else None

    def better(self, method: str, reference: str) -> tuple[Estimate, list[str]] | None:
        """Returns P(a run of the method scores above one of the reference) over their common tasks, and these tasks."""
        tasks = [t for t in self.scale.tasks if self.scores(method, t) and self.scores(reference, t)]
        if not tasks:
            return None
        ours, theirs = (_matrix([self.scores(name, t) for t in tasks]) for name in (method, reference))
        return statistics.probability_of_improvement(ours, theirs), tasks


def _matrix(scores: Sequence[Sequence[float]]) -> np.ndarray:
    """Returns scores [runs, tasks], with as many runs as the task with the fewest has."""
    least = min(map(len, scores))
    return np.array([s[:least] for s in scores]).T


def load(name: str, folder: pathlib.Path) -> Measured:
    scale = scales.load(name)
    return Measured(scale, outcomes.read_all(folder, scale))


def published(path: pathlib.Path = scales.HERE / "published.csv") -> dict[tuple[str, str], float]:
    """Reads the returns of the published table, by method and task."""
    with open(path, newline="", encoding="utf-8") as file:
        return {
            (method, row["task"]): float(value)
            for row in csv.DictReader(file)
            for method, value in row.items()
            if method != "task"
        }


def shown(estimate: Estimate) -> str:
    interval = "" if math.isnan(estimate.low) else f" [{estimate.low:.0f}, {estimate.high:.0f}]"
    return f"**{estimate.value:.0f}**{interval}"


def probability(estimate: Estimate) -> str:
    interval = "" if math.isnan(estimate.low) else f" [{estimate.low:.2f}, {estimate.high:.2f}]"
    return f"{estimate.value:.2f}{interval}"


def cell(measured: Measured, method: str, task: str, theirs: Mapping[tuple[str, str], float]) -> str:
    """Returns our number, after the published one if it is comparable."""
    estimate, outcome = measured.estimate(method, task), measured.cells.get(Entry("train", method, task))
    ours = shown(estimate) if estimate else f"{outcome.share:.0%} done" if outcome and outcome.share else UNMEASURED
    before = (
        f"{theirs[method, task]:.0f} → " if (method, task) in theirs else "– → " if measured.scale.published else ""
    )
    return before + ours


def table(measured: Measured, theirs: Mapping[tuple[str, str], float]) -> Table:
    scale = measured.scale
    known = theirs if scale.published else {}
    rows = [(method, *(cell(measured, method, task, known) for task in scale.tasks)) for method in scale.main_methods]
    return Table(("method", *scale.tasks), tuple(rows))


def unmeasured(measured: Measured) -> str:
    """Returns one line about the cells that have not ended and their expected time, or nothing."""
    scale, forecast = measured.scale, Forecast(measured.scale.guess, measured.cells)
    trained = [entry for entry in scale.entries() if entry.kind == "train"]
    left = [e for e in trained if not (e in measured.cells and measured.cells[e].ended)]
    shares = [measured.cells[e].share if e in measured.cells else 0.0 for e in left]
    seconds = sum((forecast.seconds(e) or 0.0) * (1.0 - share) for e, share in zip(left, shares, strict=True))
    command = f"`python -m experiments.reproduce.run --scale {scale.name} --dry-run`"
    return (
        f"Unmeasured: {len(left)} of {len(trained)} cells, for which {clock(seconds)} (h:mm:ss) are expected; "
        f"{command} lists them."
        if left
        else ""
    )


def preset_rows(measured: Measured) -> Iterator[tuple[str, ...]]:
    """Compares our settings with the published ones of the same method, and our best setting with all of them."""
    presets = measured.scale.presets
    pairs = [(ours, theirs) for ours, others in presets.items() for theirs in others]
    if best := best_preset(measured):
        pairs = [(best, theirs) for others in presets.values() for theirs in others] + [
            pair for pair in pairs if pair[0] != best
        ]
    for ours, theirs in pairs:
        found = measured.better(ours, theirs)
        mark = " (our best)" if ours == best else ""
        yield (
            ours + mark,
            theirs,
            probability(found[0]) if found else UNMEASURED,
            ", ".join(found[1]) if found else "–",
        )


def best_preset(measured: Measured) -> str | None:
    """Returns our setting with the highest mean over common tasks, among those that have published counterparts."""
    candidates = list(measured.scale.presets)
    tasks = [t for t in measured.scale.tasks if all(measured.scores(m, t) for m in candidates)]
    return max(candidates, key=lambda m: np.mean([np.mean(measured.scores(m, t)) for t in tasks])) if tasks else None


def control_table(measured: Measured, name: str) -> Table:
    """Compares the sound methods with the changed ones, task by task."""
    rows = []
    for sound, changed in measured.scale.controls[name].items():
        for task in measured.scale.tasks:
            pair = measured.estimate(sound, task), measured.estimate(changed, task)
            if all(pair):
                rows.append((sound, task, *map(shown, pair)))
        if found := measured.better(changed, sound):
            rows.append((sound, "P(changed above sound)", "", probability(found[0])))
    return Table(("method", "task", "sound", name), tuple(rows))


def sources(measured: Measured) -> Listing:
    """Lists the devices, commits and versions that produced the numbers."""
    found: dict[str, int] = {}
    for outcome in measured.cells.values():
        facts = outcome.facts
        git, device, versions = facts.get("git") or {}, facts["device"], facts["versions"]
        where = f"{device.get('cores')} cores of {device['cpu']}" if device["platform"] == "cpu" else device["kind"]
        commit = (
            f"commit {(git.get('commit') or 'unknown')[:10]}{' with uncommitted changes' if git.get('dirty') else ''}"
        )
        implementation = facts.get("environment", {}).get("impl", "its own")
        line = (
            f"{where}; {commit}; jax {versions.get('jax')}, mujoco {versions.get('mujoco')}; "
            f"physics {implementation}; precision {facts.get('precision')}"
        )
        found[line] = found.get(line, 0) + 1
    return Listing(tuple(wrapped(f"{count} cells: {line}", indent="  ") for line, count in found.items()))


def curves(measured: Measured, methods: Sequence[str]) -> bytes | None:
    """Returns a PNG of the methods' evaluation curves, with those of unfinished cells, or None if there are none."""
    runs = [
        run
        for entry, outcome in measured.cells.items()
        for run in outcome.runs
        if entry.method in methods and run.evaluations
    ]
    runs.sort(key=lambda run: methods.index(run.method))
    if not runs:
        return None
    lines = tuple(gorl_curves.curves(runs, "env_steps"))
    nothing = {"by_task": {}, "aggregates": {}, "better": {}, "reference": None, "profiles": {}}
    drawn = Results(
        runs=tuple(runs),
        problems=(),
        notes=(),
        settings=Settings(score=SCORE),
        matrices=ScoreMatrices((), {}, ()),
        curves=lines,
        **nothing,
    )
    return figures.render_figure(figures.draw(drawn, figures.LIGHT)["curves"], "png")


def section(
    measured: Measured, theirs: Mapping[tuple[str, str], float], physics: Mapping[str, dict], pictures: Sequence[str]
) -> list[Block]:
    scale = measured.scale
    trained = [e for e in scale.entries() if e.kind == "train"]
    ended = sum(measured.cells[e].ended for e in trained if e in measured.cells)
    head: list[Block] = [Heading(scale.title), Text(wrapped(scale.about))]
    if not measured.cells and not physics:
        return [*head, Text(nothing_measured(scale))]
    numbers = (
        f"{ended} of {len(trained)} cells are measured. Each number is the final return of the best policy in fresh "
        "episodes, as the mean over seeds with its 95 % bootstrap interval"
    )
    blocks = [
        *head,
        Text(wrapped(numbers + (", after the published number (→)." if scale.published else "."))),
        table(measured, theirs),
    ]
    name = f"results/{scale.name}"
    blocks += (
        [Picture(name, "Evaluation return in training; lines are means over seeds, bands their 95 % intervals.")]
        if name in pictures
        else []
    )
    blocks += [Heading("Our settings and the published ones", 3), Text(wrapped(PRESETS))]
    blocks += [Table(("setting", "against", "P(above) [95 %]", "tasks"), tuple(preset_rows(measured)))]
    for control in scale.controls:
        found = control_table(measured, control)
        blocks += [Heading(f"Control: {control}", 3), found] if found.rows else []
    blocks += [Heading("Physics, environment steps per second", 3), _physics(physics)] if physics else []
    blocks += [Heading("Provenance", 3), sources(measured)] if measured.cells else []
    if missing := unmeasured(measured):
        blocks += [Text(wrapped(missing))]
    return blocks


def seed_section(name: str, folder: pathlib.Path, theirs: Mapping[tuple[str, str], float]) -> list[Block]:
    """Returns the part about a scale of seeds, in lines of at most WIDTH characters."""
    scale = scales.load(name)
    blocks = seed_page.section(scale, record.read_all(folder, scale), theirs)
    return [Text(wrapped(block.text)) if isinstance(block, Text) else block for block in blocks]


def nothing_measured(scale: Scale) -> str:
    sizes = "The published sizes need a GPU and" if scale.published else "These sizes"
    command = f"python -m experiments.reproduce.run --scale {scale.name} --dry-run"
    return wrapped(f"{sizes} are not measured; `{command}` prints the plan.")


def wrapped(text: str, indent: str = "") -> str:
    """Returns prose in lines of at most WIDTH characters, without breaks in code. `indent` is that of later lines."""
    whole = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(
        whole, WIDTH - len(indent), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\0", " ")


def _physics(physics: Mapping[str, dict]) -> Table:
    names = list(dict.fromkeys(name for found in physics.values() for name in found["speeds"]))
    speeds = lambda found: (
        f"{found['speeds'][n]['env_steps_per_s']:,}" if n in found["speeds"] else "–" for n in names
    )  # noqa: E731
    return Table(
        ("task", "environments", *names), tuple((task, str(f["num_envs"]), *speeds(f)) for task, f in physics.items())
    )


def filled(text: str, parts: Mapping[str, str]) -> str:
    """Returns a page with its measured parts replaced. A part without results becomes 'Unmeasured.'."""
    return _PART.sub(
        lambda found: f"{found[1]}{parts.get(found['name'], UNMEASURED.capitalize() + '.')}\n{found[3]}", text
    )


def effects(everything: Sequence[Measured]) -> dict[str, str]:
    """Returns the tables of each control at all scales, as Markdown by the name of the change."""
    parts: dict[str, list[Block]] = {}
    for measured in everything:
        for control in measured.scale.controls:
            found = control_table(measured, control)
            parts.setdefault(control, []).extend([Text(f"{measured.scale.title}:"), found] if found.rows else [])
    return {name: page.markdown(blocks).rstrip() for name, blocks in parts.items() if blocks}


def regenerate(folder: pathlib.Path, docs: pathlib.Path) -> list[pathlib.Path]:
    """Writes the pages and pictures, and returns their paths."""
    everything = [load(name, folder) for name in SCALES]
    theirs, written, pictures = published(), [], []
    (docs / "results").mkdir(parents=True, exist_ok=True)
    for measured in everything:
        if (png := curves(measured, measured.scale.main_methods)) is not None:
            written.append(docs / "results" / f"{measured.scale.name}.png")
            written[-1].write_bytes(png)
            pictures.append(f"results/{measured.scale.name}")
    head = [
        Heading("Results", 1),
        Text(
            wrapped(
                f"`{COMMAND}` generates this page from `experiments/results/reproduce/`; do not edit it. Cells without "
                f'a measurement say "{UNMEASURED}".'
            )
        ),
    ]
    seeds = [block for name in SEED_SCALES for block in seed_section(name, folder, theirs)]
    body = [block for m in everything for block in section(m, theirs, outcomes.read_physics(folder, m.scale), pictures)]
    written.append(docs / "results.md")
    written[-1].write_text(page.markdown([*head, *seeds, *body]), encoding="utf-8")
    comparison = docs / "comparison.md"
    if comparison.is_file():
        comparison.write_text(filled(comparison.read_text(encoding="utf-8"), effects(everything)), encoding="utf-8")
        written.append(comparison)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--docs", type=pathlib.Path, default=scales.ROOT / "docs")
    args = parser.parse_args()
    for path in regenerate(args.results.resolve(), args.docs.resolve()):
        print(path)


if __name__ == "__main__":
    main()
