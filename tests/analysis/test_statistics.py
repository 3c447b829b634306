"""Scores and aggregates, against hand-computed numbers and against rliable called directly."""

import math
import pathlib

import numpy as np
import pytest
from rliable import library, metrics

from gorl.analysis import statistics
from gorl.analysis.runs_table import RunResult

SCORES = np.random.default_rng(3).uniform(0.0, 1.0, (5, 3))
OTHERS = np.random.default_rng(4).uniform(0.0, 1.0, (4, 3))


def run(seed=0, *, method="a", task="T", status="finished", **scores):
    folder = pathlib.Path(f"{method}/{task}/{seed}")
    return RunResult(folder, folder, "study", method, method, {}, task, seed, status, scores=scores)


def test_aggregates_by_hand():
    """Tasks: (0, 2, 4, 6) and (1, 3, 5, 100), all through 8."""
    found = statistics.aggregates(np.array([[0, 1], [2, 3], [4, 5], [6, 100]]) / 8.0, repetitions=100)
    assert {name: e.value for name, e in found.items()} == pytest.approx({
        "iqm": (2 + 3 + 4 + 5) / 4 / 8,  # without the two lowest and the two highest of eight
        "mean": (3 + 27.25) / 2 / 8,
        "median": (3 + 27.25) / 2 / 8,  # of the means of two tasks
        "optimality_gap": 1 - (0 + 2 + 4 + 6 + 1 + 3 + 5 + 8) / 8 / 8,  # 100 / 8 counts as 1
    })  # fmt: skip


def test_intervals_are_those_of_rliable_with_the_same_seed():
    found = statistics.aggregates(SCORES, repetitions=300)
    functions = (
        metrics.aggregate_iqm,
        metrics.aggregate_mean,
        metrics.aggregate_median,
        metrics.aggregate_optimality_gap,
    )
    np.random.seed(statistics.BOOTSTRAP_SEED)
    points, intervals = library.get_interval_estimates(
        {"a": SCORES}, lambda s: np.array([f(s) for f in functions]), reps=300
    )
    for i, name in enumerate(("iqm", "mean", "median", "optimality_gap")):
        assert (found[name].value, found[name].low, found[name].high) == (points["a"][i], *intervals["a"][:, i])
    assert statistics.aggregates(SCORES, repetitions=300) == found
    (one,) = statistics.aggregates(SCORES, names=("median",), repetitions=300).values()
    assert one == found["median"]


def test_the_global_generator_is_left_as_it_was():
    np.random.seed(7)
    expected = np.random.RandomState(7).uniform(size=3)
    statistics.aggregates(SCORES, repetitions=100)
    assert np.array_equal(np.random.uniform(size=3), expected)


def test_probability_of_improvement():
    """By hand: 3 > 2, 3 > 1, 1 < 2, and 1 = 1 is a half."""
    found = statistics.probability_of_improvement(np.array([[3.0], [1.0]]), np.array([[2.0], [1.0]]), repetitions=100)
    assert found.value == 2.5 / 4
    found = statistics.probability_of_improvement(SCORES, OTHERS, repetitions=100)
    np.random.seed(statistics.BOOTSTRAP_SEED)
    points, intervals = library.get_interval_estimates(
        {"a,b": (SCORES, OTHERS)}, metrics.probability_of_improvement, reps=100
    )
    assert (found.value, found.low, found.high) == (points["a,b"], *intervals["a,b"].ravel())
    assert found.value == pytest.approx((SCORES[:, None] > OTHERS[None]).mean())


def test_profiles():
    found = statistics.profile(np.array([[0.25], [0.75]]), 0.0, 1.0, repetitions=100)
    assert [found.share[found.thresholds == t].item() for t in (0.0, 0.25, 0.5, 0.75, 1.0)] == [1.0, 0.5, 0.5, 0.0, 0.0]
    found = statistics.profile(SCORES, 0.0, 1.0, repetitions=100)
    np.random.seed(statistics.BOOTSTRAP_SEED)
    shares, bands = library.create_performance_profile({"a": SCORES}, np.linspace(0, 1, 101), reps=100)
    assert np.array_equal(found.share, shares["a"]) and np.array_equal(np.stack([found.low, found.high]), bands["a"])


def test_one_run_has_no_interval():
    one = SCORES[:1]
    assert all(math.isnan(e.low) and math.isnan(e.high) for e in statistics.aggregates(one, repetitions=100).values())
    assert math.isnan(statistics.probability_of_improvement(SCORES, one, repetitions=100).low)
    assert np.isnan(statistics.profile(one, 0.0, 1.0, repetitions=100).high).all()


@pytest.mark.parametrize(
    "status, scores, expected",
    [
        ("finished", {"final_best": 900.0, "last_evaluation": 800.0}, (900.0, "final_best")),
        ("finished", {"last_evaluation": 800.0}, None),  # a finished run has its score or none
        ("diverged", {"final_best": 900.0, "last_evaluation": 10.0}, (900.0, "final_best")),
        ("diverged", {"last_evaluation": 10.0}, (10.0, "last_evaluation")),
        ("stopped", {"last_evaluation": 20.0}, (20.0, "last_evaluation")),
        ("diverged", {}, None),
        *(
            (status, {"final_best": 900.0}, None)
            for status in ("running", "paused", "interrupted", "failed", "unknown", "missing", "unreadable")
        ),
    ],
)
def test_only_runs_that_ended_have_a_score(status, scores, expected):
    assert statistics.score(run(status=status, **scores), "final_best") == expected


def test_matrices_are_rectangular_and_name_the_runs_left_out():
    runs = [
        *(run(seed, task="A", final_best=10.0 + seed) for seed in (2, 0, 1)),
        *(run(seed, task="B", final_best=20.0 + seed) for seed in (0, 1)),
        run(2, task="B", status="running", last_evaluation=5.0),
        run(0, task="C", final_best=1.0),
        run(0, method="b", task="A", final_best=30.0),
        run(0, method="b", task="B", status="diverged", last_evaluation=3.0),
        run(0, method="c", task="A", status="running"),
    ]
    found = statistics.matrices(runs, "final_best")
    assert found.tasks == ("A", "B") and set(found.scores) == {"a", "b"}
    assert found.scores["a"].tolist() == [[10.0, 20.0], [11.0, 21.0]] and found.scores["b"].tolist() == [[30.0, 3.0]]
    assert found.notes == (
        "c has no score yet: it is not in the aggregates.",
        "C is not in the aggregates: b has no score there.",
        "b: 1 of 2 scores are last evaluations, of runs that diverged.",
        "a has scores of 3 on A, 2 on B: the aggregates use 2 on each task, of the lowest seeds.",
    )
