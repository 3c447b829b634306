import jax
import jax.numpy as jnp
import numpy as np

from gorl.decoders import IdentityDecoder
from gorl.networks import trainable


def test_the_latent_is_the_action(getkey):
    decoder = IdentityDecoder(3, 2, key=getkey())
    latent = jax.random.normal(getkey(), (5, 2))
    np.testing.assert_array_equal(jax.vmap(decoder)(jax.random.normal(getkey(), (5, 3)), latent), latent)
    assert decoder.latent_size == 2 and decoder.network_calls == 0


def test_there_is_nothing_to_fit(getkey):
    decoder = IdentityDecoder(3, 2, key=getkey())
    assert jax.tree.leaves(trainable(decoder)) == []
    assert decoder.loss(jnp.ones(3), jnp.ones(2), jnp.zeros(2), key=getkey()) == 0.0
    assert decoder.observe(jnp.ones((4, 3)), jnp.ones(4)) == decoder
