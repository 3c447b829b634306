"""Pairs of latent and action, on laws that are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gorl.decoders import FlowMatchingDecoder, IdentityDecoder
from gorl.environments.task import Task
from gorl.environments.toy import RewardFromObservation
from gorl.errors import ConfigError
from gorl.generative.distributions import DiagonalGaussian
from gorl.generative.grids import UniformGrid
from gorl.generative.samplers import Euler
from gorl.generative.times import DiscreteTimes
from gorl.networks import FourierTime
from gorl.optimizers import OptaxCall
from gorl.phases import FitDecoder, PhaseContext
from gorl.phases.base import PhaseInputs
from gorl.phases.latents import DataSource, EncoderLatents, PairedLatents, PriorLatents, Row, StoredLatents
from gorl.phases.selection import AllEpisodes
from gorl.state import Dataset, Episodes, RunState
from tests.support.networks import NORMALIZER, mlp
from tests.support.payers import played

BOUND = 3.0
EPISODES, LENGTH = 20, 50
TASK = Task(RewardFromObservation(), LENGTH, True, True, BOUND)


class Encoder(eqx.Module):
    """N(2 obs, 0.5²)."""

    def distribution(self, obs):
        return DiagonalGaussian(2.0 * obs, 0.5 * jnp.ones_like(obs))

    def sample(self, obs, *, key):
        return self.distribution(obs).sample(key=key), None


class Halves(IdentityDecoder):
    """u = -1 or 1, by the sign of the latent, and 0.1 of the latent: two modes."""

    def __call__(self, obs, latent):
        return jnp.sign(latent) + 0.1 * latent


def source(decoder=IdentityDecoder):
    return DataSource(Encoder(), decoder(1, 1, key=jax.random.key(0)), None, jnp.float32(BOUND))


def test_a_pair_is_the_noise_and_what_it_makes(getkey):
    """Mean 2 x 0.7 and deviation 0.5, through the decoder; the collected action does not count."""
    for obs in (0.7, -0.7):
        for key in jax.random.split(getkey(), 20):
            noise, action = PairedLatents().pair(source(Halves), Row(jnp.array([obs]), jnp.array([9.0])), 1, key=key)
            latent = 2.0 * obs + 0.5 * float(noise[0])
            assert float(noise[0]) == float(jax.random.normal(key, (1,))[0])
            assert float(action[0]) == pytest.approx(np.sign(latent) + 0.1 * latent, abs=1e-6)


def test_the_action_of_a_pair_is_bounded_as_the_collected_one(getkey):
    noise, action = PairedLatents().pair(source(), Row(jnp.array([5.0]), jnp.zeros(1)), 1, key=getkey())
    assert 10.0 + 0.5 * float(noise[0]) > BOUND and float(action[0]) == BOUND


def test_latents_of_the_prior_and_of_the_encoder_keep_the_action(getkey):
    key, row = getkey(), Row(jnp.array([5.0]), jnp.array([0.3]))
    for latents, expected in ((PriorLatents(), 0.0), (EncoderLatents(), 10.0)):
        latent, action = latents.pair(source(), row, 1, key=key)
        scale = 1.0 if expected == 0.0 else 0.5
        np.testing.assert_allclose(latent, expected + scale * jax.random.normal(key, (1,)), rtol=1e-6)
        assert action is row.action


def test_stored_noise_is_taken_as_it_is(getkey):
    row = Row(jnp.zeros(1), jnp.array([0.3]), jnp.array([-1.2]))
    latent, action = StoredLatents().pair(source(), row, 1, key=getkey())
    assert (float(latent[0]), float(action[0])) == (pytest.approx(-1.2), pytest.approx(0.3))
    StoredLatents().check(PhaseInputs(has_noise=True))
    with pytest.raises(ConfigError, match=r"no noise. Set CollectRollouts\.store_noise = True"):
        StoredLatents().check(PhaseInputs(episodes=3))


def one_call(obs_size, action_size, *, key):
    return FlowMatchingDecoder(
        obs_size, action_size, body=mlp(32, 2), normalizer=NORMALIZER, time_embedding=FourierTime(2),
        times=DiscreteTimes(1), sampler=Euler(1, UniformGrid()), key=key,
    )  # fmt: skip


def fitted(latents, old):
    """A decoder of one Euler call, fitted to actions of N(2 obs, 0.5²) through `old`, and the inputs to try it at."""
    obs_key, noise_key = jax.random.split(jax.random.key(0))
    obs = jax.random.uniform(obs_key, (EPISODES, LENGTH, 1), minval=-0.5, maxval=0.5)
    noise = jax.random.normal(noise_key, obs.shape)
    action = jax.vmap(jax.vmap(old))(obs, 2.0 * obs + 0.5 * noise)
    zeros = jnp.zeros(obs.shape[:2])
    data = Dataset(Episodes(obs, action, zeros, zeros, zeros == 0.0, noise))
    phase = FitDecoder(
        decoder=one_call, latents=latents, selection=AllEpisodes(), learning_rate=1e-2, max_grad_norm=np.inf,
        optimizer=OptaxCall(function=optax.adam, numbers={}, options=()), epochs=30, batch_size=100, draws=4,
        validation_fraction=0.1, split="episodes", max_samples=0,
    )  # fmt: skip
    states, _ = played(phase, PhaseContext(TASK, 0, 1, 1), RunState(old, policy=Encoder(), dataset=data))
    at_obs, at_noise = jnp.meshgrid(jnp.linspace(-0.4, 0.4, 9), jnp.linspace(-1.5, 1.5, 31))
    flat = lambda x: x.reshape(-1, 1)
    decoder = phase.finish(PhaseContext(TASK, 0, 1, 1), states[-1]).decoder
    return flat(at_obs), flat(at_noise), jax.vmap(decoder)(flat(at_obs), flat(at_noise))


IDENTITY = IdentityDecoder(1, 1, key=jax.random.key(0))


@pytest.mark.parametrize("latents", [PairedLatents(), StoredLatents()])
def test_one_call_learns_the_function_from_pairs(latents):
    """u = 2 obs + 0.5 n, at every n: a deviation of 0.5 across latents."""
    obs, noise, action = fitted(latents, IDENTITY)
    assert float(jnp.max(jnp.abs(action - (2.0 * obs + 0.5 * noise)))) < 0.12


def test_one_call_learns_the_mean_from_noise_that_is_independent():
    """The control: the regression of u on independent noise is E[u | obs] = 2 obs, without a spread."""
    obs, _, action = fitted(PriorLatents(), IDENTITY)
    assert float(jnp.max(jnp.abs(action - 2.0 * obs))) < 0.25


def test_pairs_keep_both_modes():
    """Near obs = 0 half of the latents go to each mode, and next to none between them."""
    obs, noise, action = fitted(PairedLatents(), Halves(1, 1, key=jax.random.key(0)))
    latent = 2.0 * obs + 0.5 * noise
    clear = jnp.abs(latent) > 0.2
    assert float(jnp.mean(jnp.abs(action - jnp.sign(latent) - 0.1 * latent)[clear])) < 0.1
    assert bool(jnp.all(jnp.sign(action)[clear] == jnp.sign(latent)[clear]))
