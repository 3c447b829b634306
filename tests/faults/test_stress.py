"""Short versions of experiments/faults/stress.py: what is asked of them, except speed."""

import pytest

from experiments.faults import many_runs, stress  # noqa: E402

aim = pytest.importorskip("aim")


def test_hundreds_of_metrics(tmp_path):
    assert stress.keys(tmp_path, count=100, units=2)["whole"]


def test_a_long_record_is_read_without_being_held(tmp_path):
    found = stress.record(tmp_path, lines=40_000)
    assert found["whole"] and found["rewind_s"] < 1.0 and found["report_peak_mib"] < 30.0


def test_writers_at_once_lose_nothing(tmp_path):
    assert stress.writers(tmp_path, count=4, entries=3)["whole"]


def test_many_runs_in_one_process_leave_nothing_behind(tmp_path):
    found = many_runs.measure(3, tmp_path)
    assert many_runs.growth(found) == {"files": 0, "watches": 0, "threads": 0}


def test_several_runs_in_one_repository(tmp_path):
    for i in range(3):
        stress.track(tmp_path / f"run{i}", tmp_path / "repo", [stress.entry(1, {"return": float(i)})])
    assert stress.returns(tmp_path / "repo") == [[0.0], [1.0], [2.0]]
