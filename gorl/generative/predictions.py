"""Regression targets of the diffusion decoder's network.

Exact predictors of any kind give the same decoder. Their errors differ.
"""

import abc

import equinox as eqx
import gin
from jaxtyping import Array, Float

from gorl.generative.diffusion import from_data, from_noise, from_velocity, velocity_target


class AbstractPrediction(eqx.Module):
    """The network's regression target, and how to interpret its output.

    alpha² + sigma² = 1, as in gorl/generative/diffusion.py.
    """

    @abc.abstractmethod
    def target(
        self, x0: Float[Array, " D"], eps: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
    ) -> Float[Array, " D"]:
        """Returns the output that the network should have at x = alpha x0 + sigma eps."""

    @abc.abstractmethod
    def estimate(
        self, output: Float[Array, " D"], x: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
    ) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """Returns the (x0, eps) that the network's output at x implies, with alpha x0 + sigma eps = x."""


@gin.register(module="gorl")
class NoisePrediction(AbstractPrediction):
    """Prediction of eps (Ho et al., arXiv 2006.11239; GoRL).

    Its errors are multiplied by sigma / alpha in x0, which is 32 at the default schedule's last level.
    """

    def target(
        self, x0: Float[Array, " D"], eps: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
    ) -> Float[Array, " D"]:
        del x0, alpha, sigma
        return eps

    def estimate(
        self, output: Float[Array, " D"], x: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
    ) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        return from_noise(output, x, alpha, sigma), output


@gin.register(module="gorl")
class VelocityPrediction(AbstractPrediction):
    """Prediction of v = alpha eps - sigma x0 (Salimans and Ho, arXiv 2202.00512).

    Its errors do not grow at any level.
    """

    def target(
        self, x0: Float[Array, " D"], eps: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
    ) -> Float[Array, " D"]:
        return velocity_target(x0, eps, alpha, sigma)

    def estimate(
        self, output: Float[Array, " D"], x: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
    ) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        return from_velocity(output, x, alpha, sigma)


@gin.register(module="gorl")
class DataPrediction(AbstractPrediction):
    """Prediction of x0, the action itself.

    Its errors are multiplied by alpha / sigma in eps, but grow only at the first levels, where eps hardly matters.
    """

    def target(
        self, x0: Float[Array, " D"], eps: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
    ) -> Float[Array, " D"]:
        del eps, alpha, sigma
        return x0

    def estimate(
        self, output: Float[Array, " D"], x: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
    ) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        return output, from_data(output, x, alpha, sigma)
