import jax.numpy as jnp
import numpy as np
import pytest

from gorl.errors import ConfigError
from gorl.networks import FourierTime


def test_by_hand():
    # cosines then sines of 0.3, 0.6, 1.2, 2.4
    expected = [0.9553365, 0.8253356, 0.3623578, -0.7373937, 0.2955202, 0.5646425, 0.9320391, 0.6754632]
    np.testing.assert_allclose(FourierTime(4)(jnp.float32(0.3)), expected, atol=1e-6)


def test_at_time_0():
    np.testing.assert_allclose(FourierTime(3)(jnp.float32(0.0)), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("frequencies", [1, 4, 7])
def test_size_is_the_length_of_an_embedding(frequencies):
    embedding = FourierTime(frequencies)
    assert embedding(jnp.float32(0.5)).shape == (embedding.size,) == (2 * frequencies,)


def test_frequencies_are_checked():
    with pytest.raises(ConfigError, match=r"FourierTime\.frequencies = 0: it must be >= 1"):
        FourierTime(0)
