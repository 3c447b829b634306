"""Improving a policy: which one is kept, which goes on, and when they are evaluated."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.acting.evaluator import Evaluator
from gorl.algorithms.base import AbstractAlgorithm
from gorl.algorithms.critics import Critic, TwinCritic
from gorl.algorithms.on_policy import OnPolicyLearner
from gorl.algorithms.sac import SACLearner
from gorl.decoders import IdentityDecoder
from gorl.environments.task import Task
from gorl.errors import ConfigError
from gorl.phases import ImprovePolicy, PhaseContext
from gorl.phases.improve_policy import REINITIALIZE, keep_best
from gorl.policies import GaussianPolicy
from gorl.runtime import seeds, trees
from gorl.state import RunState, Snapshot
from tests.support.networks import NORMALIZER, mlp
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
    settings = {"env_steps": 4 * STEPS, "evaluation_interval": STEPS, "reinitialize": "all", "hand_on": "best"}
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


@pytest.mark.parametrize(
    "reinitialize, mark", [("all", 0), ("networks", 0), ("policy", 0), ("nothing", 2), (True, 0), (False, 2)]
)
def test_a_learner_begins_anew_or_goes_on(reinitialize, mark):
    run = RunState(IdentityDecoder(2, 1, key=jax.random.key(0)), learner=Learner(policy(2)))
    state = improve(reinitialize=reinitialize).start(CONTEXT, run)
    assert int(state.training.learner.policy.mark) == int(state.best.policy.mark) == mark


def on_policy_learner(number):
    """A learner whose networks and statistics are those of one key and of observations near the number."""
    networks = {"body": mlp(8, 1), "normalizer": NORMALIZER}
    keys = jax.random.split(jax.random.key(number))
    policy = GaussianPolicy(2, 1, **networks, min_std=1e-3, max_std=10.0, initial_std=1.0, key=keys[0])
    critic = Critic(2, **networks, key=keys[1])
    obs = number + jnp.arange(6.0).reshape(3, 2)
    return OnPolicyLearner(policy.observe(obs, jnp.ones(3)), critic.observe(obs, jnp.ones(3)), jnp.asarray(number))


def parts(learner):
    """What a learner is made of, as the number of the learner that each came from."""
    known = {number: on_policy_learner(number) for number in (1, 2)}
    take = {
        "policy": lambda m: m.policy.body,
        "critic": lambda m: m.critic.body,
        "policy's statistics": lambda m: m.policy.normalizer,
        "critic's statistics": lambda m: m.critic.normalizer,
        "optimizer": lambda m: m.optimizer,
    }
    same = lambda a, b: bool(eqx.tree_equal(a, b))
    return {name: [n for n, m in known.items() if same(f(learner), f(m))] for name, f in take.items()}


@pytest.mark.parametrize(
    "reinitialize, new",
    [
        ("all", {"policy", "critic", "policy's statistics", "critic's statistics", "optimizer"}),
        ("networks", {"policy", "critic", "optimizer"}),
        ("policy", {"policy", "optimizer"}),
        ("nothing", set()),
    ],
)
def test_what_begins_anew(reinitialize, new):
    """Learner 1 is the old one and learner 2 the new one."""
    found = parts(REINITIALIZE[reinitialize](on_policy_learner(2), on_policy_learner(1)))
    assert found == {name: [2 if name in new else 1] for name in found}


def test_a_critic_of_latents_holds_for_one_decoder():
    """SAC's critic begins anew with the policy, and only the statistics go on."""
    learners = []
    for number in (1.0, 2.0):
        one, key = on_policy_learner(int(number)), jax.random.key(int(number))
        critic = TwinCritic(2, 1, body=mlp(8, 1), normalizer=NORMALIZER, squash=False, key=key)
        critic = eqx.tree_at(lambda m: m.normalizer, critic, one.critic.normalizer)
        learners.append(SACLearner(one.policy, critic, critic.bodies, jnp.asarray(number, jnp.float32), ()))
    old, new = learners
    kept = REINITIALIZE["policy"](new, old)
    assert eqx.tree_equal(kept.critic.bodies, new.critic.bodies) and kept.log_temperature == 2.0
    assert eqx.tree_equal(kept.critic.normalizer, old.critic.normalizer)
    assert eqx.tree_equal(kept.policy.normalizer, old.policy.normalizer)


def test_a_name_that_says_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"reinitialize = 'polcy': it is one of .*Did you mean policy"):
        improve(reinitialize="polcy")
