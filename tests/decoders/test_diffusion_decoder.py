import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks.known_laws import STANDARD, Mixture, errors, levels
from gorl.decoders import DiffusionDecoder
from gorl.errors import ConfigError
from gorl.generative.predictions import DataPrediction, NoisePrediction, VelocityPrediction
from gorl.generative.schedules import CosineSchedule, LinearSchedule, NoisyLevels, OffByOneLevels
from gorl.networks import FourierTime
from tests.support.networks import NORMALIZER

OBS_SIZE = 3
OBS = jnp.zeros(OBS_SIZE)
ACTION, LATENT = jnp.array([2.0, -1.0]), jnp.array([4.0, 3.0])
PREDICTIONS = [NoisePrediction(), VelocityPrediction(), DataPrediction()]


def cosine(steps, floor=1e-3):
    return CosineSchedule(steps, offset=0.008, floor=floor)


def linear(steps):
    return LinearSchedule(steps, first_beta=1e-4, last_beta=0.02, levels=1000)


class Body(eqx.Module):
    """A network that is a function of (x, t), read off its input [obs, x, cos t, sin t]."""

    function: object = eqx.field(static=True)

    def __call__(self, inputs):
        return self.function(inputs[OBS_SIZE:-2], jnp.arctan2(inputs[-1], inputs[-2]))


def decoder(function, schedule, *, prediction=PREDICTIONS[0], indexing=None, x0_clip=np.inf, size=2):
    return DiffusionDecoder(
        OBS_SIZE, size, body=lambda i, o, *, key: Body(function), normalizer=NORMALIZER, time_embedding=FourierTime(1),
        schedule=schedule, levels=indexing or NoisyLevels(), prediction=prediction, x0_clip=x0_clip,
        key=jax.random.key(0),
    )  # fmt: skip


def zero(x, t):
    return jnp.zeros_like(x)


def coefficients(schedule, t):
    """(alpha, sigma) at t = level / T."""
    level = jnp.rint(t * schedule.steps).astype(jnp.int32)
    return (jnp.asarray(np.sqrt(c), jnp.float32)[level] for c in (schedule.alphabar(), 1.0 - schedule.alphabar()))


def exact(law, schedule, prediction):
    """The mean of the prediction's target given x_t."""

    def function(x, t):
        alpha, sigma = coefficients(schedule, t)
        return prediction.target(*law.posterior(x, alpha, sigma), alpha, sigma)

    return function


def decode(model, latents):
    return jax.jit(jax.vmap(lambda z: model(OBS, z)))(latents)


def losses(model, key, count, action=ACTION, latent=LATENT):
    return jax.jit(jax.vmap(lambda k: model.loss(OBS, action, latent, key=k)))(jax.random.split(key, count))


# ---- the loss ----


def test_loss_by_hand():
    """A network of zeros: the mean square of the noise (4, 3), or of the action (2, -1)."""
    key = jax.random.key(0)
    np.testing.assert_allclose(decoder(zero, cosine(10)).loss(OBS, ACTION, LATENT, key=key), 12.5)
    np.testing.assert_allclose(
        decoder(zero, cosine(10), prediction=DataPrediction()).loss(OBS, ACTION, LATENT, key=key), 2.5
    )


def test_velocity_loss_at_every_level_by_hand(getkey):
    """alphabar = 0.5, 0.05: targets alpha z - sigma a. The two levels are drawn equally often."""
    schedule = LinearSchedule(2, first_beta=0.5, last_beta=0.9, levels=2)
    found = losses(decoder(zero, schedule, prediction=VelocityPrediction()), getkey(), 4000)
    by_hand = [np.mean((np.sqrt(ab) * LATENT - np.sqrt(1 - ab) * ACTION) ** 2) for ab in (0.5, 0.05)]  # 5, 1.65
    np.testing.assert_allclose(np.unique(np.round(found, 3)), np.round(sorted(by_hand), 3), atol=2e-3)
    np.testing.assert_allclose(np.mean(np.asarray(found) > np.mean(by_hand)), 0.5, atol=0.03)


@pytest.mark.parametrize(
    "indexing, expected", [(NoisyLevels(), [0.25, 0.5, 0.75, 1.0]), (OffByOneLevels(), [0.0, 0.25, 0.5, 0.75])]
)
def test_training_sees_every_level_equally_often(indexing, expected, getkey):
    """A network whose output is t, so that the data-prediction loss for a = 0 is t²."""
    model = decoder(
        lambda x, t: jnp.broadcast_to(t, x.shape), cosine(4), prediction=DataPrediction(), indexing=indexing
    )
    found = np.sqrt(losses(model, getkey(), 4000, action=jnp.zeros(2)))
    values, counts = np.unique(np.round(found, 3), return_counts=True)
    np.testing.assert_allclose(values, expected, atol=1e-3)
    np.testing.assert_allclose(counts / 4000, 0.25, atol=0.03)


def test_the_defective_indexing_trains_on_an_input_without_noise(getkey):
    """A network whose output is x: at level 0, and there only, x is the action and the loss of predicting it is 0."""
    for indexing, share in ((OffByOneLevels(), 0.25), (NoisyLevels(), 0.0)):
        found = losses(
            decoder(lambda x, t: x, cosine(4), prediction=DataPrediction(), indexing=indexing), getkey(), 2000
        )
        np.testing.assert_allclose(np.mean(np.asarray(found) == 0.0), share, atol=0.03)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_is_0_at_a_single_action(prediction, getkey):
    """(x - alpha a) / sigma is the noise exactly where x = alpha a + sigma z."""
    schedule = cosine(10)

    def function(x, t):
        alpha, sigma = coefficients(schedule, t)
        return prediction.target(ACTION, (x - alpha * ACTION) / sigma, alpha, sigma)

    np.testing.assert_allclose(
        losses(decoder(function, schedule, prediction=prediction), getkey(), 50), np.zeros(50), atol=1e-8
    )


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_least_loss_is_the_conditional_variance(prediction, getkey):
    """The action is a ~ N(0, s²), and V = alpha² s² + sigma².

    The variances are s² sigma² / V of the action, alpha² s² / V of the noise and s² / V of the velocity.
    """
    std, schedule = 0.5, cosine(4)
    model = decoder(exact(Mixture((1.0,), (0.0,), std), schedule, prediction), schedule, prediction=prediction, size=1)
    draws = lambda: jax.random.normal(getkey(), (20_000, 1))
    loss = jax.jit(jax.vmap(lambda a, z, k: model.loss(OBS, a, z, key=k)))
    found = jnp.mean(loss(std * draws(), draws(), jax.random.split(getkey(), 20_000)))
    ab = schedule.alphabar()[1:]
    variance = ab * std**2 + 1 - ab
    least = {NoisePrediction: ab * std**2, DataPrediction: std**2 * (1 - ab), VelocityPrediction: std**2}[
        type(prediction)
    ] / variance
    np.testing.assert_allclose(found, np.mean(least), rtol=0.03)


# ---- sampling ----


@pytest.mark.parametrize("indexing, gain", [(NoisyLevels(), 31.623), (OffByOneLevels(), 6.4427)])
def test_a_network_of_zeros_is_not_the_identity(indexing, gain):
    """Noise of 0 at every level: the latent is divided by alpha of the level where sampling starts."""
    np.testing.assert_allclose(decoder(zero, cosine(10), indexing=indexing)(OBS, LATENT), gain * LATENT, rtol=1e-4)


def test_two_ddim_steps_by_hand():
    """alphabar = 0.5, 0.05 at levels 1, 2; predicted noise 1 at level 2, 2 at level 1; x = 3."""
    schedule = LinearSchedule(2, first_beta=0.5, last_beta=0.9, levels=2)
    model = decoder(lambda x, t: jnp.where(t > 0.75, 1.0, 2.0) * jnp.ones_like(x), schedule, size=1)
    x0 = (3.0 - np.sqrt(0.95)) / np.sqrt(0.05)
    x = np.sqrt(0.5) * x0 + np.sqrt(0.5)
    np.testing.assert_allclose(model(OBS, jnp.array([3.0])), [(x - np.sqrt(0.5) * 2.0) / np.sqrt(0.5)], rtol=1e-5)


def test_the_estimate_of_the_action_can_be_clipped():
    """At T = 1 the action is the clipped estimate: 31.6 times the latent where that is within the bound."""
    model = decoder(zero, cosine(1), x0_clip=3.0)
    np.testing.assert_allclose(model(OBS, jnp.array([-0.5, 0.05])), [-3.0, 0.05 / np.sqrt(1e-3)], rtol=1e-5)


def test_a_clip_that_is_never_reached_changes_nothing(getkey):
    law, schedule = Mixture((0.3, 0.7), (-0.6, 0.6), 0.1), cosine(10)
    latents = jax.random.normal(getkey(), (100, 2))
    free, clipped = (
        decode(decoder(exact(law, schedule, NoisePrediction()), schedule, x0_clip=c), latents) for c in (np.inf, 50.0)
    )
    np.testing.assert_array_equal(free, clipped)


@pytest.mark.parametrize(
    "indexing, times", [(NoisyLevels(), [1.0, 0.75, 0.5, 0.25]), (OffByOneLevels(), [0.75, 0.5, 0.25])]
)
def test_network_calls_are_counted_right(indexing, times):
    calls = []
    model = decoder(lambda x, t: calls.append(float(t)) or x, cosine(4), indexing=indexing)
    with jax.disable_jit():
        model(OBS, LATENT)
    np.testing.assert_allclose(calls, times, atol=1e-6)
    assert len(calls) == model.network_calls


@pytest.mark.parametrize("schedule", [cosine(10), linear(10)])
def test_exact_predictions_of_any_kind_are_the_same_decoder(schedule, getkey):
    law, latents = Mixture((0.3, 0.7), (-0.6, 0.6), 0.1), jax.random.normal(getkey(), (200, 2))
    noise, velocity, data = (
        decode(decoder(exact(law, schedule, p), schedule, prediction=p), latents) for p in PREDICTIONS
    )
    assert jnp.std(data) > 0.4
    np.testing.assert_allclose(velocity, data, atol=1e-4)
    np.testing.assert_allclose(noise, data, atol=2e-3)  # alphabar_T = 4e-5 multiplies the rounding of the noise by 157


@pytest.mark.parametrize("law", [Mixture((1.0,), (0.4,), 0.5), Mixture((0.3, 0.7), (-0.6, 0.6), 0.2)])
def test_ddim_turns_noise_into_the_law_at_first_order(law):
    """In the limit of many levels a latent keeps its quantile: it is decoded as if drawn from the law of x_T."""
    alpha, sigma = np.sqrt(1e-3), np.sqrt(1 - 1e-3)
    noisy = Mixture(
        law.weights, tuple(float(alpha * m) for m in law.means), float(np.sqrt(alpha**2 * law.std**2 + sigma**2))
    )
    z = STANDARD.quantiles(levels(401))
    limit = law.quantiles(noisy.cdf(z))
    latents = jnp.asarray(z, jnp.float32)[:, None]
    samples = [
        decode(
            decoder(exact(law, cosine(n), DataPrediction()), cosine(n), prediction=DataPrediction(), size=1), latents
        )[:, 0]
        for n in (50, 100, 200)
    ]
    distance = [float(np.mean(np.abs(s - limit))) for s in samples]
    np.testing.assert_allclose(np.log2(distance[1] / distance[2]), 1.0, atol=0.2)
    found = errors(law, samples[-1])
    assert abs(found["mean"]) < 0.02 and abs(found["std"]) < 0.02 and abs(found["mass"]) < 0.015 and found["w1"] < 0.02


def test_settings_are_checked():
    with pytest.raises(ConfigError, match=r"DiffusionDecoder\.x0_clip = 0\.0: it must be > 0"):
        decoder(zero, cosine(4), x0_clip=0.0)
    with pytest.raises(ConfigError, match="leaves no level to sample"):
        decoder(zero, cosine(1), indexing=OffByOneLevels())
