import jax
import jax.numpy as jnp
import numpy as np

from gorl.generative.distributions import DiagonalGaussian

ONE = DiagonalGaussian(jnp.array([1.0, -0.5]), jnp.array([0.5, 2.0]))
OTHER = DiagonalGaussian(jnp.array([0.0, 0.5]), jnp.array([1.0, 1.0]))


def test_the_divergence_of_two_gaussians():
    """Sum of log(s2 / s1) + (s1² + (m1 - m2)²) / (2 s2²) - 1/2, which is not symmetric."""
    expected = (np.log(2.0) + (0.25 + 1.0) / 2 - 0.5) + (-np.log(2.0) + (4.0 + 1.0) / 2 - 0.5)
    np.testing.assert_allclose(ONE.kl_to(OTHER), expected, rtol=1e-6)
    back = (-np.log(2.0) + (1.0 + 1.0) / (2 * 0.25) - 0.5) + (np.log(2.0) + (1.0 + 1.0) / (2 * 4.0) - 0.5)
    np.testing.assert_allclose(OTHER.kl_to(ONE), back, rtol=1e-6)
    np.testing.assert_allclose(ONE.kl_to(ONE), 0.0, atol=1e-7)


def test_the_divergence_from_the_standard_one_is_a_special_case():
    standard = DiagonalGaussian(jnp.zeros(2), jnp.ones(2))
    np.testing.assert_allclose(ONE.kl_to(standard), ONE.kl_to_standard(), rtol=1e-6)


def test_the_divergence_is_the_mean_of_the_log_ratio():
    samples = jax.vmap(lambda k: ONE.sample(key=k))(jax.random.split(jax.random.key(0), 100_000))
    log_ratio = jax.vmap(lambda x: ONE.log_prob(x) - OTHER.log_prob(x))(samples)
    np.testing.assert_allclose(jnp.mean(log_ratio), ONE.kl_to(OTHER), atol=0.05)
