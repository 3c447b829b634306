"""A study on a toy task: what its runs share is stage 0."""

import json
import pathlib

import equinox as eqx
import jax
import numpy as np

from gorl.studies.executors.base import Watch
from gorl.studies.folder import StudyFolder
from gorl.studies.jobs import JobSettings
from gorl.studies.plan import make_plan
from gorl.studies.sweep import Driver
from gorl.training import trained

BASE = """
include 'gorl_fm.gin'
include 'parts/debug.gin'
Task.environment = @Slider()
Experiment.stages = [@stage0/Stage(), @stage1/Stage()]
COLLECT_STEPS = 400
critic/MLP.depth = 1
policy/MLP.depth = 1
decoder/MLP.depth = 1
decoder/MLP.width = 16
EPISODE_LENGTH = 20
"""


def write(folder: pathlib.Path, study: str, name: str = "toy.gin", *, checkpoint_interval: float = 1e6) -> pathlib.Path:
    """Writes a study whose runs save at the ends of phases, or after so many seconds."""
    path = folder / name
    path.write_text(f"{BASE}Experiment.checkpoint_interval = {checkpoint_interval}\n{study}")
    return path


def sweep(
    path: pathlib.Path,
    folder: pathlib.Path,
    *bindings: str,
    aim: bool = False,
    reuse: bool = True,
    watch: Watch | None = None,
):
    """Runs a study in this process; returns (folder, result, what was said)."""
    plan = make_plan([str(path)], list(bindings))
    study = StudyFolder.begin(folder, plan)
    said: list[str] = []
    quiet = Watch(lambda job: None, lambda job, code, reason: None, lambda jobs: None)
    try:
        return study, Driver(plan, study, JobSettings(aim, reuse), watch or quiet, said.append).run(), said
    finally:
        study.close()


def record(run: pathlib.Path) -> list[dict]:
    """Without its clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "wall_s"} for line in lines]


def assert_same(ours: pathlib.Path, theirs: pathlib.Path) -> None:
    """The same record, and the same parameters bit for bit."""
    assert record(ours) == record(theirs)
    a, b = (
        [np.asarray(x) for x in jax.tree.leaves(eqx.filter(trained.restore(run)[1], eqx.is_array))]
        for run in (ours, theirs)
    )
    assert len(a) > 20
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def status(run: pathlib.Path) -> dict:
    return json.loads((run / "status.json").read_text())
