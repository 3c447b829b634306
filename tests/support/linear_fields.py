"""Velocity fields with closed forms, for the policies that have one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from gorl.networks import FourierTime
from tests.support.networks import NORMALIZER, mlp

OBS_SIZE, ACTION_SIZE = 3, 2


def network(width=8, depth=1):
    return mlp(width, depth, activation=jnp.tanh)


def common(**changes):
    """What FlowPolicy and DenoisingPolicy both take."""
    return {
        "body": network(),
        "normalizer": NORMALIZER,
        "time_embedding": FourierTime(frequencies=2),
        "velocity_scale": 0.25,
        **changes,
    }


def set_linear(policy, slope, offset):
    """The policy (made with a body of depth 0) with v(s, x, t) = slope x + offset.

    The weights are divided by the scale of its output.
    """
    layer = policy.body.layers[0]
    columns = np.zeros(layer.weight.shape, np.float32)
    columns[:, OBS_SIZE : OBS_SIZE + ACTION_SIZE] = slope / policy.velocity_scale * np.eye(ACTION_SIZE)
    offset = np.broadcast_to(np.asarray(offset, np.float32), (ACTION_SIZE,)) / policy.velocity_scale
    return eqx.tree_at(
        lambda p: (p.body.layers[0].weight, p.body.layers[0].bias), policy, (jnp.asarray(columns), jnp.asarray(offset))
    )


def nudged(policy, by=0.1):
    """The same policy after some update."""
    rng = np.random.default_rng(0)
    move = lambda x: jnp.asarray(x + by * rng.standard_normal(x.shape), jnp.float32)
    body = jax.tree.map(lambda x: move(x) if eqx.is_inexact_array(x) else x, policy.body)
    return eqx.tree_at(lambda p: p.body, policy, body)


def acted(policy, obs, key):
    """(actions, extras) at a batch of observations."""
    return eqx.filter_jit(lambda p: jax.vmap(lambda o, k: p.sample(o, key=k))(obs, jax.random.split(key, len(obs))))(
        policy
    )


def log_ratios(policy, obs, action, extras):
    return eqx.filter_jit(
        lambda p: jax.vmap(lambda o, a, e: p.log_ratio(o, a, e, key=jax.random.key(0)))(obs, action, extras)
    )(policy)
