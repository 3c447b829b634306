"""An environment that breaks: at random steps of random lanes a number that it shows, or keeps, is no longer one."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from gorl.environments.base import AbstractEnvironment, make_state
from gorl.environments.toy import Slider
from gorl.state import EnvState

KINDS = (
    "observation nan", "observation inf", "observation huge", "reward nan", "reward inf", "privileged nan",
    "privileged inf", "physics nan", "physics huge", "careless nan",
)  # fmt: skip


class Poison(AbstractEnvironment):
    """Slider with dict observations: the actor sees 'state' [x, v], the critic 'privileged' [x, v, 10 + steps so far].

    At every step, with probability `rate`, the numbers that `kind` names are broken: in what is shown, in the physics
    alone ('physics ...': what is shown at that step is still finite), or in a state that did not look for it
    ('careless nan').
    """

    kind: Any = eqx.field(converter=lambda kind: KINDS.index(kind) if isinstance(kind, str) else kind)
    rate: Any
    inner: AbstractEnvironment = Slider()

    @property
    def action_size(self):
        return self.inner.action_size

    def reset(self, key):
        inner_key, key = jax.random.split(key)
        return self._state(self.inner.reset(inner_key), key, jnp.zeros(()), jnp.zeros((), bool))

    def step(self, state, action):
        inner, key, steps, _ = state.sim
        return self._state(self.inner.step(inner, action), key, steps + 1, self.breaks(key, steps))

    def breaks(self, key, steps):
        """Whether the step from `steps` to `steps` + 1 of the episode with this key does."""
        return jax.random.bernoulli(jax.random.fold_in(key, steps.astype(jnp.int32)), self.rate)

    def _state(self, inner, key, steps, broken):
        def bad(x, **kinds):
            for name, value in kinds.items():
                x = jnp.where(broken & (self.kind == KINDS.index(name.replace("_", " "))), value, x)
            return x

        shown = inner.obs.at[1].set(
            bad(inner.obs[1], observation_nan=jnp.nan, observation_inf=-jnp.inf, observation_huge=1e30)
        )
        more = inner.obs.at[0].set(bad(inner.obs[0], privileged_nan=jnp.nan, privileged_inf=jnp.inf))
        observation = {"state": shown, "privileged": jnp.concatenate([more, 10.0 + steps[None]])}
        reward = bad(inner.reward, reward_nan=jnp.nan, reward_inf=jnp.inf)
        x, clock = inner.sim
        physics = x.at[0].set(bad(x[0], physics_nan=jnp.nan, physics_huge=-1e12))
        sim = (eqx.tree_at(lambda s: s.sim, inner, (physics, clock)), key, steps, broken)
        state = make_state(
            sim, observation, reward, False, obs_key="state", critic_obs_key="privileged", physics=(physics,)
        )
        careless = bad(state.obs[1], careless_nan=jnp.nan)
        return EnvState(
            state.sim, state.obs.at[1].set(careless), state.critic_obs, state.reward, state.terminated, state.invalid
        )

    def describe(self):
        return {"library": "test", "name": "Poison", "impl": "jax"}


def poison(kind="observation nan", rate=0.04):
    """Of which one compiled program does for every kind and rate."""
    return Poison(jnp.asarray(KINDS.index(kind)), jnp.asarray(rate))
