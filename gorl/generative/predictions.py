"""What the diffusion decoder's network predicts. Exact predictors of any kind are the same decoder; their errors are not."""

import abc

import equinox as eqx
import gin
from jaxtyping import Array, Float

from gorl.generative.diffusion import from_data, from_noise, from_velocity, velocity_target


class AbstractPrediction(eqx.Module):
    """The network's regression target, and its meaning. alpha² + sigma² = 1, as in gorl/objectives/diffusion.py."""

    @abc.abstractmethod
    def target(
        self, x0: Float[Array, " D"], eps: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
    ) -> Float[Array, " D"]: ...

    @abc.abstractmethod
    def estimate(
        self, output: Float[Array, " D"], x: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
    ) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """(x0, eps) that the network's output at x means, with alpha x0 + sigma eps = x."""


@gin.register(module="gorl")
class NoisePrediction(AbstractPrediction):
    """eps (Ho et al., arXiv 2006.11239; GoRL). Its errors grow by sigma / alpha in x0: by 32 at the default schedule's last level."""

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
    """v = alpha eps - sigma x0 (Salimans and Ho, arXiv 2202.00512). Its errors do not grow at any level."""

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
    """x0, the action itself. Its errors grow by alpha / sigma in eps, but only at the first levels, where eps hardly counts."""

    def target(
        self, x0: Float[Array, " D"], eps: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
    ) -> Float[Array, " D"]:
        del eps, alpha, sigma
        return x0

    def estimate(
        self, output: Float[Array, " D"], x: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
    ) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        return output, from_data(output, x, alpha, sigma)
