"""What a study declares: what varies (`Study`), and how its runs are executed (`Sweep`)."""

import dataclasses

import gin

from gorl.fields import require
from gorl.studies.executors.base import AbstractExecutor
from gorl.studies.halving import SuccessiveHalving


@gin.register(module="gorl")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """What varies. The configuration around it is the base of every run.

    `name`: of the study's folder and of Aim's experiment (None: the file's). `variants`: by name, the files (`'...gin'`) and
    bindings (`'A.b = c'`) that are added to the base. `grid`: by binding, a list of values; every combination of them, with
    every variant. `seeds`: how many, from the base's seed on, or a list of them. `seeds_together`: train a variant's seeds in
    one compiled program. `variants_together`: train variants that differ only in numbers which a program takes as arrays
    (learning rates, coefficients, ...), and their seeds, in one compiled program; their phases are not shared. `append`: files
    that are read after a variant's own, such as sizes.
    """

    name: str | None
    variants: dict[str, list[str]]
    grid: dict[str, list]
    seeds: int | list[int]
    seeds_together: bool
    variants_together: bool
    append: list[str]


@gin.register(module="gorl")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """How a study's runs are executed: where (`executor`), and whether hopeless variants are ended early (`halving`, or None)."""

    executor: AbstractExecutor
    halving: SuccessiveHalving | None

    def __post_init__(self):
        for name, kind in (("executor", AbstractExecutor), ("halving", SuccessiveHalving | None)):
            value = getattr(self, name)
            require(isinstance(value, kind), f"Sweep.{name} is {value!r}; did you forget '()' after its name?")
