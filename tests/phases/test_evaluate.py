"""The final evaluation: the best policy and the newest, on the same episodes, which changes nothing."""

import dataclasses

import jax
import numpy as np
import pytest

from gorl.acting.evaluator import Evaluator
from gorl.decoders import IdentityDecoder
from gorl.environments.task import Task
from gorl.errors import ConfigError
from gorl.phases import Evaluate, EvaluatePrior, PhaseContext
from gorl.phases.base import PhaseInputs
from gorl.state import RunState
from tests.support.payers import Learner, Payer, level, played

ENVS, LENGTH = 5, 2
BEST, LAST, HANDED_ON = 1.5, -0.5, 7.0
CONTEXT = PhaseContext(Task(Payer(1.0), LENGTH, True, True, 10.0), seed=0, stage=3, phase=1)
PHASE = Evaluate(Evaluator(num_envs=ENVS, rule="mode"))


def left_by_the_phase_before():
    decoder = IdentityDecoder(2, 1, key=jax.random.key(0))
    return RunState(decoder, policy=level(HANDED_ON), best=level(BEST), learner=Learner(level(LAST)))


@pytest.fixture(scope="module")
def evaluation():
    """The states and the metrics of both units."""
    return played(PHASE, CONTEXT, left_by_the_phase_before())


def test_the_best_policy_and_the_last_are_evaluated():
    units = PHASE.units(CONTEXT.task)
    assert [u.subset for u in units] == ["final_best", "final_last"]
    assert [(u.env_steps, u.eval_steps) for u in units] == [(0, ENVS * LENGTH)] * 2


def test_the_two_act_differently_in_the_same_episodes(evaluation):
    """Each of two steps pays who + level, with who in [0, 1): an episode returns 2 who + 3 or 2 who - 1, 4 less."""
    _, (best, last) = evaluation
    for name in ("return", "return_min", "return_max"):
        assert best[name] - last[name] == pytest.approx(2 * (BEST - LAST), abs=1e-4)
    assert 3.0 < best["return_min"] < best["return"] < best["return_max"] < 5.0
    assert best["return_std"] == pytest.approx(last["return_std"], abs=1e-4) and best["return_std"] > 0.1


def test_other_seeds_and_stages_see_other_episodes(evaluation):
    _, (best, _) = evaluation
    others = [dataclasses.replace(CONTEXT, **change) for change in ({"seed": 1}, {"stage": 2}, {"phase": 0})]
    returns = [played(PHASE, context, left_by_the_phase_before())[1][0]["return"] for context in others]
    assert len({best["return"], *returns}) == 4


def test_an_evaluation_changes_nothing(evaluation):
    states, _ = evaluation
    before = left_by_the_phase_before()
    for state in (*states, PHASE.finish(CONTEXT, states[-1])):
        assert jax.tree.structure(state) == jax.tree.structure(before)
        for found, expected in zip(jax.tree.leaves(state), jax.tree.leaves(before), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_there_must_be_a_policy():
    with pytest.raises(ConfigError, match="Evaluate has no policy to evaluate"):
        PHASE.check(CONTEXT.task, PhaseInputs())
    assert PHASE.check(CONTEXT.task, PhaseInputs(True, 5, 7)) == PhaseInputs(True, 5, 7)


def test_other_rules_act_in_the_same_episodes():
    """The policy's mode is its level, and its samples are N(level, 1): an episode of two steps differs by N(0, 2)."""
    phase = Evaluate(PHASE.evaluator, other_rules=("stochastic", "mode", "stochastic"))
    units = phase.units(CONTEXT.task)
    names = ["final_best", "final_best_stochastic", "final_last", "final_last_stochastic"]
    assert [u.subset for u in units] == names and {u.eval_steps for u in units} == {ENVS * LENGTH}
    _, (best, sampled, last, _) = played(phase, CONTEXT, left_by_the_phase_before())
    assert 0.01 < abs(sampled["return"] - best["return"]) < 5 * np.sqrt(2 / ENVS)
    assert best["return"] - last["return"] == pytest.approx(2 * (BEST - LAST), abs=1e-4)
    with pytest.raises(ConfigError, match=r"Evaluate\.other_rules = 'mod': it is one of"):
        Evaluate(PHASE.evaluator, other_rules=("mod",))


class Shifted(IdentityDecoder):
    """u = latent + 2."""

    def __call__(self, obs, latent):
        return latent + 2.0


def test_the_decoder_is_evaluated_with_its_prior():
    """An episode pays 2 (who + u): with the latent 0 between 4 and 6, with latents from N(0, 1) other than that."""
    phase = EvaluatePrior(PHASE.evaluator)
    run = RunState(Shifted(2, 1, key=jax.random.key(0)), policy=level(HANDED_ON))
    assert [u.subset for u in phase.units(CONTEXT.task)] == ["swap_mode", "swap_stochastic"]
    _, (mode, sampled) = played(phase, CONTEXT, run)
    assert 4.0 < mode["return_min"] < mode["return_max"] < 6.0
    assert 0.01 < abs(sampled["return"] - mode["return"]) < 5 * np.sqrt(2 / ENVS)
