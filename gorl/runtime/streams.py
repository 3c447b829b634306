"""Output of a command: text from anywhere is shown and never obeyed, and no reader of it can end a run."""

import codecs
import io
import os
import re
import sys
from typing import Any

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal or a page obeys: controls but tab and line feed, directions, halves of characters."""

_PLAINER = {"·": "|", "—": "-", "–": "-", "±": "+-", "×": "x", "→": "->", "†": "+", "…": "...", "τ": "tau"}
"""What a console that lacks a character is given instead; any other is written as its code."""


def printable(text: str) -> str:
    """Returns a text with the characters that a terminal would obey, such as those of an escape sequence, as codes."""
    return _OBEYED.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def one_line(text: object) -> str:
    """Returns anything as `printable` text on one line."""
    return printable(str(text).replace("\n", "\\n").replace("\t", " "))


class _Patient(io.FileIO):
    """Output that is dropped where nobody takes it any more: a closed pipe, a lost terminal, a full disk."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError:
            return memoryview(data).nbytes


def make_patient() -> None:
    """Replaces stdout and stderr by streams that fail neither for a reader who leaves nor for a character."""
    codecs.register_error("gorl.plainer", _plainer)
    for name in ("stdout", "stderr"):
        old = getattr(sys, name)
        try:
            number = old.fileno()
            old.flush()
        except (AttributeError, OSError, ValueError):  # there is none, or it is no file
            continue
        raw = _Patient(number, "wb", closefd=False)
        by_line = name == "stderr" or os.isatty(number)
        more = {"encoding": old.encoding, "errors": "gorl.plainer", "line_buffering": by_line}
        setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(raw), **more))


def _plainer(err: UnicodeError) -> tuple[str, int]:
    if not isinstance(err, UnicodeEncodeError):
        raise err
    missing = err.object[err.start : err.end]
    return "".join(_PLAINER.get(c) or codecs.backslashreplace_errors(_alone(err, c))[0] for c in missing), err.end


def _alone(err: UnicodeEncodeError, character: str) -> UnicodeEncodeError:
    return UnicodeEncodeError(err.encoding, character, 0, 1, err.reason)
