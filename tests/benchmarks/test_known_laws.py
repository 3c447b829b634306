import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.known_laws import STANDARD, Mixture, errors, levels

LAW = Mixture((0.3, 0.7), (-0.6, 0.8), 0.25)


def density(law, a):
    parts = [
        w * np.exp(-((a - m) ** 2) / (2 * law.std**2)) / (law.std * np.sqrt(2 * np.pi))
        for w, m in zip(law.weights, law.means)
    ]
    return np.sum(parts, axis=0)


def test_posterior_means_by_integration():
    """E[a | x] and E[eps | x] for x = signal a + noise eps, by a sum over a fine grid of a."""
    a = np.linspace(-3, 3, 20_001)
    x = np.array([-1.0, 0.1, 0.7])
    for signal, noise in ((0.9, 0.3), (0.3, 0.95), (1.0, 0.05)):
        weight = density(LAW, a)[None] * np.exp(-((x[:, None] - signal * a[None]) ** 2) / (2 * noise**2))
        action = np.sum(weight * a[None], axis=1) / np.sum(weight, axis=1)
        found = LAW.posterior(jnp.asarray(x, jnp.float32), jnp.float32(signal), jnp.float32(noise))
        np.testing.assert_allclose(found[0], action, atol=2e-5)
        np.testing.assert_allclose(found[1], (x - signal * action) / noise, atol=2e-4)


def test_velocity_is_the_mean_of_noise_minus_action():
    x, t = jnp.array([0.4, -0.2]), jnp.float32(0.3)
    action, eps = LAW.posterior(x, jnp.float32(0.7), t)
    np.testing.assert_allclose(LAW.velocity(x, t), eps - action, rtol=1e-5)
    # N(0, 1): (t - (1 - t)) / (t² + (1 - t)²) x
    np.testing.assert_allclose(STANDARD.velocity(x, t), -0.4 / 0.58 * x, rtol=1e-5)


def test_quantiles_invert_the_cdf():
    p = levels(9)
    np.testing.assert_allclose(LAW.cdf(LAW.quantiles(p)), p, atol=1e-9)
    np.testing.assert_allclose(STANDARD.quantiles(np.array([0.5, 0.975])), [0.0, 1.959963985], atol=1e-8)
    np.testing.assert_allclose(
        LAW.cdf(np.array([0.1])), [0.3 * 0.99744487 + 0.7 * 0.00255513], atol=1e-7
    )  # ± 2.8 std from the modes


def test_errors_by_hand():
    own = LAW.quantiles(levels(1000))
    assert errors(LAW, own) == {"mean": 0.0, "std": 0.0, "mass": 0.0, "w1": 0.0}
    assert errors(LAW, own[::-1])["w1"] == 0.0  # the order of samples is no part of a law
    shifted = errors(LAW, own + 0.125)
    np.testing.assert_allclose([shifted["mean"], shifted["std"], shifted["w1"]], [0.125, 0.0, 0.125], atol=1e-9)
    np.testing.assert_allclose(errors(STANDARD, 1.5 * STANDARD.quantiles(levels(1001)))["std"], 0.5, atol=1e-9)
    np.testing.assert_allclose(
        errors(LAW, np.abs(own))["mass"], 0.3, atol=2e-3
    )  # 700 of 1000 are above 0, less what the modes' tails have


def test_quantiles_are_those_of_draws(getkey):
    component = jax.random.bernoulli(getkey(), 0.7, (20_000,))
    draws = jnp.where(component, 0.8, -0.6) + 0.25 * jax.random.normal(getkey(), (20_000,))
    found = errors(LAW, draws)
    assert found["w1"] < 0.02 and abs(found["mass"]) < 0.01
