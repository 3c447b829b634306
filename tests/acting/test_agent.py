import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from gorl.acting.agent import Agent
from gorl.decoders import IdentityDecoder
from gorl.policies import GaussianPolicy
from tests.support.networks import NORMALIZER, mlp

OBS = jnp.zeros(1)


def agent(key, *, rule):
    """Its latent is N((0.5, -40), (0.1, 0.1))."""
    body = mlp(1, 0, activation=jax.nn.tanh, output_scale=0.0)
    policy = GaussianPolicy(
        1, 2, body=body, normalizer=NORMALIZER, min_std=1e-3, max_std=10.0, initial_std=0.1, key=key
    )
    policy = eqx.tree_at(lambda p: p.body.layers[-1].bias, policy, jnp.array([0.5, -40.0, 0.0, 0.0]))
    return Agent(policy, IdentityDecoder(1, 2, key=key), np.asarray(3.0, np.float32), rule)


def test_deterministic_agents_take_the_mode_bounded_and_squashed(getkey):
    actor = agent(getkey(), rule="mode")
    for _ in range(2):
        np.testing.assert_allclose(actor.control(OBS, key=getkey()), [0.5, -3.0], rtol=1e-6)
        np.testing.assert_allclose(actor.act(OBS, key=getkey()), [0.46211716, -0.99505475], rtol=1e-5)  # tanh


def test_others_sample(getkey):
    actor = agent(getkey(), rule="stochastic")
    u = jax.jit(jax.vmap(lambda k: actor.control(OBS, key=k)))(jax.random.split(getkey(), 2_000))
    np.testing.assert_allclose([jnp.mean(u[:, 0]), jnp.std(u[:, 0])], [0.5, 0.1], atol=0.01)
    np.testing.assert_array_equal(u[:, 1], np.full(2_000, -3.0))
