"""Refuses files in an order in which one silently undoes another, and files of the wrong kind.

A method's file declares a whole run: it binds Experiment.stages. Parts, presets and controls change one, and are read
behind it. A later file may change single values of an earlier one, which is what files are appended for.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

from gorl.config import tables
from gorl.config.files import APPENDED
from gorl.config.sources import Change, Source
from gorl.config.tables import Key, show_key
from gorl.config.text import brief
from gorl.errors import ConfigError

STUDY = "gorl.Study"
_SHRINKS = "debug.gin"
"""The name of files that shrink any run, and so may replace all sizes that were asked for before."""
_STAGES = ("", "gorl.Experiment", "stages")
_IGNORED_BY_TRAIN = {"variants": {}, "grid": {}, "append": [], "seeds": 1}
"""What a study declares that one run has no use for, and the values that declare nothing."""


@dataclasses.dataclass
class _Read:
    """A file that was read with all that it includes: the last change of every key, those of its own text, files."""

    name: str
    changes: dict[Key, Change] = dataclasses.field(default_factory=dict)
    own: set[Key] = dataclasses.field(default_factory=set)
    files: set[str] = dataclasses.field(default_factory=set)

    @property
    def is_whole(self) -> bool:
        return _STAGES in self.changes

    def lost_to(self, later: "_Read", kept: set[Key]) -> list[Change]:
        """Returns the changes whose values a later file replaces by others."""
        mine = {k: c for k, c in self.changes.items() if not self.is_whole or k in self.own}
        return [c for k, c in mine.items() if k in later.changes and k not in kept and _differ(c, later.changes[k])]


def _differ(one: Change, other: Change) -> bool:
    return one.new is not other.new and repr(one.new) != repr(other.new)


def check_order(source: Source) -> None:
    """Raises ConfigError where no method is named, or where a file undoes an earlier one, with the right order."""
    _check_complete(source)
    _check_presets(source)
    groups = list(_siblings(source))
    _check_alternatives(groups[0][1])
    for kept, siblings in groups:
        for i, later in enumerate(siblings):
            for earlier in siblings[:i]:
                lost = earlier.lost_to(later, kept)
                if later.is_whole and lost and earlier.name not in later.files:
                    raise ConfigError(_method_last(earlier, later, lost, siblings))
        for i, file in enumerate(siblings):
            _check_lost(file, siblings[i + 1 :], kept)


def _siblings(source: Source) -> Iterator[tuple[set[Key], list[_Read]]]:
    """Yields (keys that the including text binds itself, the files it includes), the command first.

    What the including text binds is read behind its includes, and so is what is typed.
    """
    own: dict[tuple[str, ...], set[Key]] = {(): set()}
    children: dict[tuple[str, ...], dict[str, _Read]] = {(): {}}
    for change in source.changes:
        own.setdefault(change.within, set()).add(change.key)
        for i, name in enumerate(change.within):
            read = children.setdefault(change.within[:i], {}).setdefault(name, _Read(name))
            read.changes[change.key] = change
            read.files.update(change.within[i:])
            if i == len(change.within) - 1:
                read.own.add(change.key)
    for place, files in children.items():
        yield own.get(place, set()), list(files.values())


def _check_alternatives(named: Sequence[_Read]) -> None:
    """Raises ConfigError if two of the named files are alternatives: two tasks, or parts that choose one component.

    The later one would win, and what else the earlier one binds would stay: a task's discount, a decoder's sizes.
    """
    tasks = [file for file in named if _is_in(file.name, "tasks") and file.own]
    if len({file.name for file in tasks}) > 1:
        raise ConfigError(f"{' and '.join(file.name for file in tasks)} are two tasks. Name one of them.")
    parts = [file for file in named if _is_in(file.name, "parts") and not file.is_whole]
    for i, later in enumerate(parts):
        for earlier in parts[:i]:
            chosen = [c for c in earlier.lost_to(later, set()) if tables.component_name(c.new) is not None]
            if chosen and earlier.name != later.name and earlier.name not in later.files:
                raise ConfigError(
                    f"{earlier.name} and {later.name} both choose {show_key(chosen[0].key)}:"
                    f" {_shown(chosen, later)}. Name one of them."
                )


def _method_last(earlier: _Read, later: _Read, lost: Sequence[Change], siblings: Sequence[_Read]) -> str:
    names = [f.name for f in siblings if f is not later]
    names.insert(names.index(earlier.name), later.name)
    fix = (
        f"Each declares a whole run: name one of them, or bind in a file of your own what is to stay of {earlier.name}."
        if earlier.is_whole
        else f"A method comes first: {' '.join(names)}."
    )
    return f"{later.name} is read after {earlier.name} and undoes it: {_shown(lost, later)}. {fix}"


def _check_lost(file: _Read, later: Sequence[_Read], kept: set[Key]) -> None:
    """Raises ConfigError if later files replace every value of a file."""
    others = [f for f in later if f.name != file.name and pathlib.PurePath(f.name).name != _SHRINKS]
    last = {key: f for f in others for key in f.changes if key not in kept}
    lost = {k: c for k, c in file.changes.items() if k in last and _differ(c, last[k].changes[k])}
    if lost and file.changes.keys() <= lost.keys() | kept:
        by = {last[k].name: last[k] for k in lost}
        raise ConfigError(
            f"nothing of {file.name} is left, since {' and '.join(by)} {'comes' if len(by) == 1 else 'come'} after it:"
            f" {_shown(list(lost.values()), *by.values())}. Leave one of them out, or name {file.name} last."
        )


def _shown(lost: Sequence[Change], *later: _Read) -> str:
    texts = []
    for change in lost[:3]:
        new = next(f.changes[change.key] for f in later if change.key in f.changes)
        texts.append(
            f"{show_key(change.key)} = {brief(change.new)} ({change.origin}) becomes {brief(new.new)} ({new.origin})"
        )
    return "; ".join(texts) + (f"; and {len(lost) - 3} more" if len(lost) > 3 else "")


def _check_presets(source: Source) -> None:
    """Raises ConfigError where a preset undoes what a size or a task has changed of a method: its macros."""
    last: dict[Key, Change] = {}
    sizes: set[Key] = set()  # macros whose last change is a part's, of a run that was whole already
    undone: dict[Key, tuple[Change, Change]] = {}
    for change in source.changes:
        before = last.get(change.key)
        if before is not None and change.key in sizes and _is_in(change.origin.file, "presets"):
            if _differ(before, change):
                undone.setdefault(change.key, (before, change))
        elif change.key in undone:
            del undone[change.key]  # bound again since, on purpose
        changes = before is not None and change.key[1] == tables.MACRO and _differ(before, change)
        if _is_in(change.origin.file, "parts") and changes and _STAGES in last:
            sizes.add(change.key)
        else:
            sizes.discard(change.key)
        last[change.key] = change
    if undone:
        raise ConfigError(_preset_last(source, list(undone.values())))


def _is_in(file: str, folder: str) -> bool:
    return folder in pathlib.PurePath(file).parts[:-1]


def _preset_last(source: Source, undone: Sequence[tuple[Change, Change]]) -> str:
    size, preset = undone[0]
    preset_name, size_name = preset.within[0], size.within[0]
    texts = [
        f"{show_key(old.key)} = {brief(old.new)} ({old.origin}) becomes {brief(new.new)}" for old, new in undone[:3]
    ]
    more = f"; and {len(undone) - 3} more" if len(undone) > 3 else ""
    names = [n for n in source.named if n != preset_name]
    if preset_name == size_name:  # one file includes both
        fix = f"In {preset_name} include the preset first."
    elif size_name == size.origin.file:
        names.insert(names.index(size_name), preset_name)
        fix = f"A preset comes before sizes and tasks: {' '.join(names)}."
    else:
        included = source.includes.get(size_name, [])
        at = included.index(size.within[1]) if size.within[1] in included else 0
        names[names.index(size_name) : names.index(size_name) + 1] = [*included[:at], preset_name, *included[at:]]
        fix = f"A preset comes before sizes and tasks: instead of {size_name} name what it includes, {' '.join(names)}."
    return f"{preset_name} is read after {size.origin.file} and undoes it: {'; '.join(texts)}{more}. {fix}"


def _check_complete(source: Source) -> None:
    """Raises ConfigError if no file declares a run."""
    if tables.is_bound(_STAGES):
        return
    files = " ".join(source.named)
    is_part = all(set(APPENDED) & set(pathlib.PurePath(n).parts) for n in source.named)
    what = (
        f"{files} changes a run and declares none"
        if is_part
        else f"{files} declares no run: it has no Experiment.stages"
    )
    raise ConfigError(
        f"{what}. Name a method before it, such as gorl_fm.gin {files}"
        + ("." if is_part else ", or include one in it.")
        + " `gorl list configs` shows the methods."
    )


def study_of(source: Source, bound: tables.Table) -> str | None:
    """Returns where a configuration declares what one run ignores: 'Study.grid (st.gin:2)', or None."""
    values = bound.get(("", STUDY), {})
    for name, nothing in _IGNORED_BY_TRAIN.items():
        key = ("", STUDY, name)
        value, setter = tables.follow_macros(values.get(name, nothing), key)
        if repr(value) != repr(nothing):
            return f"Study.{name} ({source.origins.get(setter, source.origins.get(key))})"
    return None
