"""What FPO and FPO++ take for the likelihood of an action: losses of flow matching, and ratios of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.errors import ConfigError
from gorl.policies.flow_ratio import AveragedRatio, NoiseTarget, PerDrawRatio, VelocityTarget


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
