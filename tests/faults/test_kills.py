"""A run that is killed again and again ends as one that was not: a short form of experiments/faults/kills.py."""

import pytest

from experiments.faults.kills import ANY, FAMILIES, Harness, Trial, moments, summary

SHORT = {
    "flow matching": ["dataset write", ANY, "best-so-far update"],
    "diffusion": ["checkpoint write", ANY, "Aim write"],
}


@pytest.mark.parametrize("family", ["flow matching", pytest.param("diffusion", marks=pytest.mark.slow)])
def test_sigkill_then_resume_is_bit_exact(family, tmp_path):
    wanted = SHORT[family]
    trial = Harness(tmp_path, seed=1, aim="Aim write" in wanted).trial(family, 1, wanted)
    assert trial.differences == []
    assert [moment for moment, _ in trial.kills] == wanted[: len(trial.kills)] and len(trial.kills) >= 2


def test_the_summary_counts_kills_and_mismatches():
    trials = [
        Trial("diffusion", [(ANY, "start"), ("phase ends", "FitDecoder/epoch")], []),
        Trial("diffusion", [(ANY, "start")], ["array .x"]),
    ]
    found = summary(trials)
    assert (found["kills"], found["mismatches"], found["runs"]) == (3, 1, {"diffusion": 2})
    assert found["kills_by_moment"] == {ANY: 2, "phase ends": 1}
    assert found["differences"][0]["differences"] == ["array .x"]
    assert 1 < moments(12, 0, "PPO").count(ANY) < 9 and set(SHORT) <= set(FAMILIES)
