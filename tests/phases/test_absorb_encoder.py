"""The exact swap: the decoder absorbs the encoder, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.decoders import IdentityDecoder
from gorl.environments.task import Task
from gorl.environments.toy import RewardFromObservation
from gorl.errors import ConfigError
from gorl.phases import AbsorbEncoder, PhaseContext
from gorl.phases.base import PhaseInputs
from gorl.policies import GaussianPolicy
from gorl.state import RunState
from tests.support.networks import NORMALIZER, mlp
from tests.support.payers import Learner, level

TASK = Task(RewardFromObservation(), 2, True, True, 3.0)
CONTEXT = PhaseContext(TASK, 0, 1, 0)


def encoder(key):
    return GaussianPolicy(
        3, 2, body=mlp(8, 1), normalizer=NORMALIZER, min_std=1e-3, max_std=10.0, initial_std=0.5, key=key
    )


def swapped(run):
    phase = AbsorbEncoder()
    assert phase.units(TASK) == () and phase.check(TASK, PhaseInputs(True, 3, 4)) == PhaseInputs(has_policy=True)
    return phase.finish(CONTEXT, phase.start(CONTEXT, run))


def test_the_decoder_with_the_priors_noise_acts_as_the_encoder_did(getkey):
    """Also after a second swap: u = mean_1 + std_1 (mean_2 + std_2 n)."""
    obs = jnp.array([0.3, -1.0, 2.0])
    first, second = map(encoder, jax.random.split(getkey()))
    run = swapped(RunState(IdentityDecoder(3, 2, key=getkey()), policy=first, learner=Learner(first), replay=obs))
    run = swapped(RunState(run.decoder, policy=second, learner=run.learner, replay=run.replay))
    assert run.replay is obs
    noise = jax.random.normal(getkey(), (2,))
    inner, outer = first.distribution(obs), second.distribution(obs)
    expected = inner.mean + inner.std * (outer.mean + outer.std * noise)
    np.testing.assert_allclose(run.decoder(obs, noise), expected, rtol=1e-6)
    assert run.decoder.latent_size == 2 and run.decoder.network_calls == 2
    assert run.decoder.observe(jnp.ones((4, 3)), jnp.ones(4)) is run.decoder


def test_it_needs_an_encoder_with_a_distribution():
    with pytest.raises(ConfigError, match="AbsorbEncoder has no encoder"):
        AbsorbEncoder().check(TASK, PhaseInputs())
    with pytest.raises(ConfigError, match="needs a Gaussian encoder, and the policy is Level"):
        swapped(RunState(IdentityDecoder(3, 2, key=jax.random.key(0)), policy=level(1.0)))
