import numpy as np
import pytest

from gorl.errors import ConfigError
from gorl.generative.schedules import CosineSchedule, LinearSchedule, NoisyLevels, OffByOneLevels

COSINE = {"offset": 0.008, "floor": 1e-3}
LINEAR = {"first_beta": 1e-4, "last_beta": 0.02, "levels": 1000}


def test_cosine_levels_by_hand():
    alphabar = CosineSchedule(10, **COSINE).alphabar()
    assert alphabar.shape == (11,)
    assert alphabar[0] == 1.0 and alphabar[-1] == 1e-3
    # level 5: cos²(0.508 / 1.008 · 90°) / cos²(0.008 / 1.008 · 90°) = cos²(45.357143°) / cos²(0.714286°);
    # level 9: cos²(81.071429°) / ...
    np.testing.assert_allclose(alphabar[[5, 9]], [0.70268543**2 / 0.99984458, 0.15520237**2 / 0.99984458], rtol=1e-4)
    np.testing.assert_allclose(1 / np.sqrt(alphabar[[9, 10]]), [6.443, 31.62], rtol=1e-3)


def test_the_floor_holds_no_other_level_back():
    low, high = (CosineSchedule(10, offset=0.008, floor=f).alphabar() for f in (1e-3, 0.03))
    np.testing.assert_array_equal(low[:9], high[:9])
    np.testing.assert_array_equal(high[9:], [0.03, 0.03])
    for steps in (1, 2, 100):
        alphabar = CosineSchedule(steps, **COSINE).alphabar()
        assert alphabar[-1] == 1e-3 and np.all(np.diff(alphabar) <= 0)


def test_linear_levels_by_hand():
    np.testing.assert_allclose(LinearSchedule(2, first_beta=0.5, last_beta=0.9, levels=2).alphabar(), [1.0, 0.5, 0.05])
    np.testing.assert_allclose(LinearSchedule(1, first_beta=0.5, last_beta=0.9, levels=2).alphabar(), [1.0, 0.05])
    # betas 0.2, 0.4, 0.6, 0.8, of which every second: 0.8 · 0.6, and that times 0.4 · 0.2
    np.testing.assert_allclose(
        LinearSchedule(2, first_beta=0.2, last_beta=0.8, levels=4).alphabar(), [1.0, 0.48, 0.0384]
    )


def test_the_published_linear_schedule():
    ten = LinearSchedule(10, **LINEAR).alphabar()
    all_of_it = LinearSchedule(1000, **LINEAR).alphabar()
    np.testing.assert_allclose(ten[-1], 4.0358e-5, rtol=1e-4)
    np.testing.assert_array_equal(ten, all_of_it[::100])
    np.testing.assert_allclose(all_of_it[1], 1 - 1e-4, rtol=1e-12)


def test_ten_betas_are_no_diffusion():
    with pytest.raises(
        ConfigError,
        match=r"LinearSchedule leaves alphabar = 0\.904 at its last level, .* at most 0\.05\. "
        r"Raise LinearSchedule\.levels = 10",
    ):
        LinearSchedule(10, first_beta=1e-4, last_beta=0.02, levels=10)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: CosineSchedule(10, offset=0.008, floor=0.06),
            r"alphabar = 0\.06 .* Lower CosineSchedule\.floor = 0\.06",
        ),
        (lambda: CosineSchedule(10, offset=0.008, floor=0.0), r"CosineSchedule\.floor = 0\.0: it must be > 0"),
        (lambda: CosineSchedule(10, offset=-1.0, floor=1e-3), r"CosineSchedule\.offset = -1\.0: it must be >= 0"),
        (lambda: CosineSchedule(0, **COSINE), r"CosineSchedule\.steps = 0: it must be >= 1"),
        (lambda: LinearSchedule(1001, **LINEAR), r"steps <= levels, got steps = 1001, levels = 1000"),
        (
            lambda: LinearSchedule(10, first_beta=0.0, last_beta=0.02, levels=1000),
            r"0 < first_beta <= last_beta < 1, got 0\.0 and 0\.02",
        ),
        (lambda: OffByOneLevels().trained(1), r"OffByOneLevels with a schedule of 1 step leaves no level to sample"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_levels():
    assert list(NoisyLevels().trained(4)) == [1, 2, 3, 4] and list(NoisyLevels().sampled(4)) == [4, 3, 2, 1]
    assert list(OffByOneLevels().trained(4)) == [0, 1, 2, 3] and list(OffByOneLevels().sampled(4)) == [3, 2, 1]
