"""A run that is killed and resumed ends exactly as one that was not: parameters, optimiser, normaliser, record, counts."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from gorl import config, runs
from gorl.checkpoint import CheckpointStore

FILES = ["gorl_fm.gin", "parts/debug.gin"]
BINDINGS = [
    "Task.environment = @Slider()",
    "Experiment.stages = [@stage0/Stage(), @stage1/Stage()]",
    "stage1/ImprovePolicy.env_steps = %STAGE_STEPS",
    "COLLECT_STEPS = 600",
    "FIT_EPOCHS = 4",
    "Experiment.checkpoint_interval = 0.0",
    "decoder/MLP.width = 16",
]


def train(folder: pathlib.Path, cache: pathlib.Path, *, resume: bool = False) -> subprocess.Popen:
    """The command line, in a process of its own."""
    what = ["--resume", str(folder)] if resume else [*FILES, *(x for b in BINDINGS for x in ("--set", b)), "--run-dir", str(folder)]
    env = {**os.environ, "GORL_CACHE": str(cache), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "gorl.cli.main", "train", *what, "--no-aim"]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen, code: int = 0) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


def record(folder: pathlib.Path) -> list[dict]:
    """The record without its clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["wall_s"]
    return lines


def final_arrays(folder: pathlib.Path) -> list[np.ndarray]:
    """Every array of the newest checkpoint, in its stored order."""
    store = CheckpointStore(folder)
    try:
        number = store.newest()[0]
        meta = store.meta(number)
        args = store._ocp.args
        state = store._manager.restore(number, args=args.Composite(state=args.StandardRestore()))["state"]
    finally:
        store.close()
    assert len(state) == len(meta["leaves"]) > 20
    return [np.asarray(state[name]) for name in sorted(state)]


def assert_same(folder: pathlib.Path, reference: pathlib.Path) -> None:
    assert record(folder) == record(reference)
    ours, theirs = final_arrays(folder), final_arrays(reference)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        np.testing.assert_array_equal(a, b)  # bit for bit; NaN equals NaN
    a, b = (json.loads((f / "status.json").read_text()) for f in (folder, reference))
    assert a["status"] == b["status"] == "finished" and a["env_steps"] == b["env_steps"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> tuple[pathlib.Path, pathlib.Path]:
    """An uninterrupted run, and the compilation cache that the others share."""
    root = tmp_path_factory.mktemp("reference")
    finish(train(root / "run", root / "cache"))
    return root / "run", root / "cache"


def kill_during(process: subprocess.Popen, folder: pathlib.Path, phase: str, kind: str, after: int, signal_number: int) -> None:
    """Waits until the record shows `after` units of a kind, then sends the signal."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        path = folder / "metrics.jsonl"
        text = path.read_text() if path.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        if sum(line["phase"] == phase and line["kind"] == kind for line in lines) >= after:
            process.send_signal(signal_number)
            return
        time.sleep(0.002)
    raise AssertionError(f"the run never got to {phase}/{kind}: {process.communicate()[0] if process.poll() is not None else ''}")


KILLS = [
    ("ImprovePolicy", "iterate", 1),
    ("ImprovePolicy", "evaluate", 5),  # in the second stage: the decoder is flow matching
    ("CollectRollouts", "collect", 1),
    ("FitDecoder", "epoch", 2),
    ("Evaluate", "evaluate_best", 1),
]


@pytest.mark.parametrize("phase, kind, after", KILLS, ids=[f"{p}-{k}" for p, k, _ in KILLS])
def test_sigkill_then_resume_is_bit_exact(phase, kind, after, reference, tmp_path):
    run, cache = reference
    folder = tmp_path / "run"
    process = train(folder, cache)
    kill_during(process, folder, phase, kind, after, signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert json.loads((folder / "status.json").read_text())["status"] == "running"
    finish(train(folder, cache, resume=True))
    assert_same(folder, run)


def test_sigterm_saves_and_names_the_command_that_resumes(reference, tmp_path):
    run, cache = reference
    folder = tmp_path / "run"
    process = train(folder, cache)
    kill_during(process, folder, "ImprovePolicy", "iterate", 1, signal.SIGTERM)
    output = finish(process, code=128 + signal.SIGTERM)
    assert f"gorl train --resume {folder}" in output
    assert json.loads((folder / "status.json").read_text())["status"] == "interrupted"
    finish(train(folder, cache, resume=True))
    assert_same(folder, run)


def test_resuming_a_finished_run_changes_nothing(reference):
    run, cache = reference
    before = record(run)
    assert "finished" in finish(train(run, cache, resume=True))
    assert record(run) == before


def test_a_run_is_deterministic_and_counts_its_steps(reference):
    run, _ = reference
    lines = record(run)
    experiment = config.build([str(run / "config.gin")]).experiment
    assert lines[-1]["env_steps"] == experiment.env_steps() == 480 + 600 + 480
    assert [line["unit"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(line["metrics"].get("log_ratio_first", 0.0) < 1e-5 for line in lines)


def test_load_gives_a_policy_that_acts(reference):
    run, _ = reference
    policy = runs.load(run)
    key = jax.random.key(0)
    one = policy.act(np.zeros(2), key=key)
    many = policy.act(np.zeros((3, 4, 2)), key=key)
    assert one.shape == (1,) and many.shape == (3, 4, 1)
    np.testing.assert_allclose(many, np.broadcast_to(one, many.shape), atol=1e-6)  # the mode depends on the observation alone
    assert np.all(np.abs(one) < 1)
    sampled = policy.act(np.zeros((8, 2)), key=key, rule="stochastic")
    assert np.std(sampled) > 1e-3
    with pytest.raises(ValueError, match="observes 2 numbers"):
        policy.act(np.zeros(3), key=key)


def test_run_folder_format_is_checked(reference, tmp_path):
    run, _ = reference
    assert runs.RunFolder.open(run).facts()["format"] == runs.FORMAT
    (tmp_path / "run.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(runs.RunError, match="run format 99"):
        runs.RunFolder.open(tmp_path)
    with pytest.raises(runs.RunError, match="not a gorl run folder"):
        runs.RunFolder.open(tmp_path / "nothing")


def test_two_processes_cannot_train_in_one_folder(reference):
    run, cache = reference
    holder = runs.RunFolder.open(run)
    holder.lock()
    output = finish(train(run, cache, resume=True), code=2)
    assert "another process is training" in output
    holder._lock.close()
