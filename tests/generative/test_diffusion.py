import jax.numpy as jnp
import numpy as np

from gorl.generative.diffusion import (
    clip_action,
    diffuse,
    from_data,
    from_noise,
    from_velocity,
    regression_loss,
    velocity_target,
)

X0, EPS = jnp.array([2.0, -1.0]), jnp.array([4.0, 3.0])
ALPHA, SIGMA = jnp.float32(0.6), jnp.float32(0.8)
X = jnp.array([4.4, 1.8])  # 0.6·2 + 0.8·4, -0.6 + 0.8·3
V = jnp.array([0.8, 2.6])  # 0.6·4 - 0.8·2, 0.6·3 + 0.8


def test_the_noisy_action_by_hand():
    np.testing.assert_allclose(diffuse(X0, EPS, ALPHA, SIGMA), X, rtol=1e-6)
    np.testing.assert_array_equal(diffuse(X0, EPS, jnp.float32(1.0), jnp.float32(0.0)), X0)


def test_velocity_by_hand():
    np.testing.assert_allclose(velocity_target(X0, EPS, ALPHA, SIGMA), V, rtol=1e-6)


def test_each_prediction_gives_the_others_back():
    np.testing.assert_allclose(from_noise(EPS, X, ALPHA, SIGMA), X0, rtol=1e-5)
    np.testing.assert_allclose(from_data(X0, X, ALPHA, SIGMA), EPS, rtol=1e-5)
    np.testing.assert_allclose(jnp.stack(from_velocity(V, X, ALPHA, SIGMA)), jnp.stack([X0, EPS]), rtol=1e-5)


def test_an_error_of_the_noise_grows_by_sigma_over_alpha():
    np.testing.assert_allclose(from_noise(EPS + 0.3, X, ALPHA, SIGMA) - X0, [-0.4, -0.4], rtol=1e-4)


def test_a_clipped_action_keeps_x():
    x0, eps = clip_action(X0, EPS, ALPHA, SIGMA, bound=1.5)
    np.testing.assert_allclose(x0, [1.5, -1.0])
    np.testing.assert_allclose(eps, [4.375, 3.0])  # 4 + 0.6 / 0.8 · 0.5
    np.testing.assert_allclose(diffuse(x0, eps, ALPHA, SIGMA), X, rtol=1e-6)
    np.testing.assert_array_equal(
        jnp.stack(clip_action(X0, EPS, ALPHA, SIGMA, bound=float("inf"))), jnp.stack([X0, EPS])
    )


def test_loss_by_hand():
    np.testing.assert_allclose(regression_loss(jnp.array([1.0, 7.0]), EPS), 12.5)  # (9 + 16) / 2
