"""Explanations of gin's errors: what is wrong, where it was bound, and how to write what was meant."""

import re
from collections.abc import Iterable
from typing import Any

from gorl.config import tables
from gorl.config.sources import Origin, Source
from gorl.config.tables import Key
from gorl.config.text import literal
from gorl.errors import ConfigError, did_you_mean

_FRAME = re.compile(r"In call to configurable '([^']+)' \(.*?\)(?: in scope '([^']*)')?$")
_MISSING = re.compile(
    r"(?:\b(\w+)(?:\.__init__)?\(\) )?missing (?:\d+|a) required (?:positional |keyword-only )?arguments?"
    r"|Required bindings for `([\w.]+)` not provided"
)


def guess(word: str, words: Iterable[str]) -> str:
    """Returns ' Did you mean X?' with the closest words, or else with less close ones."""
    words = list(words)
    return did_you_mean(word, words, cutoff=0.8) or did_you_mean(word, words)


def require_name(name: str) -> None:
    """Raises ConfigError unless the name identifies exactly one class or function."""
    found = tables.matches(name)
    if len(found) == 1:
        return
    if found:
        raise ConfigError(
            f"{name} may be {' or '.join(found)}. Write one of these; or if one is yours, give it another name."
        )
    if name in tables.constants():
        raise ConfigError(f"{name} is a constant. Write %{name}.")
    *scopes, short = name.split(".")
    if tables.matches(short):
        raise ConfigError(
            f"nothing is called {name!r}. A scope is separated by /: did you mean {'/'.join((*scopes, short))}?"
        )
    raise ConfigError(
        f"nothing is called {name!r}.{guess(name, tables.configurable_names())}"
        " `gorl list bindings` shows every name; --plugin MODULE adds your own."
    )


def explain_gin_error(err: Exception) -> str:
    """Returns the explanation of an error that gin raises while it reads a name, or gin's own message."""
    message = (
        str(err.args[0] if isinstance(err, KeyError) and err.args else err)
        .partition("\n  In bindings string")[0]
        .strip()
        .strip('"')
    )
    if match := re.search(r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", message):
        return _no_parameter(*match.groups())
    if match := re.search(r"Configurable '([\w.]+)' has denylisted kwarg '(\w+)'", message):
        selector = tables.matches(match[1])[0]
        name = f"{tables.show_name(selector)}.{match[2]}"
        return f"{name} cannot be bound: the code passes it itself.{_has(selector)} Remove this binding."
    if match := re.search(r"No configurable matching reference '@([\w./]+)|Ambiguous selector '([\w.]+)'", message):
        try:
            require_name(match[1] or match[2])
        except ConfigError as explained:
            return str(explained)
    return message


def _no_parameter(name: str, wrong: str) -> str:
    selector = tables.matches(name)[0]
    known = tables.bindable_parameters(selector)
    text = f"{tables.show_name(selector)} has no parameter {wrong!r}.{guess(wrong, known) or _has(selector)}"
    if wrong == "learning_rate" and selector.startswith("optax."):
        owners = [
            tables.show_name(s)
            for s in sorted(tables.registered())
            if s.startswith("gorl.") and wrong in tables.bindable_parameters(s)
        ]
        return f"{text} It is set where the optimizer is used: {' or '.join(f'{owner}.{wrong}' for owner in owners)}."
    return text


def _has(selector: str) -> str:
    known = tables.bindable_parameters(selector)
    return f" It has {', '.join(known)}." if known else " It has none that can be bound."


def explain_macro_name(scope: str, name: str) -> str:
    """Returns the explanation of a name without a dot, such as `Phasesteps = 3`, that is not in UPPER_CASE.

    gin reads it as a macro, but it is nearly always a mistake.
    """
    whole = "/".join(filter(None, (scope, name)))
    dotted = {f"{tables.show_name(s)}.{p}" for s in tables.registered() for p in tables.bindable_parameters(s)}
    if close := did_you_mean(whole, dotted, cutoff=0.8):
        return f"{whole} has no dot between Thing and parameter.{close}"
    if scope and name.isupper():
        return (
            f"a macro has no scope: no use of %{name} would look {whole} up."
            f" Bind what uses it: {scope}/Thing.parameter = value."
        )
    macros = [key[0] for key, _ in tables.bindings() if key[1] == tables.MACRO]
    owners = sorted(d for d in dotted if d.split(".")[-1] == name)
    fix = did_you_mean(name, macros, cutoff=0.8) or (f" Did you mean {' or '.join(owners[:3])}?" if owners else "")
    fix = fix or f" Write Thing.{name}, or {name.upper()}."
    return f"{whole} has no dot, so it would set a macro, and macros are written in UPPER_CASE.{fix}"


def at(origins: Iterable[Origin | None]) -> str:
    """Returns the distinct origins as text: 'main.gin:4' or 'main.gin:4 and main.gin:5'."""
    return " and ".join(dict.fromkeys(str(o) for o in origins if o is not None))


def is_missing(err: Exception) -> bool:
    """Whether an error is a call without an argument that a file can bind."""
    return _incomplete_call(str(err)) is not None


def _incomplete_call(message: str) -> tuple[str, str] | None:
    """Returns the (complete selector, scope) of a call without a required argument, or None for another error."""
    if match := _MISSING.search(message):
        frame = next((m for m in map(_FRAME.search, message.splitlines()) if m), None)
        selector = _selector_called(match[1] or match[2] or (frame[1] if frame else ""))
        named = re.findall(r"'(\w+)'", message[match.end() :].partition("\n")[0])
        if selector and set(named) <= {*tables.bindable_parameters(selector), *tables.runtime_parameters(selector)}:
            return selector, (frame[2] if frame else "") or ""
    return None


def is_explicable(err: Exception) -> bool:
    """Whether an error is caused by the configuration rather than by a defect in gorl."""
    return (
        isinstance(err, ConfigError)
        or _FRAME.search(str(err).splitlines()[-1] if str(err) else "") is not None
        or is_missing(err)
    )


def _selector_called(name: str) -> str | None:
    """Returns the selector of the only registered class or function of this name, or None."""
    found = [s for s in tables.registered() if s.split(".")[-1] == name.split(".")[-1]]
    return found[0] if len(found) == 1 else None


def explain_build(err: Exception, source: Source) -> str:
    """Returns the explanation of an error raised while an experiment is built: what, where it was bound, the fix."""
    lines = str(err).splitlines()
    frames = [m.groups() for m in map(_FRAME.search, lines) if m]
    body = (
        "\n".join(line for line in lines if not _FRAME.search(line))
        .partition("\n  No values supplied by Gin")[0]
        .strip()
    )
    name, scope = (frames[0][0], frames[0][1] or "") if frames else ("", "")
    selector = _selector_called(name)
    if call := _incomplete_call(str(err)):
        return _explain_missing(*call, source)
    if isinstance(err, ConfigError) or selector is None:
        return locate(body, source, selector, scope)
    kind = "" if isinstance(err, ValueError) else f"{type(err).__name__}: "
    end = "" if body.endswith((".", "?", "!", ")")) else "."
    return locate(f"{tables.show_name(selector)} cannot be built: {kind}{body}{end}", source, selector, scope)


def _explain_missing(selector: str, scope: str, source: Source) -> str:
    """Explains a required parameter that is not bound, or a module that is built where its class should be passed."""
    users = [
        (key, ref)
        for key, value in tables.bindings()
        for ref in tables.references(value)
        if ref.configurable.selector == selector
    ]
    users = [u for u in users if "/".join(u[1].scopes) == scope] or [u for u in users if not u[1].scopes] or users
    shown = tables.show_name(selector)
    place = at(source.origins.get(key) for key, _ in users[:3])
    prefix = f"{place}: " if place else ""
    called = literal(users[0][1]) if users else f"@{shown}()"
    needed = [
        n
        for n, p in tables.bindable_parameters(selector).items()
        if p.default is p.empty or repr(p.default) == "%gin.REQUIRED"
    ]
    names = [n for n in needed if tables.effective_key(selector, n, scope) is None]
    later = ", ".join(tables.runtime_parameters(selector))
    if not names and users and not any(ref.evaluate for _, ref in users):
        role = " and ".join(dict.fromkeys(tables.show_key(key) for key, _ in users[:3]))
        what = f"{prefix}{called} does not fit everywhere it is used ({role}): it has to be called with {later}."
        return f"{what} A network goes inside a policy, critic or decoder, as its body."
    if not names:
        what = f"{prefix}{called} is built too early: the code calls it later, with {later}."
        return f"{what} Write it without (): {called.removesuffix('()')}."
    elsewhere = sorted(
        {
            s
            for s, sel in tables.bound()
            if sel == selector and s and all(tables.effective_key(selector, n, s) for n in names)
        }
    )
    others = [f"@{s}/{shown}" for s in elsewhere]
    instead = guess(called, others) or (f" Did you mean {' or '.join(others)}?" if others else "")
    it = "it" if len(names) == 1 else "them"
    write = " and ".join(f"{called.strip('@()')}.{n} = ..." for n in names[:2])
    what = f"{prefix}{called} needs {', '.join(names)}, and nothing binds {it}."
    return f"{what}{instead} Write {write}, in a file or with --set."


def locate(message: str, source: Source, selector: str | None = None, scope: str = "") -> str:
    """Adds the origins of the bindings that a message names: before it if there is one, else after it.

    `selector` and `scope` describe the call that failed, if known. If the message names none of its bindings, all of
    them are meant.
    """
    named = _keys_named(message)
    if selector is not None:
        words = set(re.findall(r"\w+", message))
        of_call = [k for p in tables.bindable_parameters(selector) if (k := tables.effective_key(selector, p, scope))]
        named = [k for k in of_call if k in named] or named or [k for k in of_call if k[2] in words] or of_call
    origins = {tables.show_key(k): source.origins.get(tables.follow_macros(tables.value_of(k), k)[1]) for k in named}
    places = {key: origin for key, origin in origins.items() if origin is not None}
    if not places:
        users = [
            key
            for key, value in tables.bindings()
            for r in tables.references(value)
            if r.configurable.selector == selector
        ]
        places = {tables.show_key(key): source.origins[key] for key in users[:1]}
    if not places:
        return message
    if len(set(places.values())) == 1:
        origin = next(iter(places.values()))
        return f"{origin}: {_without_binding(message, origin)}"
    order = [change.origin for change in source.changes]
    latest = sorted(places.items(), key=lambda item: order.index(item[1]), reverse=True)
    return f"{message} ({'; '.join(f'{key} is set at {origin}' for key, origin in latest[:6])})"


def _without_binding(message: str, origin: Origin) -> str:
    """Removes `Clip.epsilon = -1.0: ` from the front of a message if the origin is a command line that shows it."""
    name = origin.text.partition("=")[0].strip().rpartition("/")[2]
    return message if origin.line or not name else re.sub(rf"^{re.escape(name)} = [^,;:]+: ", "", message)


def _keys_named(message: str) -> list[Key]:
    """Returns the bindings that a message names: `Clip.epsilon = 0.0`, or `OnPolicy: ... num_envs ...`."""
    words = set(re.findall(r"\w+", message))
    found = []
    for key, value in tables.bindings():
        if key[1] == tables.MACRO:
            continue
        name = f"{tables.show_name(key[1])}.{key[2]}"
        if match := re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)(?: = ([^,;:]+))?", message):
            found.append((key, match[1], tables.resolved(value)))
        elif key[2] in words and re.search(rf"(?<![\w.(]){re.escape(tables.show_name(key[1]))}(?!\w|\.\w)", message):
            found.append((key, None, None))
    exact = [key for key, text, value in found if text is not None and _is_text_of(text, value)]
    return exact or [key for key, *_ in found]


def _is_text_of(text: str, value: Any) -> bool:
    """Whether a text in a message (a printed float32, or a repr) represents a value."""
    try:
        return abs(float(text) - float(value)) <= 1e-6 * abs(float(value))
    except (TypeError, ValueError):
        return text.strip() == repr(value)


def explain_cycle(source: Source) -> str:
    """Returns the explanation of references that form a cycle, with the bindings that form it."""
    edges: dict[str, list[tuple[Key, str]]] = {}
    for key, value in tables.bindings():
        for ref in tables.references(tables.resolved(value)):
            if ref.evaluate:
                edges.setdefault(key[1], []).append((key, ref.configurable.selector))

    def cycle(start: str, here: str, path: tuple[Key, ...]) -> tuple[Key, ...]:
        for key, to in edges.get(here, []):
            if to == start:
                return (*path, key)
            if key not in path and (found := cycle(start, to, (*path, key))):
                return found
        return ()

    keys = next((found for selector in edges if (found := cycle(selector, selector, ()))), ())
    shown = " -> ".join(
        f"{show} ({source.origins.get(k)})"
        for k in keys
        if (show := f"{tables.show_key(k)} = {literal(tables.value_of(k))}")
    )
    return (
        f"this configuration builds something out of itself, without end: {shown or 'follow its @references'}."
        " Change one of these references."
    )
