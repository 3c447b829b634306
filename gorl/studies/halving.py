"""Successive halving (Jamieson and Talwalkar, arXiv 1502.07943) at the ends of stages."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import gin

from gorl.fields import require


@gin.register(module="gorl")
@dataclasses.dataclass(frozen=True, kw_only=True)
class SuccessiveHalving:
    """Successive halving of a study's variants.

    After each number of stages in `after`, the fraction `keep` of the remaining variants continues (rounded up).
    Variants are ranked by the mean over seeds of `score`, a number in each run's status.json at that time. A variant
    without a score, because every seed diverged before, ranks last.
    """

    after: list[int]
    keep: float
    score: str

    def __post_init__(self):
        ascending = all(a < b for a, b in zip(self.after, self.after[1:]))
        require(
            self.after and ascending and self.after[0] >= 1,
            f"SuccessiveHalving.after = {self.after}: it is a list of ascending numbers of stages, from 1.",
        )
        require(0 < self.keep < 1, f"SuccessiveHalving.keep = {self.keep}: it must be in (0, 1).")

    def survivors(self, scores: Mapping[str, Sequence[float]]) -> list[str]:
        """Returns the variants that continue, in the given order. `scores`: by variant, the scores of its seeds."""
        kept = math.ceil(self.keep * len(scores))
        ranked = sorted(scores, key=lambda name: -_mean(scores[name]))  # stable: the first of equals stays first
        return [name for name in scores if name in ranked[:kept]]


def _mean(values: Sequence[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return sum(finite) / len(finite) if finite else -math.inf
