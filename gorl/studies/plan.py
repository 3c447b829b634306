"""A study as the list of its variants, each a checked configuration."""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import jax

from gorl import config
from gorl.config import Configuration, StudySource
from gorl.config.resolve import unmade
from gorl.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Variant:
    """One configuration of a study, for all its seeds. `axes`: what varies, as text; `files`: all that are read, in order;
    `bindings`: beyond those of the command line."""

    name: str
    folder: str
    axes: dict[str, str]
    files: tuple[str, ...]
    bindings: tuple[str, ...]
    configuration: Configuration
    seed_bindings: list[str]  # with {first} and {count}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything a study will run. `base`: the files of the base, as typed. `programs`: which variants are trained together."""

    name: str
    base: tuple[str, ...]
    variants: tuple[Variant, ...]
    programs: tuple[tuple[Variant, ...], ...]
    seeds: tuple[int, ...]
    seeds_together: bool
    sweep: Any
    source: StudySource


def make_plan(files: Sequence[str], bindings: Sequence[str] = (), plugins: Sequence[str] = ()) -> Plan:
    """Reads, expands and checks a study. Raises ConfigError for whatever would not run or not vary. Starts no device."""
    source = config.read_study(files, bindings, plugins)
    base = config.build(files, source.bindings, plugins)
    seeds = _seeds(source, base)
    variants = [_variant(files, source, plugins, *words) for words in _combinations(source)]
    _check_distinct(source, base, variants)
    name = source.name or re.sub(r"\.gin$", "", files[0].rpartition("/")[2])
    return Plan(
        name,
        tuple(files),
        tuple(variants),
        _programs(source, variants),
        seeds,
        source.seeds_together,
        source.sweep,
        source,
    )


def _programs(source: StudySource, variants: Sequence[Variant]) -> tuple[tuple[Variant, ...], ...]:
    """The variants, those together that one compiled program can train, if the study wants that."""
    if not source.variants_together:
        return tuple((v,) for v in variants)
    if source.sweep.halving is not None:
        raise ConfigError(
            f"{_where(source, 'variants_together')} = True, but Sweep.halving ends single variants: set one of them to False or None."
        )
    programs: list[list[Variant]] = []
    for variant in variants:
        fitting = next((p for p in programs if joinable(p[0].configuration, variant.configuration)), None)
        programs.append([variant]) if fitting is None else fitting.append(variant)
    return tuple(map(tuple, programs))


def _where(source: StudySource, parameter: str) -> str:
    return f"{source.at[parameter]}: Study.{parameter}"


def _seeds(source: StudySource, base: Configuration) -> tuple[int, ...]:
    seeds, first = source.seeds, base.experiment.seed
    if isinstance(seeds, int):
        seeds = list(range(first, first + seeds))
    if not seeds:
        raise ConfigError(f"{_where(source, 'seeds')} = {source.seeds}: a study needs one seed at least.")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{_where(source, 'seeds')} = {source.seeds}: a seed stands there twice.")
    if (source.seeds_together or source.variants_together) and list(seeds) != list(
        range(seeds[0], seeds[0] + len(seeds))
    ):
        raise ConfigError(
            f"{_where(source, 'seeds')} = {source.seeds}: seeds follow one another, or are not trained together."
        )
    return tuple(seeds)


def _combinations(source: StudySource) -> Iterator[tuple[str, dict[str, str], list[str], list[str]]]:
    """(name, axes, files, bindings) of each variant: the named ones, with every combination of the grid."""
    for name, values in source.grid.items():
        if not values:
            raise ConfigError(
                f"{_where(source, 'grid')}[{name!r}] is empty: give it one value at least, or take it out."
            )
    short = _short_names(list(source.grid))
    for named, words in (source.variants or {"": []}).items():
        for values in itertools.product(*source.grid.values()):
            axes = {short[axis]: _shown(value) for axis, value in zip(source.grid, values)}
            name = ",".join([*filter(None, [named]), *(f"{axis}={value}" for axis, value in axes.items())]) or "base"
            if named and axes:
                axes = {"name": named, **axes}
            files = [w for w in words if "=" not in w]
            bound = [w for w in words if "=" in w] + [f"{axis} = {value}" for axis, value in zip(source.grid, values)]
            yield name, axes, files, bound


def _short_names(axes: list[str]) -> dict[str, str]:
    """The last part of each binding's name, or the whole where two would be the same."""
    last = {axis: re.split(r"[./]", axis)[-1] for axis in axes}
    return {axis: short if list(last.values()).count(short) == 1 else axis for axis, short in last.items()}


def _shown(literal: str) -> str:
    """A value as a name: without quotes, @ and empty parentheses."""
    return re.sub(r"^['\"@%]|['\"]$|\(\)$", "", literal)


def _variant(
    files: Sequence[str],
    source: StudySource,
    plugins: Sequence[str],
    name: str,
    axes: dict,
    more: list[str],
    bound: list[str],
) -> Variant:
    first, *rest = files  # what is appended to the study, such as sizes, is read after a variant's own files
    read = (first, *more, *rest, *source.append)
    try:
        configuration = config.build(read, [*source.bindings, *bound], plugins)
    except ConfigError as err:
        raise ConfigError(f"variant {name!r}: {err}") from err
    return Variant(name, _folder(name), axes, read, tuple(bound), configuration, config.seed_bindings(configuration))


def _folder(name: str) -> str:
    """A name as a folder's."""
    return re.sub(r"[^A-Za-z0-9._=,+-]+", "_", name).strip("._") or "variant"


def _check_distinct(source: StudySource, base: Configuration, variants: Sequence[Variant]) -> None:
    """No variant that was given something may build what the base builds, and no two the same, or have the same folder."""
    seen: dict[str, Variant] = {}
    folders: dict[str, str] = {}
    named = set(source.variants)
    for variant in variants:
        tree = repr(variant.configuration.tree)
        if variant.name in named and source.variants[variant.name] and tree == repr(base.tree):
            where = f"{_where(source, 'variants')}[{variant.name!r}]"
            raise ConfigError(
                f"{where} = {source.variants[variant.name]} changes nothing: it builds what the base builds."
            )
        if tree in seen:
            raise ConfigError(
                f"variants {seen[tree].name!r} and {variant.name!r} are the same: they build the same experiment. Take one out."
            )
        if variant.folder.lower() in folders:
            raise ConfigError(
                f"variants {folders[variant.folder.lower()]!r} and {variant.name!r} would have the same folder: rename one."
            )
        seen[tree], folders[variant.folder.lower()] = variant, variant.name


def joinable(a: Configuration, b: Configuration) -> bool:
    """Whether the experiments of two configurations are the same but for numbers that a program takes as arrays."""
    one, other = (
        (e.task, [(s.stage, s.phase, s.declaration) for s in e.planned_phases()], e.precision, e.devices)
        for e in (a.experiment, b.experiment)
    )
    if jax.tree.structure(one) != jax.tree.structure(other) or unmade(a.tree) != unmade(b.tree):
        return False
    same = lambda x, y: (
        eqx.is_array(x) == eqx.is_array(y)
        and (x.shape == y.shape and x.dtype == y.dtype if eqx.is_array(x) else x == y)
    )  # noqa: E731
    return jax.tree.all(jax.tree.map(same, one, other))
