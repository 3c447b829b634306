import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.decoders import FlowMatchingDecoder
from gorl.generative.grids import UniformGrid
from gorl.generative.samplers import Euler
from gorl.generative.times import LogitNormalTimes, UniformTimes
from gorl.networks import FourierTime
from tests.support.networks import NORMALIZER, mlp

OBS_SIZE, ACTION_SIZE = 3, 2


def flow_decoder(key, *, body=None, steps=10, times=None):
    network = mlp(16, 2)
    return FlowMatchingDecoder(
        OBS_SIZE, ACTION_SIZE, body=body or network, normalizer=NORMALIZER, time_embedding=FourierTime(4),
        times=times or UniformTimes(),
        sampler=Euler(steps, UniformGrid()), key=key,
    )  # fmt: skip


class Field(eqx.Module):
    """A body whose velocity is a function of (obs, x, t), read off its input [obs, x, cos(2^k t), sin(2^k t)]."""

    function: object = eqx.field(static=True)

    def __call__(self, inputs):
        obs, x, embedding = (
            inputs[:OBS_SIZE],
            inputs[OBS_SIZE : OBS_SIZE + ACTION_SIZE],
            inputs[OBS_SIZE + ACTION_SIZE :],
        )
        return self.function(obs, x, jnp.arctan2(embedding[4], embedding[0]))


def exactly(function):
    """A body factory for `function(obs, x, t)`."""

    def body(in_size, out_size, *, key):
        assert (in_size, out_size) == (OBS_SIZE + ACTION_SIZE + 8, ACTION_SIZE)
        return Field(function)

    return body


def test_shapes(getkey):
    decoder = flow_decoder(getkey())
    assert decoder.latent_size == ACTION_SIZE
    obs, latent = jax.random.normal(getkey(), (5, OBS_SIZE)), jax.random.normal(getkey(), (5, ACTION_SIZE))
    u = jax.jit(jax.vmap(decoder))(obs, latent)
    assert u.shape == (5, ACTION_SIZE)
    np.testing.assert_allclose(u[3], eqx.filter_jit(decoder)(obs[3], latent[3]), rtol=1e-4, atol=1e-5)
    loss = jax.jit(jax.vmap(lambda o, a, z, k: decoder.loss(o, a, z, key=k)))(
        obs, u, latent, jax.random.split(getkey(), 5)
    )
    assert loss.shape == (5,) and jnp.all(loss > 0)


def test_the_latent_and_the_observation_decide_the_action(getkey):
    decoder = eqx.filter_jit(flow_decoder(getkey()))
    obs, latent = jnp.ones(OBS_SIZE), jnp.ones(ACTION_SIZE)
    u = decoder(obs, latent)
    np.testing.assert_array_equal(u, decoder(obs, latent))
    assert jnp.max(jnp.abs(decoder(obs, -latent) - u)) > 0.1
    assert jnp.max(jnp.abs(decoder(-obs, latent) - u)) > 0.01


def test_loss_by_hand(getkey):
    """With v = (t, 0) and target z - a = (2, 4): ((t - 2)² + 16) / 2, whose mean over t in [0, 1] is 55 / 6."""
    decoder = flow_decoder(getkey(), body=exactly(lambda obs, x, t: jnp.stack([t, jnp.zeros(())])))
    action, latent = jnp.array([2.0, -1.0]), jnp.array([4.0, 3.0])
    losses = jax.jit(jax.vmap(lambda k: decoder.loss(jnp.zeros(OBS_SIZE), action, latent, key=k)))(
        jax.random.split(getkey(), 20_000)
    )
    assert 8.5 <= jnp.min(losses) < 8.51 and 9.99 < jnp.max(losses) <= 10.0  # t fills [0, 1]
    np.testing.assert_allclose(jnp.mean(losses), 55 / 6, atol=0.01)


def test_loss_is_taken_on_the_path(getkey):
    """v = (x - a) / t is z - a exactly where x = t z + (1 - t) a: the loss is 0 there and nowhere else."""
    action, latent = jnp.array([2.0, -1.0]), jnp.array([4.0, 3.0])
    decoder = flow_decoder(getkey(), body=exactly(lambda obs, x, t: (x - action) / t))
    losses = jax.jit(jax.vmap(lambda k: decoder.loss(jnp.zeros(OBS_SIZE), action, latent, key=k)))(
        jax.random.split(getkey(), 100)
    )
    np.testing.assert_allclose(losses, np.zeros(100), atol=1e-4)


def test_the_loss_is_taken_at_the_times_that_are_bound(getkey):
    """With v = (t, t), a = 0 and z = 0 the loss is t²: here t is about sigmoid(2)."""
    body = exactly(lambda obs, x, t: jnp.broadcast_to(t, x.shape))
    decoder = flow_decoder(getkey(), body=body, times=LogitNormalTimes(mean=2.0, std=0.01))
    losses = jax.vmap(lambda k: decoder.loss(jnp.zeros(OBS_SIZE), jnp.zeros(2), jnp.zeros(2), key=k))(
        jax.random.split(getkey(), 20)
    )
    np.testing.assert_allclose(losses, np.full(20, (1 / (1 + np.exp(-2.0))) ** 2), atol=0.01)


def test_the_loss_moves_every_weight(getkey):
    decoder, action, latent = flow_decoder(getkey()), jnp.array([2.0, -1.0]), jnp.array([4.0, 3.0])
    gradient = eqx.filter_grad(lambda d: d.loss(jnp.ones(OBS_SIZE), action, latent, key=jax.random.key(0)))(decoder)
    assert all(jnp.any(g) for g in jax.tree.leaves(gradient.body))
    assert not any(jnp.any(g) for g in jax.tree.leaves(gradient.normalizer))


def test_the_observation_is_normalised(getkey):
    decoder = flow_decoder(getkey(), body=exactly(lambda obs, x, t: obs[:2]), steps=4)
    data = 50.0 + 5.0 * jax.random.normal(getkey(), (400, OBS_SIZE))
    observed = decoder.observe(data, jnp.ones(400))
    expected = -(data[0] - jnp.mean(data, axis=0)) / jnp.std(
        data, axis=0
    )  # v = the normalized observation, for one unit of time
    np.testing.assert_allclose(observed(data[0], jnp.zeros(2)), expected[:2], atol=1e-4)


def gaussian_field(mean, std):
    """The velocity field E[z - a | x_t = x] for a ~ N(mean, std²) and z ~ N(0, 1): both are linear in each other."""

    def field(obs, x, t):
        variance = t**2 + (1 - t) ** 2 * std**2
        return -mean + (t - (1 - t) * std**2) / variance * (x - (1 - t) * mean)

    return field


def test_the_exact_field_turns_the_prior_into_the_target_law(getkey):
    mean, std = jnp.array([1.5, -0.5]), jnp.array([0.3, 2.0])
    decoder = flow_decoder(getkey(), body=exactly(gaussian_field(mean, std)), steps=400)
    latents = jax.random.normal(getkey(), (20_000, ACTION_SIZE))
    u = jax.jit(jax.vmap(lambda z: decoder(jnp.zeros(OBS_SIZE), z)))(latents)
    np.testing.assert_allclose(jnp.mean(u, axis=0), mean, atol=0.03)
    np.testing.assert_allclose(jnp.std(u, axis=0), std, rtol=0.02)
    assert jnp.corrcoef(u[:, 0], u[:, 1])[0, 1] < 0.03


@pytest.mark.parametrize("steps, target, shrunk", [(10, 1.0, 0.88), (10, 0.69, 0.60), (50, 1.0, 0.975)])
def test_few_euler_steps_shrink_the_law(getkey, steps, target, shrunk):
    """The bias of the published sampler, on record: the map is linear, so a latent of 1 lands on the decoded std."""
    decoder = flow_decoder(getkey(), body=exactly(gaussian_field(0.0, target)), steps=steps)
    np.testing.assert_allclose(decoder(jnp.zeros(OBS_SIZE), jnp.ones(ACTION_SIZE)), [shrunk, shrunk], atol=0.006)
