"""Reads gin files and command-line bindings, and records where each binding was made."""

import dataclasses
import pathlib
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import gin
from gin import config as gc, config_parser

from gorl.config import checks, files, limits, mistakes, syntax, tables
from gorl.config.sources import COMMAND_LINE, INVISIBLE, UNPRINTABLE, Change, Origin, Source, printable
from gorl.config.tables import Key
from gorl.config.text import brief
from gorl.errors import ConfigError

_LONGEST_NAME = 200  # characters
_Statement = (
    config_parser.BindingStatement
    | config_parser.BlockDeclaration
    | config_parser.ImportStatement
    | config_parser.IncludeStatement
)


@dataclasses.dataclass
class _File:
    """A file while it is read, or the command line (`path` is None).

    `parent` includes it at `place`. `again`: whether the file was read before.
    """

    name: str
    path: pathlib.Path | None = None
    parent: "_File | None" = None
    place: Origin | None = None
    again: bool = False
    bound: dict[Key, Origin] = dataclasses.field(default_factory=dict)

    def lineage(self) -> Iterator["_File"]:
        """Yields this text, the one that includes it, and so on."""
        yield self
        if self.parent is not None:
            yield from self.parent.lineage()

    def origin(self, text: str, line: int) -> Origin:
        """Returns the origin of a line of this file, whose whole text is `text`."""
        if self.path is None:
            return Origin(COMMAND_LINE, 0, text.strip())
        lines = text.split("\n")
        return Origin(self.name, line, lines[line - 1].strip() if 0 < line <= len(lines) else "")


def read_source(
    names: Sequence[str], bindings: Iterable[str] = (), plugins: Iterable[str] = (), defaults: Sequence[str] = ()
) -> Source:
    """Replaces gin's configuration by these files, then these bindings, and locks it. Raises ConfigError.

    A later binding overrides an earlier one. `defaults`: files that are read before the named ones.
    """
    gin.clear_config()
    source = Source(plugins=files.named_plugins(plugins))
    for plugin in (files.REGISTRY, *source.plugins):  # every name must exist before gin is locked
        files.import_plugin(plugin)
    if not names:
        raise ConfigError("no configuration file was named. `gorl list configs` shows the shipped ones.")
    for name in defaults:
        _read_file(source, files.find(name, None), None, None)
    source.changes.clear()
    for name in names:
        path = files.find(name, None)
        source.named.append(files.shown(path))
        _read_file(source, path, None, None)
    command_line = _File(COMMAND_LINE)
    for binding in bindings:
        if not binding.strip():
            raise ConfigError('--set is empty. It takes a binding, such as --set "SEED = 3".')
        _read_text(source, binding, command_line)
    checks.check_macros(source)
    checks.check_values(source)
    gin.finalize()
    return source


def _read_file(source: Source, path: pathlib.Path, parent: _File | None, place: Origin | None) -> None:
    file = _File(files.shown(path), path, parent, place, parent is not None and str(path) in source.texts)
    text = files.read_text(path)
    limits.check_text(file.name, text, len(list(file.lineage())), source)
    source.texts[str(path)] = text
    if path.is_relative_to(files.shipped().resolve()):
        source.shipped.add(files.shown(path))
    _read_text(source, text, file)


def _read_text(source: Source, text: str, file: _File) -> None:
    with gc._parse_scope():
        for statement in _statements(text, file):
            origin = file.origin(text, statement.location.line_num)
            try:
                target = _target(source, statement, file)
            except (ValueError, KeyError) as err:  # a ConfigError is a ValueError
                raise ConfigError(f"{origin}: {mistakes.explain_gin_error(err)}") from None
            if isinstance(target, pathlib.Path):
                source.includes.setdefault(file.name, []).append(files.shown(target))
                try:
                    _read_file(source, target, file, origin)
                except ConfigError as err:  # it names the file and line, but not the binding that was typed
                    raise (err if file.path else ConfigError(f"{origin}: {err}")) from None
            elif target is not None:
                _bind(source, target, statement.value, origin, file)


def _statements(text: str, file: _File) -> Iterator[_Statement]:
    """Yields gin's statements. Raises ConfigError with an explanation where its parser fails."""
    for number, line in enumerate(text.split("\n"), 1):
        if re.match(r" *\t", line):
            raise ConfigError(
                f"{file.origin(text, number).quoted}: this line is indented with a tab. Indent with spaces."
            )
        if found := INVISIBLE.search(line.partition("#")[0]):
            raise ConfigError(
                f"{file.origin(text, number).quoted}: this line has the invisible character"
                f" {found[0].encode('unicode_escape').decode()} (number {found.start() + 1} of the line). Remove it, or"
                " write a space."
            )
        if found := UNPRINTABLE.search(line):
            raise ConfigError(
                f"{file.origin(text, number).quoted}: this line has the control character"
                f" {printable(found[0])}. Remove it."
            )
    try:
        yield from syntax.Parser(text, gc.ParserDelegate())
    except (SyntaxError, tokenize.TokenError) as err:
        message, line = (err.msg, err.lineno or 0) if isinstance(err, SyntaxError) else (err.args[0], err.args[1][0])
        line, problem = syntax.explain_syntax_error(text, line, message)
        hint = (
            " In a shell, put double quotes around the whole: --set \"NAME = 'value'\"."
            if file.path is None and "quotes" in problem
            else ""
        )
        raise ConfigError(f"{file.origin(text, line).quoted}: {problem}{hint}") from None
    except (ValueError, KeyError) as err:  # a reference to an unknown name; gin says where
        found = re.search(r"In bindings string line (\d+)", str(err))
        origin = file.origin(text, int(found[1]) if found else 0)
        raise ConfigError(f"{origin}: {mistakes.explain_gin_error(err)}") from None


def _target(source: Source, statement: _Statement, file: _File) -> Key | pathlib.Path | None:
    """Returns the key that a statement binds or the file that it includes, else None. Raises gin's errors."""
    if isinstance(statement, config_parser.BindingStatement):
        return _key(statement)
    if isinstance(statement, config_parser.IncludeStatement):
        return _included(statement.filename, file)
    if isinstance(statement, config_parser.BlockDeclaration):
        mistakes.require_name(statement.selector)
    elif statement.module != files.REGISTRY and statement.module not in source.plugins:
        # A configuration from a stranger must not import arbitrary code.
        raise ConfigError(
            f"a configuration imports gorl.registry and nothing else, so remove this import of {statement.module}."
            f" A module of your own is named on the command line: --plugin {statement.module}."
        )
    return None


def _included(name: str, file: _File) -> pathlib.Path:
    # A configuration from a stranger must not show other files: text that is read is quoted, and copied into runs.
    if not name.endswith(".gin"):
        raise ConfigError(f"include {name!r}: only files that end in .gin are included.")
    path = files.find(name, file.path)
    chain = [text.path for text in file.lineage()][::-1]
    if path in chain:
        cycle = " -> ".join(files.shown(p) for p in (*chain[chain.index(path) :], path))
        raise ConfigError(f"{files.shown(path)} includes itself: {cycle}. Remove one of these includes.")
    return path


def _key(statement: config_parser.BindingStatement) -> Key:
    scope, selector, parameter = statement.scope, statement.selector, statement.arg_name
    if max(map(len, (scope or "", selector, parameter or ""))) > _LONGEST_NAME:
        raise ConfigError(f"a name has at most {_LONGEST_NAME} characters. Write a shorter one.")
    if tables.is_constant(f"{selector}.{parameter}" if parameter else selector):
        raise ConfigError(
            f"{'.'.join(filter(None, (selector, parameter)))} is a constant, which no file can set."
            " Choose another name."
        )
    if not parameter:
        if scope or not re.fullmatch(r"[A-Z][A-Z0-9_]*", selector):
            raise ConfigError(mistakes.explain_macro_name(scope, selector))
        return selector, tables.MACRO, "value"
    mistakes.require_name(selector)
    key = gc.ParsedBindingKey.parse((scope, selector, parameter))
    if key.complete_selector in (tables.MACRO, tables.CONSTANT):
        raise ConfigError("a macro is set by its name alone: NAME = value.")
    return key.scope, key.complete_selector, key.arg_name


def _bind(source: Source, key: Key, value: Any, origin: Origin, file: _File) -> None:
    _check_order(source, key, value, origin, file)
    inherited = None
    if key[1] != tables.MACRO:
        inherited = next((k for s in tables.enclosing_scopes(key[0])[1:] if tables.is_bound(k := (s, *key[1:]))), None)
    if len(source.changes) >= limits.MOST_BINDINGS:
        raise ConfigError(f"{origin}: a configuration has at most {limits.MOST_BINDINGS:_} bindings. Leave some out.")
    within = tuple(text.name for text in file.lineage() if text.path is not None)[::-1]
    before = tables.value_of(key), source.origins.get(key)
    source.changes.append(Change(key, value, origin, *before, inherited, within))
    gin.bind_parameter(key, value)
    file.bound[key] = source.origins[key] = origin


def _check_order(source: Source, key: Key, value: Any, origin: Origin, file: _File) -> None:
    """Raises ConfigError for a binding that would silently undo another one."""
    shown, old = tables.show_key(key), tables.value_of(key)
    if key in file.bound:
        place = "on the command line" if file.path is None else "in this file"
        raise ConfigError(f"{origin}: {shown} is bound twice {place}, first at {file.bound[key]}. Remove one.")
    if repr(old) == repr(value):
        return
    for text in file.lineage():
        if text.parent is not None and key in text.parent.bound:
            first = text.parent.bound[key]
            raise ConfigError(
                f"{text.place}: this include comes after {shown} is bound ({first}), and {origin} would undo that."
                " Put includes first."
            )
    if file.again and key in source.origins:
        raise ConfigError(
            f"{file.place}: {file.name} was read before, and reading it again would set {shown} back from"
            f" {brief(old)} ({source.origins[key]})."
            " Remove this include, or name only one of the files that include it."
        )
