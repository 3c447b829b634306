import jax
import numpy as np
import pytest

from gorl.errors import ConfigError
from gorl.generative.times import ArcsineTimes, DiscreteTimes, LogitNormalTimes, UniformTimes


def drawn(times, key, size=4000):
    return np.asarray(jax.jit(jax.vmap(lambda k: times.sample(key=k)))(jax.random.split(key, size)), np.float64)


def test_uniform_times_fill_the_interval_and_leave_out_1(getkey):
    t = np.sort(drawn(UniformTimes(), getkey()))
    assert 0.0 <= t[0] and t[-1] < 1.0
    assert np.max(np.abs(t - (np.arange(4000) + 0.5) / 4000)) < 0.03  # Kolmogorov's distance: 0.026 at 1 %


@pytest.mark.parametrize(
    "times, mean, variance",
    [
        (UniformTimes(), 1 / 2, 1 / 12),
        (DiscreteTimes(steps=4), 5 / 8, 5 / 64),  # of 1, 2, 3, 4: mean 5/2, variance (4² - 1) / 12 = 5/4
        (ArcsineTimes(), 1 / 2, 1 / 8),  # that of (1 - cos) / 2: a quarter of the mean of cos², 1/2
        (LogitNormalTimes(0.0, 1e-2), 1 / 2, 1e-4 / 16),  # nearly linear, with the slope 1/4 of the sigmoid at 0
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, float) else "",
)
def test_times_have_the_moments_of_their_law(times, mean, variance, getkey):
    """Within five standard errors: of the mean sqrt(variance / n), of the variance at most sqrt(2 / n) = 1 % of it."""
    t = drawn(times, getkey(), 20_000)
    assert abs(np.mean(t) - mean) < 5 * np.sqrt(variance / 20_000)
    np.testing.assert_allclose(np.var(t), variance, rtol=0.05)


def test_discrete_times_are_those_of_a_schedule(getkey):
    values, counts = np.unique(drawn(DiscreteTimes(steps=10), getkey()), return_counts=True)
    np.testing.assert_allclose(values, np.arange(1, 11) / 10, rtol=1e-6)
    assert np.sum((counts - 400) ** 2 / 400) < 21.7  # chi-squared with 9 degrees of freedom: 1 %
    np.testing.assert_array_equal(drawn(DiscreteTimes(steps=1), getkey(), 5), np.ones(5))


def test_a_schedule_has_steps():
    with pytest.raises(ConfigError, match=r"DiscreteTimes\.steps = 0: it must be >= 1"):
        DiscreteTimes(steps=0)


def test_arcsine_times_have_the_arcsine_laws_quantiles(getkey):
    """P(t < x) = 2 / pi arcsin(sqrt(x)): a third each below 1/4, up to 3/4, and above."""
    t = drawn(ArcsineTimes(), getkey(), 20_000)
    np.testing.assert_allclose(np.quantile(t, np.array([1 / 3, 0.5, 2 / 3])), [0.25, 0.5, 0.75], atol=0.02)
    assert 0.0 <= np.min(t) and np.max(t) <= 1.0


def test_logit_normal_times_have_the_quantiles_of_their_normal(getkey):
    """Quantiles of N(-0.4, 2²) at 16 %, 50 % and 84 % are -2.4, -0.4 and 1.6 (one std below and above)."""
    t = drawn(LogitNormalTimes(-0.4, 2.0), getkey(), 20_000)
    found = np.quantile(t, np.array([0.15866, 0.5, 0.84134]))
    np.testing.assert_allclose(found, 1.0 / (1.0 + np.exp([2.4, 0.4, -1.6])), atol=0.015)


def test_a_normal_has_a_spread():
    with pytest.raises(ConfigError, match=r"LogitNormalTimes\.std = 0\.0: it must be > 0"):
        LogitNormalTimes(0.0, 0.0)
