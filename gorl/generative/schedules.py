"""Noise levels of the diffusion decoder: how much of the action is left at each, and which ones are used."""

import abc

import equinox as eqx
import gin
import numpy as np
from jaxtyping import Float

from gorl.fields import require, require_steps, structural

MAX_SIGNAL = 0.05  # alphabar at the last level: with more, the noise that sampling starts from is not what training saw


class AbstractSchedule(eqx.Module):
    """alphabar_0 = 1 >= ... >= alphabar_T, T = `steps`. Host numbers in float64: a schedule is part of the program."""

    steps: eqx.AbstractVar[int]

    @abc.abstractmethod
    def alphabar(self) -> Float[np.ndarray, " levels"]:
        """alphabar_t = the share of the action in the variance of x_t, t = 0 .. T."""


def _check(schedule: AbstractSchedule, fix: str) -> None:
    name, last = type(schedule).__name__, schedule.alphabar()[-1]
    require(
        last <= MAX_SIGNAL,
        f"{name} leaves alphabar = {last:.3g} at its last level, but samples start from pure noise, which is what training sees there"
        f" only if it is at most {MAX_SIGNAL}. {fix}",
    )


@gin.register(module="gorl")
class CosineSchedule(AbstractSchedule):
    """alphabar_t = f(t/T) / f(0), f(x) = cos²((x + offset) / (1 + offset) π/2), and not below `floor`.

    Source: Nichol and Dhariwal, arXiv 2102.09672, equation 17 (offset 0.008). Without the floor alphabar_T is 0, and the first
    step of sampling, which divides the network's error by sqrt(alphabar_T), has no answer.
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
        _check(self, f"Lower CosineSchedule.floor = {self.floor}.")

    def alphabar(self) -> Float[np.ndarray, " levels"]:
        angle = 0.5 * np.pi * (np.arange(self.steps + 1) / self.steps + self.offset) / (1.0 + self.offset)
        return np.maximum((np.cos(angle) / np.cos(angle[0])) ** 2, self.floor)


@gin.register(module="gorl")
class LinearSchedule(AbstractSchedule):
    """The product of 1 - beta over `levels` betas, linear from `first_beta` to `last_beta`, of which every (levels/T)-th is used.

    Source: Ho et al., arXiv 2006.11239 (1e-4 to 0.02 over 1000 levels); subsampled as in Song et al., arXiv 2010.02502,
    section 4.2. The betas belong to 1000 levels: ten of them, from 1e-4 to 0.02, would leave alphabar_T = 0.90.
    At the published numbers alphabar_T = 4e-5: noise prediction then multiplies its first error by 157.
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
        _check(self, f"Raise LinearSchedule.levels = {self.levels} or LinearSchedule.last_beta = {self.last_beta}.")

    def alphabar(self) -> Float[np.ndarray, " levels"]:
        every = np.cumprod(1.0 - np.linspace(self.first_beta, self.last_beta, self.levels))
        used = np.rint(np.arange(1, self.steps + 1) * self.levels / self.steps).astype(int)
        return np.concatenate([[1.0], every[used - 1]])


class AbstractLevels(eqx.Module):
    """Which levels of a schedule are trained. Sampling goes down through those that have noise."""

    @abc.abstractmethod
    def trained(self, steps: int) -> range: ...

    def sampled(self, steps: int) -> range:
        """From the noisiest to level 1."""
        return range(self.trained(steps)[-1], 0, -1)


@gin.register(module="gorl")
class NoisyLevels(AbstractLevels):
    """Levels 1 .. T. Level 0 is the action itself: there is nothing to predict, and sampling ends there."""

    def trained(self, steps: int) -> range:
        return range(1, steps + 1)


@gin.register(module="gorl")
class OffByOneLevels(AbstractLevels):
    """Levels 0 .. T-1: a defect of GoRL's released code, kept for ablation only.

    One of the T levels trains on inputs without noise, where the noise cannot be known; sampling has T - 1 updates and starts
    where alphabar is still that of level T - 1 (0.024 for ten levels of the cosine schedule).
    """

    def trained(self, steps: int) -> range:
        require(
            steps >= 2,
            f"OffByOneLevels with a schedule of {steps} step leaves no level to sample. Raise the schedule's steps to 2 or more.",
        )
        return range(steps)
