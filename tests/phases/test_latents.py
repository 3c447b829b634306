"""Pairs of latent and action, on laws that are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gorl import config
from gorl.decoders import FlowMatchingDecoder, GaussianDecoder, IdentityDecoder
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
from gorl.phases.latents import (
    DataSource,
    EncoderLatents,
    PairedLatents,
    PreferredLatents,
    PriorLatents,
    Row,
    StoredLatents,
)
from gorl.phases.selection import AllEpisodes
from gorl.state import Dataset, Episodes, RunState, Spaces
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


def fitted(latents, old, decoder=one_call, learner=None, **changes):
    """A new decoder, fitted to actions of N(2 obs, 0.5²) through `old`, and the inputs to try it at."""
    obs_key, noise_key = jax.random.split(jax.random.key(0))
    obs = jax.random.uniform(obs_key, (EPISODES, LENGTH, 1), minval=-0.5, maxval=0.5)
    noise = jax.random.normal(noise_key, obs.shape)
    action = jax.vmap(jax.vmap(old))(obs, 2.0 * obs + 0.5 * noise)
    zeros = jnp.zeros(obs.shape[:2])
    data = Dataset(Episodes(obs, action, zeros, zeros, zeros == 0.0, noise))
    settings = dict(
        decoder=decoder, latents=latents, selection=AllEpisodes(), learning_rate=1e-2, max_grad_norm=np.inf,
        optimizer=OptaxCall(function=optax.adam, numbers={}, options=()), epochs=30, batch_size=100, draws=4,
        validation_fraction=0.1, split="episodes", max_samples=0,
    )  # fmt: skip
    phase, run = FitDecoder(**{**settings, **changes}), RunState(old, Encoder(), learner=learner, dataset=data)
    states, _ = played(phase, PhaseContext(TASK, 0, 1, 1), run)
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


# ---- the fit that improves ----


class Rising(eqx.Module):
    """A learner whose critics are Q(s, u) = (u, u + 1)."""

    def critic(self, obs, action):
        del obs
        return jnp.concatenate([action, action + 1.0])


def preferred(latents, obs, count, key):
    """Pairs of N(2 obs, 0.5²) with the critic u."""
    of = DataSource(Encoder(), IDENTITY, Rising(), jnp.float32(BOUND))
    pair = lambda k: latents.pair(of, Row(jnp.array([obs]), jnp.array([9.0])), 1, key=k)
    noise, action = jax.jit(jax.vmap(pair))(jax.random.split(key, count))
    return np.asarray(noise[:, 0]), np.asarray(action[:, 0])


def test_the_best_of_four_is_the_largest_of_four_normals(getkey):
    """Its mean and deviation are 1.0294 and 0.7012 of theirs (tables of order statistics), and the noise is apart."""
    noise, action = preferred(PreferredLatents(4, 0.0), 0.2, 4000, getkey())
    np.testing.assert_allclose(np.mean(action), 0.4 + 0.5 * 1.0294, atol=0.03)
    np.testing.assert_allclose(np.std(action), 0.5 * 0.7012, atol=0.03)
    assert abs(np.mean(noise)) < 0.08 and abs(np.std(noise) - 1.0) < 0.06
    assert abs(np.corrcoef(noise, action)[0, 1]) < 0.08


def test_at_a_temperature_the_law_is_tilted(getkey):
    """N(m, 0.5²) exp(u / T) is N(m + 0.25 / T, 0.5²); 256 candidates nearly are the law."""
    _, action = preferred(PreferredLatents(256, 0.5), 0.2, 4000, getkey())
    np.testing.assert_allclose(np.mean(action), 0.4 + 0.25 / 0.5, atol=0.04)
    np.testing.assert_allclose(np.std(action), 0.5, atol=0.03)


def test_a_preferred_action_is_bounded(getkey):
    _, action = preferred(PreferredLatents(4, 0.0), 5.0, 5, getkey())
    np.testing.assert_array_equal(action, BOUND)


def gaussian(obs_size, action_size, *, key):
    return GaussianDecoder(obs_size, action_size, body=mlp(16, 1), normalizer=NORMALIZER, min_std=1e-3, max_std=10.0,
                           initial_std=1.0, key=key)  # fmt: skip


@pytest.mark.parametrize(
    "latents, gain, std", [(PreferredLatents(4, 0.0), 0.5 * 1.0294, 0.5 * 0.7012), (PriorLatents(), 0.0, 0.5)]
)
def test_the_fit_improves_a_bandit(latents, gain, std):
    """Q = u: the mean of Q over the decoder's prior rises from 2 obs by that of the best of four; the control's not."""
    obs, noise, action = fitted(latents, IDENTITY, gaussian, Rising(), draws=1, epochs=20)
    at_mode = jnp.abs(noise) < 1e-6
    np.testing.assert_allclose(jnp.mean((action - 2.0 * obs)[at_mode]), gain, atol=0.08)
    one = jnp.abs(noise - 1.5) < 1e-6
    np.testing.assert_allclose(jnp.mean(action[one]) - jnp.mean(action[at_mode]), 1.5 * std, atol=0.12)


def test_preferred_latents_need_a_critic_of_actions():
    good = PhaseInputs(True, 3, 4, judges_actions=True)
    PreferredLatents(4, 0.0).check(good)
    for latents, inputs, message in (
        (
            PreferredLatents(4, 0.0),
            PhaseInputs(True, 3, 4),
            r"no critic Q\(s, u\).*SAC\.space = 'action' in every stage",
        ),
        (PreferredLatents(0, 0.0), good, r"PreferredLatents\.candidates = 0: it must be >= 1"),
        (PreferredLatents(4, -1.0), good, r"PreferredLatents\.temperature = -1\.0: it must be >= 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            latents.check(inputs)
    PreferredLatents(4, 0.0).check_spaces(Spaces(3, 3, 1))
    with pytest.raises(ConfigError, match="the data has the policy's observations alone"):
        PreferredLatents(4, 0.0).check_spaces(Spaces(3, 5, 1))


def test_the_experiment_refuses_critics_of_latents():
    """`gorl check` says so, since it is checked before anything runs."""
    files, bindings = ["gorl_fm.gin", "controls/preferred_latents.gin"], ["Task.environment = @Slider()"]
    config.build(files, bindings)
    for other in ("SAC.space = 'latent'", "ImprovePolicy.algorithm = @REPPO()"):
        with pytest.raises(ConfigError, match=r"PreferredLatents\(\), but the learner has no critic"):
            config.build(files, [*bindings, other])
