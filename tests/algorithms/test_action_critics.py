import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.algorithms import ActionCritic, CategoricalCritic
from gorl.errors import ConfigError
from gorl.networks import LayerNormMLP, RunningNormalizer
from tests.support.networks import NORMALIZER, mlp

RAW = functools.partial(RunningNormalizer, epsilon=0.0, clip=np.inf)


class Line(eqx.Module):
    """W x."""

    weight: jax.Array

    def __call__(self, x):
        return self.weight @ x


def categorical(**changes):
    """Q(s, a) over 21 bins from -5 to 5, whose width is 0.5, with logits that are 0 but for the initial ones."""
    settings = {
        "body": lambda i, o, *, key: Line(jnp.zeros((o, i))),
        "normalizer": RAW,
        "squash": False,
        "v_min": -5.0,
        "v_max": 5.0,
        "num_bins": 21,
        "bin_std": 0.75,
        "initial_uniform": 1e-3,
    }
    return CategoricalCritic(1, 1, **{**settings, **changes}, key=jax.random.key(0))


CENTERS = np.linspace(-5.0, 5.0, 21)


@pytest.mark.parametrize("bin_std", [0.5, 0.75, 2.0])
def test_the_mean_of_a_code_is_its_target(bin_std):
    """Away from the ends, where the bins hold the whole Gaussian."""
    targets = jnp.linspace(-5.0 + 4 * bin_std * 0.5, 5.0 - 4 * bin_std * 0.5, 33)
    codes = jax.vmap(categorical(bin_std=bin_std).encode)(targets)
    np.testing.assert_allclose(jnp.sum(codes, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(codes @ CENTERS, targets, atol=3e-3 if bin_std == 0.5 else 3e-4)
    variance = np.sum(codes * (CENTERS[None] - targets[:, None]) ** 2, axis=1)
    np.testing.assert_allclose(variance, (bin_std * 0.5) ** 2 + 0.5**2 / 12, rtol=0.08)  # Sheppard's correction


def test_a_code_is_the_mass_of_a_gaussian_in_every_bin():
    """Of N(0.1, 0.375²): from -0.25 to 0.25 around the center 0, and so on."""
    code = categorical().encode(jnp.float32(0.1))
    mass = lambda low, high: np.diff(jax.scipy.stats.norm.cdf((np.array([low, high]) - 0.1) / 0.375))[0]
    np.testing.assert_allclose(code[10], mass(-0.25, 0.25), rtol=1e-4)
    np.testing.assert_allclose(code[12], mass(0.75, 1.25), rtol=1e-4)


def test_targets_outside_count_as_the_nearer_end():
    encode = categorical().encode
    for end, far in ((5.0, 1e6), (-5.0, -7.0)):
        np.testing.assert_array_equal(encode(jnp.float32(far)), encode(jnp.float32(end)))
    assert np.argmax(encode(jnp.float32(5.0))) == 20


def test_the_gradient_of_the_cross_entropy_is_the_difference_of_distributions():
    """d loss / d logits = softmax - code, and d logits_i / d W_ij = x_j, where x = (2, 3)."""
    critic = categorical()
    critic = eqx.tree_at(lambda c: c.body.weight, critic, 0.1 * jax.random.normal(jax.random.key(1), (21, 2)))
    loss = lambda c: c.loss(jnp.array([2.0]), jnp.array([3.0]), jnp.float32(1.3))[0]
    value, gradient = eqx.filter_value_and_grad(loss)(critic)
    x, code = np.array([2.0, 3.0]), np.asarray(critic.encode(jnp.float32(1.3)), np.float64)
    prior = np.log(0.999 * np.asarray(critic.encode(jnp.zeros(())), np.float64) + 1e-3 / 21)
    logits = np.asarray(critic.body.weight, np.float64) @ x + prior
    probabilities = np.exp(logits) / np.sum(np.exp(logits))
    np.testing.assert_allclose(gradient.body.weight, np.outer(probabilities - code, x), atol=1e-5)
    np.testing.assert_allclose(value, -np.sum(code * np.log(probabilities)), rtol=1e-5)
    found = critic(jnp.array([2.0]), jnp.array([3.0]))
    np.testing.assert_allclose(found, [np.sum(probabilities * CENTERS)], rtol=1e-4)
    np.testing.assert_array_equal(critic.loss(jnp.array([2.0]), jnp.array([3.0]), jnp.float32(1.3))[1], found)


def test_a_new_critic_is_near_0_wherever_0_lies():
    for ends in ({}, {"v_min": -1.0, "v_max": 9.0}):
        np.testing.assert_allclose(categorical(**ends)(jnp.ones(1), jnp.ones(1)), [0.0], atol=0.01)


@pytest.mark.parametrize("target", [np.nan, np.inf])
def test_a_target_that_is_not_finite_shows_in_the_loss(target):
    assert not np.isfinite(categorical().loss(jnp.ones(1), jnp.ones(1), jnp.float32(target))[0])


def test_one_network_is_trained_by_half_the_squared_error():
    """Q = 1 s + 0.5 a = 3.5 at (2, 3); the error from 1.5 is 2."""
    critic = ActionCritic(
        1,
        1,
        body=lambda i, o, *, key: Line(jnp.array([[1.0, 0.5]])),
        normalizer=RAW,
        squash=False,
        key=jax.random.key(0),
    )
    (loss, q), gradient = eqx.filter_value_and_grad(
        lambda c: c.loss(jnp.array([2.0]), jnp.array([3.0]), jnp.float32(1.5)), has_aux=True
    )(critic)
    np.testing.assert_allclose((loss, q[0]), (2.0, 3.5))
    np.testing.assert_allclose(gradient.body.weight, [[4.0, 6.0]])


@pytest.mark.parametrize("make", [ActionCritic, categorical])
def test_actions_are_squashed_where_told(make):
    body = mlp(8, 1, kind=LayerNormMLP)
    if make is ActionCritic:
        make = functools.partial(ActionCritic, 1, 1, key=jax.random.key(0))
    critic, as_it_is = (make(body=body, normalizer=NORMALIZER, squash=squash) for squash in (True, False))
    obs = jnp.ones(1)
    np.testing.assert_allclose(critic(obs, jnp.array([30.0])), critic(obs, jnp.array([50.0])))
    np.testing.assert_allclose(as_it_is(obs, jnp.tanh(jnp.array([0.7]))), critic(obs, jnp.array([0.7])), rtol=1e-5)
    assert not np.allclose(as_it_is(obs, jnp.array([0.7])), critic(obs, jnp.array([0.7])), rtol=1e-4)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_bins": 1}, r"CategoricalCritic\.num_bins = 1: it must be >= 2"),
        (
            {"v_min": 5.0},
            r"CategoricalCritic\.v_min = 5\.0, CategoricalCritic\.v_max = 5\.0: v_min must be below v_max",
        ),
        ({"v_max": np.inf}, r"v_max = inf: v_min must be below v_max, and both finite"),
        ({"bin_std": 0.0}, r"CategoricalCritic\.bin_std = 0\.0: it must be > 0 and finite"),
        ({"initial_uniform": 0.0}, r"CategoricalCritic\.initial_uniform = 0\.0: it must be in \(0, 1\]"),
    ],
)
def test_settings_that_make_no_distribution(changes, message):
    with pytest.raises(ConfigError, match=message):
        categorical(**changes)
