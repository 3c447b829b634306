"""What a record says of its run: the best of all stages, the newest policy, and the swaps."""

import dataclasses
import math

import pytest

from gorl.runs.record import RecordEntry
from gorl.runs.summary import best_stage, evaluations, final_returns, mean_swaps, summary, swap_series, swaps
from tests.support.run_folders import TWO_STAGES, make_run, stage


def test_trainings_evaluations_choose_and_fresh_episodes_score():
    """Stage 0 has the higher evaluation in training, so its 50 counts, and not stage 1's 70."""
    assert best_stage(TWO_STAGES) == 0
    assert final_returns(TWO_STAGES) == {
        "final_best": 50.0,
        "final_best_stochastic": 45.0,
        "final_last": 60.0,
        "final_last_stochastic": 55.0,
    }


def test_the_first_of_equal_stages_is_the_best():
    again = stage(2, selected=90.0, best=99.0, last=99.0)
    assert best_stage([*TWO_STAGES, *again]) == 0
    assert best_stage(again) == 2 and final_returns(again) == {"final_best": 99.0, "final_last": 99.0}
    assert best_stage([]) is None and final_returns([]) == {}


def test_a_policy_that_was_not_evaluated_at_its_end_or_broke_there_is_not_the_best():
    broken, under_way = stage(2, selected=95.0, best=math.nan, last=1.0), stage(3, selected=99.0, best=0.0, last=0.0)
    entries = [*TWO_STAGES, *broken, *(e for e in under_way if e.phase != "Evaluate")]
    assert best_stage(entries) == 0 and final_returns(entries)["final_last"] == 1.0


def test_the_last_evaluation_of_a_stage_says_what_its_best_was():
    """`return_best` is the best so far of the phase: a later and worse evaluation still carries it."""
    first, second = stage(0, selected=90.0, best=50.0, last=40.0), stage(1, selected=85.0, best=70.0, last=60.0)
    later = dataclasses.replace(first[0], metrics={"return": 5.0, "return_best": 90.0})
    assert best_stage([first[0], later, *first[1:], *second]) == 0


def test_a_swap_by_hand():
    """Before: stage 0's best policy. The divergence is the mean over rounds, the loss that of the last epoch."""
    assert swaps(TWO_STAGES) == {
        1: {
            "return_before": 50.0,
            "return_before_stochastic": 45.0,
            "return_after": 48.0,
            "return_after_stochastic": 44.0,
            "latent_kl": 0.5,
            "decoder_validation": 2.0,
        }
    }


def test_what_a_record_lacks_is_not_shown():
    old = [*stage(0, selected=1.0, best=1.0, last=1.0), *stage(1, selected=2.0, best=2.0, last=2.0, validation=(3.0,))]
    assert swaps(old) == {} and final_returns(old) == {"final_best": 2.0, "final_last": 2.0}
    measured = [*old, *stage(3, selected=1.0, best=1.0, last=1.0, mode=4.0)]  # stage 2 has no Evaluate phase
    assert swaps(measured) == {3: {"return_after": 4.0}}


def test_swaps_are_averaged_over_the_runs_that_have_them():
    runs = [{1: {"return_after": 1.0, "latent_kl": 4.0}, 2: {"return_after": 7.0}}, {1: {"return_after": 3.0}}, {}]
    assert mean_swaps(runs) == {1: (2, {"return_after": 2.0, "latent_kl": 4.0}), 2: (1, {"return_after": 7.0})}


def test_a_summary_has_all_of_it(tmp_path):
    found = summary(make_run(tmp_path / "r", entries=TWO_STAGES) / "metrics.jsonl")
    assert found == {
        "env_steps": 200,
        "wall_s": 111.0,
        "return_untrained": 90.0,
        "return_stage0_best": 50.0,
        "return_stage0_last": 40.0,
        "return_stage0_best_stochastic": 45.0,
        "return_stage0_last_stochastic": 35.0,
        "return_stage1_best": 70.0,
        "return_stage1_last": 60.0,
        "return_stage1_best_stochastic": 65.0,
        "return_stage1_last_stochastic": 55.0,
        "return_best_evaluation": 90.0,
        "return_final_best": 50.0,
        "return_final_last": 60.0,
        "return_final_best_stochastic": 45.0,
        "return_final_last_stochastic": 55.0,
        "best_stage": 0,
        **{f"swap1_{name}": value for name, value in swaps(TWO_STAGES)[1].items()},
    }
    assert list(swap_series(found)) == [(1, name, value) for name, value in swaps(TWO_STAGES)[1].items()]


def test_evaluations_are_named_by_stage_and_rule():
    assert [name for name, _ in evaluations(TWO_STAGES)[:5]] == [
        "untrained",
        "stage 0, best",
        "stage 0, last",
        "stage 0, best, stochastic",
        "stage 0, last, stochastic",
    ]


@pytest.mark.parametrize("subset", ["final_best", "swap_mode"])
def test_steps_are_those_of_the_whole_record(tmp_path, subset):
    """Entries of other kinds are not kept, but the last one counts."""
    later = RecordEntry(500, 1, "ImprovePolicy", "iterate", "train", "env_steps", 999, 500.0, {"loss": 1.0})
    found = summary(make_run(tmp_path / subset, entries=[*TWO_STAGES, later]) / "metrics.jsonl")
    assert found["env_steps"] == 999 and found["wall_s"] == 500.0
