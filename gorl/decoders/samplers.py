"""Solvers of dx/dt = v(x, t) from noise (t = 1) to action (t = 0)."""

import abc
from collections.abc import Callable

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gorl.fields import require, structural

Velocity = Callable[[Float[Array, " D"], Float[Array, ""]], Float[Array, " D"]]


class AbstractSampler(eqx.Module):
    """Integrates a velocity field over the whole time interval."""

    @property
    @abc.abstractmethod
    def network_calls(self) -> int:
        """How often one sample evaluates the field."""

    @abc.abstractmethod
    def __call__(self, velocity: Velocity, noise: Float[Array, " D"]) -> Float[Array, " D"]: ...


@gin.register(module="gorl")
class Euler(AbstractSampler):
    """First order: x <- x + (t_next - t) v(x, t) on `steps` uniform steps from t = 1 to t = 0."""

    steps: int = structural()

    def __check_init__(self):
        require(self.steps >= 1, f"Euler.steps = {self.steps}: it must be >= 1.")

    @property
    def network_calls(self) -> int:
        return self.steps

    def __call__(self, velocity: Velocity, noise: Float[Array, " D"]) -> Float[Array, " D"]:
        def step(x: Float[Array, " D"], t: Float[Array, ""]) -> tuple[Float[Array, " D"], None]:
            return x - velocity(x, t) / self.steps, None

        times = 1.0 - jnp.arange(self.steps, dtype=jnp.float32) / self.steps
        return jax.lax.scan(step, noise, times)[0]
