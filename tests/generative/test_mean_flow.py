import jax
import jax.numpy as jnp
import numpy as np

from gorl.generative.mean_flow import adaptive_loss, mean_flow_residual

Z, R, T = jnp.array([1.0, 2.0]), jnp.float32(0.5), jnp.float32(1.0)
VELOCITY = jnp.array([3.0, -1.0])


def test_residual_by_hand():
    """u = t z + r = (1.5, 2.5), and du/dt along (2, 1) is t (2, 1) + z = (3, 3).

    The target is (3, -1) - 0.5 (3, 3) = (1.5, -2.5).
    """
    residual = mean_flow_residual(lambda z, r, t: t * z + r, Z, R, T, VELOCITY, jnp.array([2.0, 1.0]))
    np.testing.assert_allclose(residual, [0.0, 5.0], atol=1e-6)


def test_at_r_equal_to_t_it_is_flow_matching():
    residual = mean_flow_residual(lambda z, r, t: t * z + r, Z, T, T, VELOCITY, VELOCITY)
    np.testing.assert_allclose(residual, Z + 1.0 - VELOCITY, atol=1e-6)


def test_no_gradient_flows_through_the_target():
    """d/dk of u = k t z alone."""
    residual = lambda k: mean_flow_residual(lambda z, r, t: k * t * z, Z, R, T, VELOCITY, VELOCITY)
    np.testing.assert_allclose(jax.jacobian(residual)(jnp.float32(0.7)), Z, rtol=1e-6)


def test_adaptive_loss_by_hand():
    """m = (1 + 9) / 2 = 5. The weight is a constant for the gradient, which is residual · 2 / 2 · weight."""
    residual = jnp.array([1.0, 3.0])
    for power, weight in ((0.0, 1.0), (0.5, 1 / 3), (1.0, 1 / 9)):
        loss, gradient = jax.value_and_grad(lambda x, p=power: adaptive_loss(x, power=p, constant=4.0))(residual)
        np.testing.assert_allclose(loss, 5.0 * weight, rtol=1e-6)
        np.testing.assert_allclose(gradient, residual * weight, rtol=1e-6)


def test_adaptive_loss_at_no_residual():
    value, gradient = jax.value_and_grad(lambda x: adaptive_loss(x, power=1.0, constant=1e-3))(jnp.zeros(2))
    assert value == 0.0 and not np.any(gradient)
