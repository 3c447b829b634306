"""Two equally good actions around a bad mean: GoRL keeps both, a Gaussian cannot. It runs experiments/two_goals."""

import os
import pathlib
import subprocess
import sys

import pytest

from gorl.runs.record import read

HOME = pathlib.Path(__file__).parents[2] / "experiments" / "two_goals"
TWO_STAGES = ["Experiment.stages = [@stage0/Stage(), @stage2/Stage()]"]


def masses(folder, name, *parts, bindings=()):
    """By stage: the mass of actions near the left and the right goal, and between them."""
    files = [str(HOME / name), *parts, "--plugin", str(HOME / "action_density.py")]
    sets = [x for b in ("Evaluator.num_envs = 256", *bindings) for x in ("--set", b)]
    command = [sys.executable, "-m", "gorl.cli.main", "train", *files, *sets, "--no-aim", "--run-dir", str(folder)]
    # Optimized programs, unlike in other tests: this one trains for long.
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        timeout=500,
        env={**os.environ, "XLA_FLAGS": "", "GORL_CACHE": str(folder.parent / "cache")},
    )
    entries = [e for e in read(folder / "metrics.jsonl") if e.subset == "density"]
    return [tuple(e.metrics[f"mass/{k}"] for k in ("left", "right", "between")) for e in entries]


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["flow_matching", "diffusion"])
def test_gorl_keeps_both_goals(decoder, tmp_path):
    first, last = masses(tmp_path / "run", "two_goals.gin", f"parts/{decoder}.gin", bindings=TWO_STAGES)
    assert first[0] + first[1] < 0.6 and first[2] > 0.3  # stage 0: a broad Gaussian, much of it on the bad mean
    assert min(last[:2]) > 0.2 and last[0] + last[1] > 0.75 and last[2] < 0.2


@pytest.mark.slow
def test_a_gaussian_cannot(tmp_path):
    """Once it earns more than a broad one, it has given up a goal. (It trains long, as being broad is a plateau.)"""
    bindings = ["TOTAL_STEPS = 500_000", "OnPolicy.learning_rate = 3e-3"]
    (law,) = masses(tmp_path / "run", "ppo_two_goals.gin", bindings=bindings)
    entries = [e for e in read(tmp_path / "run" / "metrics.jsonl") if "return" in e.metrics]
    broad = next(e for e in entries if e.subset == "eval").metrics["return"]
    best = next(e for e in entries if e.subset == "final_best").metrics["return"]
    assert best > broad + 0.2
    assert min(law[:2]) < 0.02 and max(law[:2]) > 0.8
