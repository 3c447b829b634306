"""A run that came to its end without a result is not called finished."""

import math

import pytest

from gorl.runs.record import Record, RecordEntry
from gorl.runs.soundness import unsoundness

NAN = math.nan
GOOD = {"return": 5.0, "episodes": 8.0, "diverged_episodes": 0.0}
BROKEN = {"return": NAN, "episodes": 8.0, "diverged_episodes": 8.0}


def found(tmp_path, *entries):
    record = Record(tmp_path / "metrics.jsonl")
    for unit, (subset, metrics) in enumerate(entries):
        record.log(RecordEntry(unit, 0, "P", "u", subset, "env_steps", unit, 0.0, metrics))
    record.close()
    return unsoundness(tmp_path / "metrics.jsonl")


SOUND = {
    "nothing was evaluated": [("train", {"loss": NAN})],
    "one evaluation broke": [("eval", BROKEN), ("eval", GOOD), ("eval", GOOD), ("final_best", GOOD)],
    "half of the episodes broke": [("eval", GOOD), ("eval", {**GOOD, "return": 1.0, "diverged_episodes": 8.0})],
    "fewer than ten episodes of training broke": [("train", {"episodes": 0.0, "invalid_steps": 10.0}), ("eval", GOOD)],
    "as many broke as ended": [("train", {"episodes": 20.0, "invalid_steps": 20.0}), ("eval", GOOD)],
    "an earlier stage's newest policy broke": [("final_last", BROKEN), ("final_last", GOOD), ("final_best", GOOD)],
    "a record of an earlier version": [("eval", {"return": 1.0, "diverged_episodes": 3.0})],
}
UNSOUND = {
    "no evaluation is finite": ([("eval", BROKEN), ("final_best", BROKEN)], "none of its 2 evaluations"),
    "an infinite return": ([("eval", {"return": math.inf})], "none of its 1 evaluations"),
    "the final return is not": (
        [("eval", GOOD), ("eval", GOOD), ("final_best", GOOD), ("final_last", BROKEN)],
        "its final return is not finite (of the policy: last)",
    ),
    "most episodes of evaluations broke": (
        [("eval", {"return": 1.0, "episodes": 8.0, "diverged_episodes": 5.0})],
        "5 of its 8 episodes of evaluation",
    ),
    "most episodes of training broke": (
        [("train", {"episodes": 20.0, "invalid_steps": 15.0}), ("train", {"episodes": 0.0, "invalid_steps": 6.0})],
        "21 of its 41 episodes of training",
    ),
}


@pytest.mark.parametrize("case", SOUND)
def test_a_sound_run(tmp_path, case):
    assert found(tmp_path, *SOUND[case]) is None


@pytest.mark.parametrize("case", UNSOUND)
def test_a_run_without_a_result(tmp_path, case):
    entries, reason = UNSOUND[case]
    assert found(tmp_path, *entries).startswith(reason)
