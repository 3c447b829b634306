"""What phases are tested with: policies that are one number, in an environment that pays that number."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from gorl.algorithms.base import AbstractLearner
from gorl.environments.toy import AbstractToy
from gorl.policies.base import AbstractPolicy
from gorl.runtime import seeds, trees


class Payer(AbstractToy):
    """Observes [who, steps]: a number drawn at the reset from [0, spread), and the steps since then.

    It pays who + u, where u is the action before the squash.
    """

    spread: float = eqx.field(static=True)

    def first(self, key):
        return jnp.stack([self.spread * jax.random.uniform(key), jnp.zeros(())])

    def move(self, obs, clock, action):
        del clock
        return obs + jnp.array([0.0, 1.0]), obs[0] + jnp.arctanh(action[0]), jnp.zeros((), bool)


class Level(AbstractPolicy):
    """Its mode is `level`, whatever it sees; its samples are N(level, 1)."""

    level: jax.Array
    normalizer: None = None

    def sample(self, obs, *, key):
        return self.mode(obs, key=key) + jax.random.normal(key, (1,)), ()

    def mode(self, obs, *, key):
        del obs, key
        return self.level[None]

    def log_ratio(self, obs, action, extras, *, key):
        raise NotImplementedError


class Learner(AbstractLearner):
    """Values a state at 10 times who it is, and its steps."""

    policy: AbstractPolicy

    def value(self, critic_obs, obs):
        del critic_obs
        return 10.0 * obs[0] + obs[1]


def level(value):
    return Level(jnp.asarray(value, jnp.float32))


def played(phase, context, run):
    """The states before the first unit and after each, and the metrics of each unit. All of it is of one seed."""
    all_seeds = dataclasses.replace(context, seed=np.full(1, context.seed, np.int32))
    states, metrics = [phase.start(context, run)], []
    for position, unit in enumerate(phase.units(context.task)):
        mine = trees.unshare_buffers(seeds.add_seed_axis(states[-1]))  # a unit may write over what it is given
        state, values = unit.run(all_seeds, mine, unit.key_index(position))
        states.append(seeds.take_seed(state))
        metrics.append({name: float(value[0]) for name, value in values.items()})
    return states, metrics
