import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gorl.decoders import GaussianDecoder
from gorl.errors import ConfigError
from gorl.networks import trainable
from tests.support.networks import NORMALIZER, mlp

SETTINGS = {"min_std": 1e-3, "max_std": 10.0, "initial_std": 1.0}
LINEAR = mlp(1, 0, output_scale=0.0)


class Constant(eqx.Module):
    output: jax.Array

    def __call__(self, inputs):
        return self.output


def decoder(*, body=LINEAR, obs_size=1, action_size=2, **changes):
    return GaussianDecoder(
        obs_size, action_size, body=body, normalizer=NORMALIZER, key=jax.random.key(0), **{**SETTINGS, **changes}
    )


def raw(std):
    """The network output that means this std: the inverse of softplus(x + c) + 1e-3, c = log(expm1(0.999))."""
    return float(np.log(np.expm1(std - 1e-3)) - np.log(np.expm1(0.999)))


def test_action_and_likelihood_by_hand():
    """N((1, -2), (0.5, 2)²): the action is mean + std z; -log p is the sum of log(std) + log(2 pi) / 2 + z² / 2."""
    model = decoder(body=lambda i, o, *, key: Constant(jnp.array([1.0, -2.0, raw(0.5), raw(2.0)])))
    np.testing.assert_allclose(model(jnp.zeros(1), jnp.array([2.0, -0.5])), [2.0, -3.0], rtol=1e-5)
    loss = model.loss(jnp.zeros(1), jnp.array([2.0, -3.0]), jnp.zeros(2), key=jax.random.key(0))
    np.testing.assert_allclose(loss, np.log(0.5) + np.log(2.0) + np.log(2 * np.pi) + 0.5 * (4.0 + 0.25), rtol=1e-5)


def test_the_latent_does_not_enter_the_loss(getkey):
    model = decoder()
    values = [
        float(model.loss(jnp.zeros(1), jnp.ones(2), jax.random.normal(getkey(), (2,)), key=getkey())) for _ in range(3)
    ]
    assert len(set(values)) == 1


def test_it_starts_at_the_prior():
    np.testing.assert_allclose(decoder()(jnp.ones(1), jnp.array([0.7, -1.2])), [0.7, -1.2], atol=1e-5)


def test_the_spread_is_bounded():
    for output, std in ((-100.0, 1e-3), (100.0, 10.0)):
        model = decoder(body=lambda i, o, *, key, x=output: Constant(jnp.array([0.0, 0.0, x, x])))
        np.testing.assert_allclose(model(jnp.zeros(1), jnp.ones(2)), [std, std], rtol=1e-4)


def test_a_fit_finds_the_line_and_the_spread_of_the_data(getkey):
    """a = 0.5 + 2 s + 0.3 n, where s = ± 1 is its own normalized value.

    Maximum likelihood is least squares, and the std is that of its residual.
    """
    obs = jnp.where(jax.random.bernoulli(getkey(), shape=(2000, 1)), 1.0, -1.0)
    action = 0.5 + 2.0 * obs + 0.3 * jax.random.normal(getkey(), (2000, 1))
    model = decoder(action_size=1).observe(obs, jnp.ones(2000))
    params, rest = eqx.partition(model, trainable(model))
    optimizer = optax.adam(0.05)

    def mean_loss(params):
        return jnp.mean(
            jax.vmap(lambda o, a: eqx.combine(params, rest).loss(o, a, a, key=jax.random.key(0)))(obs, action)
        )

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(mean_loss)(params), state)
        return (eqx.apply_updates(params, updates), state), None

    (params, _), _ = jax.jit(lambda p: jax.lax.scan(step, (p, optimizer.init(p)), length=400))(params)
    fitted = eqx.combine(params, rest)
    for s in (1.0, -1.0):
        law, group = fitted.distribution(jnp.array([s])), action[obs == s]
        np.testing.assert_allclose([law.mean[0], law.std[0]], [jnp.mean(group), jnp.std(group)], atol=0.01)


def test_settings_are_checked():
    with pytest.raises(
        ConfigError, match=r"GaussianDecoder needs 0 < min_std < initial_std <= max_std, got 1\.0, 1\.0, 10\.0"
    ):
        decoder(min_std=1.0)
