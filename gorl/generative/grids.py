"""Time grids of samplers, from t = 1 (noise) to t = 0 (action)."""

import abc

import equinox as eqx
import gin
import numpy as np
from jaxtyping import Float

from gorl.fields import require, structural


class AbstractGrid(eqx.Module):
    """A division of [0, 1] into any number of steps, in NumPy: a grid is part of the program."""

    @abc.abstractmethod
    def _times(self, progress: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """Returns t at every progress i/N, decreasing."""

    def times(self, steps: int) -> Float[np.ndarray, " times"]:
        """Returns t_0 = 1 > t_1 > ... > t_N = 0 in float32, both ends exact."""
        inner = self._times(np.arange(steps + 1) / steps)[1:-1]
        return np.concatenate([[1.0], inner, [0.0]]).astype(np.float32)


@gin.register(module="gorl")
class UniformGrid(AbstractGrid):
    """A grid of equal steps, t_i = 1 - i/N."""

    def _times(self, progress: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        return 1.0 - progress


@gin.register(module="gorl")
class PowerGrid(AbstractGrid):
    """A grid t_i = (1 - i/N)^exponent: above 1 the steps get shorter toward the action, at 1 they are equal.

    For an action distribution with std s the variance at t is t² + (1-t)² s², so the velocity field turns over at t ~
    s. The narrower the distribution (or each of its modes), the nearer to t = 0 the steps are needed.
    """

    exponent: float = structural()

    def __check_init__(self):
        require(
            self.exponent > 0,
            f"PowerGrid.exponent = {self.exponent}: it must be > 0"
            " (1: uniform; larger: shorter steps near the action).",
        )

    def _times(self, progress: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        return (1.0 - progress) ** self.exponent


@gin.register(module="gorl")
class CosineGrid(AbstractGrid):
    """A grid of equal steps of the angle whose tangent is the noise-to-signal ratio t / (1 - t).

    Diffusion's cosine schedule has the same steps. Both ends are treated alike, which suits distributions about as wide
    as the prior.
    """

    def _times(self, progress: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        angle = 0.5 * np.pi * (1.0 - progress)
        return np.sin(angle) / (np.sin(angle) + np.cos(angle))
