import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.errors import ConfigError
from gorl.generative.distributions import DiagonalGaussian
from gorl.objectives.entropy import LatentEntropy, RelativeEntropy, SquashedEntropy


@pytest.mark.parametrize("mean, std", [(0.0, 1.0), (0.8, 0.4), (-1.5, 0.2)])
def test_the_squashed_density_integrates_to_1(mean, std):
    """Over the action in (-1, 1), and its mean is that of tanh(u): two integrals that a wrong Jacobian fails."""
    a = (np.arange(200_000) + 0.5) / 100_000 - 1.0  # midpoints
    u = np.arctanh(a)
    log_slope = np.log1p(-(a**2))
    expected = -0.5 * ((u - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi) - log_slope
    distribution = DiagonalGaussian(jnp.array([mean]), jnp.array([std]))
    some = np.abs(u - mean) < 4 * std
    index = np.flatnonzero(some)[:: some.sum() // 50]
    found = np.array([SquashedEntropy(-1.0).log_prob(distribution, jnp.array([u[i]], jnp.float32)) for i in index])
    np.testing.assert_allclose(found, expected[index], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(np.mean(np.exp(expected)) * 2.0, 1.0, rtol=1e-3)


def test_the_squashed_density_is_finite_far_out():
    distribution = DiagonalGaussian(jnp.array([30.0, -30.0]), jnp.ones(2))
    found = SquashedEntropy(-1.0).log_prob(distribution, distribution.mean)
    np.testing.assert_allclose(
        found, -np.log(2 * np.pi) - 2 * (2 * np.log(2.0) - 60.0), rtol=1e-6
    )  # log(1 - tanh²) -> 2 log 2 - 2 |u|


def test_the_latent_density_is_the_gaussians():
    distribution = DiagonalGaussian(jnp.array([1.0, 2.0]), jnp.array([0.5, 2.0]))
    found = LatentEntropy(0.7).log_prob(distribution, jnp.array([1.5, 0.0]))
    np.testing.assert_allclose(found, -0.5 - 0.5 - np.log(2 * np.pi) - np.log(0.5) - np.log(2.0), rtol=1e-6)


def test_targets():
    np.testing.assert_allclose(SquashedEntropy(-1.0).target(6), -6.0)
    np.testing.assert_allclose(SquashedEntropy(-0.5).target(6), -3.0)
    normal = DiagonalGaussian(jnp.zeros(3), jnp.full(3, 0.7))
    np.testing.assert_allclose(LatentEntropy(0.7).target(3), normal.entropy(), rtol=1e-6)
    assert LatentEntropy(0.7).target(3) > 0 > SquashedEntropy(-1.0).target(3)


def test_the_relative_entropy_is_minus_the_divergence_from_the_prior():
    distribution = DiagonalGaussian(jnp.array([1.0, -0.5]), jnp.array([0.5, 0.3]))
    samples = jax.vmap(lambda k: distribution.sample(key=k))(jax.random.split(jax.random.key(0), 100_000))
    found = jnp.mean(jax.vmap(lambda x: RelativeEntropy(1.0).log_prob(distribution, x))(samples))
    np.testing.assert_allclose(found, distribution.kl_to_standard(), atol=0.01)  # 2.1 nats, standard error 0.004
    np.testing.assert_allclose(RelativeEntropy(1.5).target(4), -6.0)


def test_the_prior_itself_has_no_relative_entropy():
    prior = DiagonalGaussian(jnp.zeros(3), jnp.ones(3))
    np.testing.assert_allclose(RelativeEntropy(1.0).log_prob(prior, jnp.array([0.3, -4.0, 2.0])), 0.0, atol=1e-6)


def test_a_divergence_is_positive():
    with pytest.raises(
        ConfigError, match=r"RelativeEntropy\.kl_per_dimension = 0\.0: it must be > 0; at 0 the policy is the prior"
    ):
        RelativeEntropy(0.0)


def test_a_std_is_positive():
    with pytest.raises(ConfigError, match=r"LatentEntropy\.target_std = 0\.0: it must be > 0\."):
        LatentEntropy(0.0)
