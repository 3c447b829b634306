"""When a rule ends a phase, what it waits for, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl import config
from gorl.errors import ConfigError
from gorl.generative.distributions import DiagonalGaussian
from gorl.phases.end_rules import NoGain
from gorl.policies.base import AbstractGaussianPolicy
from gorl.runtime import seeds
from gorl.state import Gain, RunState
from tests.support import scripted
from tests.support.payers import level

DEBUG = ["gorl_fm.gin", "parts/debug.gin", "controls/adaptive_stages.gin"]
SLIDER = ["Task.environment = @Slider()"]


class AtObservation(AbstractGaussianPolicy):
    """N(s, 1), whose divergence from N(0, 1) is s²/2."""

    normalizer: None = None

    def distribution(self, obs):
        return DiagonalGaussian(obs, jnp.ones_like(obs))

    def sample(self, obs, *, key):
        raise NotImplementedError

    mode = log_ratio = sample


def rule(**changes):
    return NoGain(**{"margin": 1.0, "patience": 2, "min_env_steps": 0, "min_kl": None, **changes})


def after(a_rule, values, policy, obs):
    """Returns (evaluations without gain, met) and the metrics after each value."""
    state, found, metrics = a_rule.start(), [], []
    for value in values:
        state, more = a_rule.update(state, jnp.asarray(value), policy, obs)
        found.append((int(state.waited), bool(state.met)))
        metrics.append(more)
    return found, metrics


def test_a_gain_is_counted_from_the_last_gain():
    """10 to 11 is no gain of more than 1, and 11.5 is one, from 10. NaN is none, and 12.5 is none from 11.5."""
    values = [10.0, 11.0, 11.5, np.nan, 12.5, 5.0, 12.75]
    found, _ = after(rule(), values, level(0.0), jnp.zeros((1, 2)))
    assert found == [(0, False), (1, False), (0, False), (1, False), (2, True), (3, True), (0, False)]


def test_with_min_kl_a_policy_near_the_prior_goes_on():
    """The observations 1 and 3 have divergences of 0.5 and 4.5, so 2.5 on average; one that is not finite has none."""
    obs = jnp.asarray([[1.0], [3.0], [jnp.nan]])
    for least, met in ((2.5, True), (2.51, False)):
        found, metrics = after(rule(min_kl=least), [1.0, 1.0, 1.0], AtObservation(), obs)
        assert found[-1] == (2, met)
        assert float(metrics[-1]["latent_kl"]) == 2.5


def test_a_rule_is_asked_after_evaluations_from_its_least_steps_on():
    units = scripted.improve(0, 3, end=rule(min_env_steps=scripted.STEPS + 1)).units(scripted.TASK)
    assert [u.index for u in units if u.ends_phase is not None] == [2, 3]
    assert all(u.name == "evaluate" for u in units if u.ends_phase is not None)
    assert all(u.ends_phase is None for u in scripted.improve(0, 3, end=None).units(scripted.TASK))


@pytest.mark.parametrize("steps, iterations", [(0, 0), (23, 0), (24, 1), (71, 2), (1000, 3)])
def test_a_phase_within_a_budget_has_whole_iterations_and_a_last_evaluation(steps, iterations):
    units = scripted.improve(0, 3, evaluation_interval=1000).within(steps).units(scripted.TASK)
    assert sum(u.name == "iterate" for u in units) == iterations
    assert (units[-1].name, units[-1].index) == ("evaluate", iterations)


def test_the_least_steps_are_whole_iterations_of_those_declared():
    least = lambda *args, **more: scripted.improve(*args, **more).least_env_steps(scripted.TASK) // scripted.STEPS
    assert least(0, 3, end=None) == least(0, 3, end=rule()) == 1
    assert least(0, 3, end=rule(min_env_steps=scripted.STEPS + 1)) == 2
    assert least(0, 3, end=rule(min_env_steps=1000)) == 3


def test_without_a_gain_there_is_nothing_to_collect_and_to_fit():
    experiment = config.build(DEBUG, SLIDER).experiment
    phases = experiment.stages[1].phases
    gains = [Gain(jnp.asarray(found), jnp.zeros(())) for found in (False, True)]
    states = [seeds.add_seed_axis(RunState(None, gain=gain)) for gain in (*gains, None)]
    idle = [[phase.is_idle(state) for phase in phases] for state in states]
    assert idle == [[True, True, True, False, False], [False] * 5, [False] * 5]


def test_a_learner_of_another_structure_cannot_go_on():
    """After a stage without gain the same kind of learner goes on; one with a larger network begins anew."""
    run = lambda first: RunState(
        scripted.Fitted(jnp.zeros(())),
        policy,
        policy,
        scripted.Learner(first),
        gain=Gain(jnp.asarray(False), jnp.asarray(9.0)),
    )
    policy = scripted.policy(2)
    context = scripted.experiment([0]).context(next(scripted.experiment([0]).planned_phases()))
    state = scripted.improve(0, 3).start(context, run(policy))
    assert (int(state.training.learner.policy.mark), int(state.best.policy.mark), float(state.best.value)) == (2, 2, 9)
    wide = jax.tree.map(lambda x: jnp.stack([x, x]), policy)
    state = scripted.improve(0, 3).start(context, run(wide))
    assert (int(state.training.learner.policy.mark), int(state.best.policy.mark)) == (0, 0)
    assert float(state.best.value) == -np.inf


@pytest.mark.parametrize(
    "files, binding, message",
    [
        (DEBUG, "NoGain.patience = 0", "NoGain.patience = 0`: it must be >= 1"),
        (DEBUG, "NoGain.margin = -1.0", "NoGain.margin = -1.0`: it must be >= 0"),
        (DEBUG, "NoGain.min_kl = -1.0", "NoGain.min_kl = -1.0`: it must be >= 0"),
        (DEBUG, "NoGain.min_env_steps = -1", "NoGain.min_env_steps = -1`: it must be >= 0"),
        (DEBUG, "ImprovePolicy.end = @NoGain", "Did you forget '\\(\\)'. Write @NoGain"),
        (DEBUG, "NUM_SEEDS = 2", "Experiment.num_seeds = 2 with a rule"),
        (DEBUG, "Experiment.budget = 0", "Experiment.budget = 0, but stage 0 needs at least 240"),
        (
            ["fpo.gin", "parts/debug.gin"],
            ["ImprovePolicy.end = @NoGain()", "NoGain.min_kl = 0.1"],
            "NoGain.min_kl = 0.1 needs a Gaussian policy, but the algorithm's is FlowPolicy",
        ),
    ],
)
def test_rules_that_cannot_be_are_refused(files, binding, message):
    with pytest.raises(ConfigError, match=message):
        config.build(files, [*SLIDER, *([binding] if isinstance(binding, str) else binding)])
