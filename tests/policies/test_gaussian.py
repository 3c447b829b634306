import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.errors import ConfigError
from gorl.generative.distributions import DiagonalGaussian
from gorl.policies import GaussianPolicy
from tests.support.networks import NORMALIZER, mlp


def gaussian_policy(key, *, action_size=2, output_scale=0.01, min_std=1e-3, max_std=10.0, initial_std=1.0):
    body = mlp(16, 2, output_scale=output_scale)
    return GaussianPolicy(
        3,
        action_size,
        body=body,
        normalizer=NORMALIZER,
        min_std=min_std,
        max_std=max_std,
        initial_std=initial_std,
        key=key,
    )


def nudged(policy):
    """The same policy after some update."""
    rng = np.random.default_rng(0)
    move = lambda x: jnp.asarray(x + 0.1 * rng.standard_normal(x.shape), jnp.float32)
    return eqx.tree_at(lambda p: p.body, policy, jax.tree.map(move, policy.body))


@eqx.filter_jit
def distributions(policy, obs):
    return jax.vmap(policy.distribution)(obs)


@pytest.mark.parametrize("initial_std", [0.05, 0.69, 1.0, 4.0])
def test_starts_with_the_initial_std(getkey, initial_std):
    obs = jax.random.normal(getkey(), (100, 3))
    exact = distributions(gaussian_policy(getkey(), output_scale=0.0, initial_std=initial_std), obs)
    np.testing.assert_allclose(exact.std, np.full((100, 2), initial_std), rtol=1e-5)
    np.testing.assert_allclose(exact.mean, np.zeros((100, 2)))
    near = distributions(gaussian_policy(getkey(), initial_std=initial_std), obs)
    np.testing.assert_allclose(near.std, np.full((100, 2), initial_std), rtol=0.05)


def test_std_stays_within_its_bounds(getkey):
    policy = gaussian_policy(getkey(), output_scale=1.0, min_std=0.2, max_std=2.0)
    at = lambda raw: (
        eqx.tree_at(lambda p: p.body.layers[-1].bias, policy, jnp.array([0.0, 0.0, raw, raw]))
        .distribution(jnp.zeros(3))
        .std
    )
    np.testing.assert_allclose(at(-50.0), [0.2, 0.2], rtol=1e-6)
    np.testing.assert_allclose(at(50.0), [2.0, 2.0])
    np.testing.assert_allclose(at(0.0), [1.0, 1.0], rtol=1e-5)


def test_samples_follow_the_distribution(getkey):
    policy, obs = gaussian_policy(getkey(), output_scale=3.0), jnp.array([1.0, -2.0, 0.5])
    actions, _ = jax.jit(jax.vmap(lambda k: policy.sample(obs, key=k)))(jax.random.split(getkey(), 20_000))
    distribution = policy.distribution(obs)
    assert jnp.max(jnp.abs(distribution.mean)) > 0.3  # not near 0 by luck
    np.testing.assert_allclose(jnp.mean(actions, axis=0), distribution.mean, atol=0.05)
    np.testing.assert_allclose(jnp.std(actions, axis=0), distribution.std, rtol=0.03)


def log_density(x, mean, std):
    x, mean, std = (np.asarray(y, np.float64) for y in (x, mean, std))
    return np.log(np.prod(np.exp(-((x - mean) ** 2) / (2 * std**2)) / np.sqrt(2 * np.pi * std**2)))


def test_log_prob_by_hand():
    distribution = DiagonalGaussian(jnp.array([1.0, 0.0]), jnp.array([2.0, 0.25]))
    # z = (1, -2): -(1 + 4) / 2 - log 2 - log 0.25 - log 2 pi
    np.testing.assert_allclose(distribution.log_prob(jnp.array([3.0, -0.5])), -2.5 + 0.6931472 - 1.8378771, rtol=1e-6)


def test_extras_are_the_log_prob_of_the_action(getkey):
    policy, obs = gaussian_policy(getkey(), output_scale=3.0), jax.random.normal(getkey(), (3,))
    for _ in range(5):
        action, extras = policy.sample(obs, key=getkey())
        distribution = policy.distribution(obs)
        np.testing.assert_allclose(extras, log_density(action, distribution.mean, distribution.std), rtol=1e-5)


def test_log_ratio_is_0_before_any_update_and_right_after_one(getkey):
    policy, obs = gaussian_policy(getkey(), output_scale=1.0), jax.random.normal(getkey(), (64, 3))
    action, extras = jax.jit(jax.vmap(lambda o, k: policy.sample(o, key=k)))(obs, jax.random.split(getkey(), 64))
    ratios = eqx.filter_jit(
        lambda p: jax.vmap(lambda o, a, e: p.log_ratio(o, a, e, key=jax.random.key(0)))(obs, action, extras)
    )
    assert ratios(policy).shape == (64, 1)
    np.testing.assert_allclose(ratios(policy), np.zeros((64, 1)), atol=1e-5)
    moved = nudged(policy)
    new, old = (jax.tree.map(np.asarray, distributions(p, obs)) for p in (moved, policy))
    expected = [
        log_density(action[i], new.mean[i], new.std[i]) - log_density(action[i], old.mean[i], old.std[i])
        for i in range(64)
    ]
    assert np.max(np.abs(expected)) > 0.1
    np.testing.assert_allclose(ratios(moved)[:, 0], expected, atol=1e-4)


def test_mode_is_the_mean_whatever_the_key(getkey):
    policy, obs = nudged(gaussian_policy(getkey())), jax.random.normal(getkey(), (3,))
    modes = jnp.stack([policy.mode(obs, key=getkey()) for _ in range(3)])
    np.testing.assert_array_equal(modes, jnp.broadcast_to(policy.distribution(obs).mean[None], (3, 2)))
    assert jnp.all(modes != 0.0)


def test_observe_normalises_the_bodys_input(getkey):
    policy = nudged(gaussian_policy(getkey()))
    data = 100.0 + 5.0 * jax.random.normal(getkey(), (500, 3))
    observed = policy.observe(data, jnp.ones(500))
    x = data[0]
    expected = policy.body((x - jnp.mean(data, axis=0)) / jnp.std(data, axis=0))[:2]
    np.testing.assert_allclose(observed.distribution(x).mean, expected, atol=1e-4)
    assert jnp.max(jnp.abs(policy.distribution(x).mean - expected)) > 0.01  # before, it was clipped at 10


@pytest.mark.parametrize("std", [{"initial_std": 1e-3}, {"initial_std": 11.0}, {"min_std": 0.0}])
def test_std_settings_are_checked(getkey, std):
    with pytest.raises(ConfigError, match="0 < min_std < initial_std <= max_std"):
        gaussian_policy(getkey(), **std)
