import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.errors import ConfigError
from gorl.objectives.trust_region import ASPO, SPO, Clip


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


def both(region, ratio, advantage):
    """(objective, its derivative by log r, which is r times that by r)."""
    return jax.value_and_grad(region.objective)(jnp.log(jnp.float32(ratio)), jnp.float32(advantage))


# epsilon = 0.2, |A| = 2: J = r A - 5 (r - 1)², dJ/dr = A - 10 (r - 1)
PARABOLA_UP = [(1.0, 2.0, 2.0, 2.0), (1.2, 2.0, 2.2, 0.0), (1.5, 2.0, 1.75, -4.5), (0.5, 2.0, -0.25, 3.5)]
PARABOLA_DOWN = [(1.0, -2.0, -2.0, -2.0), (0.8, -2.0, -1.8, 0.0), (0.5, -2.0, -2.25, 1.5), (1.5, -2.0, -4.25, -10.5)]


@pytest.mark.parametrize("ratio, advantage, objective, slope", PARABOLA_UP + PARABOLA_DOWN)
def test_spo_by_hand(ratio, advantage, objective, slope):
    value, gradient = both(SPO(0.2), ratio, advantage)
    np.testing.assert_allclose(value, objective, rtol=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("advantage, best", [(0.3, 1.05), (7.0, 1.05), (-0.3, 0.95), (-7.0, 0.95)])
def test_spo_is_greatest_at_the_edge_of_the_region(advantage, best):
    ratios = jnp.linspace(0.5, 1.5, 1001)
    objective = jax.vmap(lambda r: SPO(0.05).objective(jnp.log(r), jnp.float32(advantage)))(ratios)
    np.testing.assert_allclose(ratios[jnp.argmax(objective)], best, atol=1.5e-3)


@pytest.mark.parametrize(
    "ratio, advantage, objective, slope",
    [
        (1.1, 2.0, 2.2, 2.2),
        (1.5, 2.0, 2.4, 0.0),
        (0.5, 2.0, 1.0, 1.0),
        (1.0, 0.0, 0.0, 0.0),
        *PARABOLA_DOWN,
    ],  # clip's; a tie; SPO's
)
def test_aspo_by_hand(ratio, advantage, objective, slope):
    value, gradient = both(ASPO(0.2), ratio, advantage)
    np.testing.assert_allclose(value, objective, rtol=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-5)


def test_aspo_is_finite_where_the_square_of_the_ratio_is_not():
    value, gradient = jax.value_and_grad(ASPO(0.2).objective)(jnp.float32(60.0), jnp.float32(2.0))
    np.testing.assert_allclose([value, gradient], [2.4, 0.0], rtol=1e-6)


@pytest.mark.parametrize("kind", [Clip, SPO, ASPO])
@pytest.mark.parametrize("ratio, outside", [(0.79, True), (0.81, False), (1.0, False), (1.19, False), (1.21, True)])
def test_outside(kind, ratio, outside):
    assert bool(kind(0.2).outside(jnp.log(jnp.float32(ratio)))) is outside


def test_an_infinite_epsilon_clips_nothing():
    clip = Clip(np.inf)
    np.testing.assert_allclose(clip.objective(jnp.float32(3.0), jnp.float32(2.0)), 2.0 * np.exp(3.0), rtol=1e-6)
    assert not clip.outside(jnp.float32(3.0))


@pytest.mark.parametrize("kind", [Clip, SPO, ASPO])
def test_epsilon_must_be_positive(kind):
    with pytest.raises(ConfigError, match=rf"^{kind.__name__}\.epsilon = 0\.0: it must be > 0"):
        kind(0.0)


@pytest.mark.parametrize("kind", [SPO, ASPO])
def test_a_parabola_needs_a_width(kind):
    with pytest.raises(ConfigError, match="it must be > 0 and finite"):
        kind(np.inf)
