import jax
import jax.numpy as jnp
import numpy as np

from gorl.generative.flow import flow_matching_loss, interpolate

ACTION, NOISE = jnp.array([2.0, -1.0]), jnp.array([4.0, 3.0])


def test_the_path_runs_from_the_action_at_0_to_the_noise_at_1():
    np.testing.assert_allclose(interpolate(ACTION, NOISE, jnp.float32(0.0)), ACTION)
    np.testing.assert_allclose(interpolate(ACTION, NOISE, jnp.float32(1.0)), NOISE)
    np.testing.assert_allclose(
        interpolate(ACTION, NOISE, jnp.float32(0.25)), [2.5, 0.0]
    )  # 0.25·4 + 0.75·2, 0.25·3 - 0.75


def test_loss_by_hand():
    # target velocity (2, 4); v = (1, 7): (1 + 9) / 2
    np.testing.assert_allclose(flow_matching_loss(jnp.array([1.0, 7.0]), ACTION, NOISE), 5.0)


def test_gradient_by_hand():
    # d/dv of the mean of squares: (v - target) · 2 / 2
    gradient = jax.grad(flow_matching_loss)(jnp.array([1.0, 7.0]), ACTION, NOISE)
    np.testing.assert_allclose(gradient, [-1.0, 3.0])


def test_the_target_is_the_velocity_of_the_path():
    velocity = jax.jvp(lambda t: interpolate(ACTION, NOISE, t), (jnp.float32(0.3),), (jnp.float32(1.0),))[1]
    np.testing.assert_allclose(flow_matching_loss(velocity, ACTION, NOISE), 0.0, atol=1e-12)
