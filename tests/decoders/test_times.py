import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.decoders.times import ArcsineTimes, LogitNormalTimes, UniformTimes
from gorl.errors import ConfigError


def sample(times, key, count=20_000):
    return jax.jit(jax.vmap(lambda k: times.sample(key=k)))(jax.random.split(key, count))


def test_uniform_times_fill_the_interval(getkey):
    t = sample(UniformTimes(), getkey())
    np.testing.assert_allclose(jnp.quantile(t, jnp.array([0.1, 0.5, 0.9])), [0.1, 0.5, 0.9], atol=0.015)
    assert 0.0 <= jnp.min(t) and jnp.max(t) <= 1.0


def test_arcsine_times_have_the_arcsine_laws_quantiles(getkey):
    """P(t < x) = 2 / pi arcsin(sqrt(x)): a third each below 1/4, up to 3/4, and above."""
    t = sample(ArcsineTimes(), getkey())
    np.testing.assert_allclose(jnp.quantile(t, jnp.array([1 / 3, 0.5, 2 / 3])), [0.25, 0.5, 0.75], atol=0.02)
    assert 0.0 <= jnp.min(t) and jnp.max(t) <= 1.0


def test_logit_normal_times_have_the_quantiles_of_their_normal(getkey):
    """Quantiles of N(-0.4, 2²) at 16 %, 50 % and 84 % are -2.4, -0.4 and 1.6 (one std below and above)."""
    t = sample(LogitNormalTimes(-0.4, 2.0), getkey())
    found = jnp.quantile(t, jnp.array([0.15866, 0.5, 0.84134]))
    np.testing.assert_allclose(found, 1.0 / (1.0 + np.exp([2.4, 0.4, -1.6])), atol=0.015)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match=r"LogitNormalTimes\.std = 0\.0: it must be > 0"):
        LogitNormalTimes(0.0, 0.0)
