"""What holds for every decoder that gorl registers. A new one must be added to the table."""

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gorl.registry  # noqa: F401
from gorl.config import tables
from gorl.decoders import (
    AbstractDecoder,
    DiffusionDecoder,
    FlowMatchingDecoder,
    GaussianDecoder,
    IdentityDecoder,
    MeanFlowDecoder,
)
from gorl.decoders.mean_flow import PredictedTangent
from gorl.generative.grids import PowerGrid
from gorl.generative.predictions import VelocityPrediction
from gorl.generative.samplers import Midpoint
from gorl.generative.schedules import CosineSchedule, NoisyLevels
from gorl.generative.times import UniformTimes
from gorl.networks import FourierTime, trainable
from tests.support.networks import NORMALIZER, mlp

OBS_SIZE, ACTION_SIZE, BATCH = 3, 2, 4
BODY = mlp(8, 2)
INPUTS = {"body": BODY, "normalizer": NORMALIZER}
FLOW = {**INPUTS, "time_embedding": FourierTime(4), "times": UniformTimes()}
DIFFUSION = {
    "schedule": CosineSchedule(5, offset=0.008, floor=1e-3),
    "levels": NoisyLevels(),
    "prediction": VelocityPrediction(),
    "x0_clip": np.inf,
}
# class: (what is bound, network calls an action)
DECODERS = {
    IdentityDecoder: ({}, 0),
    GaussianDecoder: ({**INPUTS, "min_std": 1e-3, "max_std": 10.0, "initial_std": 1.0}, 1),
    FlowMatchingDecoder: ({**FLOW, "sampler": Midpoint(3, PowerGrid(1.5))}, 6),
    DiffusionDecoder: ({**INPUTS, "time_embedding": FourierTime(4), **DIFFUSION}, 5),
    MeanFlowDecoder: (
        {
            **FLOW,
            "tangent": PredictedTangent(),
            "interval_share": 0.5,
            "to_action_share": 0.5,
            "loss_power": 0.5,
            "loss_constant": 1e-3,
        },
        1,
    ),
}


@pytest.fixture(scope="module", params=DECODERS, ids=lambda d: d.__name__)
def decoder(request):
    return request.param(OBS_SIZE, ACTION_SIZE, key=jax.random.key(1), **DECODERS[request.param][0])


def batch(key):
    keys = jax.random.split(key, 4)
    obs, action, latent = (jax.random.normal(k, (BATCH, n)) for k, n in zip(keys, (OBS_SIZE, ACTION_SIZE, ACTION_SIZE)))
    return obs, action, latent, jax.random.split(keys[3], BATCH)


def test_the_table_has_every_decoder():
    registered = {
        t
        for t in tables.registered().values()
        if inspect.isclass(t) and issubclass(t, AbstractDecoder) and t.__module__.startswith("gorl.")
    }
    assert registered == set(DECODERS)


def test_sizes(decoder, getkey):
    obs, action, latent, keys = batch(getkey())
    assert decoder.latent_size == ACTION_SIZE and decoder.network_calls == DECODERS[type(decoder)][1]
    u, loss = decoder(obs[0], latent[0]), decoder.loss(obs[0], action[0], latent[0], key=keys[0])
    assert u.shape == (ACTION_SIZE,) and u.dtype == jnp.float32 and jnp.all(jnp.isfinite(u))
    assert loss.shape == () and loss.dtype == jnp.float32 and jnp.isfinite(loss)


def test_compiled_and_batched_it_is_the_same(decoder, getkey):
    obs, action, latent, keys = batch(getkey())
    decode = lambda d, o, z: d(o, z)
    loss = lambda d, o, a, z, k: d.loss(o, a, z, key=k)
    u = eqx.filter_jit(jax.vmap(decode, in_axes=(None, 0, 0)))(decoder, obs, latent)
    losses = eqx.filter_jit(jax.vmap(loss, in_axes=(None, 0, 0, 0, 0)))(decoder, obs, action, latent, keys)
    with jax.disable_jit():
        np.testing.assert_allclose(u[1], decode(decoder, obs[1], latent[1]), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            losses[1], loss(decoder, obs[1], action[1], latent[1], keys[1]), rtol=1e-4, atol=1e-5
        )


def test_gradients_are_finite_and_reach_every_weight(decoder, getkey):
    obs, action, latent, keys = batch(getkey())

    @eqx.filter_jit
    def gradients(decoder):
        params, rest = eqx.partition(decoder, trainable(decoder))
        mean = lambda p: jnp.mean(
            jax.vmap(lambda o, a, z, k: eqx.combine(p, rest).loss(o, a, z, key=k))(obs, action, latent, keys)
        )
        through = lambda z: jnp.sum(
            jax.vmap(decoder)(obs, z)
        )  # what an algorithm that differentiates the decoder would see
        return jax.grad(mean)(params), jax.grad(through)(latent)

    weights, latents = gradients(decoder)
    assert all(jnp.all(jnp.isfinite(g)) and jnp.any(g) for g in jax.tree.leaves(weights))
    assert jnp.all(jnp.isfinite(latents)) and jnp.all(jnp.any(latents, axis=1))


def test_only_the_network_is_trained(decoder):
    """A setting that is an array would be moved by the optimizer."""
    trained = jax.tree.leaves(eqx.filter(decoder, trainable(decoder)))
    assert len(trained) == (len(jax.tree.leaves(decoder.body)) if hasattr(decoder, "body") else 0)


def test_it_keeps_the_statistics_of_its_observations(decoder, getkey):
    data = 5.0 + 3.0 * jax.random.normal(getkey(), (100, OBS_SIZE))
    seen = decoder.observe(data, jnp.ones(100))
    assert jax.tree.structure(seen) == jax.tree.structure(decoder)
    if isinstance(decoder, IdentityDecoder):
        return
    np.testing.assert_allclose(seen.normalizer.mean, jnp.mean(data, axis=0), rtol=1e-5)
    moved = lambda d, o: np.asarray(d(o, jnp.ones(ACTION_SIZE)))
    assert np.max(np.abs(moved(seen, data[0]) - moved(decoder, data[0]))) > 1e-4
