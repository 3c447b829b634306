"""Improving a policy: which one is kept, which goes on, and when they are evaluated."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.acting.evaluator import Evaluator
from gorl.algorithms.base import AbstractAlgorithm
from gorl.decoders import IdentityDecoder
from gorl.environments.task import Task
from gorl.phases import ImprovePolicy, PhaseContext
from gorl.phases.improve_policy import keep_best
from gorl.runtime import seeds, trees
from gorl.state import RunState, Snapshot
from tests.support.payers import Learner, Level, Payer, played

TASK = Task(Payer(0.0), 2, True, True, 10.0)
CONTEXT = PhaseContext(TASK, seed=0, stage=1, phase=2)
STEPS = 24  # of an iteration
VALUES = [1.0, 3.0, 3.0, np.nan, 2.0]  # of the five policies, by evaluation: the first 3 is the best


class Marked(Level):
    """Policy number `mark` has the level VALUES[mark]."""

    mark: jax.Array = None


class Training(eqx.Module):
    learner: Learner


class Succession(AbstractAlgorithm):
    """Each iteration replaces the policy by the next one, and says what a latent of ones earned in its environment."""

    num_envs: int = 4
    env_steps_per_iteration = STEPS

    def check(self, episode_length):
        pass

    def create(self, spaces, *, key):
        del key
        return Learner(policy(0))

    def start(self, env, learner, episodes, *, key):
        del env, episodes, key
        return Training(learner)

    def iterate(self, env, state, episodes, *, key):
        del episodes
        after = env.step(env.reset(key), jnp.ones(env.action_size))
        return Training(Learner(policy(state.learner.policy.mark + 1))), {"earned": after.reward}


class Doubling(IdentityDecoder):
    """u = the sum of two latents."""

    latent_size = 2

    def __call__(self, obs, latent):
        del obs
        return jnp.sum(latent, keepdims=True)


def policy(mark):
    return Marked(jnp.asarray(VALUES)[mark], mark=jnp.asarray(mark, jnp.int32))


def improve(**changes):
    """Five evaluations: before, and after each of four iterations."""
    settings = {"env_steps": 4 * STEPS, "evaluation_interval": STEPS, "reinitialize": True, "hand_on": "best"}
    return ImprovePolicy(Succession(), Evaluator(num_envs=3, rule="mode"), **{**settings, **changes})


@pytest.fixture(scope="module")
def succession():
    """The states and the metrics of a phase through all five policies."""
    return played(improve(), CONTEXT, RunState(IdentityDecoder(2, 1, key=jax.random.key(0))))


def kept(candidates):
    """(mark, value, number) of what each seed keeps after each candidate (mark, values by seed), numbered from 10."""
    every = lambda tree: seeds.stack([tree] * len(candidates[0][1]))
    best, found = every(Snapshot(policy(0), jnp.asarray(-jnp.inf), jnp.asarray(0))), []
    for number, (mark, values) in enumerate(candidates, start=10):
        best = keep_best(
            (), (every(jnp.asarray(number)), every(policy(mark)), jnp.asarray(values)), trees.unshare_buffers(best)
        )
        found.append(list(zip(best.policy.mark.tolist(), best.value.tolist(), best.iteration.tolist())))
    return found


def test_the_first_of_the_best_policies_is_kept():
    """Strictly greater wins, and what is no number loses: of the values 1, 3, 3, nan, 2 it is the first 3."""
    found = kept([(mark, [value]) for mark, value in enumerate(VALUES)])
    assert found == [[(0, 1.0, 10)], [(1, 3.0, 11)], [(1, 3.0, 11)], [(1, 3.0, 11)], [(1, 3.0, 11)]]


def test_each_seed_keeps_its_own_best():
    assert kept([(0, [1.0, 3.0]), (1, [2.0, 2.0])]) == [[(0, 1.0, 10), (0, 3.0, 10)], [(1, 2.0, 11), (0, 3.0, 10)]]


def test_each_evaluation_is_of_the_newest_policy(succession):
    """An episode is two steps, each of which pays the level: returns are twice the levels."""
    _, metrics = succession
    evaluations = [m for m in metrics if "return" in m]
    np.testing.assert_allclose([m["return"] for m in evaluations], [2.0, 6.0, 6.0, np.nan, 4.0], rtol=1e-4)
    np.testing.assert_allclose([m["return_best"] for m in evaluations], [2.0, 6.0, 6.0, 6.0, 6.0], rtol=1e-4)


@pytest.mark.parametrize("hand_on, mark", [("best", 1), ("last", 4)])
def test_the_policy_that_was_asked_for_goes_on(succession, hand_on, mark):
    """Of the two, whichever goes on, both are left for whoever evaluates them."""
    states, _ = succession
    run = improve(hand_on=hand_on).finish(CONTEXT, states[-1])
    assert int(run.policy.mark) == mark and float(run.policy.level) == VALUES[mark]
    assert (int(run.best.mark), int(run.learner.policy.mark)) == (1, 4)


@pytest.mark.parametrize(
    "interval, expected",
    [
        (1, "e i e i e i e i e i e"),  # no more often than iterations
        (48, "e i i e i i e i e"),  # every two; the last comes at the end, whether it is time or not
        (50, "e i i i e i i e"),  # more than two iterations are three
        (1000, "e i i i i i e"),
    ],
)
def test_evaluations_come_before_between_and_after(interval, expected):
    """100 steps are five iterations of 24. The steps of evaluations (3 episodes of 2) are counted apart."""
    units = improve(env_steps=100, evaluation_interval=interval).units(TASK)
    assert " ".join(u.name[0] for u in units) == expected
    kinds = {(u.name, u.subset, u.env_steps, u.eval_steps) for u in units}
    assert kinds == {("iterate", "train", 24, 0), ("evaluate", "eval", 0, 6)}


def test_random_numbers_depend_on_the_number_of_iterations_alone():
    """However often the policy is evaluated, the third iteration and the evaluation after it have the index 3."""
    for interval in (1, 48, 1000):
        units = improve(evaluation_interval=interval).units(TASK)
        assert [u.key_index(p) for p, u in enumerate(units) if u.name == "iterate"] == [1, 2, 3, 4]
        done = [u.key_index(p) for p, u in enumerate(units) if u.name == "evaluate"]
        assert done == {1: [0, 1, 2, 3, 4], 48: [0, 2, 4], 1000: [0, 4]}[interval]


def test_the_algorithm_acts_through_the_decoder():
    """Its latents of 1 and 1 are a u of 2, which is what the environment pays."""
    _, metrics = played(improve(env_steps=STEPS), CONTEXT, RunState(Doubling(2, 1, key=jax.random.key(0))))
    assert metrics[1]["earned"] == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize("reinitialize, mark", [(True, 0), (False, 2)])
def test_a_learner_begins_anew_or_goes_on(reinitialize, mark):
    run = RunState(IdentityDecoder(2, 1, key=jax.random.key(0)), learner=Learner(policy(2)))
    state = improve(reinitialize=reinitialize).start(CONTEXT, run)
    assert int(state.training.learner.policy.mark) == int(state.best.policy.mark) == mark
