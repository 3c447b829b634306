"""Explanations of text that gin cannot parse.

They depend on the text more than on gin's message, which names tokens and differs between Python's tokenizers.
"""

import re
import tokenize
from typing import Any

from gin import config_parser

from gorl.config import tables

_LITERALS = {
    **{word: "True" for word in ("true", "yes")},
    **{word: "False" for word in ("false", "no")},
    **{word: "None" for word in ("none", "null", "nil")},
    **{"inf": "1e999", "-inf": "-1e999", "infinity": "1e999"},
}
_DEEPEST = 50  # levels of lists in lists
_MOST_STRINGS = 500
_BETWEEN = (tokenize.NL, tokenize.COMMENT)
_CLOSES = {")": "(", "]": "[", "}": "{"}
_STATEMENT = (
    "A line reads `Thing.parameter = value`, `MACRO = value`, `Thing:` (and indented lines `parameter = value`),"
    " or `include 'file.gin'`."
)
_VALUES = "A value is a number, a 'string', True, False, None, a [list], a {dict}, @Thing() or %MACRO."


def explain_syntax_error(text: str, line: int, message: str) -> tuple[int, str]:
    """Returns (the number of the line at fault, what is wrong with it and how to write it)."""
    if found := _unbalanced(text):
        return found
    lines = text.split("\n")
    content = lines[line - 1].split(" #")[0].strip() if 0 < line <= len(lines) else ""
    for pattern, answer in _BY_TEXT:
        if match := re.search(pattern, content):
            return line, answer(match)
    for pattern, answer in _BY_MESSAGE:
        if match := re.search(pattern, message):
            return line, answer(match, content)
    return line, f"this line cannot be read. {_STATEMENT}"


def _unbalanced(text: str) -> tuple[int, str] | None:
    """Returns the line and the explanation of the first quote or bracket without its counterpart, or None."""
    opened: list[tuple[str, int]] = []
    line, i = 1, 0
    while i < len(text):
        c = text[i]
        if c == "\n":
            line += 1
        elif c == "#":
            end = text.find("\n", i)
            i = (end if end >= 0 else len(text)) - 1
        elif c in "'\"":
            quote = c * 3 if text.startswith(c * 3, i) else c
            end = _end_of_string(text, i, quote)
            if end is None:
                return line, f"a string begins with {quote} and never ends. Close it with {quote}."
            line += text.count("\n", i, end)
            i = end - 1
        elif c in "([{":
            opened.append((c, line))
        elif c in _CLOSES:
            if not opened:
                return line, f"{c!r} closes nothing: remove it, or open the list with {_CLOSES[c]!r}."
            bracket, where = opened.pop()
            if bracket != _CLOSES[c]:
                return where, f"{bracket!r} is never closed: {c!r} comes first. Close it with {_closing(bracket)!r}."
        i += 1
    return (
        (opened[-1][1], f"{opened[-1][0]!r} is opened and never closed. Close it with {_closing(opened[-1][0])!r}.")
        if opened
        else None
    )


def _closing(bracket: str) -> str:
    return next(close for close, opening in _CLOSES.items() if opening == bracket)


def _end_of_string(text: str, start: int, quote: str) -> int | None:
    """Returns the index after a string's closing quote, or None if it is never closed."""
    i = start + len(quote)
    while i < len(text):
        if text[i] == "\\":
            i += 1
        elif text.startswith(quote, i):
            return i + len(quote)
        elif text[i] == "\n" and len(quote) == 1:
            return None
        i += 1
    return None


def _word(token: str, content: str) -> str:
    """Returns the whole word, such as jax.nn.silu, Finger-Spin or MLP(), that begins with the token gin stopped at."""
    match = re.search(rf"(?<![\w'\"@%.]){re.escape(token)}[\w.\-]*(\(\))?", content.partition("=")[2] or content)
    return match[0] if match else token


def bad_value(token: str, content: str) -> str:
    """Returns the explanation of a bare word in the place of a value."""
    word = _word(token, content)
    name = word.removesuffix("()")
    if word.lower() in _LITERALS:
        return f"{word} is not a value. Write {_LITERALS[word.lower()]}."
    if word.lower() == "nan":
        return "nan is not a value: a file cannot write one."
    if name in tables.constants():
        return f"{word} is a constant. Write %{name}."
    if any(known.split(".")[-1] == name.split(".")[-1] for known in tables.configurable_names()):
        return f"{word} is not a value. A class or function needs @ in front. Write @{word}."
    if re.fullmatch(r"[A-Z][A-Z0-9_]+", name) and tables.value_of((name, tables.MACRO, "value")) is not None:
        return f"{word} is not a value. A macro needs % in front. Write %{word}."
    return (
        f"{word} is not a value. A string needs quotes ('{word}'), a class or function @ in front (@{word}),"
        f" a macro % (%{word})."
    )


def _typographic(match: re.Match) -> str:
    return f"{match[0]} is a typographic quote. Write a straight one: '."


def _number(match: re.Match) -> str:
    digits = re.sub(r"[^\d]", "", match[1])
    hint = (
        f" Write {int(digits):_}, with nothing but _ between the digits."
        if re.fullmatch(r"-?\d{1,3}(,\d{3})+", match[1])
        else ""
    )
    return f"{match[1]} is not a number.{hint or ' Numbers are written 1000, 1_000, 0.5 or 1e-3.'}"


def _decimal_comma(match: re.Match) -> str:
    return f"{match[1]} is not a number. A decimal point is a dot: write {match[1].replace(',', '.')}."


def _trailing(match: re.Match, content: str) -> str:
    del match
    if re.search(r"[\w)\]'\"]\s*(\*|\+|-|/)", content.partition("=")[2]):
        return "gin has no arithmetic and cannot repeat lists. Write the number itself, or the whole list."
    return "something follows the value. Write one binding a line, and several values as a list: [a, b]."


def _block(match: re.Match, content: str) -> str:
    del match, content
    return (
        "below `Thing:`, indent every line alike and write `parameter = value`;"
        " do not indent what begins something new."
    )


def _duplicate_key(match: re.Match, content: str) -> str:
    del content
    return f"the key {match[1]} appears twice in this dict, and only the last would count. Remove or rename one."


def _parentheses(match: re.Match, content: str) -> str:
    del match, content
    return "arguments are not written in parentheses. Write @Thing(), and bind Thing.parameter in a line of its own."


def _not_a_value(match: re.Match, content: str) -> str:
    del match
    return f"{content.partition('=')[2].strip() or content} is not a value. {_VALUES}"


_BY_TEXT = (
    (r"[‘’“”]", _typographic),
    (r"^[\w./]+\s*==", lambda m: "a binding is written with one =, not two."),
    (r"^[@%][^=]*=", lambda m: "remove the @ or % before the name: they belong to values, on the right of the =."),
    (r"^[^=]*=$", lambda m: "there is no value after the =."),
    (r"=\s*(-?(?:0,\d+|\d+,(?!\d{3}(?:,|$))\d+)(?:[eE][-+]?\d+)?)\s*$", _decimal_comma),
    (r"=\s*(-?\d[\w.]*(?:,\d{3})+|-?[\d.]+(?![eE][-+]?\d)[A-Za-z%]\w*)\s*$", _number),
    (r"=\s*(-?0\d+)\s*$", _number),
    (r"^[\w./]+\s*:\s*[^\s#]", lambda m: "a binding is written with =, not with a colon."),
    (r"^include\s+[^'\"\s]", lambda m: "the file's name needs quotes: include 'file.gin'."),
)  # fmt: skip
_BY_MESSAGE = (
    (r"the key (.+) appears twice", _duplicate_key),
    (r"nested too deeply", lambda m, _: f"lists are nested deeper than {_DEEPEST} levels. Take brackets out."),
    (r"strings in a row", lambda m, _: f"more than {_MOST_STRINGS} strings in a row. Write one string."),
    (r"Failed to parse token '(.+)'", lambda m, text: bad_value(m[1], text)),
    (r"Unable to parse value", _not_a_value),
    (r"Expected '\)'", _parentheses),
    (r"Expected ':'\.", lambda m, _: "a dict is written {'name': value, 'other': value}."),
    (r"Expected ',' or", lambda m, _: "a comma is missing between two entries."),
    (r"Malformatted scope or", lambda m, _: "a name has no spaces and no empty parts. Write scope/Thing.parameter."),
    (r"Invalid identifier name|indent|Expected '='", _block),
    (r"Expected newline", _trailing),
)  # fmt: skip


class Parser(config_parser.ConfigParser):
    """gin's parser, which also refuses a dict with a duplicate key, deeply nested lists, and strings without end."""

    def __init__(self, *args: Any):
        self._keys: list[set] = []
        self._strings = 0  # in a row, which gin reads as one, in quadratic time
        super().__init__(*args)

    def _advance(self) -> None:
        super()._advance()
        kind = self._current_token.type
        self._strings = self._strings + 1 if kind == tokenize.STRING else self._strings * (kind in _BETWEEN)
        if self._strings > _MOST_STRINGS:
            self._raise_syntax_error("strings in a row")

    def _maybe_parse_container(self) -> tuple[bool, Any]:
        self._keys.append(set())
        try:
            if len(self._keys) > _DEEPEST:
                self._raise_syntax_error("nested too deeply")
            return super()._maybe_parse_container()
        finally:
            self._keys.pop()

    def _parse_dict_item(self) -> tuple[Any, Any]:
        key, value = super()._parse_dict_item()
        if key in self._keys[-1]:
            self._raise_syntax_error(f"the key {key!r} appears twice")
        self._keys[-1].add(key)
        return key, value
