import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.decoders import MeanFlowDecoder
from gorl.decoders.mean_flow import PathTangent, PredictedTangent
from gorl.errors import ConfigError
from gorl.generative.mean_flow import mean_flow_residual
from gorl.generative.times import LogitNormalTimes, UniformTimes
from gorl.networks import FourierTime
from tests.support.networks import NORMALIZER

OBS = jnp.zeros(1)
MEAN, STD = jnp.array([1.5, -0.5]), jnp.array([0.3, 2.0])
SETTINGS = {
    "times": UniformTimes(),
    "tangent": PathTangent(),
    "interval_share": 0.5,
    "to_action_share": 0.0,
    "loss_power": 0.0,
    "loss_constant": 1e-3,
}


class Body(eqx.Module):
    """A network that is a function of (z, r, t), read off its input [obs, z, cos t, sin t, cos(t - r), sin(t - r)]."""

    function: object = eqx.field(static=True)

    def __call__(self, inputs):
        t = jnp.arctan2(inputs[4], inputs[3])
        return self.function(inputs[1:3], t - jnp.arctan2(inputs[6], inputs[5]), t)


def decoder(function, **changes):
    return MeanFlowDecoder(
        1,
        2,
        body=lambda i, o, *, key: Body(function),
        normalizer=NORMALIZER,
        time_embedding=FourierTime(1),
        key=jax.random.key(0),
        **{**SETTINGS, **changes},
    )


def exact(mean, std):
    """(z_t - z_r) / (t - r) on the flow from N(0, 1) to N(mean, std²), whose scale is s_t = sqrt(t² + (1-t)² std²).

    z_r - (1-r) mean = s_r / s_t (z_t - (1-t) mean), and s_t² - s_r² = (t - r) (t + r - std² (2 - t - r)):
    no division by t - r is left.
    """

    def average(z, r, t):
        s_t, s_r = (jnp.sqrt(x**2 + (1 - x) ** 2 * std**2) for x in (t, r))
        return -mean + (z - (1 - t) * mean) * (t + r - std**2 * (2 - t - r)) / (s_t * (s_t + s_r))

    return average


def losses(model, key, count, action, latent):
    return jax.jit(jax.vmap(lambda k: model.loss(OBS, action, latent, key=k)))(jax.random.split(key, count))


def test_the_exact_average_velocity_decodes_in_one_call():
    calls = []
    average = exact(MEAN, STD)
    model = decoder(lambda z, r, t: calls.append((float(r), float(t))) or average(z, r, t))
    latent = jnp.array([0.7, -1.3])
    np.testing.assert_allclose(model(OBS, latent), MEAN + STD * latent, rtol=1e-5)
    assert len(calls) == model.network_calls == 1
    np.testing.assert_allclose(calls, [(0.0, 1.0)], atol=1e-6)


@pytest.mark.parametrize("r, t", [(0.0, 1.0), (0.2, 0.9), (0.5, 0.5), (0.3, 0.31)])
def test_the_exact_average_velocity_has_no_residual(r, t):
    average, z = exact(MEAN, STD), jnp.array([0.4, -1.1])
    r, t = jnp.float32(r), jnp.float32(t)
    velocity = average(z, t, t)
    np.testing.assert_allclose(mean_flow_residual(average, z, r, t, velocity, velocity), [0.0, 0.0], atol=2e-5)
    wrong = lambda z, r, t: 1.1 * average(z, r, t)
    assert jnp.max(jnp.abs(mean_flow_residual(wrong, z, r, t, velocity, velocity))) > 0.02


@pytest.mark.parametrize("tangent", [PathTangent(), PredictedTangent()])
def test_targets_have_the_exact_average_velocity_as_their_mean(tangent, getkey):
    """Given z_t the actions are N(m, v).

    The residual of the exact average velocity scatters around 0, less along the predicted tangent.
    """
    average = exact(jnp.zeros(1), jnp.full(1, 0.5))
    r, t, z = jnp.float32(0.1), jnp.float32(0.6), jnp.array([0.8])
    variance = t**2 + (1 - t) ** 2 * 0.25
    mean, spread = (1 - t) * 0.25 / variance * z, 0.5 * t / jnp.sqrt(variance)
    action = mean[None] + spread * jax.random.normal(getkey(), (20_000, 1))

    def residual(a):
        path = (z - (1 - t) * a) / t - a
        return mean_flow_residual(average, z, r, t, path, tangent(path, lambda: average(z, t, t)))[0]

    found = jax.jit(jax.vmap(residual))(action)
    slope = jax.jacobian(lambda z: average(z, r, t))(z)[0, 0]
    factor = 1.0 if isinstance(tangent, PredictedTangent) else 1.0 - (t - r) * slope
    np.testing.assert_allclose(jnp.mean(found), 0.0, atol=0.02)
    np.testing.assert_allclose(jnp.std(found), jnp.abs(factor) * spread / t, rtol=0.03)


@pytest.mark.parametrize("tangent", [PathTangent(), PredictedTangent()])
def test_the_loss_is_0_at_a_single_action(tangent, getkey):
    """All paths end in one point: the velocity is (z - a) / t from every t to every r."""
    action, latent = jnp.array([2.0, -1.0]), jnp.array([4.0, 3.0])
    found = losses(decoder(lambda z, r, t: (z - action) / t, tangent=tangent), getkey(), 100, action, latent)
    np.testing.assert_allclose(found, np.zeros(100), atol=1e-5)


def test_intervals(getkey):
    """r and t are two uniform draws in order; or r = t; or r = 0. If the network is r, the loss of (0, 0) is r²."""
    zeros = jnp.zeros(2)
    pairs = jax.jit(jax.vmap(decoder(lambda z, r, t: z, interval_share=0.3)._interval))(
        jax.random.split(getkey(), 20_000)
    )
    r, t = (np.asarray(x) for x in pairs)
    assert np.all(r <= t) and r.min() >= 0 and t.max() <= 1
    np.testing.assert_allclose(np.mean(r < t), 0.3, atol=0.01)
    np.testing.assert_allclose(
        [t.mean(), r[r < t].mean(), r[r == t].mean()], [2 / 3, 1 / 3, 2 / 3], atol=0.01
    )  # of two uniform draws
    for share, expected in ((0.0, 1 / 6), (0.5, 1 / 12), (1.0, 0.0)):  # E[min²] = 1/6; du/dt = 0
        model = decoder(lambda z, r, t: jnp.broadcast_to(r, z.shape), interval_share=1.0, to_action_share=share)
        np.testing.assert_allclose(jnp.mean(losses(model, getkey(), 4000, zeros, zeros)), expected, atol=0.01)


def test_the_times_are_those_bound(getkey):
    times = LogitNormalTimes(mean=3.0, std=0.01)
    _, t = jax.vmap(decoder(lambda z, r, t: z, times=times)._interval)(jax.random.split(getkey(), 100))
    np.testing.assert_allclose(t, np.full(100, 1 / (1 + np.exp(-3.0))), atol=0.005)


def test_the_loss_is_weighted(getkey):
    """A network of zeros: m = (4 + 16) / 2 = 10, and (10 + 6)^-0.5 of it."""
    zero = lambda z, r, t: jnp.zeros_like(z)
    found = losses(
        decoder(zero, loss_power=0.5, loss_constant=6.0), getkey(), 5, jnp.array([2.0, -1.0]), jnp.array([4.0, 3.0])
    )
    np.testing.assert_allclose(found, np.full(5, 2.5), rtol=1e-5)


@pytest.mark.parametrize("tangent", [PathTangent(), PredictedTangent()])
def test_the_validation_loss_at_the_exact_average_velocity_is_the_variance_of_the_paths(tangent, getkey):
    """Whatever the tangent: Var(z - a | z_t) = std² / (t² + (1-t)² std²).

    Here it is the mean over the larger of two uniform t (density 2 t).
    """
    action_key, latent_key, key = (getkey() for _ in range(3))
    action, latent = (
        MEAN[None] + STD[None] * jax.random.normal(action_key, (20_000, 2)),
        jax.random.normal(latent_key, (20_000, 2)),
    )
    model = decoder(exact(MEAN, STD), tangent=tangent, interval_share=1.0)
    found = jax.jit(jax.vmap(lambda a, z, k: model.validation_loss(OBS, a, z, key=k)))(
        action, latent, jax.random.split(key, 20_000)
    )
    t = (np.arange(1000) + 0.5)[:, None] / 1000
    variance = np.asarray(STD) ** 2 / (t**2 + (1 - t) ** 2 * np.asarray(STD) ** 2)
    np.testing.assert_allclose(jnp.mean(found), np.mean(2 * t * variance), rtol=0.03)


class Scaled(eqx.Module):
    """u = k t z."""

    k: jax.Array

    def __call__(self, inputs):
        return self.k * jnp.arctan2(inputs[4], inputs[3]) * inputs[1:3]


@pytest.mark.parametrize("tangent", [PathTangent(), PredictedTangent()])
def test_the_gradient_is_that_along_the_bound_tangent(tangent):
    """With u = k t z at r = 0 and du/dt = k t w + k z along w.

    The residual is k t z - v + t (k t w + k z), and du/dk = t z.
    """
    k, t = 0.7, 1 / (1 + np.exp(-1.0))
    action, latent = jnp.array([2.0, -1.0]), jnp.array([4.0, 3.0])
    fixed = {"times": LogitNormalTimes(1.0, 1e-5), "interval_share": 1.0, "to_action_share": 1.0}
    model = eqx.tree_at(lambda d: d.body, decoder(lambda z, r, t: z, tangent=tangent, **fixed), Scaled(jnp.float32(k)))
    value, gradient = eqx.filter_value_and_grad(lambda d: d.loss(OBS, action, latent, key=jax.random.key(0)))(model)
    z, v = np.asarray(t * latent + (1 - t) * action), np.asarray(latent - action)
    residual = lambda w: k * t * z - v + t * (k * t * w + k * z)
    predicted = k * t * z
    along = v if isinstance(tangent, PathTangent) else predicted
    np.testing.assert_allclose(gradient.body.k, np.mean(2 * residual(along) * t * z), rtol=1e-3)
    np.testing.assert_allclose(value, np.mean(residual(along) ** 2), rtol=1e-3)
    np.testing.assert_allclose(
        model.validation_loss(OBS, action, latent, key=jax.random.key(0)), np.mean(residual(predicted) ** 2), rtol=1e-3
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"interval_share": 0.0}, r"MeanFlowDecoder\.interval_share = 0\.0: it must be in \(0, 1\]"),
        ({"to_action_share": 1.5}, r"MeanFlowDecoder\.to_action_share = 1\.5: it must be in \[0, 1\]"),
        ({"loss_power": -1.0}, r"MeanFlowDecoder\.loss_power = -1\.0: it must be >= 0"),
        ({"loss_constant": 0.0}, r"MeanFlowDecoder\.loss_constant = 0\.0: it must be > 0"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(ConfigError, match=message):
        decoder(lambda z, r, t: z, **changes)
