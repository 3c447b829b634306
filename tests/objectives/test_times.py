import jax
import numpy as np
import pytest

from gorl.errors import ConfigError
from gorl.objectives.times import DiscreteTimes, UniformTimes


def drawn(times, key, size=4000):
    return np.asarray(jax.jit(jax.vmap(times.sample))(jax.random.split(key, size)), np.float64)


def test_uniform_times_fill_the_interval_and_leave_out_1(getkey):
    t = np.sort(drawn(UniformTimes(), getkey()))
    assert 0.0 <= t[0] and t[-1] < 1.0
    assert np.max(np.abs(t - (np.arange(4000) + 0.5) / 4000)) < 0.03  # Kolmogorov's distance: 0.026 at 1 %


def test_discrete_times_are_those_of_a_schedule(getkey):
    values, counts = np.unique(drawn(DiscreteTimes(steps=10), getkey()), return_counts=True)
    np.testing.assert_allclose(values, np.arange(1, 11) / 10, rtol=1e-6)
    assert np.sum((counts - 400) ** 2 / 400) < 21.7  # chi-squared with 9 degrees of freedom: 1 %
    np.testing.assert_array_equal(drawn(DiscreteTimes(steps=1), getkey(), 5), np.ones(5))


def test_a_schedule_has_steps():
    with pytest.raises(ConfigError, match=r"DiscreteTimes\.steps = 0: it must be >= 1"):
        DiscreteTimes(steps=0)
