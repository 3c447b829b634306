"""The declaration of a study: what varies (`Study`), and how its runs are executed (`Sweep`)."""

import dataclasses

import gin

from gorl.fields import require
from gorl.studies.executors.base import AbstractExecutor
from gorl.studies.halving import SuccessiveHalving


@gin.register(module="gorl")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """The parameters that vary. The configuration around the study is the base of every run.

    `name`: the name of the study's folder and of Aim's experiment (None: the file's name). `variants`: by name, the
    files (`'...gin'`) and bindings (`'A.b = c'`) that are added to the base. `grid`: by binding, a list of values;
    every combination runs with every variant. `seeds`: the number of seeds, from the base's seed on, or a list of
    seeds. `seeds_together`: whether a variant's seeds train in one compiled program. `variants_together`: whether
    variants that differ only in numbers which a program takes as arrays (learning rates, coefficients, ...) train, with
    all their seeds, in one compiled program; their phases are not shared. `append`: files that are read after a
    variant's own, such as sizes.
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
    """The execution of a study's runs: where (`executor`), and whether poor variants end early (`halving`, or None)."""

    executor: AbstractExecutor
    halving: SuccessiveHalving | None

    def __post_init__(self):
        for name, kind in (("executor", AbstractExecutor), ("halving", SuccessiveHalving | None)):
            value = getattr(self, name)
            require(isinstance(value, kind), f"Sweep.{name} is {value!r}; did you forget '()' after its name?")
