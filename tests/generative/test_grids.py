import numpy as np
import pytest

from gorl.errors import ConfigError
from gorl.generative.grids import CosineGrid, PowerGrid, UniformGrid

GRIDS = [UniformGrid(), PowerGrid(1.5), PowerGrid(0.5), PowerGrid(3.0), CosineGrid()]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50])
def test_times_go_from_exactly_1_to_exactly_0(grid, steps):
    times = grid.times(steps)
    assert times.shape == (steps + 1,) and times.dtype == np.float32
    assert times[0] == 1.0 and times[-1] == 0.0
    assert np.all(np.diff(times) < 0)


def test_times_by_hand():
    np.testing.assert_allclose(UniformGrid().times(4), [1.0, 0.75, 0.5, 0.25, 0.0])
    np.testing.assert_allclose(PowerGrid(2.0).times(4), [1.0, 0.5625, 0.25, 0.0625, 0.0])
    np.testing.assert_allclose(PowerGrid(1.0).times(7), UniformGrid().times(7), rtol=1e-6)
    # angles of 60 and 30 degrees: tangents 1.732 and 0.577
    np.testing.assert_allclose(
        CosineGrid().times(3), [1.0, 1.7320508 / 2.7320508, 0.5773503 / 1.5773503, 0.0], rtol=1e-6
    )


def test_settings_are_checked():
    with pytest.raises(ConfigError, match=r"PowerGrid\.exponent = 0\.0: it must be > 0"):
        PowerGrid(0.0)
