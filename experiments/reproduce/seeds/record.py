"""The stored result of one seed: a small JSON file without machine paths.

experiments/results/reproduce/SCALE/METHOD/TASK/seedN.json
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.reproduce.outcomes import PROVENANCE
from experiments.reproduce.scales import SeedCell, SeedScale
from gorl.analysis.statistics import ENDED
from gorl.runs.files import write_json
from gorl.runs.folder import RunFolder
from gorl.runs.record import RecordEntry, read_entries

BEST, LAST = "final_best", "final_last"


@dataclasses.dataclass(frozen=True)
class SeedResult:
    """What a file holds: its cell, and the contents."""

    cell: SeedCell
    facts: dict[str, Any]

    @property
    def ended(self) -> bool:
        return self.facts["status"] in ENDED

    @property
    def score(self) -> float | None:
        """The return of the best policy of all stages in fresh episodes, or None while the run has not ended."""
        return self.facts["best"] if self.ended else None

    @property
    def native(self) -> float | None:
        """The return of the last stage's best policy, which is the one that is evaluated under MJX."""
        return self.facts["stages"][-1]["finals"].get(BEST, {}).get("return") if self.facts["stages"] else None

    @property
    def mjx(self) -> float | None:
        """The return of the best policy under MJX, or None if it is not measured."""
        return self.facts["mjx"].get("best")


def path_of(results: pathlib.Path, scale: SeedScale, cell: SeedCell) -> pathlib.Path:
    return results / scale.name / cell.place.with_suffix(".json")


def stages(entries: Sequence[RecordEntry]) -> list[dict[str, Any]]:
    """Returns what each stage reached: its evaluations in training, and the returns of its Evaluate phase.

    `finals` has every metric of a return by the name of the policy and its rule, as the run recorded it.
    """
    found = []
    for stage in sorted({entry.stage for entry in entries}):
        ours = [e for e in entries if e.stage == stage]
        returns = [e.metrics["return"] for e in ours if e.subset == "eval" and np.isfinite(e.metrics["return"])]
        finals = {
            e.subset: {name: _rounded(value) for name, value in e.metrics.items() if name.startswith("return")}
            for e in ours
            if e.subset.startswith("final_")
        }
        known = {"best_evaluation": max(returns), "last_evaluation": returns[-1]} if returns else {}
        found.append(
            {
                "stage": stage,
                "env_steps": ours[-1].env_steps,
                **{k: _rounded(v) for k, v in known.items()},
                "finals": finals,
            }
        )
    return found


def _rounded(value: float) -> float | None:
    return round(value, 3) if np.isfinite(value) else None


def best(found: Sequence[dict[str, Any]]) -> float | None:
    """Returns the return in fresh episodes of the best policy of all stages.

    The stage is chosen by its evaluations in training, so the fresh episodes select nothing. A run without fresh
    episodes, such as one that diverged, has its last evaluation.
    """
    final = [s for s in found if s["finals"].get(BEST, {}).get("return") is not None and "best_evaluation" in s]
    if final:
        return max(final, key=lambda s: s["best_evaluation"])["finals"][BEST]["return"]
    return newest(found)


def newest(found: Sequence[dict[str, Any]]) -> float | None:
    """Returns the return of the newest policy: of the last stage's in fresh episodes, or its last evaluation."""
    known = [s["finals"].get(LAST, {}).get("return", s.get("last_evaluation")) for s in found]
    return next((value for value in reversed(known) if value is not None), None)


def of_run(folder: pathlib.Path, cell: SeedCell, words: Sequence[str], core_seconds: float) -> dict[str, Any]:
    """Returns the contents of the file for what a run's folder holds. Raises RunError."""
    run = RunFolder.open(folder)
    entries = list(read_entries(run.record_path))
    reached = stages(entries)
    curve = [
        [e.env_steps, e.stage, round(e.wall_s, 1), _rounded(e.metrics["return"])] for e in entries if e.subset == "eval"
    ]
    return {
        "method": cell.method,
        "task": cell.task,
        "seed": cell.seed,
        "status": run.status()["status"],
        "command": ["gorl", "train", *words],
        "best": best(reached),
        "newest": newest(reached),
        "env_steps": entries[-1].env_steps if entries else 0,
        "wall_minutes": round(entries[-1].wall_s / 60, 2) if entries else 0.0,
        "core_minutes": round(core_seconds / 60, 3),
        "mjx": {},
        "stages": reached,
        "evaluations": curve,
        **{k: v for k, v in run.facts().items() if k in PROVENANCE},
    }


def write(path: pathlib.Path, facts: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, facts)


def read(path: pathlib.Path, cell: SeedCell) -> SeedResult | None:
    """Returns the stored result, or None if there is no file."""
    return SeedResult(cell, json.loads(path.read_text())) if path.is_file() else None


def read_all(results: pathlib.Path, scale: SeedScale) -> list[SeedResult]:
    """Returns the result of every cell that has a file, in the scale's order."""
    found = (read(path_of(results, scale, cell), cell) for cell in scale.cells())
    return [result for result in found if result is not None]
