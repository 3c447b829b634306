"""Solvers of dx/dt = v(x, t) from noise (t = 1) to action (t = 0)."""

import abc
from collections.abc import Callable

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gorl.fields import require_steps, structural
from gorl.generative.grids import AbstractGrid

Velocity = Callable[[Float[Array, " D"], Float[Array, ""]], Float[Array, " D"]]
Step = Callable[[Float[Array, " D"], Float[Array, ""], Float[Array, ""]], Float[Array, " D"]]


class AbstractSampler(eqx.Module):
    """An ODE solver that integrates a velocity field from t = 1 to t = 0, in `steps` steps on `grid`."""

    steps: eqx.AbstractVar[int]
    grid: eqx.AbstractVar[AbstractGrid]

    @property
    @abc.abstractmethod
    def network_calls(self) -> int:
        """Number of times one sample evaluates the field."""

    @abc.abstractmethod
    def __call__(self, velocity: Velocity, noise: Float[Array, " D"]) -> Float[Array, " D"]:
        """Returns the solution at t = 0 that starts from `noise` at t = 1."""


def _check_steps(sampler: AbstractSampler) -> None:
    require_steps(sampler.steps, f"{type(sampler).__name__}.steps")


def _integrate(sampler: AbstractSampler, step: Step, noise: Float[Array, " D"]) -> Float[Array, " D"]:
    """Applies x <- step(x, t, t_next) over the sampler's grid."""
    times = jnp.asarray(sampler.grid.times(sampler.steps))

    def body(x: Float[Array, " D"], interval: tuple) -> tuple[Float[Array, " D"], None]:
        return step(x, *interval), None

    return jax.lax.scan(body, noise, (times[:-1], times[1:]))[0]


@gin.register(module="gorl")
class Euler(AbstractSampler):
    """Euler's method, x <- x + (t_next - t) v(x, t). It has order 1 and one network call per step."""

    steps: int = structural()
    grid: AbstractGrid

    def __check_init__(self):
        _check_steps(self)

    @property
    def network_calls(self) -> int:
        return self.steps

    def __call__(self, velocity: Velocity, noise: Float[Array, " D"]) -> Float[Array, " D"]:
        return _integrate(self, lambda x, t, t_next: x + (t_next - t) * velocity(x, t), noise)


@gin.register(module="gorl")
class Midpoint(AbstractSampler):
    """The midpoint method: half an Euler step, then a whole step with the velocity found there.

    It has order 2 and two network calls per step.
    """

    steps: int = structural()
    grid: AbstractGrid

    def __check_init__(self):
        _check_steps(self)

    @property
    def network_calls(self) -> int:
        return 2 * self.steps

    def __call__(self, velocity: Velocity, noise: Float[Array, " D"]) -> Float[Array, " D"]:
        def step(x: Float[Array, " D"], t: Float[Array, ""], t_next: Float[Array, ""]) -> Float[Array, " D"]:
            dt = t_next - t
            return x + dt * velocity(x + 0.5 * dt * velocity(x, t), t + 0.5 * dt)

        return _integrate(self, step, noise)


@gin.register(module="gorl")
class Heun(AbstractSampler):
    """Heun's method: a step with the mean of the velocities at both ends of an Euler step.

    It has order 2 and two network calls per step, the last one at t = 0.
    """

    steps: int = structural()
    grid: AbstractGrid

    def __check_init__(self):
        _check_steps(self)

    @property
    def network_calls(self) -> int:
        return 2 * self.steps

    def __call__(self, velocity: Velocity, noise: Float[Array, " D"]) -> Float[Array, " D"]:
        def step(x: Float[Array, " D"], t: Float[Array, ""], t_next: Float[Array, ""]) -> Float[Array, " D"]:
            dt = t_next - t
            first = velocity(x, t)
            return x + 0.5 * dt * (first + velocity(x + dt * first, t_next))

        return _integrate(self, step, noise)
