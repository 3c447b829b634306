"""Which episodes, and how much each step counts, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from gorl.errors import ConfigError
from gorl.phases.selection import AdvantageWeighted, AllEpisodes, ReturnWeighted, TopEpisodes, episode_returns
from gorl.state import Episodes


def episodes(reward, valid=None, value=None):
    reward = jnp.asarray(reward, jnp.float32)
    valid = jnp.ones(reward.shape, bool) if valid is None else jnp.asarray(valid, bool)
    value = jnp.zeros(reward.shape) if value is None else jnp.asarray(value, jnp.float32)
    return Episodes(jnp.zeros((*reward.shape, 1)), jnp.zeros((*reward.shape, 1)), reward, value, valid)


THREE = episodes([[1.0, 1.0], [5.0, 7.0], [4.0, 100.0]], valid=[[1, 1], [1, 1], [1, 0]])  # returns 2, 12, 4


def test_returns_are_of_valid_steps():
    np.testing.assert_allclose(episode_returns(THREE), [2.0, 12.0, 4.0])


def test_all_episodes():
    assert AllEpisodes().count(3) == 3
    np.testing.assert_array_equal(AllEpisodes().choose(THREE), [0, 1, 2])
    np.testing.assert_array_equal(AllEpisodes().weight(THREE), [[1, 1], [1, 1], [1, 0]])


@pytest.mark.parametrize("fraction, kept", [(0.1, [1]), (0.5, [1, 2]), (0.67, [1, 2, 0]), (1.0, [1, 2, 0])])
def test_top_episodes_are_those_of_the_highest_returns(fraction, kept):
    assert TopEpisodes(fraction).count(3) == len(kept)
    np.testing.assert_array_equal(TopEpisodes(fraction).choose(THREE), kept)


def test_return_weights():
    """Returns -1 and 1, standardized as they are: weights in the ratio e^(2 / temperature), with a mean of 1."""
    weight = np.asarray(ReturnWeighted(temperature=0.5, max_weight=1e9).weight(episodes([[-1.0], [1.0]])))
    np.testing.assert_allclose(weight[1] / weight[0], np.exp(4.0), rtol=1e-5)
    np.testing.assert_allclose(np.mean(weight), 1.0, rtol=1e-6)
    limited = np.asarray(ReturnWeighted(temperature=0.5, max_weight=1.0).weight(episodes([[-1.0], [1.0]])))
    np.testing.assert_allclose(limited[1] / limited[0], 1.0 / np.exp(-2.0), rtol=1e-5)


def test_weights_count_valid_steps_only():
    weight = np.asarray(ReturnWeighted(temperature=1.0, max_weight=20.0).weight(THREE))
    assert weight[2, 1] == 0.0 and np.sum(weight) == pytest.approx(5.0, rel=1e-5)
    assert np.all(weight[:, 0] > 0) and weight[1, 0] == weight[1, 1] > weight[2, 0] > weight[0, 0]


def test_equal_returns_weigh_the_same():
    np.testing.assert_allclose(ReturnWeighted(temperature=0.1, max_weight=20.0).weight(episodes([[3.0], [3.0]])), 1.0)


def advantage_weighted(**changes):
    return AdvantageWeighted(
        **{"temperature": 1.0, "max_weight": 20.0, "discount": 0.5, "gae_lambda": 1.0, "reward_scale": 2.0, **changes}
    )


def test_advantages_by_hand():
    """Rewards are doubled, discount a half, lambda 1.

    Episode 0 runs to the limit: its last step bootstraps from V = 4: d1 = 2·3 + 0.5·4 - 4 = 4,
    d0 = 2·1 + 0.5·4 - 2 = 2, A0 = 2 + 0.5·4.
    Episode 1 ends after its first step: A0 = 2·1 - 2 = 0, and the second counts for nothing.
    """
    data = episodes([[1.0, 3.0], [1.0, 9.0]], valid=[[1, 1], [1, 0]], value=[[2.0, 4.0], [2.0, 50.0]])
    np.testing.assert_allclose(advantage_weighted().advantages(data), [[4.0, 4.0], [0.0, 0.0]])
    weight = np.asarray(advantage_weighted().weight(data))
    mean, std = 8 / 3, np.sqrt(np.mean((np.array([4, 4, 0]) - 8 / 3) ** 2))
    raw = np.exp((np.array([[4.0, 4.0], [0.0, 0.0]]) - mean) / std) * np.array([[1, 1], [1, 0]])
    np.testing.assert_allclose(weight, raw / (raw.sum() / 3), rtol=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: TopEpisodes(0.0), r"TopEpisodes\.fraction = 0\.0: it must be in \(0, 1\]"),
        (
            lambda: ReturnWeighted(temperature=0.0, max_weight=1.0),
            r"ReturnWeighted\.temperature = 0\.0: it must be > 0",
        ),
        (lambda: advantage_weighted(max_weight=-1.0), r"AdvantageWeighted\.max_weight = -1\.0"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
