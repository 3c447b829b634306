"""Stages whose evaluations are known beforehand: each iteration takes the next policy of a script."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from gorl.acting.evaluator import Evaluator
from gorl.algorithms.base import AbstractAlgorithm
from gorl.decoders import IdentityDecoder
from gorl.environments.task import Task
from gorl.experiment import Experiment, Stage
from gorl.phases import AbstractPhase, Evaluate, ImprovePolicy, Unit
from gorl.phases.end_rules import NoGain
from gorl.runtime.trees import strip_weak_types
from gorl.state import RunState
from tests.support.payers import Learner, Level, Payer

TASK = Task(Payer(0.0), 2, True, True, 10.0)  # an episode returns twice the policy's level
STEPS = 24  # of an iteration
COLLECTED = 10
LEVELS = np.asarray([5, 4, 3, 4, 6, 6, 6, 0, 0, 0, 6, 7, 7, 7, 7, 7, 7, 0, 0, 0, 8, 8, 9], np.float32)


class Scripted(Level):
    """The policy number `mark` of the script. `drawn` is the sum of what was drawn on the way to it."""

    mark: jax.Array = None
    drawn: jax.Array = None


def policy(mark, drawn=0.0):
    drawn = jnp.asarray(drawn, jnp.float32)
    return strip_weak_types(Scripted(jnp.asarray(LEVELS)[mark], mark=jnp.asarray(mark, jnp.int32), drawn=drawn))


class Standing(eqx.Module):
    obs: jax.Array


class Lanes(eqx.Module):
    env: Standing


class Training(eqx.Module):
    learner: Learner
    lanes: Lanes


class Script(AbstractAlgorithm):
    """Begins with the policy number `first`, and each iteration takes the next one."""

    first: int = eqx.field(static=True)
    num_envs: int = 4
    env_steps_per_iteration = STEPS

    def check(self, episode_length):
        del episode_length

    def create(self, spaces, *, key):
        del spaces, key
        return Learner(policy(self.first))

    def start(self, env, learner, episodes, *, key):
        del env, episodes, key
        return Training(learner, Lanes(Standing(jnp.zeros((4, 2)))))

    def iterate(self, env, state, episodes, *, key):
        del env, episodes
        now = state.learner.policy
        return Training(Learner(policy(now.mark + 1, now.drawn + jax.random.uniform(key))), state.lanes), {}


class Fitted(IdentityDecoder):
    """A decoder of another structure than the identity's: it knows who it was fitted to."""

    mark: jax.Array

    def __init__(self, mark):
        self.action_size, self.mark = 1, mark


class Collect(AbstractPhase):
    """Takes `COLLECTED` steps."""

    def is_idle(self, run):
        return run.is_without_gain

    def units(self, task):
        return (Unit("collect", lambda context, state, index: (state, {}), env_steps=COLLECTED),)

    def start(self, context, run):
        return run

    def finish(self, context, state):
        return RunState(state.decoder, state.policy, state.best, state.learner)


class Fit(Collect):
    """Replaces the decoder."""

    def units(self, task):
        return (Unit("epoch", lambda context, state, index: (state, {}), axis="units"),)

    def finish(self, context, state):
        return RunState(Fitted(state.policy.mark), state.policy, state.best, state.learner)


def improve(first, iterations, **changes):
    rule = NoGain(margin=0.5, patience=2, min_env_steps=STEPS, min_kl=None)
    settings = {"evaluation_interval": STEPS, "reinitialize": "all", "hand_on": "best", "end": rule}
    return ImprovePolicy(
        Script(first), Evaluator(num_envs=3, rule="mode"), env_steps=iterations * STEPS, **settings | changes
    )


def experiment(firsts, *, iterations=9, budget=None, **changes):
    """One stage for each first policy; all but the first collect and fit."""
    final = Evaluate(Evaluator(num_envs=3, rule="mode"))
    stages = [[Collect(), Fit(), improve(first, iterations, **changes), final] for first in firsts]
    return Experiment(
        task=TASK,
        decoder=IdentityDecoder,
        stages=[Stage(phases=phases[2:] if i == 0 else phases) for i, phases in enumerate(stages)],
        seed=0,
        num_seeds=1,
        divergence_limit=3,
        precision="highest",
        checkpoint_interval=0.0,
        trackers=[],
        budget=budget,
    )
