"""A study as the list of its variants, each a checked configuration."""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import jax

from gorl import config
from gorl.config import Configuration, StudySource
from gorl.config.resolve import deferred_parts
from gorl.errors import ConfigError

MOST_VARIANTS = 1_000


@dataclasses.dataclass(frozen=True)
class Variant:
    """One configuration of a study, for all its seeds.

    `axes`: the values that vary, as text. `files`: all files that are read, in order. `bindings`: the bindings besides
    those of the command line.
    """

    name: str
    folder: str
    axes: dict[str, str]
    files: tuple[str, ...]
    bindings: tuple[str, ...]
    configuration: Configuration
    seed_bindings: list[str]  # with {first} and {count}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that a study runs.

    `base`: the files of the base configuration, as typed. `programs`: groups of variants that are trained together.
    """

    name: str
    base: tuple[str, ...]
    variants: tuple[Variant, ...]
    programs: tuple[tuple[Variant, ...], ...]
    seeds: tuple[int, ...]
    seeds_together: bool
    sweep: Any
    source: StudySource


def make_plan(files: Sequence[str], bindings: Sequence[str] = (), plugins: Sequence[str] = ()) -> Plan:
    """Reads, expands and checks a study. Starts no device.

    Raises ConfigError if a variant cannot run, changes nothing or equals another one.
    """
    source = config.read_study(files, bindings, plugins)
    base = config.build(files, source.bindings, plugins)
    seeds = _seeds(source, base)
    variants = [_variant(files, source, plugins, *words) for words in _combinations(source)]
    _check_seeds(source, base, variants)
    _check_distinct(source, base, variants)
    _check_lockstep(source, seeds, variants)
    name = _study_name(source) if source.name else re.sub(r"\.gin$", "", files[0].rpartition("/")[2])
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
    """Groups the variants that one compiled program can train, if the study asks for it."""
    if not source.variants_together:
        return tuple((v,) for v in variants)
    if source.sweep.halving is not None:
        raise ConfigError(
            f"{_where(source, 'variants_together')} = True, but Sweep.halving ends single variants:"
            " set one of them to False or None."
        )
    programs: list[list[Variant]] = []
    for variant in variants:
        fitting = next((p for p in programs if joinable(p[0].configuration, variant.configuration)), None)
        programs.append([variant]) if fitting is None else fitting.append(variant)
    return tuple(map(tuple, programs))


def _where(source: StudySource, parameter: str) -> str:
    return f"{source.at[parameter]}: Study.{parameter}"


def _study_name(source: StudySource) -> str:
    """Returns Study.name, below which folders are made. Raises ConfigError if it leads out of runs/."""
    name = source.name if isinstance(source.name, str) else ""
    if any(part in ("", ".", "..") for part in name.split("/")) or not name.isprintable():
        raise ConfigError(
            f"{_where(source, 'name')} = {source.name!r:.200}: it is the name of the study's folder in runs/, such as"
            " 'widths' or 'hopper/widths'. To put the study elsewhere, name its folder with --dir."
        )
    return name


def _seeds(source: StudySource, base: Configuration) -> tuple[int, ...]:
    seeds, first = source.seeds, base.experiment.seed
    if isinstance(seeds, int):
        seeds = list(range(first, first + seeds))
    if not seeds:
        raise ConfigError(f"{_where(source, 'seeds')} = {source.seeds}: a study needs at least one seed.")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{_where(source, 'seeds')} = {source.seeds}: it contains a duplicate seed.")
    is_consecutive = list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    if (source.seeds_together or source.variants_together) and not is_consecutive:
        together = " and ".join(
            f"Study.{name} = False" for name in ("seeds_together", "variants_together") if getattr(source, name)
        )
        raise ConfigError(
            f"{_where(source, 'seeds')} = {source.seeds}: seeds trained in one program must be consecutive;"
            f" list consecutive seeds or set {together}."
        )
    return tuple(seeds)


def _check_seeds(source: StudySource, base: Configuration, variants: Sequence[Variant]) -> None:
    """Raises ConfigError where a seed is set that `Study.seeds` would replace."""
    fix = "Study.seeds alone decides the seeds of a study: write Study.seeds = 3, or Study.seeds = [0, 7, 11]."
    first, count = base.experiment.seed, base.experiment.num_seeds
    if count != 1:
        raise ConfigError(f"{config.seed_origin(base, 'num_seeds')}: {count} seeds have no effect in a study. {fix}")
    if not isinstance(source.seeds, int) and config.seed_origin(base, "seed").file not in base.source.shipped:
        where = config.seed_origin(base, "seed")
        raise ConfigError(f"{where}: this seed has no effect, since {_where(source, 'seeds')} is a list. Remove it.")
    for variant in variants:
        found = variant.configuration.experiment
        if (found.seed, found.num_seeds) != (first, count):
            raise ConfigError(f"variant {variant.name!r} sets a seed, which has no effect in a study. {fix}")


def _combinations(source: StudySource) -> Iterator[tuple[str, dict[str, str], list[str], list[str]]]:
    """Yields (name, axes, files, bindings) of each named variant with every combination of the grid."""
    for name, values in source.grid.items():
        if not values:
            raise ConfigError(f"{_where(source, 'grid')}[{name!r}] is empty: give it at least one value, or remove it.")
    count = max(1, len(source.variants)) * math.prod(map(len, source.grid.values()))
    if count > MOST_VARIANTS:
        raise ConfigError(
            f"{_where(source, 'grid')} and Study.variants make {count:_} variants, of which a study may have"
            f" {MOST_VARIANTS:_}. Name fewer values."
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
    """Maps each binding's name to its last part, or to the whole name where two would be the same."""
    last = {axis: re.split(r"[./]", axis)[-1] for axis in axes}
    return {axis: short if list(last.values()).count(short) == 1 else axis for axis, short in last.items()}


def _shown(literal: str) -> str:
    """Returns a value as it appears in a name: without quotes, @ and empty parentheses."""
    return re.sub(r"^['\"@%]|['\"]$|\(\)$", "", literal)


def _variant(
    files: Sequence[str],
    source: StudySource,
    plugins: Sequence[str],
    name: str,
    axes: dict[str, str],
    variant_files: list[str],
    bindings: list[str],
) -> Variant:
    first, *rest = files  # files appended to the study, such as sizes, are read after a variant's own files
    all_files = (first, *variant_files, *rest, *source.append)
    try:
        configuration = config.build(all_files, [*source.bindings, *bindings], plugins)
        config.trace_phases(configuration)
    except ConfigError as err:
        raise ConfigError(f"variant {name!r}: {err}") from err
    seed_bindings = config.seed_bindings(configuration)
    return Variant(name, _folder_name(name), axes, all_files, tuple(bindings), configuration, seed_bindings)


def _folder_name(name: str) -> str:
    """Returns a variant's name with every character replaced that a folder's name should not have."""
    return re.sub(r"[^A-Za-z0-9._=,+-]+", "_", name).strip("._") or "variant"


_RESERVED = ("study.json", "configs", "programs", "logs", "report")
"""Entries of a study's folder, beside which its variants' folders are."""
_LONGEST_FOLDER = 200
"""Bytes. File systems take 255, and files are named after folders."""


def _check_folder(source: StudySource, variant: Variant) -> None:
    """Raises ConfigError if a variant's folder cannot be made, or would be another entry of the study's folder."""
    where = _where(source, "variants" if variant.name in source.variants else "grid")
    if variant.folder.lower() in _RESERVED:
        raise ConfigError(
            f"{where}: a variant cannot be called {variant.name!r}, as a part of every study is. Rename it."
        )
    if len(variant.folder) > _LONGEST_FOLDER:
        raise ConfigError(
            f"{where}: the variant {variant.folder[:60]}... has a name of {len(variant.folder)} characters, and a"
            f" folder takes {_LONGEST_FOLDER}. Put the values into Study.variants, by short names."
        )


def _check_distinct(source: StudySource, base: Configuration, variants: Sequence[Variant]) -> None:
    """Raises ConfigError if a variant changes nothing, or two variants are the same or would have the same folder."""
    seen: dict[str, Variant] = {}
    folders: dict[str, str] = {}
    named = set(source.variants)
    for variant in variants:
        _check_folder(source, variant)
        tree = repr(variant.configuration.tree)
        if variant.name in named and source.variants[variant.name] and tree == repr(base.tree):
            where = f"{_where(source, 'variants')}[{variant.name!r}]"
            raise ConfigError(
                f"{where} = {source.variants[variant.name]} changes nothing: it builds what the base builds."
            )
        if tree in seen:
            raise ConfigError(
                f"variants {seen[tree].name!r} and {variant.name!r} are the same: they build the same experiment."
                " Remove one."
            )
        if variant.folder.lower() in folders:
            raise ConfigError(
                f"variants {folders[variant.folder.lower()]!r} and {variant.name!r} would have the same folder:"
                " rename one."
            )
        seen[tree], folders[variant.folder.lower()] = variant, variant.name


def _check_lockstep(source: StudySource, seeds: Sequence[int], variants: Sequence[Variant]) -> None:
    """Raises ConfigError if seeds are to train in one program although a rule ends the phases of each."""
    for variant in variants:
        if source.seeds_together and len(seeds) > 1 and variant.configuration.experiment.is_adaptive:
            raise ConfigError(
                f"{_where(source, 'seeds_together')} = True, but variant {variant.name!r} has a rule in"
                " ImprovePolicy.end: seeds of one program run in lockstep, and the rule ends the stages of each at"
                " another step. Set Study.seeds_together = False."
            )


def joinable(a: Configuration, b: Configuration) -> bool:
    """Whether two configurations' experiments differ only in numbers that a program takes as arrays.

    Runs whose phases a rule ends are not joinable: each may end them at another step.
    """
    if a.experiment.is_adaptive or b.experiment.is_adaptive:
        return False
    one, other = (
        (e.task, [(s.stage, s.phase, s.declaration) for s in e.planned_phases()], e.precision, e.devices, e.budget)
        for e in (a.experiment, b.experiment)
    )
    if jax.tree.structure(one) != jax.tree.structure(other) or deferred_parts(a.tree) != deferred_parts(b.tree):
        return False
    same = lambda x, y: (
        eqx.is_array(x) == eqx.is_array(y)
        and (x.shape == y.shape and x.dtype == y.dtype if eqx.is_array(x) else x == y)
    )  # noqa: E731
    return jax.tree.all(jax.tree.map(same, one, other))
