import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.objectives.regularizers import EntropyBonus, LatentKL, LatentL2, SquashedEntropyBonus
from gorl.policies import GaussianPolicy
from tests.support.networks import NORMALIZER, mlp

OBS = jnp.array([0.3, -0.7])
MEAN, STD = np.array([0.5, -1.0, 0.0]), np.array([0.4, 1.5, 1.0])


def gaussian(key, mean, std):
    """A policy that is N(mean, diag(std²)) at every observation."""
    body = mlp(4, 1, activation=jax.nn.tanh, output_scale=0.0)
    policy = GaussianPolicy(
        2, len(mean), body=body, normalizer=NORMALIZER, min_std=1e-3, max_std=10.0, initial_std=1.0, key=key
    )
    raw = np.log(np.expm1(np.asarray(std) - 1e-3)) - policy.shift
    bias = jnp.concatenate([jnp.asarray(mean, jnp.float32), jnp.asarray(raw, jnp.float32)])
    return eqx.tree_at(lambda p: p.body.layers[-1].bias, policy, bias)


def test_entropy_bonus(getkey):
    # H = sum(log sigma + 0.5 log(2 pi e)), and log(0.4 · 1.5 · 1.0) = -0.5108256; 3 · 1.4189385 = 4.2568156
    cost = EntropyBonus(0.01).cost(gaussian(getkey(), MEAN, STD).distribution(OBS), key=getkey())
    np.testing.assert_allclose(cost, -(4.2568156 - 0.5108256), rtol=1e-5)


def test_latent_l2(getkey):
    # mean(mu²) = 1.25 / 3; mean(sigma²) = (0.16 + 2.25 + 1) / 3
    cost = LatentL2(0.01).cost(gaussian(getkey(), MEAN, STD).distribution(OBS), key=getkey())
    np.testing.assert_allclose(cost, (1.25 + 3.41) / 3, rtol=1e-5)


def test_latent_kl(getkey):
    # 0.5 · (sum(sigma²) + sum(mu²) - 3 - 2 sum(log sigma)) = 0.5 · (3.41 + 1.25 - 3 + 1.0216512)
    cost = LatentKL(0.01).cost(gaussian(getkey(), MEAN, STD).distribution(OBS), key=getkey())
    np.testing.assert_allclose(cost, 1.3408256, rtol=1e-5)


def test_latent_kl_is_least_at_the_prior(getkey):
    policy = gaussian(getkey(), np.zeros(2), np.ones(2))
    cost, gradient = eqx.filter_value_and_grad(
        lambda p: LatentKL(1.0).cost(p.distribution(OBS), key=jax.random.key(0))
    )(policy)
    np.testing.assert_allclose(cost, 0.0, atol=1e-6)
    np.testing.assert_allclose(gradient.body.layers[-1].bias, np.zeros(4), atol=1e-6)


def integral(mean, std):
    """(mass, entropy) of tanh(u), u ~ N(mean, std²), from its density in a = tanh(u): N(atanh a) / (1 - a²)."""
    a = np.tanh(np.linspace(mean - 9 * std, mean + 9 * std, 40_001))
    a = a[np.abs(a) < 1]
    density = np.exp(-0.5 * ((np.arctanh(a) - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi)) / (1 - a**2)
    log = np.log(density, out=np.zeros_like(density), where=density > 0)
    return np.trapezoid(density, a), -np.trapezoid(density * log, a)


@pytest.mark.parametrize("mean, std", [(0.0, 0.3), (0.8, 0.6), (-1.5, 1.0)])
def test_squashed_entropy_against_integration(getkey, mean, std):
    policy = gaussian(getkey(), [mean], [std])
    cost = jax.jit(jax.vmap(lambda k: SquashedEntropyBonus(0.01).cost(policy.distribution(OBS), key=k)))
    entropy = -jnp.mean(cost(jax.random.split(getkey(), 40_000)))
    mass, expected = integral(mean, std)
    np.testing.assert_allclose(mass, 1.0, atol=1e-4)
    np.testing.assert_allclose(entropy, expected, atol=0.03)


def test_squashed_entropy_adds_over_dimensions(getkey):
    policy = gaussian(getkey(), [0.8, 0.0], [0.6, 0.3])
    cost = jax.jit(jax.vmap(lambda k: SquashedEntropyBonus(0.01).cost(policy.distribution(OBS), key=k)))
    entropy = -jnp.mean(cost(jax.random.split(getkey(), 40_000)))
    np.testing.assert_allclose(entropy, integral(0.8, 0.6)[1] + integral(0.0, 0.3)[1], atol=0.03)


def test_squashed_entropy_is_finite_where_tanh_is_one(getkey):
    policy = gaussian(getkey(), [60.0], [0.5])
    cost, gradient = eqx.filter_value_and_grad(
        lambda p: SquashedEntropyBonus(1.0).cost(p.distribution(OBS), key=jax.random.key(0))
    )(policy)
    assert 100.0 < cost < 150.0  # -log(1 - tanh² u) is about 2 u - log 4
    np.testing.assert_allclose(gradient.body.layers[-1].bias[0], 2.0, rtol=1e-3)
