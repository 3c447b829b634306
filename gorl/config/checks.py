"""Checks for bindings that are unset, still required, of the wrong type, out of range, or without any effect."""

import math
from typing import Any

from gorl.config import kinds, limits, tables
from gorl.config.mistakes import at
from gorl.config.order import STUDY
from gorl.config.sources import COMMAND_LINE, Source
from gorl.config.tables import Key, show_key, show_name
from gorl.config.text import brief, literal
from gorl.errors import ConfigError, did_you_mean
from gorl.fields import LARGEST_SIZE, Factory

_LARGEST_BUDGET = 2**63 - 1
_SMALLEST, _LARGEST = 1e-38, 3e38  # approximate range of a normal float32


def _raise(problems: list[str], heading: str) -> None:
    """Raises ConfigError with the one problem, or with a list of them under a heading."""
    unique = list(dict.fromkeys(problems))
    if unique:
        raise ConfigError(unique[0] if len(unique) == 1 else f"{len(unique)} {heading}:\n  " + "\n  ".join(unique))


def check_macros(source: Source) -> None:
    """Raises ConfigError if a %MACRO is not set, is defined in terms of itself, or grows beyond all use."""
    users: dict[str, list[Key]] = {}
    for key, value in tables.bindings():
        for name in filter(None, map(tables.macro_name, tables.references(value))):
            users.setdefault(name, []).append(key)
    unset = {name: keys for name, keys in users.items() if not tables.is_bound((name, tables.MACRO, "value"))}
    _raise([_unset(name, keys, source) for name, keys in unset.items()], "macros are not set")
    limits.check_expansion(source)


def _unset(name: str, keys: list[Key], source: Source) -> str:
    macros = [key[0] for key, _ in tables.bindings() if key[1] == tables.MACRO]
    close = did_you_mean(f"%{name}", [f"%{m}" for m in (*macros, *tables.constants())])
    if found := tables.matches(name):
        close = f" A class or function is written with @: @{show_name(found[0])}()."
    elif not close:
        close = (
            f" Write a line {name} = value."
            if name.isupper()
            else " A macro is written in UPPER_CASE, and set by a line NAME = value."
        )
    return f"{at(source.origins.get(k) for k in keys[:3])}: %{name} is not set.{close}"


def check_values(source: Source) -> None:
    """Raises ConfigError for a %gin.REQUIRED that nothing replaced, a wrong type, or a number out of range.

    gin checks no types.
    """
    required = [
        _required(key, source)
        for key, value in tables.bindings()
        if any(tables.is_required(v) for v in tables.references(value))
    ]
    _raise(required, "values are missing")
    wrong = []
    for key, value in tables.bindings():
        hint = kinds.annotations(tables.configurable(key[1])).get(key[2], Any)
        if found := kinds.mismatch(hint, tables.resolved(value)):
            wrong.append(_wrong_type(key, found, source))
    _raise(wrong, "values have the wrong type")
    out_of_range = [
        text
        for key, value in tables.bindings()
        for part in tables.flattened(tables.resolved(value))
        if (text := _out_of_range(key, part, source))
    ]
    _raise(out_of_range, "numbers are too large or too small")


def _required(key: Key, source: Source) -> str:
    name = show_key(key)
    what = (
        "is required, and nothing sets it"
        if tables.is_required(tables.value_of(key))
        else "still has %gin.REQUIRED in it"
    )
    if key == ("", "gorl.Experiment", "stages") and tables.is_required(tables.value_of(key)):
        return f"{source.origins[key]}: {name} {what}. A method's file sets it: name one first, such as gorl_fm.gin."
    return f'{source.origins[key]}: {name} {what}. Set it in your file, or with --set "{name} = ...".'


def _out_of_range(key: Key, value: Any, source: Source) -> str | None:
    """Returns the message for a number that overflows, or rounds to 0, in the 32 bits that programs compute with."""
    target = tables.configurable(key[1])
    kind = kinds.numeric_kind(kinds.annotations(target).get(key[2], Any))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    what, largest = ("budget", _LARGEST_BUDGET) if kinds.is_budget(target, key[2]) else ("size", LARGEST_SIZE)
    if kind is int and abs(value) > largest:
        why = f"a {what} is at most {largest:_}"
    elif kind is float and value not in (0, math.inf, -math.inf) and not _SMALLEST <= abs(value) <= _LARGEST:
        why = (
            f"the programs' 32-bit floats reach from {_SMALLEST} to {_LARGEST}."
            " Write 0 or 1e999 (infinity) for what is beyond"
        )
    else:
        return None
    _, setter = tables.follow_macros(tables.value_of(key), key)
    return f"{source.origins.get(setter)}: {show_key(setter)} = {brief(value)}, but {why}."


def _wrong_type(key: Key, found: tuple[str, Any, Any], source: Source) -> str:
    path, hint, value = found
    _, setter = tables.follow_macros(tables.value_of(key), key)
    name = show_key(key) + path
    kind = (
        "must be the class itself, which is called later"
        if Factory in kinds.union_members(hint)
        else f"must be of type {kinds.label(hint)}"
    )
    what = f"but it {kind}" if setter == key else f"but it is the value of {name}, which {kind}"
    shown = name if setter == key else show_key(setter) + path
    return f"{source.origins.get(setter)}: {shown} = {brief(value)}, {what}.{kinds.fix(hint, value)}"


def check_effects(source: Source) -> list[str]:
    """Raises ConfigError for bindings that no call used, and returns notes on harmless ones. Call it after building.

    A binding on the command line must have an effect. A file may also bind parts that this run does not use, and values
    that more specific scopes override everywhere. Shipped files do so, and get no notes.
    """
    usage = _Usage(source)
    errors: list[str] = []
    notes: dict[tuple[str, str], list[str]] = {}
    for key, _ in tables.bindings():
        if key in usage.used:
            continue
        origin = source.origins[key]
        if key[1] == STUDY and origin.file != COMMAND_LINE:  # this is a study's base; `gorl sweep` reads the rest
            continue
        is_mistake, what, fix = usage.diagnosis(key)
        if key[1] == tables.MACRO and origin.file in source.shipped:
            is_mistake = False  # not a typo: the parameter that used the macro was bound directly
        if is_mistake or origin.file == COMMAND_LINE:
            shown = "" if key[1] == tables.MACRO else f"{show_key(key)} has no effect: "
            errors.append(f"{origin}: {shown}{what}.{fix}")
        elif origin.file not in source.shipped:
            notes.setdefault((origin.file, what), []).append(str(origin.line))
    _raise(errors, "bindings have no effect")
    return [f"{file}:{', '.join(lines)}: {what}." for (file, what), lines in notes.items()]


def used(source: Source) -> set[Key]:
    """Returns the bindings that some call used. Call it after building."""
    return _Usage(source).used


class _Usage:
    """The bindings that calls used, the scopes that were entered, and the scopes in which each selector was called."""

    def __init__(self, source: Source):
        self.source = source
        # References in bindings that were replaced later count too.
        self.references = [r for change in source.changes for r in tables.references(change.new)]
        self.referenced_scopes = {s for r in self.references for s in tables.enclosing_scopes("/".join(r.scopes))}
        self.used: set[Key] = set()
        self.scopes = {""}
        self.called: dict[str, set[str]] = {}
        self.operative_parameters: dict[str, set[str]] = {}
        for (scope, selector), values in tables.operative().items():
            self.called.setdefault(selector, set()).add(scope)
            self.operative_parameters.setdefault(selector, set()).update(values)
            if selector not in (tables.MACRO, tables.CONSTANT):
                self.scopes.update(tables.enclosing_scopes(scope))
            self.used.update(key for name in values if (key := tables.effective_key(selector, name, scope)))

    def diagnosis(self, key: Key) -> tuple[bool, str, str]:
        """Returns (whether it is certainly a mistake, what is wrong, the fix) for a binding that was not used."""
        scope, selector, name = key
        if selector == tables.MACRO:
            close = did_you_mean(scope, {k[0] for k in self.used if k[1] == tables.MACRO}, cutoff=0.8)
            return bool(close), f"nothing uses %{scope}", close or " Remove this line, or use the macro."
        short = show_name(selector)
        if scope not in self.scopes:
            is_typo = scope not in self.referenced_scopes
            return is_typo, f"nothing is built in scope {scope!r}", self._scopes_hint(scope, short)
        if selector not in self.called:
            is_typed = self.source.origins[key].file == COMMAND_LINE  # only then is the hint shown
            return False, f"{short} is not part of this run", self._usage_hint(selector) if is_typed else ""
        if name not in self.operative_parameters[selector]:
            return True, f"the code always passes {name} itself", " Remove this line."
        if not any(scope in tables.enclosing_scopes(s) for s in self.called[selector]):
            return self._built_elsewhere(scope, selector)
        overriding = {
            k
            for s in self.called[selector]
            if scope in tables.enclosing_scopes(s) and (k := tables.effective_key(selector, name, s)) and k != key
        }
        names = [f"{show_key(k)} ({self.source.origins.get(k)})" for k in sorted(overriding)[:4]]
        return False, "overridden everywhere by more specific bindings", f" Change those: {', '.join(names)}."

    def _scopes_hint(self, scope: str, short: str) -> str:
        last = scope.split("/")[-1]
        if "/" in scope and last in self.scopes:
            return (
                f" A reference such as @{last}/{short} replaces the scope it is used in."
                f" Bind {last}/{short}, or refer to @{scope}/{short}."
            )
        known = sorted(self.scopes - {""})
        close = did_you_mean(scope, known, cutoff=0.85)
        return f"{close} This run has the scopes {', '.join(known)}." if known else " This run has no scopes."

    def _built_elsewhere(self, scope: str, selector: str) -> tuple[bool, str, str]:
        """Returns the diagnosis where the scope exists and the class is used, but not in this scope.

        It is certainly a mistake if no reference could build the class there.
        """
        short = show_name(selector)
        refs = [
            r for _, value in tables.bindings() for r in tables.references(value) if r.configurable.selector == selector
        ]
        what = f"{short} is not built in scope {scope!r}"
        if any(
            r.configurable.selector == selector and scope in tables.enclosing_scopes("/".join(r.scopes))
            for r in self.references
        ):
            return False, what, f" The reference @{scope}/{short} was replaced."
        if any(r.evaluate and not r.scopes for r in refs):
            return False, what, f" Nothing in {scope} refers to it."
        written = " and ".join(sorted({literal(r) for r in refs})[:4])
        why = (
            "a reference's own scope replaces the one around it"
            if any(r.scopes for r in refs)
            else "without () it is built later, outside every scope"
        )
        return True, what, f" It is written {written}: {why}. Refer to it as @{scope}/{short} there."

    def _usage_hint(self, selector: str) -> str:
        """Returns how a binding of this run could refer to a class, or which parameters accept it elsewhere."""
        reference = f"@{show_name(selector)}()"
        accepting = [
            (owner, name, hint)
            for owner in sorted(tables.registered())
            for name, hint in kinds.annotations(tables.configurable(owner)).items()
            if name in tables.bindable_parameters(owner) and reference in kinds.choices(hint)
        ]
        for owner, name, hint in accepting:
            if owner in self.called:
                value = f"[{reference}]" if kinds.label(hint).startswith("list") else reference
                return f" To use it, some binding must refer to it, as in {show_name(owner)}.{name} = {value}."
        places = " or ".join(f"{show_name(owner)}.{name}" for owner, name, _ in accepting[:3])
        return " No parameter of this run accepts it" + (f"; it belongs to {places}." if places else ".")
