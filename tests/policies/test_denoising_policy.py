import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.errors import ConfigError
from gorl.policies import DenoisingPolicy
from tests.support.linear_fields import ACTION_SIZE, OBS_SIZE, acted, common, log_ratios, network, nudged, set_linear

SIGMA, STEPS = 0.05, 5
SLOPE, OFFSET = 0.8, np.array([0.5, -1.0])
SHRINK = 1 - SLOPE / STEPS  # x <- shrink x - offset / steps + sigma n


def denoising_policy(key, *, final_steps=STEPS, **changes):
    return DenoisingPolicy(
        OBS_SIZE, ACTION_SIZE, **common(**{"sigma": SIGMA, "steps": STEPS, **changes}), final_steps=final_steps, key=key
    )


def linear_policy(key, slope=SLOPE, offset=OFFSET, **changes):
    return set_linear(denoising_policy(key, body=network(depth=0), **changes), slope, offset)


def by_hand(chain, slope, offset):
    """[E, F] log N(x'; x - (slope x + offset) / steps, sigma² I), summed over the dimensions, in float64."""
    chain = np.asarray(chain, np.float64)
    z = (chain[:, 1:] - (chain[:, :-1] - (slope * chain[:, :-1] + offset) / STEPS)) / SIGMA
    return np.sum(-0.5 * z**2 - np.log(SIGMA) - 0.5 * np.log(2 * np.pi), axis=-1)


@pytest.mark.parametrize("final_steps", [STEPS, 2])
def test_the_ratio_is_1_before_any_update(getkey, final_steps):
    policy, obs = denoising_policy(getkey(), final_steps=final_steps), jax.random.normal(getkey(), (16, OBS_SIZE))
    action, extras = acted(policy, obs, getkey())
    np.testing.assert_array_equal(extras.chain[:, -1], action)
    np.testing.assert_allclose(
        log_ratios(policy, obs, action, extras), np.zeros((16, final_steps)), atol=2e-6
    )  # rounding
    assert jnp.all(jnp.abs(log_ratios(nudged(policy), obs, action, extras)) > 1e-6)


def test_the_likelihood_of_a_chain_by_hand(getkey):
    policy, obs = linear_policy(getkey()), jax.random.normal(getkey(), (8, OBS_SIZE))
    action, extras = acted(policy, obs, getkey())
    assert extras.chain.shape == (8, STEPS + 1, ACTION_SIZE)
    old = by_hand(extras.chain, SLOPE, OFFSET)
    np.testing.assert_allclose(extras.log_likelihood, old, atol=2e-4)
    moved = linear_policy(getkey(), 0.9, OFFSET + 0.1)
    new = by_hand(extras.chain, 0.9, OFFSET + 0.1)
    assert np.max(np.abs(new - old)) > 0.5
    np.testing.assert_allclose(log_ratios(moved, obs, action, extras), new - old, atol=5e-4)


@pytest.mark.parametrize("slope, offset", [(0.0, np.zeros(2)), (SLOPE, OFFSET)])
def test_samples_have_the_chains_closed_form(getkey, slope, offset):
    policy = linear_policy(getkey(), slope, offset, sigma=0.3)  # large, so that its share of the variance is seen
    action, _ = acted(policy, jnp.zeros((20_000, OBS_SIZE)), getkey())
    shrink = 1 - slope / STEPS
    mean = -offset / STEPS * sum(shrink**j for j in range(STEPS))
    variance = shrink ** (2 * STEPS) + 0.3**2 * sum(shrink ** (2 * j) for j in range(STEPS))
    assert variance > 1.3 * shrink ** (2 * STEPS)
    np.testing.assert_allclose(jnp.mean(action, axis=0), mean, atol=0.03)
    np.testing.assert_allclose(jnp.var(action, axis=0), np.full(2, variance), rtol=0.04)


def test_the_time_of_each_step_runs_from_1_downwards(getkey):
    """A field that is t itself, by its embedding's share: cos(t) is the first entry."""
    policy = linear_policy(getkey(), 0.0, 0.0)
    weight = policy.body.layers[0].weight.at[:, OBS_SIZE + ACTION_SIZE].set(4.0)  # v = cos t
    policy = eqx.tree_at(lambda p: p.body.layers[0].weight, policy, weight)
    expected = -sum(np.cos(1.0 - k / STEPS) for k in range(STEPS)) / STEPS
    np.testing.assert_allclose(policy.mode(jnp.zeros(OBS_SIZE), key=getkey()), [expected, expected], rtol=1e-5)
    action, extras = acted(policy, jnp.zeros((4, OBS_SIZE)), getkey())
    z = np.diff(np.asarray(extras.chain, np.float64), axis=1) + np.cos(1.0 - np.arange(STEPS) / STEPS)[:, None] / STEPS
    expected = np.sum(-0.5 * (z / SIGMA) ** 2 - np.log(SIGMA) - 0.5 * np.log(2 * np.pi), axis=-1)
    np.testing.assert_allclose(extras.log_likelihood, expected, atol=2e-4)


def test_only_the_last_steps_count_where_asked(getkey):
    key, obs, sample_key = getkey(), jax.random.normal(getkey(), (4, OBS_SIZE)), getkey()
    policies = [denoising_policy(key, final_steps=f) for f in (STEPS, 2)]
    (action, every), (same, last) = (acted(p, obs, sample_key) for p in policies)
    np.testing.assert_array_equal(action, same)
    np.testing.assert_array_equal(last.chain, every.chain[:, -3:])
    ratios = [log_ratios(nudged(p), obs, action, e) for p, e in zip(policies, (every, last))]
    np.testing.assert_allclose(ratios[1], ratios[0][:, -2:], atol=1e-5)


def test_the_mode_has_no_noise_whatever_the_key(getkey):
    policy, obs = linear_policy(getkey()), jax.random.normal(getkey(), (OBS_SIZE,))
    mean = -OFFSET / STEPS * sum(SHRINK**j for j in range(STEPS))
    for _ in range(3):
        np.testing.assert_allclose(policy.mode(obs, key=getkey()), mean, rtol=1e-5)


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"sigma": 0.0}, "sigma = 0.0: it must be > 0, or a step has no likelihood"),
        ({"velocity_scale": -1.0}, "velocity_scale = -1.0: it must be > 0"),
        ({"final_steps": 0}, r"final_steps = 0: it must be in \[1, steps\], where DenoisingPolicy.steps = 5"),
        ({"final_steps": 6}, r"final_steps = 6: it must be in \[1, steps\]"),
    ],
)
def test_settings_are_checked(getkey, setting, message):
    with pytest.raises(ConfigError, match=message):
        denoising_policy(getkey(), **setting)
