"""What gin's messages mean, and how to write what was meant."""

import difflib
import inspect
import re
from typing import Any

from gin import config as gc

from gorl.errors import did_you_mean

_LITERALS = {"true": "True", "false": "False", "none": "None", "null": "None", "inf": "1e999", "nan": "None"}


def show_key(key: tuple[str, str, str]) -> str:
    """A binding's name as one writes it: `stage0/Clip.epsilon`, or a macro's name."""
    scope, selector, parameter = key
    if selector == "gin.macro":
        return scope
    short = selector.removeprefix("gorl.")
    return f"{scope}/{short}.{parameter}" if scope else f"{short}.{parameter}"


def configurables() -> set[str]:
    """Every name that can be written for a class or function."""
    names = {selector for selector, _ in gc._REGISTRY.items() if not selector.startswith("gin.")}
    return {n.removeprefix("gorl.") for n in names}


def parameters(selector: str) -> list[str]:
    """The parameters of a configurable that gin may bind."""
    entry = gc._REGISTRY.get_match(selector)
    names = list(inspect.signature(entry.wrapped).parameters)
    return [n for n in names if n not in (entry.denylist or ()) and n != "self"]


def explain_macro_name(name: str) -> str:
    """`Phasesteps = 3`: a macro's name in lower case is nearly always a binding without its dot."""
    bindings = {f"{c}.{p}" for c in configurables() for p in parameters(c)}
    close = difflib.get_close_matches(name, bindings, n=1, cutoff=0.8)
    return f"{name} = ... has no dot, so it sets a macro, and macros are written in UPPER_CASE." + (f" Did you mean {close[0]}?" if close else "")


def explain(message: str, source: Any, text: str = "") -> str:
    """gin's message, in words that name the fix."""
    message = message.strip().strip('"').strip()
    for pattern, answer in _ANSWERS:
        if match := re.search(pattern, message):
            return answer(match, source, text)
    return f"{message}{_located(message, source)}"


def _parameter(match: re.Match, source: Any, text: str) -> str:
    del source, text
    name, wrong = match[1], match[2]
    known = parameters(name)
    guess = did_you_mean(wrong, known) or f" It has: {', '.join(known)}."
    if wrong == "learning_rate" and name.startswith("optax."):
        guess = " The phase or algorithm that uses the optimiser has it: OnPolicy.learning_rate or FitDecoder.learning_rate."
    return f"{name.removeprefix('gorl.')} has no parameter {wrong!r}.{guess}"


def _configurable(match: re.Match, source: Any, text: str) -> str:
    del source
    name = match[1]
    return f"nothing is called {name!r}.{did_you_mean(name, configurables())} `gorl list bindings` shows all names; a module of your own is named with --plugin."


def _macro(match: re.Match, source: Any, text: str) -> str:
    del text
    name = match[1]
    known = {key[0] for key in source.origins if key[1] == "gin.macro"} | {n for n, _ in gc._CONSTANTS.items()}
    users = [str(o) for key, o in source.origins.items() if _mentions(gc._CONFIG[key[0], key[1]][key[2]], name)]
    return f"%{name} is never set (used at {', '.join(users[:3]) or 'an unknown place'}).{did_you_mean(name, known)}"


def _mentions(value: Any, macro: str) -> bool:
    return any(isinstance(v, gc.ConfigurableReference) and v.scoped_selector == f"{macro}/gin.macro" for v in gc._iterate_flattened_values(value))


def _token(match: re.Match, source: Any, text: str) -> str:
    del source
    token = match[1] if match.re.groups and match[1] else _value_of(text)
    if token.lower() in _LITERALS:
        return f"{token!r} is not a value. Write {_LITERALS[token.lower()]}."
    if re.fullmatch(r"[A-Za-z_][\w.]*\(\)", token) or token in configurables():
        return f"{token!r} is not a value. A class or function needs @ in front: @{token}."
    return f"{token!r} is not a value. A string needs quotes ('{token}'); a class or function needs @; a macro needs %."


def _value_of(text: str) -> str:
    return text.partition("=")[2].partition("#")[0].strip()


def _required(match: re.Match, source: Any, text: str) -> str:
    del text
    names = re.findall(r"'([\w./]+)'", match[2]) or [match[2]]
    owner = match[1].removeprefix("gorl.")
    at = [str(source.origins[k]) for k in source.origins if k[1].split(".")[-1] == owner.split(".")[-1] and k[2] in names]
    places = f" (declared at {', '.join(at)})" if at else ""
    return "a value is required and missing: " + ", ".join(f"{owner}.{n}" for n in names) + f"{places}. Bind it in a file or with --set."


def _required_override(match: re.Match, source: Any, text: str) -> str:
    del text
    name = match[1].removesuffix(".value").removesuffix("/macro")
    name = name.removesuffix("/gin.macro").removeprefix("gorl.")
    at = [str(o) for key, o in source.origins.items() if show_key(key).split("/")[-1] == name.split("/")[-1]]
    return f"{name} is required{f' (declared at {at[-1]})' if at else ''} and nothing sets it. Bind it in a file or with --set \"{name} = ...\"."


def _missing_positional(match: re.Match, source: Any, text: str) -> str:
    del source, text
    owner, names = match[1].split(".")[0], re.findall(r"'(\w+)'", match[2])
    return "a value is missing: " + ", ".join(f"{owner}.{n}" for n in names) + " has no default and nothing binds it. Bind it in a file or with --set."


def _syntax(hint: str) -> Any:
    return lambda match, source, text: f"{match[0]} {hint}"


_ANSWERS = (
    (r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", _parameter),
    (r"No configurable matching (?:reference )?'@?([\w./]+?)(?:\(\))?'", _configurable),
    (r"No values supplied by Gin or caller for arguments", lambda m, s, t: m.string),
    (r"No bindings specified for '([\w./]+)/gin\.macro'", _macro),
    (r"Failed to parse token '([\w.]+)'", _token),
    (r"malformed node or string()", _token),
    (r"Unable to parse value", lambda m, s, t: f"{_value_of(t)!r} is not a value gin knows: numbers, 'strings', True, None, lists, dicts, @Class(), %MACRO."),
    (r"Required bindings for `([\w./]+)` not provided in config: (\[.*\])", _required),
    (r"([\w./]+) set to `%gin\.REQUIRED` but not subsequently overridden", _required_override),
    (r"(\w+(?:\.__init__)?)\(\) missing \d+ required (?:positional|keyword-only) arguments?: ([^\n]*)", _missing_positional),
    (r"Expected '\)'", _syntax("gin has no arguments in parentheses: write @Thing() and bind Thing.parameter.")),
    (r"Expected newline", _syntax("One binding a line; gin has no arithmetic and no list repetition.")),
    (r"Expected ',' or '\]'", _syntax("A list is not closed before here.")),
    (r"EOF in multi-line statement", _syntax("A bracket is never closed.")),
    (r"Invalid identifier name|unindent does not match|unexpected indent", _syntax("Inside `Thing:` every line is indented alike and reads `parameter = value`.")),
    (r"Couldn't parse statement", _syntax("A line reads `Thing.parameter = value`, `MACRO = value`, `Thing:` or `include 'file.gin'`.")),
    (r"is denylisted|denylist", lambda m, s, t: "the code passes this parameter itself; it cannot be bound."),
)  # fmt: skip


def _located(message: str, source: Any) -> str:
    """Where the bindings were made that a message names."""
    found = []
    for name in dict.fromkeys(re.findall(r"\b([A-Z]\w*\.\w+)\b", message)):
        found += [f"{show_key(k)} set at {o}" for k, o in source.origins.items() if show_key(k).split("/")[-1] == name]
    return f" ({'; '.join(found[:4])})" if found else ""


def locate(message: str, source: Any) -> str:
    """A message with the places of the bindings it names."""
    return message + _located(message, source)
