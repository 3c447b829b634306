"""Noise levels of the diffusion decoder: how much of the action remains at each, and which of them are used."""

import abc

import equinox as eqx
import gin
import numpy as np
from jaxtyping import Float

from gorl.fields import require, require_steps, structural

MAX_SIGNAL = 0.05  # of alphabar at the last level: with more, sampling starts from noise that training never saw


class AbstractSchedule(eqx.Module):
    """A noise schedule, alphabar_0 = 1 >= ... >= alphabar_T with T = `steps`.

    Its numbers are NumPy's, in float64: a schedule is part of the program.
    """

    steps: eqx.AbstractVar[int]

    @abc.abstractmethod
    def alphabar(self) -> Float[np.ndarray, " levels"]:
        """Returns alphabar_t, the share of the action in the variance of x_t, for t = 0 .. T."""


def _check_last_level(schedule: AbstractSchedule, fix: str) -> None:
    name, last = type(schedule).__name__, schedule.alphabar()[-1]
    require(
        last <= MAX_SIGNAL,
        f"{name} leaves alphabar = {last:.3g} at its last level, but samples start from pure noise,"
        f" which is what training sees there only if it is at most {MAX_SIGNAL}. {fix}",
    )


@gin.register(module="gorl")
class CosineSchedule(AbstractSchedule):
    """The cosine schedule, alphabar_t = f(t/T) / f(0) but at least `floor`.

    f(x) = cos²((x + offset) / (1 + offset) π/2). Source: Nichol and Dhariwal, arXiv 2102.09672, equation 17 (offset
    0.008). Without the floor alphabar_T is 0, and the first step of sampling, which divides the network's error by
    sqrt(alphabar_T), is undefined.
    """

    steps: int = structural()
    offset: float = structural()
    floor: float = structural()

    def __check_init__(self):
        require_steps(self.steps, "CosineSchedule.steps")
        require(self.offset >= 0, f"CosineSchedule.offset = {self.offset}: it must be >= 0.")
        require(
            self.floor > 0,
            f"CosineSchedule.floor = {self.floor}: it must be > 0, or the first step of sampling divides by 0.",
        )
        _check_last_level(self, f"Lower CosineSchedule.floor = {self.floor}.")

    def alphabar(self) -> Float[np.ndarray, " levels"]:
        angle = 0.5 * np.pi * (np.arange(self.steps + 1) / self.steps + self.offset) / (1.0 + self.offset)
        return np.maximum((np.cos(angle) / np.cos(angle[0])) ** 2, self.floor)


@gin.register(module="gorl")
class LinearSchedule(AbstractSchedule):
    """The linear schedule: products of 1 - beta over `levels` betas, linear from `first_beta` to `last_beta`.

    Every (levels/T)-th product is used. Source: Ho et al., arXiv 2006.11239 (1e-4 to 0.02 over 1000 levels); subsampled
    as in Song et al., arXiv 2010.02502, section 4.2. The betas are meant for 1000 levels: with ten of them, from 1e-4
    to 0.02, alphabar_T would be 0.90. At the published numbers alphabar_T = 4e-5: noise prediction then multiplies its
    first error by 157.
    """

    steps: int = structural()
    first_beta: float = structural()
    last_beta: float = structural()
    levels: int = structural()

    def __check_init__(self):
        require_steps(self.levels, "LinearSchedule.levels")
        require(
            1 <= self.steps <= self.levels,
            f"LinearSchedule needs 1 <= steps <= levels, got steps = {self.steps}, levels = {self.levels}.",
        )
        require(
            0 < self.first_beta <= self.last_beta < 1,
            f"LinearSchedule needs 0 < first_beta <= last_beta < 1, got {self.first_beta} and {self.last_beta}.",
        )
        _check_last_level(
            self, f"Raise LinearSchedule.levels = {self.levels} or LinearSchedule.last_beta = {self.last_beta}."
        )

    def alphabar(self) -> Float[np.ndarray, " levels"]:
        products = np.cumprod(1.0 - np.linspace(self.first_beta, self.last_beta, self.levels))
        used = np.rint(np.arange(1, self.steps + 1) * self.levels / self.steps).astype(int)
        return np.concatenate([[1.0], products[used - 1]])


class AbstractLevels(eqx.Module):
    """The levels of a schedule that are trained. Sampling descends through those that have noise."""

    @abc.abstractmethod
    def trained(self, steps: int) -> range:
        """Returns the trained levels of a schedule of `steps` steps."""

    def sampled(self, steps: int) -> range:
        """Returns the levels that sampling passes, from the noisiest trained one to level 1."""
        return range(self.trained(steps)[-1], 0, -1)


@gin.register(module="gorl")
class NoisyLevels(AbstractLevels):
    """The levels 1 .. T. Level 0 is the action itself: there is nothing to predict, and sampling ends there."""

    def trained(self, steps: int) -> range:
        return range(1, steps + 1)


@gin.register(module="gorl")
class OffByOneLevels(AbstractLevels):
    """The levels 0 .. T-1: a defect of GoRL's released code, kept for ablation only.

    One of the T levels trains on inputs without noise, from which the noise cannot be predicted. Sampling has T - 1
    updates and starts at the alphabar of level T - 1 (0.024 for ten levels of the cosine schedule).
    """

    def trained(self, steps: int) -> range:
        require(
            steps >= 2,
            f"OffByOneLevels with a schedule of {steps} step leaves no level to sample."
            " Raise the schedule's steps to 2 or more.",
        )
        return range(steps)
