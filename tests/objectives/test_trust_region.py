import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.errors import ConfigError
from gorl.objectives.trust_region import Clip


@pytest.mark.parametrize(
    "ratio, advantage, objective, slope",
    [
        (1.1, 2.0, 2.2, 2.2),  # inside: r A, whose derivative by log r is r A
        (0.9, -2.0, -1.8, -1.8),
        (1.0, 2.0, 2.0, 2.0),
        (1.5, 2.0, 2.4, 0.0),  # min(3, 1.2·2): gone far enough up
        (0.5, -2.0, -1.6, 0.0),  # min(-1, 0.8·-2): gone far enough down
        (1.5, -2.0, -3.0, -3.0),  # min(-3, -2.4): went the wrong way, is pulled back
        (0.5, 2.0, 1.0, 1.0),  # min(1, 1.6): likewise
    ],
)
def test_clip_by_hand(ratio, advantage, objective, slope):
    clip = Clip(0.2)
    value, gradient = jax.value_and_grad(clip.objective)(jnp.log(jnp.float32(ratio)), jnp.float32(advantage))
    np.testing.assert_allclose(value, objective, rtol=1e-6)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6)


@pytest.mark.parametrize("ratio, outside", [(0.79, True), (0.81, False), (1.0, False), (1.19, False), (1.21, True)])
def test_outside(ratio, outside):
    assert bool(Clip(0.2).outside(jnp.log(jnp.float32(ratio)))) is outside


def test_an_infinite_epsilon_clips_nothing():
    clip = Clip(np.inf)
    np.testing.assert_allclose(clip.objective(jnp.float32(3.0), jnp.float32(2.0)), 2.0 * np.exp(3.0), rtol=1e-6)
    assert not clip.outside(jnp.float32(3.0))


def test_epsilon_must_be_positive():
    with pytest.raises(ConfigError, match=r"Clip\.epsilon = 0\.0: it must be > 0"):
        Clip(0.0)
