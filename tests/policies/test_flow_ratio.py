"""What FPO and FPO++ take for the likelihood of an action: losses of flow matching, and ratios of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.errors import ConfigError
from gorl.objectives.trust_region import ASPO, Clip
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


def test_the_guard_of_a_mean_by_hand():
    """The mean difference is 10.5 / 4 = 2.625."""
    np.testing.assert_array_equal(AveragedRatio(clip=2.0)(OLD, NEW), [2.0])
    np.testing.assert_array_equal(AveragedRatio(clip=2.0)(NEW, OLD), [-2.0])
    np.testing.assert_array_equal(AveragedRatio(clip=3.0)(OLD, NEW), [2.625])
    assert AveragedRatio().clip == np.inf  # runs saved before the guard existed have none


def slopes(ratio):
    return jax.grad(lambda new: jnp.sum(ratio(OLD, new)))(NEW)


@pytest.mark.parametrize("clip", [0.1, 3.0, np.inf])
def test_the_gradient_passes_the_clip_of_a_draw(clip):
    """That of the value without a clip, by hand, whatever the bound and on both of its sides."""
    np.testing.assert_array_equal(slopes(PerDrawRatio(clip=clip)), [-1.0] * 4)


@pytest.mark.parametrize("clip, slope", [(2.0, 0.0), (3.0, -0.25), (np.inf, -0.25)])
def test_the_gradient_ends_at_the_guard_of_a_mean(clip, slope):
    np.testing.assert_array_equal(slopes(AveragedRatio(clip=clip)), [slope] * 4)


def test_a_value_far_beyond_the_clip_is_the_clip():
    far = jnp.array([1e30, 0.0])
    np.testing.assert_array_equal(PerDrawRatio(clip=3.0)(far, far[::-1]), [3.0, -3.0])


@pytest.mark.parametrize("log_ratio, sign", [(5.0, 1.0), (-5.0, -1.0)])
def test_aspo_pulls_a_bad_action_back_from_beyond_the_clip(log_ratio, sign):
    """A = -1, r = exp(+-3): the objective's slope in the log-ratio is r (-1 - (r - 1) / epsilon), epsilon = 0.2.

    Descending in the loss ascends in the objective, so the loss must rise where r is too large, and fall where it is
    too small.
    """
    objective = lambda new: ASPO(0.2).objective(PerDrawRatio(clip=3.0)(jnp.array([6.0]), new)[0], jnp.float32(-1.0))
    r = np.exp(sign * 3.0)
    found = jax.grad(objective)(jnp.array([6.0 - log_ratio]))
    np.testing.assert_allclose(found, [r * (1.0 + (r - 1.0) / 0.2)], rtol=1e-5)
    assert np.sign(found[0]) == sign


@pytest.mark.parametrize(
    "log_ratio, advantage, value, slope",
    [
        (10.0, -1.0, -np.exp(3.0), 0.0),  # without the guard -exp(10), with a gradient of exp(10)
        (2.0, -1.0, -np.exp(2.0), np.exp(2.0)),  # pulled back, as by Clip alone
        (10.0, 1.0, 1.05, 0.0),  # by Clip alone
        (-10.0, 1.0, np.exp(-3.0), 0.0),
        (-2.0, 1.0, np.exp(-2.0), -np.exp(-2.0)),
    ],
)
def test_an_action_beyond_the_guard_of_fpo_has_no_gradient(log_ratio, advantage, value, slope):
    """The objective of Clip by hand, and its slope in the new loss (all four draws' together)."""
    old, new = jnp.full((4,), 12.0), jnp.full((4,), 12.0 - log_ratio)
    guarded = AveragedRatio(clip=3.0)
    objective = lambda new: Clip(0.05).objective(guarded(old, new)[0], jnp.float32(advantage))
    found, slopes = jax.value_and_grad(objective)(new)
    np.testing.assert_allclose([found, jnp.sum(slopes)], [value, slope], rtol=1e-5)


@pytest.mark.parametrize("kind", [AveragedRatio, PerDrawRatio])
def test_the_clip_must_be_positive(kind):
    with pytest.raises(ConfigError, match=rf"{kind.__name__}\.clip = -3\.0: it must be > 0"):
        kind(clip=-3.0)
