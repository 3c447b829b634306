"""Pictures of laws and of maps: the numbers in them, and the files."""

import numpy as np
import pytest

from gorl.environments.toy import Slider, TwoGoals
from gorl.errors import ConfigError
from gorl.pictures import ActionDensity, CannotDraw, DecoderMap
from gorl.pictures.action_density import histogram, sample_actions, sort_observations
from gorl.pictures.base import fresh_observations, picture_keys
from gorl.pictures.decoder_map import decode_latents
from tests.support.ends import Scale, TwoPoints, end, pixels

SMALL = dict(observations=3, samples=16, bins=8, dimensions=2, latent_extent=4.0)


def test_the_law_of_values_in_bins():
    """Two rows of values in the bins [-1, -0.5), [-0.5, 0), [0, 0.5), [0.5, 1]; the outermost take what is outside."""
    values = np.array([[-0.9, -0.1, 0.1, 0.2], [-7.0, 0.5, 1.0, 9.0]], np.float32)
    assert histogram(values, 1.0, 4).T.tolist() == [[0.25, 0.25, 0.5, 0.0], [0.25, 0.0, 0.0, 0.75]]


def test_observations_lie_along_their_main_direction():
    obs = np.array([[0.0, 3.0], [0.1, 1.0], [0.0, 2.0]], np.float32)
    assert sort_observations(obs)[:, 1].tolist() == [1.0, 2.0, 3.0]


def test_samples_are_latents_and_bounded_squashed_actions(getkey):
    latents, actions = sample_actions(
        TwoPoints(2), Scale(100.0, 2), np.float32(3.0), np.zeros((3, 2), np.float32), getkey(), 64
    )
    assert latents.shape == actions.shape == (3, 64, 2)
    assert np.allclose(actions, np.sign(latents) * np.tanh(3.0)) and 0.2 < (np.asarray(latents) > 0).mean() < 0.8


def test_action_density_is_one_png_a_stage_with_the_same_axes(tmp_path):
    picture = ActionDensity(**SMALL)
    first, second = end(Slider(), TwoPoints(1), Scale(1.0, 1)), end(Slider(), TwoPoints(1), Scale(1.0, 1), stage=1)
    files = [picture.draw(e, tmp_path / f"stage{e.context.stage}-x")[0] for e in (first, second)]
    assert [f.name for f in files] == ["stage0-x.png", "stage1-x.png"]
    a, b = map(pixels, files)
    assert a.shape == b.shape == (216, 720, 3)
    frames = lambda image: np.flatnonzero(
        (image < 30).all(-1).mean(0) > 0.5
    )  # the columns that are black lines: the axes' borders
    assert frames(a).tolist() == frames(b).tolist()
    again = pixels(picture.draw(first, tmp_path / "again")[0])
    assert np.array_equal(a, again)


def test_the_observations_are_the_same_in_every_stage_and_the_draws_are_not():
    ends = [end(Slider(), TwoPoints(1), Scale(1.0, 1), stage=s) for s in (0, 1)]
    (same, own), (same_too, other) = (picture_keys(e, "ActionDensity") for e in ends)
    assert same == same_too and own != other and same != picture_keys(ends[0], "DecoderMap")[0]
    obs = fresh_observations(ends[0].context.task, same, 5)
    assert obs.shape == (5, 2) and len(np.unique(obs[:, 0])) == 5


@pytest.mark.parametrize("size", [1, 2])
def test_a_decoder_map_shows_latents_to_actions(tmp_path, size, monkeypatch):
    monkeypatch.setattr(TwoGoals, "action_size", size)
    e = end(TwoGoals(), None, Scale(2.0, size))
    (file,) = DecoderMap(resolution=5, latent_extent=1.0).draw(e, tmp_path / "stage0-DecoderMap")
    assert pixels(file).shape == (280, 360 if size == 1 else 864, 3)
    latents = np.linspace(-1, 1, 5, dtype=np.float32)[:, None] * np.ones((1, size), np.float32)
    assert np.allclose(
        decode_latents(Scale(2.0, size), np.float32(1.0), np.zeros(1, np.float32), latents),
        np.tanh(np.clip(2 * latents, -1, 1)),
    )


def test_more_dimensions_than_a_map_can_show_are_said(tmp_path):
    with pytest.raises(CannotDraw, match="1 or 2 dimensions, and here latents have 3 and actions 1"):
        DecoderMap(resolution=5, latent_extent=1.0).draw(end(TwoGoals(), None, Scale(2.0, 3)), tmp_path / "x")


def test_no_policy_and_bad_numbers_are_said(tmp_path):
    with pytest.raises(CannotDraw, match="there is no policy yet"):
        ActionDensity(**SMALL).draw(end(TwoGoals(), None, Scale(1.0, 1)), tmp_path / "x")
    with pytest.raises(ConfigError, match="ActionDensity.samples = 0: it must be >= 1"):
        ActionDensity(**{**SMALL, "samples": 0})
    with pytest.raises(ConfigError, match="DecoderMap.resolution = 1"):
        DecoderMap(resolution=1, latent_extent=1.0)
