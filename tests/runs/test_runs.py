"""Run folders: what a run leaves, and using it afterwards. (Interrupted ones: faults/.)"""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments.faults.same_bits import record
from gorl import config, runs
from gorl.errors import RunError
from gorl.training import trained

FILES = ["gorl_fm.gin", "parts/debug.gin"]
BINDINGS = [
    "Task.environment = @Slider()",
    "Experiment.stages = [@stage0/Stage(), @stage1/Stage()]",
    "stage1/ImprovePolicy.env_steps = %STAGE_STEPS",
    "COLLECT_STEPS = 800",
    "FIT_EPOCHS = 4",
    "Experiment.checkpoint_interval = 0.0",
    "decoder/MLP.width = 16",
]


def train(folder: pathlib.Path, cache: pathlib.Path, *, resume: bool = False) -> subprocess.Popen:
    """The command line, in a process of its own."""
    what = (
        ["--resume", str(folder)]
        if resume
        else [*FILES, *(x for b in BINDINGS for x in ("--set", b)), "--run-dir", str(folder)]
    )
    env = {**os.environ, "GORL_CACHE": str(cache), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "gorl.cli.main", "train", *what, "--no-aim"]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen, code: int = 0) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> tuple[pathlib.Path, pathlib.Path]:
    """An uninterrupted run, and the compilation cache that the others share."""
    root = tmp_path_factory.mktemp("reference")
    finish(train(root / "run", root / "cache"))
    return root / "run", root / "cache"


def test_resuming_a_finished_run_changes_nothing(reference):
    run, cache = reference
    before = record(run)
    assert "finished" in finish(train(run, cache, resume=True))
    assert record(run) == before


def test_units_and_env_steps_are_counted(reference):
    run, _ = reference
    lines = record(run)
    experiment = config.build([str(run / "config.gin")]).experiment
    assert lines[-1]["env_steps"] == experiment.env_steps() == 480 + 800 + 480
    assert [line["unit"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(line["metrics"].get("log_ratio_first", 0.0) < 1e-5 for line in lines)


def test_load_gives_a_policy_that_acts(reference):
    run, _ = reference
    policy = trained.load(run)
    key = jax.random.key(0)
    one = policy.act(np.zeros(2), key=key)
    many = policy.act(np.zeros((3, 4, 2)), key=key)
    assert one.shape == (1,) and many.shape == (3, 4, 1)
    np.testing.assert_allclose(
        many, np.broadcast_to(one, many.shape), atol=1e-6
    )  # the mode depends on the observation alone
    assert np.all(np.abs(one) < 1)
    sampled = policy.act(np.zeros((8, 2)), key=key, rule="stochastic")
    assert np.std(sampled) > 1e-3
    with pytest.raises(ValueError, match="observes 2 numbers"):
        policy.act(np.zeros(3), key=key)


def test_run_folder_format_is_checked(reference, tmp_path):
    run, _ = reference
    assert runs.RunFolder.open(run).facts()["format"] == runs.FORMAT
    (tmp_path / "run.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(RunError, match="run format 99"):
        runs.RunFolder.open(tmp_path)
    with pytest.raises(RunError, match="not a gorl run folder"):
        runs.RunFolder.open(tmp_path / "nothing")


def test_two_processes_cannot_train_in_one_folder(reference):
    run, cache = reference
    holder = runs.RunFolder.open(run)
    holder.lock()
    output = finish(train(run, cache, resume=True), code=2)
    assert "another process is training" in output
    holder._lock.close()
