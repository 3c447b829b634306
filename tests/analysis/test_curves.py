"""Learning curves, by hand."""

import pathlib

import numpy as np

from gorl.analysis.curves import curves
from gorl.analysis.runs_table import EvaluationPoint, RunResult


def run(*points, seed=0, method="a", task="T", status="finished"):
    folder = pathlib.Path(f"{method}/{task}/{seed}")
    return RunResult(
        folder,
        folder,
        "s",
        method,
        method,
        {},
        task,
        seed,
        status,
        evaluations=tuple(EvaluationPoint(x, 10.0 * x, y) for x, y in points),
    )


def test_mean_and_band():
    (found,) = curves([run((0, 0.0), (10, 100.0)), run((0, 20.0), (10, 300.0), seed=1)], "env_steps")
    assert found.x.tolist() == [0, 10] and found.mean.tolist() == [10.0, 200.0] and found.runs.tolist() == [2, 2]
    assert found.low.tolist() == [0.0, 100.0] and found.high.tolist() == [
        20.0,
        300.0,
    ]  # a resample has both, or one twice


def test_runs_evaluated_at_different_steps_are_interpolated_within_their_range():
    one, other = run((0, 0.0), (10, 100.0)), run((0, 0.0), (5, 20.0), (10, 40.0), (20, 80.0), seed=1)
    (found,) = curves([one, other], "env_steps")
    assert found.x.tolist() == [0, 5, 10] and found.mean.tolist() == [
        0.0,
        (50 + 20) / 2,
        (100 + 40) / 2,
    ]  # at 20 one finished run would be left
    assert curves([one, other], "wall_s")[0].x.tolist() == [0.0, 50.0, 100.0]


def test_a_run_that_diverged_keeps_its_last_value():
    (found,) = curves(
        [run((0, 0.0), (10, 100.0), (20, 200.0)), run((0, 0.0), (10, 60.0), seed=1, status="diverged")], "env_steps"
    )
    assert found.mean.tolist() == [0.0, 80.0, (200 + 60) / 2] and found.runs.tolist() == [2, 2, 2]


def test_a_run_that_is_not_over_is_shown_as_far_as_it_went():
    runs = [run((0, 0.0), (10, 100.0)), run((0, 20.0), seed=1, status="running")]
    (found,) = curves(runs, "env_steps")
    assert found.mean.tolist() == [10.0, 100.0] and found.runs.tolist() == [2, 1] and np.isnan(found.low[1])
    (found,) = curves(
        [*runs, run((0, 40.0), seed=2, status="paused"), run((0, 40.0), seed=3, status="failed")], "env_steps"
    )
    assert found.x.tolist() == [0] and found.mean.tolist() == [25.0]  # at 10 a quarter of the runs would be left


def test_of_two_evaluations_at_one_step_the_policy_that_goes_on_counts():
    (found,) = curves([run((0, 1.0), (10, 900.0), (10, 300.0), (20, 500.0))], "env_steps")
    assert found.x.tolist() == [0, 10, 20] and found.mean.tolist() == [1.0, 300.0, 500.0]


def test_one_curve_for_each_method_and_task():
    runs = [run((0, 1.0)), run((0, 2.0), task="U"), run((0, 3.0), method="b"), run(method="c", status="missing")]
    assert [(c.method, c.task, c.mean.tolist()) for c in curves(runs, "env_steps")] == [
        ("a", "T", [1.0]),
        ("a", "U", [2.0]),
        ("b", "T", [3.0]),
    ]
