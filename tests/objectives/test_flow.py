import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.errors import ConfigError
from gorl.generative.flow import flow_matching_loss, interpolate
from gorl.policies.flow_ratio import AveragedRatio, NoiseTarget, PerDrawRatio, VelocityTarget

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


@pytest.mark.parametrize("t", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_implied_noise_is_off_by_1_minus_t_times_the_velocitys_error(getkey, t):
    """NoiseTarget against its definition: x_0 = x_t - t v, noise_hat = x_0 + v."""
    velocity, action, noise, t = *np.asarray(jax.random.normal(getkey(), (3, 4)), np.float64), np.float64(t)
    x_t = t * noise + (1 - t) * action
    noise_hat = (x_t - t * velocity) + velocity
    arrays = [jnp.asarray(x, jnp.float32) for x in (velocity, action, noise, t)]
    loss = NoiseTarget().loss(*arrays)
    np.testing.assert_allclose(loss, np.mean((noise - noise_hat) ** 2), rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(loss, (1 - t) ** 2 * VelocityTarget().loss(*arrays), rtol=1e-6)
    assert VelocityTarget().loss(*arrays) > 0.1


def test_at_the_noise_end_the_noise_is_known_exactly(getkey):
    velocity, action, noise = 1e3 * jax.random.normal(getkey(), (3, 5))
    assert NoiseTarget().loss(velocity, action, noise, jnp.float32(1.0)) == 0.0
    assert not jnp.any(jax.grad(NoiseTarget().loss)(velocity, action, noise, jnp.float32(1.0)))


OLD, NEW = jnp.array([5.0, 1.0, 2.0, 9.0]), jnp.array([1.0, 2.0, 2.5, 1.0])  # differences 4, -1, -0.5, 8


def test_ratios_by_hand():
    np.testing.assert_allclose(AveragedRatio()(OLD, NEW), [10.5 / 4])
    np.testing.assert_allclose(PerDrawRatio(clip=3.0)(OLD, NEW), [3.0, -1.0, -0.5, 3.0])
    np.testing.assert_allclose(PerDrawRatio(clip=3.0)(NEW, OLD), [-3.0, 1.0, 0.5, -3.0])
    np.testing.assert_allclose(PerDrawRatio(clip=np.inf)(OLD, NEW), [4.0, -1.0, -0.5, 8.0])


def test_a_clipped_draw_has_no_gradient():
    slopes = jax.grad(lambda new: jnp.sum(PerDrawRatio(clip=3.0)(OLD, new)))(NEW)
    np.testing.assert_array_equal(slopes, [0.0, -1.0, -1.0, 0.0])


def test_the_clip_must_be_positive():
    with pytest.raises(ConfigError, match=r"PerDrawRatio\.clip = -3\.0: it must be > 0"):
        PerDrawRatio(clip=-3.0)
