"""A network that holds more than arrays is static in all but its arrays, and computes what it did."""

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.algorithms.critics import Critic, TwinCritic
from gorl.errors import ConfigError
from gorl.networks import RunningNormalizer, sealed


class Odd(eqx.Module):
    """A network with a function, a float and a Dropout, as eqx.nn has them."""

    inner: eqx.nn.MLP
    gain: float
    drop: eqx.nn.Dropout

    def __init__(self, in_size, out_size, *, key):
        self.inner, self.gain = eqx.nn.MLP(in_size, out_size, 4, 1, key=key), 3.0
        self.drop = eqx.nn.Dropout(0.5, inference=True)

    def __call__(self, x):
        return self.drop(self.gain * self.inner(x))


def normalizer(size):
    return RunningNormalizer(size, epsilon=1e-6, clip=10.0)


def critic(kind, *sizes, **settings):
    with gin.unlock_config():
        return kind(*sizes, body=Odd, normalizer=normalizer, key=jax.random.key(0), **settings)


def test_only_arrays_are_left_and_nothing_else_changes(getkey):
    plain = critic(Critic, 3)
    module, x = sealed(plain), jax.random.normal(getkey(), (3,))
    assert not all(map(eqx.is_array, jax.tree.leaves(plain)))
    assert all(map(eqx.is_array, jax.tree.leaves(module)))
    assert len(jax.tree.leaves(module)) == len(jax.tree.leaves(eqx.filter(plain, eqx.is_array)))
    np.testing.assert_array_equal(module(x), plain(x))
    assert module.body.gain == 3.0 and module.body.inner.width_size == 4  # as the module itself
    carried, _ = jax.lax.scan(lambda m, _: (m, m(x)), module, None, length=2)  # which takes arrays alone
    np.testing.assert_array_equal(carried(x), plain(x))
    assert jax.tree.structure(sealed(critic(Critic, 3))) == jax.tree.structure(module)  # one compiled program


def test_an_ensemble_is_sealed_as_one(getkey):
    plain = critic(TwinCritic, 3, 2, squash=True)
    obs, action = jax.random.normal(getkey(), (3,)), jax.random.normal(getkey(), (2,))
    np.testing.assert_array_equal(sealed(plain)(obs, action), plain(obs, action))


def test_what_holds_only_arrays_is_as_it_was():
    module = Critic(
        3, body=lambda i, o, *, key: eqx.nn.Linear(i, o, key=key), normalizer=normalizer, key=jax.random.key(0)
    )
    assert sealed(module).body is module.body


class Plain(eqx.Module):
    weight: jax.Array
    size: object

    def __call__(self, x):
        return x


@pytest.mark.parametrize(
    "value, parts",
    [
        (3, ("Plain.size is a plain int", "size: ... = gorl.fields.structural()")),
        (0.5, ("Plain.size is a plain float", "self.size = jnp.asarray(...)")),
        (jnp.tanh, ("Plain.size is a plain function",)),
        ([True], ("Plain.size[0] is a plain bool",)),
        ("tanh", ("Plain.size is a plain str",)),
    ],
)
def test_a_plain_field_of_a_role_is_named(value, parts):
    with pytest.raises(ConfigError) as err:
        sealed(Plain(jnp.zeros(2), value))
    assert all(part in str(err.value) for part in parts), str(err.value)
