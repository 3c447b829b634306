"""The stored outcome of a cell: a small JSON file with curves, scores and their provenance, without machine paths.

experiments/results/reproduce/SCALE/METHOD/TASK.json        training
experiments/results/reproduce/SCALE/physics/TASK.json       physics
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from experiments.reproduce.scales import Entry, Scale, folder_name
from gorl.analysis import naming
from gorl.analysis.runs_table import EvaluationPoint, RunResult
from gorl.analysis.statistics import ENDED
from gorl.runs.files import write_json
from gorl.runs.folder import RunFolder

PROVENANCE = ("gorl", "created", "python", "versions", "git", "device", "environment", "precision", "xla_flags")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The state of one training cell. `declared` is the number of environment steps that each seed should take."""

    method: str
    task: str
    status: str
    declared: int
    runs: tuple[RunResult, ...]
    facts: dict[str, Any]

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def env_steps(self) -> int:
        return min((r.env_steps for r in self.runs), default=0)

    @property
    def seconds(self) -> float:
        return max((r.wall_s for r in self.runs), default=0.0)

    @property
    def share(self) -> float:
        """The share of its environment steps that is done."""
        return 1.0 if self.ended else min(1.0, self.env_steps / self.declared)


def path_of(results: pathlib.Path, scale: Scale, entry: Entry) -> pathlib.Path:
    return results / scale.name / folder_name(entry.method or entry.kind) / f"{folder_name(entry.task)}.json"


def of_run(entry: Entry, status: str, declared: int, folder: pathlib.Path, words: Sequence[str]) -> Outcome:
    """Returns the outcome that a run's folder contains."""
    runs, _ = naming.load_results([folder])
    known = RunFolder.open(folder).facts()
    facts = {"command": ["gorl", "sweep", *words], **{k: known[k] for k in PROVENANCE if k in known}}
    return Outcome(entry.method, entry.task, status, declared, tuple(runs), facts)


def write(path: pathlib.Path, outcome: Outcome) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "method": outcome.method,
        "task": outcome.task,
        "status": outcome.status,
        "declared_env_steps": outcome.declared,
    }
    write_json(path, {**about, **outcome.facts, "seeds": [_seed(run) for run in outcome.runs]})


def _seed(run: RunResult) -> dict[str, Any]:
    curve = [[e.env_steps, round(e.wall_s, 1), round(e.value, 3)] for e in run.evaluations]
    scores = {name: round(value, 3) for name, value in run.scores.items()}
    return {
        "seed": run.seed,
        "status": run.status,
        "env_steps": run.env_steps,
        "wall_s": run.wall_s,
        "scores": scores,
        "evaluations": curve,
    }


def read(path: pathlib.Path) -> Outcome | None:
    """Returns the stored outcome, or None if there is no file."""
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    known = {
        "method": found["method"],
        "task": found["task"],
        "status": found["status"],
        "declared": found["declared_env_steps"],
    }
    runs = tuple(_run(found, seed) for seed in found["seeds"])
    return Outcome(**known, runs=runs, facts={k: found[k] for k in ("command", *PROVENANCE) if k in found})


def _run(cell: dict[str, Any], seed: dict[str, Any]) -> RunResult:
    method, place = cell["method"], pathlib.Path(cell["method"])
    return RunResult(
        folder=place / f"seed{seed['seed']}",
        root=place,
        study=method,
        variant=None,
        method=method,
        axes={},
        task=cell["task"],
        seed=seed["seed"],
        status=seed["status"],
        env_steps=seed["env_steps"],
        wall_s=seed["wall_s"],
        scores=seed["scores"],
        evaluations=tuple(EvaluationPoint(*point) for point in seed["evaluations"]),
    )


def read_all(results: pathlib.Path, scale: Scale) -> dict[Entry, Outcome]:
    """Returns the outcome of every training cell that has a file."""
    found = {e: read(path_of(results, scale, e)) for e in scale.entries() if e.kind == "train"}
    return {entry: outcome for entry, outcome in found.items() if outcome is not None}


def read_physics(results: pathlib.Path, scale: Scale) -> dict[str, dict[str, Any]]:
    """Returns the stored results of `gorl bench physics` by task."""
    paths = {e.task: path_of(results, scale, e) for e in scale.entries() if e.kind == "physics"}
    return {task: json.loads(path.read_text()) for task, path in paths.items() if path.is_file()}
